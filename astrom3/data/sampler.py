"""Which objects make which batch: a function of (seed, epoch) alone, so that resume and several ranks are exact."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np

from astrom3.draws import draw
from astrom3.errors import UserError

log = logging.getLogger(__name__)
ORDER = 1  # what a draw is for; streaming.py has 3 and 4, splits.py 5 and 6
BALANCE = 1000  # and the numbers after it, one for each time that a class is gone through


class EpochSampler:
    """Batches of indices 0 ... n-1 for one rank.

    batch_size is the global one. shuffle=True (training): a new order each epoch, every rank the same number of
    indices in each batch, so batch_size must be divisible by world_size; a set smaller than batch_size is one batch
    of what there is. shuffle=False (evaluation): rank r takes every world_size-th index of each global batch from r
    on, nothing padded or doubled; the global batches are those of one process, so a rank's part of the last one may
    be empty.

    labels (n,): training draws every class equally often, whatever its size. An epoch has as many objects as before:
    those of rare classes come several times, and of frequent ones each epoch draws others.
    """

    def __init__(
        self,
        n: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int = 512,
        drop_last: bool = True,
        shuffle: bool = True,
        labels: np.ndarray | None = None,
    ) -> None:
        if n < (world_size if shuffle else 1):
            raise UserError(f"{n} objects are too few for {world_size} processes; use fewer devices or more data.")
        if batch_size < 1 or (shuffle and batch_size % world_size):
            raise UserError(
                f"The global batch size {batch_size} cannot be split evenly over {world_size} processes; "
                "choose a multiple."
            )

        self.n = n
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.epoch = 0
        self.members = None if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.sizes = global_sizes(n, world_size, batch_size, drop_last, shuffle)
        if shuffle and n < batch_size:
            log.warning(
                "%d training objects are fewer than one batch of %d: batches have %d.", n, batch_size, *self.sizes
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the order (training)."""
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """(n,) all indices in the order of this epoch, the same on every rank."""
        items = np.arange(self.n)
        if self.shuffle and self.members is not None:
            return self.balanced_order(self.members)
        return np.argsort(draw(self.seed, self.epoch, ORDER, items), kind="stable") if self.shuffle else items

    def balanced_order(self, members: Sequence[np.ndarray]) -> np.ndarray:
        """(n,) indices in which the classes, given by their members, are equally frequent to within one object."""
        share, rest = divmod(self.n, len(members))
        extra = (np.arange(len(members)) + self.epoch) % len(members) < rest  # the classes take turns
        parts = []
        for of_class, more in zip(members, extra.tolist(), strict=True):
            needed = share + int(more)
            rounds = []
            for number in range(math.ceil(needed / len(of_class))):  # in each, every object comes once
                tickets = draw(self.seed, self.epoch, BALANCE + number, of_class)
                rounds.append(of_class[np.argsort(tickets, kind="stable")])
            parts.append(np.concatenate(rounds)[:needed])
        chosen = np.concatenate(parts)
        places = draw(self.seed, self.epoch, ORDER, np.arange(self.n))
        return chosen[np.argsort(places, kind="stable")]

    def batch(self, order: np.ndarray, number: int) -> np.ndarray:
        """This rank's part of one global batch."""
        start = sum(self.sizes[:number])
        whole = order[start : start + self.sizes[number]]
        if not self.shuffle:
            return whole[self.rank :: self.world_size]
        share = len(whole) // self.world_size
        return whole[self.rank * share : (self.rank + 1) * share]

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[np.ndarray]:
        order = self.order()
        for number in range(len(self)):
            yield self.batch(order, number)


def global_sizes(n: int, world_size: int, batch_size: int, drop_last: bool, shuffle: bool) -> list[int]:
    """Sizes of the global batches of one epoch."""
    whole, rest = divmod(n, batch_size)
    sizes = [batch_size] * whole
    if shuffle:
        rest -= rest % world_size  # equal parts on all ranks
        if rest and (not drop_last or not whole):
            sizes.append(rest)
    elif rest:
        sizes.append(rest)
    return sizes
