"""Batches of a stream, read by worker processes, and where an epoch ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from astrom3.data.loader import Position
from astrom3.data.packed import Batch
from astrom3.data.streaming import StreamDataset
from astrom3.errors import UserError

Item = TypeVar("Item")


class StreamingLoader:
    """Batches of one rank, prepared while they are read, by `num_workers` processes or in this one."""

    batch_sampler = None  # Lightning asks every loader that has a sampler for it

    def __init__(self, stream: StreamDataset, num_workers: int = 0) -> None:
        self.stream = stream
        self.num_workers = num_workers
        self.position = Position()

    @property
    def sampler(self) -> StreamingLoader:
        """What Lightning calls `set_epoch` on at the start of each epoch."""
        return self

    def __len__(self) -> int:
        return len(self.stream.sizes)

    def set_epoch(self, epoch: int) -> None:
        self.position.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        shape = {"workers": max(self.num_workers, 1), "world_size": self.stream.world_size}
        return self.position.state_dict() | shape

    def load_state_dict(self, state: dict[str, Any]) -> None:
        now = self.state_dict()
        for key in ("workers", "world_size"):
            if state[key] != now[key]:
                raise UserError(
                    f"A streamed epoch is continued with the same {key} only ({state[key]} then, {now[key]} now); "
                    "start from the end of an epoch, or use data.streaming=false."
                )
        self.position.load_state_dict(state)

    def __iter__(self) -> Iterator[Batch]:
        # Runs at the first `next`: Lightning calls iter() on a resumed loader before it sets the epoch.
        first = self.position.begin()
        self.stream.epoch = self.position.epoch
        self.stream.first = first
        batches: Any = self.stream  # not called `dataset`: Lightning would take this for a DataLoader
        if self.num_workers:
            batches = DataLoader(self.stream, batch_size=None, num_workers=self.num_workers, collate_fn=_as_it_is)
        for number, (batch, decisions) in enumerate(batches, start=first):
            self.stream.split.found.update(dict.fromkeys(decisions))
            self.position.done = number + 1
            yield batch


def _as_it_is(item: Item) -> Item:
    return item
