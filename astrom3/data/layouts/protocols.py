"""Labels per class and folds on top of any data set whose full split is known: nothing is written, rows are chosen.

source = apply_protocol(open_full(), Protocol.parse("shot20-fold1of3"), seed=42)
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from astrom3.data.layouts.table import Catalogue, Group, Piece, Source, Table
from astrom3.data.splits import SHOTS_PER_VALIDATION, Protocol, cap_subset, fold_splits, shot_members
from astrom3.errors import UserError
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.ragged import offsets_of
from astrom3.modalities.schema import SPLITS, SUB_FRACTION, UNLABELLED
from astrom3.modalities.view import StoredView

log = logging.getLogger(__name__)


class JoinedTable(Table):
    """Several tables of one layout, one after the other: what a fold needs where every split has a table of its own."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = list(tables)
        self.pad_constants = self.tables[0].pad_constants
        self.remote = any(table.remote for table in self.tables)
        lengths = [len(table) for table in self.tables]
        self.first = offsets_of(lengths)  # row of each table's first object
        self._groups: list[Group] = []
        self._parts: list[tuple[int, Group]] = []
        for number, table in enumerate(self.tables):
            for group in table.groups:
                self._groups.append(Group(len(self._parts), int(self.first[number]) + group.first, group.rows))
                self._parts.append((number, group))

    @property
    def groups(self) -> Sequence[Group]:
        return self._groups

    @cached_property
    def _catalogue(self) -> Catalogue:
        parts = [table.catalogue() for table in self.tables]
        names: dict[int, str] = {}
        for first, part in zip(self.first.tolist(), parts, strict=False):
            names |= {first + row: name for row, name in part.unknown_names.items()}

        def whole(column: str) -> np.ndarray:
            return np.concatenate([getattr(part, column) for part in parts])

        return Catalogue(
            whole("ids"),
            whole("labels"),
            whole("values"),
            whole("unknown"),
            names,
            parts[0].normalised,
            whole("has_metadata"),
        )

    def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def target_names(self) -> tuple[str, ...]:
        return self.tables[0].target_names

    def targets(self, names: Sequence[str]) -> np.ndarray:
        return np.concatenate([table.targets(names) for table in self.tables])

    def pieces(self, group: Group, view: str | StoredView, rows: np.ndarray | None = None) -> Iterator[Piece]:
        number, part = self._parts[group.number]
        first = self.first[number]
        for piece in self.tables[number].pieces(part, view, None if rows is None else rows - first):
            yield replace(piece, rows=piece.rows + first)

    def store_salt(self, view: StoredView) -> str:
        return self.tables[0].store_salt(view)

    def fingerprint(self, cache: Path) -> str:
        keys = " ".join(table.fingerprint(cache) for table in self.tables)
        return hashlib.blake2b(keys.encode(), digest_size=16).hexdigest()


def apply_protocol(source: Source, protocol: Protocol, seed: int) -> Source:
    """The source of a protocol, from that of its `base`. UserError where the objects do not suffice.

    Raw catalogue values are normalised with the protocol's own training objects, as the published subsets are.
    """
    if protocol.name == protocol.base:
        return source
    chosen = source if protocol.fold is None else folded(source, protocol, seed)
    if protocol.shots is not None:
        chosen = few_labels(chosen, protocol.shots, seed)
    elif protocol.subset != "full":
        chosen = capped(chosen, protocol.subset, seed)
    return as_protocol(chosen, protocol.name)


def as_protocol(source: Source, name: str) -> Source:
    """A source under another name, with the statistics of its own training objects."""
    normaliser = source.normaliser
    if normaliser is not None:
        normaliser = Normaliser.fit(source.catalogue("train").values)
    return replace(source, sub=name, normaliser=normaliser)


def folded(source: Source, protocol: Protocol, seed: int) -> Source:
    """All objects of the source's splits, shared out anew for one fold."""
    table, rows = joined(source)
    catalogue = table.catalogue().take(rows)
    assert protocol.fold is not None
    known = catalogue.labels[catalogue.labels != UNLABELLED]
    sizes = np.bincount(known, minlength=len(source.classes))
    rare = []
    for name, size in zip(source.classes, sizes, strict=True):
        if 0 < size < protocol.folds:
            rare.append(name)

    if rare:
        log.warning(
            "%s: fewer objects than folds=%d, so some folds test or train none of them", ", ".join(rare), protocol.folds
        )

    names = fold_splits(catalogue.labels, catalogue.ids, protocol.fold, protocol.folds, seed)
    by_split = {split: rows[names == split] for split in SPLITS}
    smallest = min(map(len, by_split.values()))
    if len(rows) < protocol.folds or smallest == 0:
        raise UserError(
            f"{source.root} has {len(rows)} objects, too few for fold={protocol.fold} of {protocol.folds} folds: "
            "use fewer folds."
        )

    return replace(source, tables=dict.fromkeys(SPLITS, table), rows=by_split)


def joined(source: Source) -> tuple[Table, np.ndarray]:
    """One table of all splits, and the rows of all their objects, ascending."""
    distinct = list(dict.fromkeys(source.tables[split] for split in source.rows))
    if len(distinct) == 1:
        return distinct[0], np.unique(np.concatenate(list(source.rows.values())))
    table = JoinedTable(distinct)
    parts = []
    for split, rows in source.rows.items():
        number = distinct.index(source.tables[split])
        parts.append(table.first[number] + rows)
    return table, np.unique(np.concatenate(parts))


def few_labels(source: Source, shots: int, seed: int) -> Source:
    """`shots` labels per class in train, a quarter of it (at least one) in validation; the test split as it is."""
    train = source.catalogue("train")
    sizes = np.bincount(train.labels[train.labels != UNLABELLED], minlength=len(source.classes))
    if not sizes.any():
        raise UserError(
            f"{source.root} has no labelled training objects, so there are no shots per class: use sub=full."
        )

    largest = int(sizes.argmax())
    if sizes[largest] < shots:
        raise UserError(
            f"shots={shots} is more than any class of {source.root} has in its training split (the largest, "
            f"{source.classes[largest]}, has {sizes[largest]}): use fewer shots or sub=full."
        )

    short = []
    for c, size in zip(source.classes, sizes, strict=True):
        if size < shots:
            short.append(f"{c} {size}")

    if short:
        log.warning("classes with fewer than %d training labels keep all they have: %s", shots, ", ".join(short))
    numbers = {"train": shots, "validation": max(shots // SHOTS_PER_VALIDATION, 1)}
    rows = dict(source.rows)
    for split, number in numbers.items():
        if split in rows:
            catalogue = source.catalogue(split)
            rows[split] = rows[split][shot_members(catalogue.labels, catalogue.ids, number, seed)]

    return replace(source, rows=rows)


def capped(source: Source, subset: str, seed: int) -> Source:
    """The class-capped subset of every split."""
    if subset not in SUB_FRACTION:
        raise UserError(f"sub={subset} cannot be made of folds: choose {', '.join(SUB_FRACTION)} or shots=<number>.")
    rows = {}
    for split, members in source.rows.items():
        labels = []
        for label in source.catalogue(split).labels.tolist():
            labels.append(None if label == UNLABELLED else str(label))
        rows[split] = members[cap_subset(labels, SUB_FRACTION[subset], seed)]
        if not len(rows[split]):
            raise UserError(f"{source.root} has no labelled objects in the {split} split for sub={subset}.")
    return replace(source, rows=rows)
