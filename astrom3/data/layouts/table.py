"""What every layout looks like to the rest of the program: tables of objects, and a source that is a choice of rows.

A `Table` holds objects once, in a fixed order, and hands out prepared pieces of them with bounded memory. A `Source`
is one (sub, seed): for each split a table and the rows of it that belong to the split.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.errors import UserError, shown
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.catalogue_quality import possible_targets
from astrom3.modalities.quality import Decision, list_decisions
from astrom3.modalities.schema import ALL_COLS
from astrom3.modalities.view import StoredView, View


@dataclass(frozen=True)
class Catalogue:
    """ids (n,) str; labels (n,) int64, UNLABELLED where null; values (n, 38) float64 in ALL_COLS order, NaN unknown.

    `unknown` (n,) bool marks objects whose class is not among the source's classes; `unknown_names` names it.
    `normalised`: the values are z-scored already (hub layouts); processed-2 has NaN in the four PHOTO_COLS, which it
    keeps with the light curves. `has_metadata` (n,) bool: the metadata modality is there at all.
    """

    ids: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    unknown: np.ndarray
    unknown_names: dict[int, str]  # row -> class name
    normalised: bool
    has_metadata: np.ndarray

    def take(self, rows: np.ndarray) -> Catalogue:
        """The catalogue of some rows, in their order."""
        names: dict[int, str] = {}
        if self.unknown_names:
            for i, r in enumerate(rows):
                if int(r) in self.unknown_names:
                    names[i] = self.unknown_names[int(r)]

        return Catalogue(
            self.ids[rows],
            picked(self.labels, rows),
            picked(self.values, rows),
            picked(self.unknown, rows),
            names,
            self.normalised,
            picked(self.has_metadata, rows),
        )


def picked(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows (m,) of an array (n, ...). Where all its rows are one (`np.broadcast_to`), that one is repeated again, so
    that what tens of millions of objects do not have takes no memory."""
    if array.ndim and len(array) and array.strides[0] == 0:
        return np.broadcast_to(array[0], (len(rows), *array.shape[1:]))
    return array[rows]


@dataclass(frozen=True)
class Piece:
    """Prepared objects of one view: rows (n,) of their table, and what was repaired (n, 4), None if not counted."""

    view: StoredView
    rows: np.ndarray
    data: Any  # what the view prepares
    repairs: np.ndarray | None
    unreadable: tuple[Decision, ...] = ()  # files of these objects that could not be read

    def decisions(self, ids: Sequence[str] | np.ndarray | Mapping[int, str]) -> list[Decision]:
        """Rows of rejected.csv for this piece; `ids` by row of the table."""
        names = [ids[row] for row in self.rows.tolist()]
        words = self.view.words
        found = list_decisions(self.view.modality, names, self.data.verdict, self.repairs, words)
        return [*self.unreadable, *found]


@dataclass(frozen=True)
class Group:
    """A run of rows that is read as one: number, first row, number of rows."""

    number: int
    first: int
    rows: int


class Table(ABC):
    """Objects in a fixed order, read group by group."""

    pad_constants = True  # the six constants stand in padded rows too
    direct = False  # read from its files in every epoch, never copied into a store: too large for that
    names_objects = True  # whether the data have ids; else objects are called after their place
    remote = False  # whether its files are read over a network
    rows_at_once = 256  # objects decoded at a time, however large the group: about 13 MB of stars' spectra

    @property
    @abstractmethod
    def groups(self) -> Sequence[Group]: ...

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """Ids, labels and catalogue values of all rows."""

    @abstractmethod
    def pieces(self, group: Group, view: str | StoredView, rows: np.ndarray | None = None) -> Iterator[Piece]:
        """Prepared observations of one group in order, or of those of its objects that are in `rows`.

        Pieces of different views have the same rows, so that two iterators can be zipped.
        """

    @abstractmethod
    def fingerprint(self, cache: Path) -> str:
        """Hexadecimal key of the content; `cache` is a folder for hashes of files already seen."""

    def reads_in_place(self, views: Iterable[View]) -> bool:
        """Whether the observations of these views are read from their files in every epoch, not kept in a store."""
        return self.direct

    def store_salt(self, view: StoredView) -> str:
        """What else than the content and the view a store's name must say; nothing for most tables."""
        return ""

    @property
    def target_names(self) -> tuple[str, ...]:
        """What `targets` can give: here the catalogue columns, where they are as measured."""
        return () if self.catalogue().normalised else ALL_COLS

    def targets(self, names: Sequence[str]) -> np.ndarray:
        """Numbers to predict (n, T) float64 of all rows, NaN where unknown; names are among `target_names`."""
        return self.catalogue().values[:, [ALL_COLS.index(name) for name in names]]

    def __len__(self) -> int:
        return sum(group.rows for group in self.groups)


def all_rows(tables: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """Every row of every split's own table, int64."""
    rows = {}
    for split, table in tables.items():
        rows[split] = np.arange(len(table), dtype=np.int64)
    return rows


@dataclass(frozen=True)
class Source:
    """One (sub, seed) of a data set: `tables` and `rows` by split, the classes and the statistics of its train split.

    `normaliser` is None where the catalogue values are normalised already.
    """

    layout: str  # its name in layouts/__init__.py
    root: Path
    sub: str
    seed: int
    classes: tuple[str, ...]
    tables: dict[str, Table]
    rows: dict[str, np.ndarray]
    normaliser: Normaliser | None
    note: str = ""  # what else a user should know, e.g. that the data are simulated
    units: dict[str, str] = field(default_factory=dict)  # of targets, where they are known
    repeated: dict[str, tuple[Decision, ...]] = field(default_factory=dict)  # by split: copies that are left out

    def table(self, split: str) -> Table:
        """The table that holds this split; UserError if there is none."""
        if split not in self.tables:
            raise UserError(
                f"{self.root} has no {split} split for {self.sub}_{self.seed} (has: {', '.join(self.rows)})."
            )
        if not len(self.rows[split]):
            raise UserError(f"{self.root}: the {split} split of {self.sub}_{self.seed} has no objects.")
        return self.tables[split]

    def catalogue(self, split: str) -> Catalogue:
        """Catalogue of the split's objects, in the order of the split."""
        return self.table(split).catalogue().take(self.rows[split])

    def targets(self, split: str, names: Sequence[str]) -> np.ndarray:
        """Numbers to predict (n, T) float64 of the split's objects, NaN where unknown."""
        table = self.table(split)
        unknown = []
        for name in names:
            if name not in table.target_names:
                unknown.append(name)
        if unknown:
            known = ", ".join(table.target_names) or "no numbers to predict"
            raise UserError(f"target={unknown[0]} is not known for the objects of {self.root}; it has: {known}.")
        values = table.targets(names)[self.rows[split]]
        return possible_targets(values, names)

    def chunks(self, split: str, view: str | StoredView) -> Iterator[Piece]:
        """Prepared observations of the split, in the order of the table; memory is bounded."""
        table = self.table(split)
        for group in table.groups:
            yield from table.pieces(group, view, self.rows[split])

    def fingerprint(self, split: str, cache: Path) -> str:
        """Key of the content of the table behind the split."""
        return self.table(split).fingerprint(cache)

    def describe(self) -> str:
        """One line for the log: what was found."""
        counts = ", ".join(f"{split} {len(rows)}" for split, rows in self.rows.items())
        state = "normalised" if self.normaliser is None else "raw"
        note = f"; {self.note}" if self.note else ""
        return (
            f"layout {self.layout} at {shown(self.root)}, {self.sub}_{self.seed}: {counts}; "
            f"{len(self.classes)} classes, catalogue values {state}{note}"
        )
