"""Folders that `save_to_disk` of the library `datasets` wrote: Arrow files of one data set, or of one for each split.

    folder/dataset_dict.json, folder/train/state.json, folder/train/data-00000-of-00001.arrow, ...   a DatasetDict
    folder/state.json, folder/data-00000-of-00001.arrow                                              one Dataset

The columns say what the objects are, see KINDS. Of a single data set the splits are drawn from the seed; the splits of
a DatasetDict are used as they are, whatever the seed. The files are mapped into memory, never read as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.data.layouts.columns import ColumnFile, readable, with_names
from astrom3.data.layouts.hub import COLUMNS, class_names, open_processed
from astrom3.data.layouts.hub_files import SPLIT_NAMES, config_folders
from astrom3.data.layouts.magnitudes import MagnitudeTable
from astrom3.data.layouts.ours import ObjectTable, drawn_split, read_json
from astrom3.data.layouts.pairs import is_pairs, open_pairs
from astrom3.data.layouts.protocols import as_protocol, capped
from astrom3.data.layouts.table import Source, Table, all_rows
from astrom3.errors import UserError, shown
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import OBJECT_SCHEMA, SPLITS

log = logging.getLogger(__name__)
SPLITS_FILE = "dataset_dict.json"
STATE_FILE = "state.json"
Files = dict[str, list[ColumnFile]]  # by split; a single data set has the key ""


class ArrowFile(ColumnFile):
    """A file of record batches in Arrow's stream format, mapped into memory. Its groups are its record batches."""

    @cached_property
    def _batches(self) -> list[pa.RecordBatch]:
        with readable(self.path, "Arrow"), pa.memory_map(str(self.path)) as source:
            return list(pa.ipc.open_stream(source))

    @cached_property
    def schema(self) -> pa.Schema:  # type: ignore[override]
        with readable(self.path, "Arrow"), pa.memory_map(str(self.path)) as source:
            return with_names(pa.ipc.open_stream(source).schema)

    @property
    def group_rows(self) -> Sequence[int]:
        return [len(batch) for batch in self._batches]

    def batches(self, number: int, columns: list[str], rows_at_once: int) -> Iterator[pa.RecordBatch]:
        whole = self._batches[number].select(columns)
        for start in range(0, len(whole), rows_at_once):
            part = whole.slice(start, rows_at_once)
            with readable(self.path, "Arrow"):
                part.validate(full=True)  # offsets of a damaged file would lead out of its memory
            yield part

    def columns(self, names: list[str]) -> pa.Table:
        with readable(self.path, "Arrow"):
            table = pa.Table.from_batches(self._batches, self.schema).select(names)
            table.validate(full=True)
        return table

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # a worker process maps the file itself


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / SPLITS_FILE).is_file() or (folder / STATE_FILE).is_file()


def saved_files(folder: Path) -> Files:
    """The Arrow files of a folder that `save_to_disk` wrote, by split."""
    if not (folder / SPLITS_FILE).is_file():
        return {"": data_files(folder)}
    names = read_json(folder / SPLITS_FILE).get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{folder / SPLITS_FILE} names no splits; write the data set again.")
    if not names or not set(names) <= set(SPLIT_NAMES):
        raise UserError(f"{folder} has the splits {', '.join(names)}; they must be called {', '.join(SPLITS)}.")
    if len({SPLIT_NAMES[name] for name in names}) < len(names):
        raise UserError(f"{folder / SPLITS_FILE} names a split twice ({', '.join(names)}); write the data set again.")
    files = {SPLIT_NAMES[name]: data_files(folder / name) for name in names}
    return {split: files[split] for split in SPLITS if split in files}


def data_files(folder: Path) -> list[ColumnFile]:
    """The Arrow files that state.json lists, in order. They lie in the folder itself."""
    state = read_json(folder / STATE_FILE)
    listed = state.get("_data_files")
    listed = listed if isinstance(listed, list) else []
    names: set[str] = set()
    found: list[ColumnFile] = []
    for entry in listed or [None]:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{folder / STATE_FILE} lists no Arrow files of this folder; write the data set again.")
        if name in names:
            raise UserError(f"{folder / STATE_FILE} lists {name} twice; write the data set again.")
        names.add(name)
        found.append(ArrowFile(folder / name))
    if state.get("_indices_data_files"):
        raise UserError(f"{folder} is a choice of rows of other files; save it with a newer version of datasets.")
    return found


def find_saved(root: Path, sub: str, seed: int) -> tuple[str, Path] | None:
    """Name and folder of the configuration under `root`, or ("", root) where the root is a data set itself."""
    for config, folder in config_folders(sub, seed):
        if is_saved(root / folder):
            return config, root / folder
    return ("", root) if is_saved(root) else None


def open_saved(root: Path, sub: str, seed: int) -> Source | None:
    """Source of a folder that `save_to_disk` wrote; None where there is none."""
    found = find_saved(root, sub, seed)
    if found is None:
        return None
    config, folder = found
    if is_pairs(saved_files(folder)):
        return open_pairs(root, saved_files(folder), sub, seed)
    if not config and sub != "full":  # a folder of one configuration holds all objects
        full = open_folder(root, "", folder, "full", seed)
        return as_protocol(capped(full, sub, seed), sub)
    return open_folder(root, config, folder, sub, seed)


def open_folder(root: Path, config: str, folder: Path, sub: str, seed: int) -> Source:
    """Source of one configuration, in the first of KINDS whose columns it has."""
    files = saved_files(folder)
    schema = next(iter(files.values()))[0].schema
    for needed, open_kind in KINDS:
        if set(needed) <= set(schema.names):
            return open_kind(root, config, files, sub, seed)
    wanted = "; or ".join(", ".join(needed) for needed, _ in KINDS)
    raise UserError(f"{folder} has the columns {', '.join(schema.names)}. Known sets of columns are {wanted}.")


def open_objects(root: Path, config: str, files: Files, sub: str, seed: int) -> Source:
    """Objects as our own layout has them, in flux."""
    return open_tables(root, files, sub, seed, lambda parts, classes: ObjectTable(root, classes, parts))


def open_magnitude_curves(root: Path, config: str, files: Files, sub: str, seed: int) -> Source:
    """Light curves in magnitudes, as the MACHO-like survey has them."""
    return open_tables(root, files, sub, seed, lambda parts, classes: MagnitudeTable(root, classes, parts))


def open_first(root: Path, config: str, files: Files, sub: str, seed: int) -> Source:
    """Columns of AstroM3Processed on the hub, with splits."""
    if "" in files:
        raise UserError(f"{root} holds one data set without splits; save a DatasetDict with {', '.join(SPLITS)}.")
    return open_processed(root, config, files, sub, seed)


def open_tables(
    root: Path,
    files: Files,
    sub: str,
    seed: int,
    make: Callable[[Sequence[ColumnFile], tuple[str, ...]], Table],
) -> Source:
    """Source of raw observations. make: a table of some files, whose labels are these classes."""
    schema = next(iter(files.values()))[0].schema
    classes = class_names(schema, "label") or classes_of(files)
    opened = {split: make(parts, classes) for split, parts in files.items()}
    check_twice(root, opened)
    if "" in opened:
        rows = drawn_split(root, {}, len(opened[""]), sub, seed)
        tables = dict.fromkeys(rows, opened[""])
    else:
        tables = opened
        rows = all_rows(tables)
    if "train" not in tables:
        raise UserError(f"{root} has no train split, which the catalogue columns are normalised with.")

    normaliser = Normaliser.fit(tables["train"].catalogue().values[rows["train"]])
    return Source("arrow", root, sub, seed, classes, tables, rows, normaliser, "saved by datasets")


def classes_of(files: Files) -> tuple[str, ...]:
    """Names of the classes in alphabetical order, of labels that are strings."""
    names: set[str] = set()
    for parts in files.values():
        for file in parts:
            column = file.columns(["label"])["label"].unique()
            names.update(str(name) for name in column.to_pylist() if name is not None)
    return tuple(sorted(names))


def check_twice(root: Path, tables: dict[str, Table]) -> None:
    """An object is in one split, once."""
    ids = np.concatenate([table.catalogue().ids for table in tables.values()])
    twice = len(ids) - len(set(ids))
    if twice:
        raise UserError(f"{shown(root)}: {twice} object_id occur twice; an object is in one split, once.")


# Columns that a kind of data set must have, and what opens it. The first that fits is taken.
KINDS: list[tuple[Sequence[str], Callable[[Path, str, Files, str, int], Source]]] = [
    (COLUMNS, open_first),
    (OBJECT_SCHEMA.names, open_objects),
    (("object_id", "label", "light_curve", "period"), open_magnitude_curves),
]
