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
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from astrom3.data.layouts.columns import ColumnFile, column_files
from astrom3.data.layouts.ours import label_ids, struct_child
from astrom3.data.layouts.parquet import (
    ParquetTable,
    check_once,
    numbers,
    prepare,
    rows_of_three,
    text_column,
    unnest,
)
from astrom3.data.layouts.table import Catalogue, Source, all_rows
from astrom3.errors import UserError
from astrom3.kernel import kernel
from astrom3.modalities.catalogue import COLUMN, Normaliser
from astrom3.modalities.catalogue_quality import possible
from astrom3.modalities.preprocess import LightCurves, Spectra
from astrom3.modalities.quality import LIGHT_CURVE_REJECTIONS, MIN_POINTS, NOT_FINITE, UNEQUAL, frozen
from astrom3.modalities.ragged import offsets_of
from astrom3.modalities.schema import (
    ALL_COLS,
    CLASSES,
    META_COLS,
    PHOTO_CHANNELS,
    PHOTO_COLS,
    UNLABELLED,
    WAVELENGTH_COUNT,
)
from astrom3.modalities.view import StoredView

log = logging.getLogger(__name__)
COLUMNS = ("photometry", "spectra", "metadata", "label")


class ProcessedTable(ParquetTable):
    """One split of one configuration."""

    column: ClassVar = {"photometry": "photometry", "spectra": "spectra"}

    def __init__(self, files: Sequence[ColumnFile], split: str, normalised: bool) -> None:
        super().__init__(files)
        self.split = split
        self.normalised = normalised
        missing = []
        for name in COLUMNS:
            if name not in self.schema.names:
                missing.append(name)
        if missing:
            raise UserError(
                f"{files[0]} lacks the columns {', '.join(missing)} (it has: {', '.join(self.schema.names)}); "
                f"expected are {', '.join(COLUMNS)}."
            )

    @property
    def names_objects(self) -> bool:  # type: ignore[override]
        """Whether there are ids. The files on the hub have none."""
        return "object_id" in self.schema.names

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of integer labels: from the metadata that `datasets` writes, else the ten classes of the paper."""
        return class_names(self.schema, "label") or CLASSES

    @cached_property
    def _catalogue(self) -> Catalogue:
        named = "object_id" in self.schema.names
        table = self.small_columns(["metadata", "label", *(["object_id"] if named else [])])
        column = table["label"].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or is_whole(column.type)):
            raise UserError(
                f"{self.files[0]}: the column label is of type {column.type}, neither text nor whole numbers; download "
                "it again."
            )

        labels: list[str | None] = []
        for label in column.to_pylist():
            labels.append(None if label is None or label == UNLABELLED else self._name(label))
        label_numbers, unknown, names = label_ids(labels, CLASSES)
        values, has_metadata = self.values(table["metadata"].combine_chunks())

        # Files of the hub may name no objects, which are then called after their place.
        if named:
            ids = text_column(table, "object_id", str(self.files[0]))
        else:
            ids = [f"{self.split}-{row:06d}" for row in range(len(table))]

        objects = np.array(ids, dtype=object)
        return Catalogue(objects, label_numbers, values, unknown, names, self.normalised, has_metadata)

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
        return (values if self.normalised else possible(values)), valid.to_numpy(zero_copy_only=False)


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
        owner = np.repeat(np.arange(len(lengths)), lengths)
        bad[owner[widths != width]] = True
        if modality == "spectra":
            bad |= (lengths != 3) & (lengths > 0)
        values = numbers(flat)
        if bad.any():
            kept = np.repeat(~bad[owner], widths)
            values = values[kept]
            lengths = np.where(bad, 0, lengths)

        values = values.astype(np.float32, copy=False)
        if modality == "photometry":
            return self._light_curves(offsets_of(lengths), values.reshape(-1, width), bad), None
        return self._spectra(lengths, values.reshape(-1, 3, width), bad), None

    @staticmethod
    def _light_curves(offsets: np.ndarray, points: np.ndarray, bad: np.ndarray) -> LightCurves:
        n = len(offsets) - 1
        kept = np.zeros(n + 1, dtype=np.int64)
        verdict = np.where(bad, UNEQUAL["photometry"], 0).astype(np.int8)
        values = np.empty((len(points), 3), np.float32)
        constants = np.zeros((n, 6), np.float32)
        _split_points(frozen(offsets, np.int64), frozen(points, np.float32), values, kept, constants, verdict)
        return LightCurves(values[: kept[-1]], kept, constants[:, 4:], verdict, constants[:, :4])

    @staticmethod
    def _spectra(lengths: np.ndarray, stored: np.ndarray, bad: np.ndarray) -> Spectra:
        n = len(lengths)
        values = np.zeros((n, 2, WAVELENGTH_COUNT), np.float32)
        log_mad = np.zeros(n, np.float32)
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


TOO_FEW = 1  # codes in LIGHT_CURVE_REJECTIONS
NO_SPAN = 2
BROKEN = NOT_FINITE["photometry"]
assert str(MIN_POINTS) in LIGHT_CURVE_REJECTIONS[TOO_FEW] and "span" in LIGHT_CURVE_REJECTIONS[NO_SPAN]


@kernel
def _split_points(
    offsets: np.ndarray,
    points: np.ndarray,
    values: np.ndarray,
    kept: np.ndarray,
    constants: np.ndarray,
    verdict: np.ndarray,
) -> None:
    """Rows [time, flux, error, six constants] -> values (total, 3) of the accepted curves and constants (n, 6)."""
    position = 0
    for i in range(len(offsets) - 1):
        a = offsets[i]
        b = offsets[i + 1]
        if b > a:
            low = points[a, 0]
            high = points[a, 0]
            finite = True
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


def is_whole(kind: pa.DataType) -> bool:
    """Whether labels of this type are positions; a column of nulls has no label."""
    return pa.types.is_integer(kind) or pa.types.is_null(kind)


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """Names of the integer labels of a column, from the metadata that `datasets` writes; none where it says none."""
    try:
        content = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = content["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def open_processed(
    root: Path, config: str, files: Mapping[str, Sequence[Path | ColumnFile]], sub: str, seed: int
) -> Source:
    """Source of the columns of AstroM3Processed by split, in parquet or Arrow files.

    Which of the two layouts it is says the type of the column `metadata`. config: the name of the configuration, or ""
    where the files have none; then the numbers say whether they are normalised.
    """
    opened: dict[str, list[ColumnFile]] = {}
    kinds: dict[str, str] = {}
    for split, parts in files.items():
        opened[split] = column_files(parts)
        kinds[split] = kind_of(opened[split][0])

    kind = next(iter(kinds.values()))
    if len(set(kinds.values())) > 1:
        raise UserError(f"{root}: the splits of {config} have different layouts ({kinds}); download them again.")

    normalised = kind == "processed-2" or config.endswith("_norm")
    table_class = CurrentTable if kind == "processed-2" else FirstTable
    if not config and kind == "processed-1":
        split = next(iter(opened))
        normalised = bool(looks_normalised(table_class(opened[split], split, False)))
    tables = {split: table_class(parts, split, normalised) for split, parts in opened.items()}
    rows = all_rows(tables)
    normaliser = None
    if kind == "processed-1":
        some = next(iter(tables.values()))  # train, where there is one
        check_normalised(some, normalised)
        if not normalised:
            if "train" not in tables:
                raise UserError(f"{root} has no train split of {config}: the catalogue columns cannot be normalised.")
            normaliser = Normaliser.fit(tables["train"].catalogue().values)

    note = f"configuration {config}" if config else "one configuration, whatever sub and seed"
    if kind == "processed-1":
        note += ", times in float32 (steps of 0.25 d)"
    return Source(kind, root, sub, seed, CLASSES, dict(tables), rows, normaliser, note)


def kind_of(file: ColumnFile) -> str:
    """processed-1 or processed-2 from the column types of one file; UserError where it is neither."""
    schema = file.schema
    check_once(schema.names, str(file))
    if "metadata" in schema.names:
        kind = schema.field("metadata").type
        if pa.types.is_struct(kind):
            return "processed-1"
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return "processed-2"
    raise UserError(
        f"{file} is of no known layout: columns {', '.join(schema.names)}; expected photometry, spectra, metadata "
        "(a struct, or a list of 34 numbers) and label."
    )


def looks_normalised(table: ProcessedTable) -> bool | None:
    """Whether the values are z-scored: a mean V magnitude lies near 14, not 0. None where no magnitude is known."""
    magnitudes = table.catalogue().values[:, COLUMN["mean_vmag"]]
    known = magnitudes[np.isfinite(magnitudes)]
    return bool(abs(np.median(known)) < 3) if len(known) else None


def check_normalised(table: ProcessedTable, normalised: bool) -> None:
    """The folder's name says whether the values are z-scored, and the numbers must agree."""
    found = looks_normalised(table)
    if found is None or found == normalised:
        return
    magnitudes = table.catalogue().values[:, COLUMN["mean_vmag"]]
    raise UserError(
        f"{table.files[0]}: by the folder's name the catalogue values are {'' if normalised else 'not '}"
        f"normalised, but the median of mean_vmag is {np.nanmedian(magnitudes):.2f}; "
        "name the folder with or without _norm accordingly."
    )
