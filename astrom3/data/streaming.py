"""Training straight from parquet: nothing stored, memory bounded, every object once per epoch over ranks and workers.

The whole order of an epoch is planned on indices before anything is read. Row groups are shuffled, the sequence of
objects is cut into one stretch per (rank, worker), and a shuffle buffer is played through on numbers; so the length is
known, ranks have equal steps, and a resumed epoch reads only what its remaining batches need.

Whether an observation is usable is only known when it is read. A training batch is then filled up with repeats of its
own objects, so that batches stay equal over the ranks; an evaluation batch gets shorter. Every such object is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from astrom3.data.layouts.table import Group, Piece, Source, picked
from astrom3.data.packed import Batch
from astrom3.data.sampler import global_sizes
from astrom3.data.selection import (
    Selection,
    catalogue_inputs,
    columns_of,
    columns_present,
    counted,
    known_present,
    names_for,
    select,
    too_few,
    view_columns,
)
from astrom3.data.shuffle_buffer import buffered
from astrom3.data.store import guard
from astrom3.draws import draw
from astrom3.errors import UserError
from astrom3.modalities.quality import Decision
from astrom3.modalities.view import Members, StoredView, View, views_of
from astrom3.modalities.views import readers_of

GROUPS = 3  # purposes of draws, beside those of sampler.py
BUFFER = 4


class StreamSplit:
    """Objects of one split that may be used, by what the catalogue says; their observations stay in the files."""

    def __init__(
        self,
        source: Source,
        split: str,
        views: Sequence[str] | Mapping[str, str | View],
        *,
        labelled_only: bool,
        min_modalities: int,
        pad_constants: bool | None = None,
        targets: Sequence[str] = (),
    ) -> None:
        catalogue = source.catalogue(split)
        self.views = views_of(views)
        inputs = catalogue_inputs(catalogue, source.normaliser, self.views)
        present = known_present(self.views, catalogue.ids, inputs)
        columns = view_columns(source, split, self.views)
        present |= columns_present(columns)
        aims = source.targets(split, targets) if targets else None
        decisions = [*source.repeated.get(split, ()), *inputs.decisions]
        self.selection: Selection = select(catalogue, present, decisions, labelled_only, min_modalities, aims)
        self.found: dict[Decision, None] = {}  # decisions met while reading, each once
        rows = source.rows[split][self.selection.positions]
        order = np.argsort(rows, kind="stable")
        self.table = source.table(split)
        self.ids = catalogue.ids
        self.min_modalities = min_modalities
        self.modalities = tuple(self.views)
        self.rows = rows[order]  # in the order of the table
        self.positions = self.selection.positions[order]
        self.labels = catalogue.labels[self.positions]
        self.targets = None if aims is None else aims[self.positions].astype(np.float32)
        self.photo = picked(inputs.photo, self.positions)
        self.metadata = picked(inputs.metadata, self.positions)
        self.periods = picked(inputs.periods, self.positions)
        self.known = {slot: there[self.positions] for slot, there in present.items()}  # by the catalogue
        self.columns = columns_of(columns, self.positions)
        self.pad_constants = self.table.pad_constants if pad_constants is None else pad_constants
        unread = {slot: view for slot, view in self.views.items() if not view.stored}
        everybody = Members(
            self.rows,
            self.positions,
            self.photo,
            self.metadata,
            self.pad_constants,
            self.periods,
            ids=names_for(unread, self.ids, self.positions),
        )
        self.readers = readers_of(unread, {}, everybody, self.columns)  # of what is not read from the files of the data

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def decisions(self) -> list[Decision]:
        """From the catalogue, and from what was read so far."""
        return [*self.selection.decisions, *self.found]

    @property
    def counts(self) -> dict[str, Any]:
        """As of a packed split; what observations are missing shows only while reading, so it is not counted here."""
        counts = {**self.selection.counts, "present": {}, "missing": {}}
        lost = sum(decision.modality == "object" for decision in self.found)
        counts["left_out"] += lost
        counts["used"] -= lost
        return counts | counted(self.decisions)

    def sequence(self, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
        """(n,) numbers of all objects in reading order: row groups in a random order, rows in order within them."""
        if not shuffle:
            return np.arange(len(self.rows))
        keys = draw(seed, epoch, GROUPS, self.group_of(self.rows))
        return np.argsort(keys, kind="stable")

    def group_of(self, rows: np.ndarray) -> np.ndarray:
        """Number of the group in the table that has each of the rows (m,)."""
        first = np.array([group.first for group in self.table.groups])
        return np.searchsorted(first, rows, side="right") - 1


@dataclass(frozen=True)
class Plan:
    """What one worker does in one epoch: `reads` (n,) objects in reading order, `order` (n,) places in `reads` in the
    order of use, `sizes` of its batches."""

    reads: np.ndarray
    order: np.ndarray
    sizes: list[int]


@dataclass
class StreamDataset(IterableDataset):
    """Batches of one rank (or of one worker of it), with the decisions made while reading: (batch, decisions)."""

    split: StreamSplit
    seed: int
    rank: int
    world_size: int
    batch_size: int  # global
    drop_last: bool
    train: bool
    buffer: int
    epoch: int = 0
    first: int = 0  # number of this rank's first batch, when an epoch is resumed
    sizes: list[int] = field(init=False)  # of this rank's batches

    def __post_init__(self) -> None:
        if len(self.split) < (self.world_size if self.train else 1):
            raise UserError(f"{len(self.split)} objects are too few for {self.world_size} processes.")
        if self.train and self.batch_size % self.world_size:
            raise UserError(
                f"The global batch size {self.batch_size} cannot be split evenly over {self.world_size} processes; "
                "choose a multiple."
            )
        self.sizes = self.shares(self.rank)

    def shares(self, rank: int) -> list[int]:
        """Sizes of a rank's batches."""
        whole = global_sizes(len(self.split), self.world_size, self.batch_size, self.drop_last, self.train)
        if not self.train and len(whole) > 1 and whole[-1] < self.world_size:
            whole[-2:] = [sum(whole[-2:])]  # a stream hands out no empty batches, and ranks need equally many
        sizes = []
        for size in whole:
            each, left = divmod(size, self.world_size)
            sizes.append(each + (rank < left))
        return [size for size in sizes if size]

    def plan(self, worker: int, workers: int) -> Plan:
        """The part of one worker of this rank: batches number worker, worker + workers, ..."""
        sequence = self.split.sequence(self.seed, self.epoch, self.train)
        before = 0
        for rank in range(self.rank):
            before += sum(self.shares(rank))
        for earlier in range(worker):
            before += sum(self.sizes[earlier::workers])
        sizes = self.sizes[worker::workers]
        reads = sequence[before : before + sum(sizes)]
        order = np.arange(len(reads))
        if self.train and len(reads):
            keys = draw(self.seed, self.epoch, BUFFER, reads)
            order = buffered(keys, max(self.buffer, 1), self.split.table.remote)
        return Plan(reads, order, sizes)

    def __iter__(self) -> Iterator[tuple[Batch, list[Decision]]]:
        info = get_worker_info()
        workers, number = (info.num_workers, info.id) if info else (1, 0)
        worker = (number + self.first) % workers  # a resumed epoch begins with the worker whose turn it was
        done = len(range(worker, self.first, workers))
        plan = self.plan(worker, workers)
        epoch = self.epoch if self.train else None
        yield from _Reader(self.split, plan, self.seed, epoch, max(self.buffer, 1)).batches(done)


class _Reader:
    """Reads the objects of a plan into a pool of batch rows and hands out the batches."""

    def __init__(self, split: StreamSplit, plan: Plan, seed: int, epoch: int | None, buffer: int) -> None:
        self.split = split
        self.plan = plan
        self.seed = seed
        self.epoch = epoch
        self.slot = np.full(len(plan.reads), -1, dtype=np.int64)  # place in the pool, -1 = not read or rejected
        self.buffer = buffer
        self.free: list[int] = []
        self.pool: dict[str, np.ndarray] = {}
        self.decisions: list[Decision] = []

    def batches(self, done: int) -> Iterator[tuple[Batch, list[Decision]]]:
        """Batches from number `done` of the plan on."""
        plan = self.plan
        used = sum(plan.sizes[:done])
        needed = np.ones(len(plan.reads), dtype=bool)
        needed[plan.order[:used]] = False
        reading = self._read(np.flatnonzero(needed))
        frontier = 0  # the first place that is not read yet
        for size in plan.sizes[done:]:
            wanted = plan.order[used : used + size]
            used += size
            while frontier <= wanted.max():
                frontier = next(reading, len(plan.reads))

            is_usable = self.slot[wanted] >= 0
            usable = wanted[is_usable]
            if len(usable):
                chosen = usable if self.epoch is None else np.resize(usable, size)
                batch = self._batch(chosen)
                decisions = self.decisions
                self.free += self.slot[usable].tolist()
                self.slot[usable] = -1
                self.decisions = []
                yield batch, decisions
            elif self.epoch is not None:
                raise UserError(
                    f"None of the {size} objects of a streamed batch can be used "
                    f"(last: {', '.join(self.decisions[-1])}); prepare the data once with data.streaming=false."
                )

    def _read(self, needed: np.ndarray) -> Iterator[int]:
        """Read the needed places of the plan in order; yields the first place not read yet."""
        split = self.split
        if not len(needed):
            return
        stored = {view.store: view for view in split.views.values() if isinstance(view, StoredView)}
        rows = split.rows[self.plan.reads]
        owner = split.group_of(rows[needed])
        borders = np.flatnonzero(np.diff(owner)) + 1
        for part in np.split(needed, borders):
            if not stored:
                self._take(part, {})
                yield int(part[-1]) + 1
                continue

            number = int(split.group_of(rows[part[0]]))
            group: Group = split.table.groups[number]
            iterators = [split.table.pieces(group, view, rows[part]) for view in stored.values()]
            taken = 0
            for pieces in zip(*iterators, strict=True):
                places = part[taken : taken + len(pieces[0].rows)]
                taken += len(places)
                self._take(places, dict(zip(stored, pieces, strict=True)))
                yield int(places[-1]) + 1

    def _take(self, places: np.ndarray, pieces: dict[str, Piece]) -> None:
        """Put the usable ones of some objects into the pool."""
        split = self.split
        members = self.plan.reads[places]
        ids = split.ids[split.positions[members]]
        names = dict(zip(split.rows[members].tolist(), map(str, ids.tolist()), strict=True))
        arrays = {}
        for store, piece in pieces.items():
            self.decisions += piece.decisions(names)
            arrays[store] = piece.view.arrays(piece.data)

        present = {}
        for slot, view in split.views.items():
            if isinstance(view, StoredView):
                present[slot] = view.present(arrays[view.store])
            else:
                present[slot] = split.known[slot][members]
        counts = np.stack(list(present.values())).sum(axis=0)
        usable = counts >= split.min_modalities
        for row in np.flatnonzero(~usable).tolist():
            reason = too_few(split.min_modalities, present, row)
            self.decisions.append(Decision(str(ids[row]), "object", "rejected", reason))

        chosen = np.flatnonzero(usable)
        used = members[chosen]
        photo = split.photo[used]
        metadata = split.metadata[used]
        positions = split.positions[used]
        of_piece = Members(chosen, positions, photo, metadata, split.pad_constants, split.periods[used])
        values: dict[str, np.ndarray] = {f"present.{slot}": there[chosen] for slot, there in present.items()}
        values["member"] = used
        for view in split.views.values():
            if view.stored:
                reader = view.reader(arrays[view.store], of_piece)
                filled = reader.fill(np.arange(len(chosen)), self.seed, self.epoch)
                values |= {key: tensor.numpy() for key, tensor in filled.items()}
        guard(*[array for array in values.values() if array.dtype == np.float32])
        self._put(places[chosen], values)

    def _put(self, places: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Copy the values of objects to free rows of the pool. places (m,): of the objects in the plan."""
        if not self.pool:
            # What was read and not used yet: the buffer, the batch being filled, and the last piece.
            size = min(len(self.plan.reads), self.buffer + max(self.plan.sizes) + self.split.table.rows_at_once)
            self.pool = {name: np.empty((size, *array.shape[1:]), array.dtype) for name, array in values.items()}
            self.free = list(range(size))
        slots = np.array([self.free.pop() for _ in places], dtype=np.int64)
        for name, array in values.items():
            self.pool[name][slots] = array
        self.slot[places] = slots

    def _batch(self, places: np.ndarray) -> Batch:
        """Batch dict of objects that are in the pool. places (B,): of the objects in the plan."""
        split = self.split
        rows = self.slot[places]
        members = self.pool["member"][rows]
        batch: Batch = {
            "index": torch.from_numpy(split.positions[members]),
            "label": torch.from_numpy(split.labels[members]),
        }
        if split.targets is not None:
            batch["target"] = torch.from_numpy(split.targets[members])
        for slot, view in split.views.items():
            if not view.stored:
                batch |= split.readers[slot].fill(members, self.seed, self.epoch)
                continue
            for key in view.keys:
                batch[key] = torch.from_numpy(self.pool[key][rows])

        present = {}
        for modality in split.modalities:
            there = self.pool[f"present.{modality}"][rows]
            present[modality] = torch.from_numpy(there)
        batch["present"] = present
        return batch
