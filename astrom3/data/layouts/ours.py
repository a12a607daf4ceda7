"""Our own layout ("astrom3"), written by `data.writer`: every object once, and one small file per (sub, seed)."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3 import files, stored
from astrom3.data.layouts.bands import Bands
from astrom3.data.layouts.columns import ColumnFile, readable
from astrom3.data.layouts.parquet import ParquetTable, columns_of_struct, numbers, prepare, text_column
from astrom3.data.layouts.protocols import as_protocol, capped
from astrom3.data.layouts.table import Catalogue, Source, Table
from astrom3.data.rows import is_numeric
from astrom3.data.splits import FRACTIONS, split_80_10_10
from astrom3.errors import UserError, shown
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.catalogue_quality import possible
from astrom3.modalities.schema import ALL_COLS, META_COLS, OBJECT_SCHEMA, PHOTO_COLS, SPLITS, SUB_FRACTION, UNLABELLED
from astrom3.modalities.view import StoredView
from astrom3.parquet_files import read_parquet
from astrom3.typed import check

LAYOUT = "astrom3"
VERSIONS = (1, 2)  # of dataset.json
log = logging.getLogger(__name__)
CHILDREN = {"photometry": ("time", "flux", "flux_err"), "spectra": ("wavelength", "flux", "ivar")}


class ObjectTable(ParquetTable):
    """objects/objects-*.parquet of OBJECT_SCHEMA: raw observations, times in float64.

    bands: of light curves whose points have a band. Views of one band read the chosen one.
    """

    column: ClassVar = {"photometry": "light_curve", "spectra": "spectrum"}

    def __init__(
        self,
        root: Path,
        classes: tuple[str, ...],
        files: Sequence[ColumnFile] | None = None,
        bands: Bands | None = None,
    ) -> None:
        """The files are those of the folder, unless others are given."""
        super().__init__(sorted((root / "objects").glob("*.parquet")) if files is None else files)
        self.root = root
        self.classes = classes
        self.bands = bands
        if not self.files:
            raise UserError(f"{root} has no objects/*.parquet; write the data set again.")
        missing = []
        for name in OBJECT_SCHEMA.names:
            if name not in self.schema.names:
                missing.append(name)
        if missing:
            raise UserError(f"{self.files[0]} lacks the columns {', '.join(missing)}; write the data set again.")

    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        lengths, columns, bad = self.observations(view.modality, column, view.several_bands)
        return prepare(view, lengths, columns, bad)

    def observations(
        self, modality: str, column: pa.Array, several_bands: bool = False
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Lengths (n,), flat columns and bad (n,) of light curves or spectra. several_bands: a fourth column is the
        wavelength [Angstrom] of each point's band, 0 where the data set does not know it."""
        children = CHILDREN[modality]
        if modality != "photometry" or (self.bands is None and not several_bands):
            return columns_of_struct(column, children)
        if self.bands is None:
            lengths, columns, bad = columns_of_struct(column, children)
            return lengths, [*columns, np.zeros(int(lengths.sum()))], bad
        read = self.bands.of_all if several_bands else self.bands.of_one
        return read(column, children)

    def store_salt(self, view: StoredView) -> str:
        """The band that a view of one band reads is part of what its store holds."""
        if self.bands is None or view.several_bands or view.modality != "photometry":
            return ""
        return f"-{self.bands.names.index(self.bands.chosen)}"

    @cached_property
    def _catalogue(self) -> Catalogue:
        table = self.small_columns(["object_id", "label", "photo_cols", "meta_cols"])
        labels, unknown, names = label_ids(label_column(table, self.classes, self.root), self.classes)
        values = np.full((len(table), len(ALL_COLS)), np.nan)
        columns = {"photo_cols": PHOTO_COLS, "meta_cols": META_COLS}
        for group, members in columns.items():
            struct = table[group].combine_chunks()
            for name in members:
                values[:, ALL_COLS.index(name)] = numbers(struct_child(struct, name, self.files[0]))
        values = possible(values)
        has_metadata = table["meta_cols"].combine_chunks().is_valid().to_numpy(zero_copy_only=False)
        return Catalogue(unique_ids(table, self.root), labels, values, unknown, names, False, has_metadata)

    def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def target_names(self) -> tuple[str, ...]:
        """Those of the column `targets`, further columns of plain numbers, and the catalogue columns."""
        return tuple(dict.fromkeys([*self._own_targets, *self._numeric, *super().target_names]))

    @cached_property
    def _own_targets(self) -> tuple[str, ...]:
        column = self.schema.field("targets").type if "targets" in self.schema.names else pa.struct([])
        return tuple(field.name for field in column)

    @cached_property
    def _numeric(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.schema if is_numeric(field.type))

    def targets(self, names: Sequence[str]) -> np.ndarray:
        columns = []
        for name in names:
            if name in self._own_targets:
                struct = self.small_columns(["targets"])["targets"].combine_chunks()
                columns.append(numbers(pc.struct_field(struct, name)))
            elif name in self._numeric:
                columns.append(numbers(self.small_columns([name])[name].combine_chunks()))
            else:
                columns.append(super().targets([name])[:, 0])
        return np.stack(columns, axis=1).astype(np.float64)


def unique_ids(table: pa.Table, root: Path) -> np.ndarray:
    """The column object_id (n,) of str; UserError where an object has none, or one that is there before."""
    ids = text_column(table, "object_id", f"{root}/objects")
    twice = len(ids) - len(set(ids))
    if twice:
        raise UserError(f"{root}/objects: {twice} object_id occur twice; write the data set again.")
    return np.array(ids, dtype=object)


def struct_child(struct: pa.StructArray, name: str, path: object) -> pa.Array:
    """A field of a struct column, null where the struct is; UserError that names a missing field."""
    if not pa.types.is_struct(struct.type) or struct.type.get_field_index(name) < 0:
        raise UserError(f"{path} lacks the catalogue column {name}; write or download the data set again.")
    return pc.struct_field(struct, name)


def label_names(column: pa.ChunkedArray, classes: tuple[str, ...]) -> list[str | None]:
    """Labels as names; integers are positions in `classes`, and -1 is no label."""
    labels = column.to_pylist()
    if not pa.types.is_integer(column.type):
        return labels
    number = dict(enumerate(classes))
    return [None if label in (None, UNLABELLED) else number.get(label, str(label)) for label in labels]


def label_column(table: pa.Table, classes: tuple[str, ...], source: Path) -> list[str | None]:
    """The column label as names, None without one; UserError where it is neither text nor positions in `classes`."""
    if pa.types.is_integer(table["label"].type):
        return label_names(table["label"], classes)
    return text_column(table, "label", source, nulls=True)


def label_ids(labels: list[str | None], classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Class names -> ids (n,) int64 with UNLABELLED for null, unknown (n,) bool, and the unknown names by row."""
    number = {name: i for i, name in enumerate(classes)}
    names = {}
    ids = np.full(len(labels), UNLABELLED, dtype=np.int64)
    for row, label in enumerate(labels):
        if label in number:
            ids[row] = number[label]
        elif label is not None:
            names[row] = str(label)
    unknown = np.zeros(len(labels), dtype=bool)
    unknown[list(names)] = True
    return ids, unknown, names


def open_ours(root: Path, sub: str, seed: int, band: str | None = None) -> Source:
    """Source of a folder with dataset.json; where it has no file of this split, the split is drawn from the seed.

    band: the one that views of one band read, where light curves have several; None: the best sampled.
    """
    about = read_about(root, VERSIONS)
    classes = tuple(about.get("classes") or ())
    bands = Bands.of(about, band, root)
    table = ObjectTable(root, classes, bands=bands)
    splits = root / "splits" / f"{sub}_{seed}.parquet"
    if os.path.lexists(splits):  # of whatever kind: a damaged one is not passed over
        by_split = split_of_file(splits, table)
        statistics = splits.with_suffix(".json")
        normaliser = Normaliser.from_dict(read_json(statistics), str(statistics))
    elif sub in SUB_FRACTION and sub != "full":
        log.info("%s has no file splits/%s_%d.parquet: the subset is drawn from the full split", shown(root), sub, seed)
        return as_protocol(capped(open_ours(root, "full", seed, band), sub, seed), sub)
    else:
        by_split = drawn_split(root, about, len(table), sub, seed)
        normaliser = Normaliser.fit(table.catalogue().values[by_split["train"]])

    note = "simulated data" if (about.get("provenance") or {}).get("simulated") else ""
    if bands is not None and len(bands.names) > 1:
        also = f"bands {', '.join(bands.names)}, {bands.chosen} for networks of one band"
        note = f"{note}; {also}" if note else also
    units = {}
    for target in about.get("targets") or []:
        if isinstance(target, dict) and target.get("unit"):
            units[target["name"]] = str(target["unit"])

    tables: dict[str, Table] = dict.fromkeys(by_split, table)
    return Source(LAYOUT, root, sub, seed, classes, tables, by_split, normaliser, note, units)


def assigned_rows(root: Path, sub: str, seed: int, table: Table) -> dict[str, np.ndarray]:
    """Split -> rows of the table, from splits/{sub}_{seed}.parquet."""
    splits = root / "splits" / f"{sub}_{seed}.parquet"
    if not splits.is_file():
        raise no_split(root, sub, seed)
    return split_of_file(splits, table)


def no_split(root: Path, sub: str, seed: int) -> UserError:
    """The error that lists the splits that there are."""
    names = [path.stem for path in (root / "splits").glob("*.parquet")]
    found = sorted(name for name in names if re.fullmatch(r".+_\d+", name))
    return UserError(f"{root} has no split {sub}_{seed}; it has: {', '.join(found) or 'none'}.")


def split_of_file(splits: Path, table: Table) -> dict[str, np.ndarray]:
    """Rows of the table by split, as splits/{sub}_{seed}.parquet has them."""
    with readable(splits):
        assigned = read_parquet(splits)
        assigned.validate(full=True)

    if not {"object_id", "split"} <= set(assigned.column_names):
        raise UserError(f"{splits} must have the columns object_id and split; write the data set again.")

    row_of = dict(zip(table.catalogue().ids, range(len(table)), strict=True))
    names = np.array(text_column(assigned, "split", splits), dtype=object)
    ids = text_column(assigned, "object_id", splits)
    absent = [object_id for object_id in ids if object_id not in row_of]
    if absent:
        raise UserError(f"{splits} names {len(absent)} objects that are not in objects/ (first: {absent[0]!r}).")

    check_splits(splits, ids, names)
    rows = np.array([row_of[object_id] for object_id in ids], dtype=np.int64)
    found = {}
    for split in SPLITS:
        if (names == split).any():
            found[split] = rows[names == split]
    return found


def check_splits(path: Path, ids: list[str], names: np.ndarray) -> None:
    """Raise UserError where an object is in a split file twice, or in a split that there is not."""
    strange = sorted({str(name) for name in names} - set(SPLITS))
    if strange:
        count = int(np.isin(names.astype(str), strange).sum())
        raise UserError(f"{path} puts {count} objects into {strange[0]!r}: the splits are {', '.join(SPLITS)}.")
    where: dict[str, str] = {}
    for object_id, name in zip(ids, names, strict=True):
        if object_id in where:
            both = f"in {where[object_id]} and {name}" if where[object_id] != name else f"twice in {name}"
            raise UserError(f"{path}: object {object_id!r} is {both}; an object is in one split, once.")
        where[object_id] = name


def drawn_split(root: Path, about: dict[str, Any], n: int, sub: str, seed: int) -> dict[str, np.ndarray]:
    """Rows of the table by split, drawn from the seed: the full split that `convert seeds=[...]` writes into a file."""
    if sub != "full":
        raise no_split(root, sub, seed)
    converted = (about.get("provenance") or {}).get("converted") or {}
    fractions = about.get("split_fractions") or converted.get("split_fractions") or FRACTIONS
    names = split_80_10_10(n, seed, fractions)
    log.info("%s has no file splits/%s_%d.parquet: the split is drawn from the seed", shown(root), sub, seed)
    result = {}
    for split in SPLITS:
        if (names == split).any():
            result[split] = np.flatnonzero(names == split)
    return result


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError where it is missing or damaged."""
    if not path.exists():
        raise UserError(f"{path} is missing; write or download the data set again.")
    return files.read_json(path)


def read_about(root: Path, version: Sequence[int]) -> dict[str, Any]:
    """dataset.json, checked: of our layout, of a version in `version`, every key of its type."""
    path = root / "dataset.json"
    about = read_json(path)
    if about.get("layout") != LAYOUT or about.get("version") not in version:
        raise UserError(
            f"{path} says layout {about.get('layout')!r} version {about.get('version')!r}; this program reads "
            f"{LAYOUT!r} version {version[-1]}; convert the data again."
        )
    check(about, stored.DataSet, path, "write the data set again")
    stored.unique(about.get("classes") or [], path, "classes")
    return about
