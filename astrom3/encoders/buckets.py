"""Windows of like lengths side by side, so that a window costs the points it holds rather than 200.

The attention of light-curve encoders takes times as features, so the order of a window's points has no meaning. Each
window is therefore reordered: visible points first, hidden ones after them, padding last. Windows of like lengths then
form a bucket without their padding, and the points that may be attended to are its first columns.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

SHORTEST = 0.85  # a bucket holds windows of at least this part of its longest one
FEWEST = 4  # windows of a bucket; fewer are left with those of the bucket before


class Bucket(NamedTuple):
    """Some windows of a batch: `rows` (b,) their places in it, `order` (b, n) the places of their points in a window,
    the points' `times`, `magnitudes`, `visible`, `valid` (b, n), `keys`: how many columns hold the visible points, and
    `first`: the first column with a probed point."""

    rows: Tensor
    order: Tensor
    times: Tensor
    magnitudes: Tensor
    visible: Tensor
    valid: Tensor
    keys: int
    first: int


def make_buckets(
    times: Tensor,
    magnitudes: Tensor,
    valid: Tensor,
    hidden: Tensor | None,
    probed: Tensor | None = None,
) -> list[Bucket]:
    """All windows (B, L) in buckets. `hidden` and `probed` (B, L) are 1 where a point is that, None where none is."""
    visible = valid if hidden is None else valid * (1 - hidden)
    kind = 3 - valid - visible  # 1 visible, 2 hidden, 3 padding
    unprobed = None
    if probed is not None:
        unprobed = visible * (1 - probed)
        kind = kind - unprobed
    order = kind.argsort(dim=1, stable=True)
    sorted_times = times.gather(1, order)
    sorted_magnitudes = magnitudes.gather(1, order)
    sorted_visible = visible.gather(1, order)
    sorted_valid = valid.gather(1, order)
    n_visible = visible.sum(1).long()
    n_before = None if unprobed is None else unprobed.sum(1).long()
    buckets = []
    for rows, length in group(valid.sum(1).long()):
        bucket = Bucket(
            rows=rows,
            order=order[rows, :length],
            times=sorted_times[rows, :length],
            magnitudes=sorted_magnitudes[rows, :length],
            visible=sorted_visible[rows, :length],
            valid=sorted_valid[rows, :length],
            keys=max(int(n_visible[rows].max()), 1),
            first=0 if n_before is None else min(int(n_before[rows].min()), length - 1),
        )
        buckets.append(bucket)
    return buckets


def group(lengths: Tensor) -> list[tuple[Tensor, int]]:
    """Rows (b,) of windows of like lengths (B,), with the longest length of each group, at least 1."""
    sorted_lengths, rows = lengths.sort(descending=True, stable=True)
    listed = sorted_lengths.tolist()
    bounds = [0]
    for i, length in enumerate(listed):
        begun = bounds[-1]
        full = i - begun >= FEWEST and len(listed) - i >= FEWEST
        if full and length < SHORTEST * listed[begun]:
            bounds.append(i)
    bounds.append(len(listed))
    found = []
    for start, stop in pairwise(bounds):
        if stop > start:
            found.append((rows[start:stop], max(listed[start], 1)))
    return found


def scatter(parts: list[Tensor], buckets: list[Bucket], shape: tuple[int, int]) -> Tensor:
    """Values (b, n, ...) of every bucket's points back in their places, (B, L, ...); 0 on padding."""
    rest = parts[0].shape[2:]
    out = parts[0].new_zeros(shape[0] * shape[1], *rest)
    for part, bucket in zip(parts, buckets, strict=True):
        place = bucket.rows.unsqueeze(1) * shape[1] + bucket.order[:, -part.shape[1] :]  # (b, n)
        here = bucket.valid[:, -part.shape[1] :] > 0
        out = out.index_copy(0, place[here], part[here])
    return out.unflatten(0, shape)
