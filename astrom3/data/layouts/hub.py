"""The two parquet layouts of AstroM3Processed on the Hugging Face hub.

processed-1 (MeriDK/AstroM3Processed): photometry (N, 3) float32 [HJD, flux, error], spectra (M, 3) float32 [Angstrom,
flux, inverse variance], metadata struct of meta_cols and photo_cols, label = class name; configurations {sub}_{seed}
and {sub}_{seed}_norm. Its HJD has a step of 0.25 d: points of one night share a time and come out ordered by flux.
processed-2 (AstroMLCore/AstroM3Processed): photometry (N, 9) and spectra (3, 2575), normalised, metadata 34 normalised
floats, label = class id.
"""

from __future__ import annotations

import json
import logging
import re
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from astrom3.data.layouts.ours import label_ids, struct_child
from astrom3.data.layouts.parquet import (
    ParquetTable,
    numbers,
    offsets_of,
    parquet_schema,
    prepare,
    rows_of_three,
    unnest,
)
from astrom3.data.layouts.table import Catalogue, Source
from astrom3.data.schema import (
    ALL_COLS,
    CLASSES,
    META_COLS,
    PHOTO_CHANNELS,
    PHOTO_COLS,
    SPLITS,
    UNLABELLED,
    WAVELENGTH_COUNT,
)
from astrom3.errors import UserError
from astrom3.kernel import kernel
from astrom3.modalities.catalogue import COLUMN, Normaliser
from astrom3.modalities.preprocess import LightCurves, Spectra
from astrom3.modalities.quality import LIGHT_CURVE_REJECTIONS, MIN_POINTS, NOT_FINITE, UNEQUAL, frozen
from astrom3.modalities.view import StoredView

log = logging.getLogger(__name__)
COLUMNS = ("photometry", "spectra", "metadata", "label")
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


class ProcessedTable(ParquetTable):
    """One split of one configuration."""

    column: ClassVar = {"photometry": "photometry", "spectra": "spectra"}

    def __init__(self, files: Sequence[Path], split: str, normalised: bool) -> None:
        super().__init__(files)
        self.split, self.normalised = split, normalised
        missing = [name for name in COLUMNS if name not in self.schema.names]
        if missing:
            raise UserError(
                f"{files[0]} lacks the columns {', '.join(missing)} (it has: {', '.join(self.schema.names)}); "
                f"expected are {', '.join(COLUMNS)}."
            )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of integer labels: from the metadata that `datasets` writes, else the ten classes of the paper."""
        content = json.loads((self.schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = ((content.get("info") or {}).get("features") or {}).get("label") or {}
        return tuple(feature.get("names") or CLASSES)

    @cached_property
    def _catalogue(self) -> Catalogue:
        named = "object_id" in self.schema.names
        table = self.small_columns(["metadata", "label", *(["object_id"] if named else [])])
        column = table["label"].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        labels: list[str | None] = [
            None if label is None or label == UNLABELLED else self._name(label) for label in column.to_pylist()
        ]
        ids, unknown, names = label_ids(labels, CLASSES)
        values, has_metadata = self.values(table["metadata"].combine_chunks())
        # The hub's files name no objects: they are called after their place.
        objects = table["object_id"].to_pylist() if named else [f"{self.split}-{i:06d}" for i in range(len(table))]
        return Catalogue(np.array(objects, dtype=object), ids, values, unknown, names, self.normalised, has_metadata)

    def _name(self, label: str | int) -> str:
        if isinstance(label, str):
            return label
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def catalogue(self) -> Catalogue:
        return self._catalogue

    @abstractmethod
    def values(self, metadata: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Catalogue values (n, 38), NaN where unknown, and has_metadata (n,) bool."""


class FirstTable(ProcessedTable):
    """processed-1."""

    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        lengths, points, bad = rows_of_three(column)
        return prepare(view, lengths, [points[:, i] for i in range(3)], bad)

    def values(self, metadata: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        values = np.full((len(metadata), len(ALL_COLS)), np.nan)
        for group, members in (("photo_cols", PHOTO_COLS), ("meta_cols", META_COLS)):
            struct = struct_child(metadata, group, self.files[0])
            for name in members:
                values[:, COLUMN[name]] = numbers(struct_child(struct, name, self.files[0]))
        valid = struct_child(metadata, "meta_cols", self.files[0]).is_valid()
        return values, valid.to_numpy(zero_copy_only=False)


class CurrentTable(ProcessedTable):
    """processed-2: everything is prepared already; it is only checked and split into our arrays."""

    pad_constants = False

    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        modality = view.modality
        if view.name != modality:
            raise UserError(
                f"{self.files[0]} holds observations prepared for AstroM3's encoders, and the view {view.name} needs "
                "them as observed: use data in the layouts astrom3, raw or processed-1"
            )
        lengths, inner = unnest(column)
        widths, flat = unnest(inner)
        width = PHOTO_CHANNELS if modality == "photometry" else WAVELENGTH_COUNT
        bad = np.zeros(len(lengths), dtype=bool)
        bad[np.repeat(np.arange(len(lengths)), lengths)[widths != width]] = True
        if modality == "spectra":
            bad |= (lengths != 3) & (lengths > 0)
        values = numbers(flat)
        if bad.any():
            values = values[np.repeat(~np.repeat(bad, lengths), widths)]
            lengths = np.where(bad, 0, lengths)
        values = values.astype(np.float32, copy=False)
        if modality == "photometry":
            return self._light_curves(offsets_of(lengths), values.reshape(-1, width), bad), None
        return self._spectra(lengths, values.reshape(-1, 3, width), bad), None

    @staticmethod
    def _light_curves(offsets: np.ndarray, points: np.ndarray, bad: np.ndarray) -> LightCurves:
        n = len(offsets) - 1
        kept, verdict = np.zeros(n + 1, dtype=np.int64), np.where(bad, UNEQUAL["photometry"], 0).astype(np.int8)
        values, constants = np.empty((len(points), 3), np.float32), np.zeros((n, 6), np.float32)
        _split_points(frozen(offsets, np.int64), frozen(points, np.float32), values, kept, constants, verdict)
        return LightCurves(values[: kept[-1]], kept, constants[:, 4:], verdict, constants[:, :4])

    @staticmethod
    def _spectra(lengths: np.ndarray, stored: np.ndarray, bad: np.ndarray) -> Spectra:
        n = len(lengths)
        values, log_mad = np.zeros((n, 2, WAVELENGTH_COUNT), np.float32), np.zeros(n, np.float32)
        there = lengths > 0
        finite = np.isfinite(stored).all(axis=(1, 2))
        verdict = np.where(bad, UNEQUAL["spectra"], 0).astype(np.int8)
        verdict[np.flatnonzero(there)[~finite]] = NOT_FINITE["spectra"]
        present = there & (verdict == 0)
        values[present], log_mad[present] = stored[finite, :2], stored[finite, 2, 0]
        return Spectra(values, log_mad, present, verdict)

    def values(self, metadata: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        lengths, flat = unnest(metadata)
        if not np.isin(lengths, (0, len(META_COLS))).all():
            wrong = lengths[~np.isin(lengths, (0, len(META_COLS)))][0]
            raise UserError(f"{self.files[0]}: metadata must be {len(META_COLS)} numbers per object, found {wrong}.")
        values = np.full((len(lengths), len(ALL_COLS)), np.nan)
        values[lengths > 0, len(PHOTO_COLS) :] = numbers(flat).reshape(-1, len(META_COLS))
        return values, lengths > 0


TOO_FEW, NO_SPAN, BROKEN = 1, 2, NOT_FINITE["photometry"]  # codes in LIGHT_CURVE_REJECTIONS
assert str(MIN_POINTS) in LIGHT_CURVE_REJECTIONS[TOO_FEW] and "span" in LIGHT_CURVE_REJECTIONS[NO_SPAN]


@kernel
def _split_points(offsets, points, values, kept, constants, verdict):
    """Rows [time, flux, error, six constants] -> values (total, 3) of the accepted curves and constants (n, 6)."""
    position = 0
    for i in range(len(offsets) - 1):
        a, b = offsets[i], offsets[i + 1]
        if b > a:
            low, high, finite = points[a, 0], points[a, 0], True
            for j in range(a, b):
                low, high = min(low, points[j, 0]), max(high, points[j, 0])
                for c in range(9):
                    finite &= np.isfinite(points[j, c])
            if not finite:
                verdict[i] = BROKEN
            elif b - a < MIN_POINTS:
                verdict[i] = TOO_FEW
            elif high <= low:
                verdict[i] = NO_SPAN
            else:
                values[position : position + b - a] = points[a:b, :3]
                constants[i] = points[a, 3:]
                position += b - a
        kept[i + 1] = position


def config_files(root: Path, sub: str, seed: int) -> tuple[str, dict[str, list[Path]]]:
    """Name of the configuration found under `root` and its parquet files by split; no files where there is none.

    Folders tried, as hub repositories name them: {root}/{config}, {root}/data/{config}, with config = {sub}_{seed} and
    then {sub}_{seed}_norm; and `root` itself where that is the folder of this configuration.
    """
    for config in (f"{sub}_{seed}", f"{sub}_{seed}_norm"):
        folders = [root / config, root / "data" / config]
        if root.name == config or root.resolve().name == config:
            folders += [root]
        for folder in folders:
            files: dict[str, list[Path]] = {}
            for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
                # train-00000-of-00002.parquet, train.parquet, or train/0000.parquet
                name = path.parent.name if path.parent != folder else re.split(r"[-_.]", path.name)[0]
                if name in SPLIT_NAMES:
                    files.setdefault(SPLIT_NAMES[name], []).append(path)
            if files:
                for paths in files.values():
                    check_shards(paths)
                return config, {split: files[split] for split in SPLITS if split in files}
    return "", {}


def check_shards(paths: list[Path]) -> None:
    """All parts of `name-00000-of-00003.parquet` must be there: a split is not shortened silently."""
    parts = [re.fullmatch(r"(.*)-(\d+)-of-(\d+)\.parquet", path.name) for path in paths]
    if any(parts) and {int(p[2]) for p in parts if p} != set(range(int(next(p for p in parts if p)[3]))):
        found = ", ".join(path.name for path in paths)
        raise UserError(f"{paths[0].parent} lacks parts of a split (it has: {found}); download it again.")


def open_processed(root: Path, config: str, files: dict[str, list[Path]], sub: str, seed: int) -> Source:
    """Source of hub parquet files; which of the two layouts is decided by the types of the columns."""
    kinds = {split: kind_of(paths[0]) for split, paths in files.items()}
    kind = next(iter(kinds.values()))
    if len(set(kinds.values())) > 1:
        raise UserError(f"{root}: the splits of {config} have different layouts ({kinds}); download them again.")
    tables: dict[str, ProcessedTable] = {}
    normalised = kind == "processed-2" or config.endswith("_norm")
    for split, paths in files.items():
        tables[split] = (CurrentTable if kind == "processed-2" else FirstTable)(paths, split, normalised)
    rows = {split: np.arange(len(table), dtype=np.int64) for split, table in tables.items()}
    normaliser = None
    if kind == "processed-1":
        some = next(iter(tables.values()))  # train, where there is one
        check_normalised(some, normalised)
        if not normalised:
            if "train" not in tables:
                raise UserError(f"{root} has no train split of {config}: the catalogue columns cannot be normalised.")
            normaliser = Normaliser.fit(tables["train"].catalogue().values)
    note = f"configuration {config}"
    if kind == "processed-1":
        note += ", times in float32 (steps of 0.25 d)"
    return Source(kind, root, sub, seed, CLASSES, dict(tables), rows, normaliser, note)


def kind_of(path: Path) -> str:
    """processed-1 or processed-2 from the column types of one file; UserError where it is neither."""
    schema = parquet_schema(path)
    if "metadata" in schema.names:
        kind = schema.field("metadata").type
        if pa.types.is_struct(kind):
            return "processed-1"
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return "processed-2"
    raise UserError(
        f"{path} is of no known layout: columns {', '.join(schema.names)}; expected photometry, spectra, metadata "
        "(a struct, or a list of 34 numbers) and label."
    )


def check_normalised(table: ProcessedTable, normalised: bool) -> None:
    """The name says whether the values are z-scored, the numbers must agree: a mean V magnitude lies near 14, not 0."""
    magnitudes = table.catalogue().values[:, COLUMN["mean_vmag"]]
    known = magnitudes[np.isfinite(magnitudes)]
    if len(known) and (abs(np.median(known)) < 3) != normalised:
        raise UserError(
            f"{table.files[0]}: by the folder's name the catalogue values are {'' if normalised else 'not '}"
            f"normalised, but the median of mean_vmag is {np.median(known):.2f}; "
            "name the folder with or without _norm accordingly."
        )
