"""Loader over a packed split: batches filled at once, any iterable for Lightning or a plain loop, exact resume."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from astrom3.data.packed import Batch, PackedSplit
from astrom3.data.resident import ResidentSplit
from astrom3.data.sampler import EpochSampler


class Position:
    """Where a loader is: the epoch, and how many batches of it were handed out. Shared by all our loaders.

    A state loaded for an epoch takes effect in the next iteration over that epoch, and is forgotten when another
    epoch is set. Lightning finds `sampler.set_epoch` by itself; a plain loop calls `set_epoch`.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.done = 0
        self._resume = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the windows of the next iteration."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.done = 0
            self._resume = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch, and the batches handed out in it."""
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue behind the batches handed out before."""
        self.epoch = int(state["epoch"])
        self.done = self._resume = int(state["done"])

    def begin(self) -> int:
        """Number of the first batch of an iteration that starts now."""
        self.done, self._resume = self._resume, 0
        return self.done


class PackedLoader:
    """Batches of one rank. train=True: order and windows drawn afresh each epoch; else in order, windows centred, or
    with every_window=True all windows of each object, so that a batch has more rows than objects."""

    batch_sampler = None  # Lightning asks every loader that has a sampler for it

    def __init__(
        self,
        split: PackedSplit | ResidentSplit,
        sampler: EpochSampler,
        seed: int = 0,
        train: bool = True,
        every_window: bool = False,
    ) -> None:
        self.every_window = every_window and not train and isinstance(split, PackedSplit) and split.has_windows
        self.split = split
        self.batches = sampler
        self.seed = seed
        self.train = train
        self.position = Position()

    @property
    def sampler(self) -> PackedLoader:
        """What Lightning calls `set_epoch` on at the start of each epoch."""
        return self

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        self.position.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        return self.position.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position.load_state_dict(state)

    def __iter__(self) -> Iterator[Batch]:
        # Runs at the first `next`: Lightning calls iter() on a resumed loader before it sets the epoch.
        first = self.position.begin()
        epoch = self.position.epoch
        self.batches.set_epoch(epoch)
        order = self.batches.order()
        for number in range(first, len(self.batches)):
            batch = self._batch(self.batches.batch(order, number), epoch)
            self.position.done = number + 1
            yield batch

    def _batch(self, members: np.ndarray, epoch: int) -> Batch:
        if self.every_window and isinstance(self.split, PackedSplit):
            return self.split.every_window(members, self.seed)
        return self.split.batch(members, self.seed, epoch if self.train else None)
