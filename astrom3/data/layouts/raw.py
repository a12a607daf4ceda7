"""The files of AstroM3Dataset used in place: CSV splits, .dat light curves, LAMOST FITS (see `data.readers.raw`).

A file that cannot be read is a rejected modality of its object. Reading 40,000 small files is slow; it happens once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.data.fingerprint import fingerprint
from astrom3.data.layouts.ours import label_ids
from astrom3.data.layouts.parquet import ROWS_AT_ONCE, prepare
from astrom3.data.layouts.table import Catalogue, Group, Piece, Source, Table, all_rows
from astrom3.data.readers import ReadError
from astrom3.data.readers.raw import SPLIT_FILES, RawDataset, RawSplit
from astrom3.errors import UserError
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.catalogue_quality import possible
from astrom3.modalities.quality import Decision
from astrom3.modalities.ragged import ragged
from astrom3.modalities.schema import SPLITS
from astrom3.modalities.view import StoredView, stored_view


class RawTable(Table):
    """One split, in the order of its CSV."""

    def __init__(self, dataset: RawDataset, split: str) -> None:
        self.dataset = dataset
        self.split = split

    @cached_property
    def _objects(self) -> RawSplit:
        return self.dataset.split(self.split)

    @property
    def groups(self) -> Sequence[Group]:
        n = len(self._objects.ids)
        starts = range(0, n, ROWS_AT_ONCE)
        return [Group(i, first, min(ROWS_AT_ONCE, n - first)) for i, first in enumerate(starts)]

    @cached_property
    def _catalogue(self) -> Catalogue:
        objects = self._objects
        labels, unknown, names = label_ids(objects.labels, self.dataset.classes)
        there = np.ones(len(labels), dtype=bool)
        values = possible(objects.values)
        return Catalogue(np.array(objects.ids, dtype=object), labels, values, unknown, names, False, there)

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def pieces(self, group: Group, view: str | StoredView, rows: np.ndarray | None = None) -> Iterator[Piece]:
        chosen = np.arange(group.first, group.first + group.rows)
        if rows is not None:
            chosen = np.sort(rows[(rows >= group.first) & (rows < group.first + group.rows)])
        if not len(chosen):
            return

        stored = stored_view(view)
        read = self._reader(stored.modality)
        empty = (np.empty(0), np.empty(0), np.empty(0))
        observations = []
        unreadable = []
        for row in chosen.tolist():
            try:
                observations.append((read(row) or empty)[:3])
            except ReadError as error:
                observations.append(empty)
                unreadable.append(Decision(self._objects.ids[row], stored.modality, "rejected", str(error)))

        bad = np.zeros(len(chosen), dtype=bool)
        for number, columns in enumerate(observations):
            if len({*map(len, columns)}) > 1:
                bad[number] = True
                observations[number] = empty

        offsets, *flat = ragged(observations)
        data, repairs = prepare(stored, np.diff(offsets), flat, bad)
        yield Piece(stored, chosen, data, repairs, tuple(unreadable))

    def _reader(self, modality: str) -> Callable[[int], Any]:
        """Row -> three columns, or None where the CSV names no file."""
        objects = self._objects
        dataset = self.dataset
        if modality == "photometry":
            return lambda row: dataset.light_curve(objects.names[row]) if objects.names[row] else None
        return lambda row: (
            dataset.spectrum(objects.spec_filenames[row], objects.labels[row]) if objects.spec_filenames[row] else None
        )

    def fingerprint(self, cache: Path) -> str:
        """From the content of the CSV and photometry.zip, and the names, sizes and times of all other files."""
        root = self.dataset.path
        whole = [self.dataset.folder / SPLIT_FILES[self.split], *sorted(root.glob("**/photometry.zip"))]
        key = hashlib.blake2b(fingerprint(whole, cache, "RawTable").encode(), digest_size=16)
        for folder in ("spectra", "vardb_files", "photometry"):
            for path in sorted((root / folder).glob("**/*")):
                info = path.stat()
                key.update(f"{path.relative_to(root)} {info.st_size} {info.st_mtime_ns}\n".encode())
        return key.hexdigest()


def open_raw(root: Path, sub: str, seed: int) -> Source:
    """Source of a folder with splits/{sub}/{seed}/info.json."""
    dataset = RawDataset(root, sub, seed)
    path = dataset.folder / "info.json"
    normaliser = Normaliser.from_dict(dataset.info, str(path))
    check_files(dataset.folder)
    splits = [split for split in SPLITS if (dataset.folder / SPLIT_FILES[split]).is_file()]
    tables: dict[str, Table] = {split: RawTable(dataset, split) for split in splits}
    return Source("raw", root, sub, seed, dataset.classes, tables, all_rows(tables), normaliser)


def check_files(folder: Path) -> None:
    """UserError where another table lies beside the splits: its name is misspelt, and its objects would be lost."""
    wanted = set(SPLIT_FILES.values())
    there = {path.name for path in folder.glob("*.csv")}
    strange = sorted(there - wanted)
    if strange:
        raise UserError(
            f"{folder} has {strange[0]}, which is none of the splits {', '.join(SPLIT_FILES.values())}: rename it, or "
            "move it away"
        )
    if not there & wanted:
        raise UserError(f"{folder} has none of {', '.join(SPLIT_FILES.values())}; download the splits again")
