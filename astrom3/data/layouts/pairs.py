"""The paired data set of AstroCLIP: images and spectra of the same galaxies, in parquet or as `datasets` saves it.

Columns image float32 (x, y, band) [nanomaggies], spectrum float32 (7781, 1) [1e-17 erg/s/cm2/Angstrom] on DESI's grid,
redshift, targetid (hub script of Parker et al. 2024, version 1.1.5, configuration joint). The columns are read as they
are, by row group, in every epoch: nothing of the 60 GB is copied. The published set has no validation split, so the
last tenth of its training rows is one; the rows are in a random order already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.data.fingerprint import quick_fingerprint
from astrom3.data.layouts.arrow import arrow_table, saved_splits
from astrom3.data.layouts.galaxy_rows import FILES, ColumnGalaxies, Observations, ParquetGalaxies, plain_catalogue
from astrom3.data.layouts.parquet import numbers, parquet_schema
from astrom3.data.layouts.remote import RemoteFile
from astrom3.data.layouts.table import Catalogue, Group, Source, Table
from astrom3.data.schema import SPLITS, SUB_FRACTION
from astrom3.errors import UserError

IDS = ("targetid", "object_id", "TARGETID")  # the first that is there
SPLIT_NAMES = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}
VALIDATION_SHARE = 10  # one training row in so many validates, where the data have no validation split
PREFERRED = "joint"  # configuration, where there are several
Files = Mapping[str, Sequence[Path | RemoteFile]]


class PairTable(ParquetGalaxies):
    """One published split in parquet files, here or on the hub."""

    direct = True

    @property
    def target_names(self) -> tuple[str, ...]:
        return tuple(name for name in super().target_names if name not in IDS)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return plain_catalogue(ids_of(self.schema, lambda name: self.small_columns([name])[name], len(self)))

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def fingerprint(self, cache: Path) -> str:
        if isinstance(self.files[0], RemoteFile):
            return "-".join(sorted({file.stamp for file in self.files}))[:64]
        return quick_fingerprint(self.files, type(self).__name__)


class SavedTable(ColumnGalaxies):
    """One split of a folder written by `datasets.save_to_disk`, mapped into memory."""

    direct = True

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.name = str(self.files[0].parent)
        self.schema = self.table.schema
        lengths = [len(batch) for batch in self.table.to_batches()]
        firsts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        self._groups = [Group(number, first, rows) for number, (first, rows) in enumerate(zip(firsts, lengths, strict=False))]

    @cached_property
    def table(self) -> pa.Table:
        return arrow_table(self.files)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "table"}  # each process maps it itself

    @property
    def groups(self) -> Sequence[Group]:
        return self._groups

    @property
    def target_names(self) -> tuple[str, ...]:
        return tuple(name for name in super().target_names if name not in IDS)

    def targets(self, names: Sequence[str]) -> np.ndarray:
        columns = [numbers(self.table[name].combine_chunks()) for name in names]
        return np.stack(columns, axis=1).astype(np.float64)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return plain_catalogue(ids_of(self.schema, lambda name: self.table[name], len(self)))

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def observations(self, group: Group, modality: str, rows: np.ndarray) -> Iterator[Observations]:
        names = self.columns_of(modality)
        for start in range(0, len(rows), self.rows_at_once):
            here = rows[start : start + self.rows_at_once]
            columns = [self.table[name].take(pa.array(here)).combine_chunks() for name in names]
            yield self.decoded(modality, here, columns)

    def fingerprint(self, cache: Path) -> str:
        return quick_fingerprint(self.files, type(self).__name__)


def ids_of(schema: pa.Schema, column: Any, n: int) -> np.ndarray:
    """Ids (n,) of text: the target ids, or the places of the rows where there are none."""
    name = next((name for name in IDS if name in schema.names), None)
    if name is None:
        return np.array([f"row-{row:07d}" for row in range(n)], dtype=object)
    return np.array([str(value) for value in column(name).to_pylist()], dtype=object)


# --- splits -----------------------------------------------------------------------------------------------------------


def split_rows(rows: Mapping[str, np.ndarray], sub: str) -> dict[str, tuple[str, np.ndarray]]:
    """Our split -> (published split, its rows), from the rows of the published splits.

    Without a validation split it is the last tenth of the training rows. A set with training rows alone is cut into
    eight, one and one tenths. sub50, sub25 and sub10 are the first rows of every split.
    """
    out = {split: (split, rows[split]) for split in SPLITS if split in rows and len(rows[split])}
    train = rows.get("train", np.empty(0, np.int64))
    tenth = max(len(train) // VALIDATION_SHARE, 1)
    if len(train) > 2 * tenth and "test" not in out:
        out["test"] = ("train", train[-tenth:])
        train = train[:-tenth]
    if len(train) > tenth and "validation" not in out:
        out["validation"] = ("train", train[-tenth:])
        train = train[:-tenth]
    if len(train):
        out["train"] = ("train", train)
    if sub not in SUB_FRACTION:
        raise UserError(f"sub={sub} is none of the paired galaxies: choose one of {', '.join(SUB_FRACTION)}")
    shares = {split: -(-len(members) // SUB_FRACTION[sub]) for split, (_, members) in out.items()}
    return {split: (out[split][0], out[split][1][: shares[split]]) for split in SPLITS if split in out}


def source_of(
    layout: str, root: Path, sub: str, seed: int, tables: Mapping[str, Table], rows: Mapping[str, np.ndarray], note: str
) -> Source:
    """Source of published splits, each with its table."""
    chosen = split_rows(rows, sub)
    by_split = {split: tables[name] for split, (name, _) in chosen.items()}
    members = {split: part for split, (_, part) in chosen.items()}
    return Source(layout, root, sub, seed, (), by_split, members, None, note)


def whole(tables: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """All rows of each table."""
    return {split: np.arange(len(table), dtype=np.int64) for split, table in tables.items()}


# --- parquet ----------------------------------------------------------------------------------------------------------


def split_files(names: Sequence[str]) -> dict[str, list[str]]:
    """Published split -> names of its parquet files, of all names in a repository or below a folder.

    Known are <folder>/train-00000-of-00138.parquet and <folder>/train/0000.parquet. Of several folders (configurations)
    the one named joint is taken.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        if path.suffix != ".parquet":
            continue
        prefix = re.split(r"[-_.]", path.name)[0]
        folder = path.parent
        split = SPLIT_NAMES.get(prefix)
        if split is None and folder.name in SPLIT_NAMES:
            split = SPLIT_NAMES[folder.name]
            folder = folder.parent
        if split is not None:
            found.setdefault(str(folder), {}).setdefault(split, []).append(name)
    if len(found) > 1:
        found = {folder: files for folder, files in found.items() if PurePosixPath(folder).name == PREFERRED} or found
    return next(iter(found.values()), {})


def is_pairs(schema: pa.Schema) -> bool:
    """Whether these are columns of galaxies."""
    return any(name in schema.names for name in FILES.values()) and "light_curve" not in schema.names


def paired_files(root: Path) -> dict[str, list[Path]]:
    """Published split -> parquet files below `root`, where they hold images or spectra of galaxies; else none."""
    names = [str(path.relative_to(root)) for pattern in ("", "*/", "*/*/") for path in root.glob(f"{pattern}*.parquet")]
    files = {split: [root / name for name in some] for split, some in split_files(names).items()}
    if not files or not is_pairs(parquet_schema(next(iter(files.values()))[0])):
        return {}
    return files


def open_pairs(root: Path, files: Files, sub: str, seed: int) -> Source:
    """Source of parquet files by published split."""
    for paths in files.values():
        check_parts([path.name for path in paths], str(root))
    tables = {split: PairTable(paths) for split, paths in files.items()}
    for table in tables.values():
        if not is_pairs(table.schema):
            raise UserError(f"{table.files[0]} has no column image or spectrum: {', '.join(table.schema.names)}.")
    first = next(iter(files.values()))[0]
    note = "read from its files on the hub" if isinstance(first, RemoteFile) else "read from its files"
    return source_of("pairs", root, sub, seed, tables, whole(tables), note)


def check_parts(names: Sequence[str], where: str) -> None:
    """All parts of `name-00000-of-00003.parquet` must be there: a split is not shortened silently."""
    parts = [re.fullmatch(r".*-(\d+)-of-(\d+)\.parquet", name) for name in names]
    numbers_found = {int(part[1]) for part in parts if part}
    announced = {int(part[2]) for part in parts if part}
    if announced and numbers_found != set(range(max(announced))):
        missing = sorted(set(range(max(announced))) - numbers_found)
        raise UserError(
            f"{where} lacks {len(missing)} of the {max(announced)} parts of a split (the first is number {missing[0]}); "
            "download it again."
        )


# --- saved by `datasets` ----------------------------------------------------------------------------------------------


def is_saved_pairs(root: Path) -> bool:
    """Whether `datasets.save_to_disk` wrote galaxies to this folder."""
    splits = saved_splits(root)
    return bool(splits) and is_pairs(arrow_table(next(iter(splits.values()))).schema)


def open_saved(root: Path, sub: str, seed: int) -> Source:
    """Source of a folder of `save_to_disk`."""
    tables = {}
    for name, files in saved_splits(root).items():
        if name not in SPLIT_NAMES:
            raise UserError(f"{root} has a split {name}: the splits are {', '.join(SPLITS)}.")
        tables[SPLIT_NAMES[name]] = SavedTable(files)
    return source_of("saved pairs", root, sub, seed, tables, whole(tables), "read from its files")
