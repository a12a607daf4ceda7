"""Light curves of which only the first points have been seen yet, as they are when an alert comes in.

In training a share of the curves is cut, anew every epoch, to a number of points that is drawn evenly in its logarithm
from 5 to all. What is cut off must not show in what is left: a reader that cuts computes its scales again.
"""

from __future__ import annotations

import numpy as np

from astrom3.draws import draw
from astrom3.modalities.ragged import offsets_of

SHORTEST = 5  # points that are always kept
CHOSEN = 7  # what a draw is for, beside those of sampler.py, streaming.py and splits.py
NUMBER = 8


def kept_points(lengths: np.ndarray, items: np.ndarray, seed: int, epoch: int, share: float) -> np.ndarray:
    """How many first points of each curve are kept in an epoch, (B,) int64. lengths, items (B,): of the curves, and
    their places in the split. share: of the curves that are cut."""
    chosen = _uniform(seed, epoch, CHOSEN, items) < share
    place = _uniform(seed, epoch, NUMBER, items)
    ratio = np.maximum(lengths, SHORTEST) / SHORTEST
    number = SHORTEST * ratio**place
    cut = np.minimum(number, lengths).astype(np.int64)
    return np.where(chosen, cut, lengths)


def _uniform(seed: int, epoch: int, purpose: int, items: np.ndarray) -> np.ndarray:
    """Numbers (B,) in [0, 1) that are drawn for a purpose."""
    return draw(seed, epoch, purpose, items).astype(np.float64) / 2.0**64


def cut_curves(
    values: np.ndarray, offsets: np.ndarray, rows: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The first `kept` (B,) points of the curves `rows` (B,) of a store, as values (total, K) and offsets (B + 1,)."""
    parts = []
    for row, n in zip(rows.tolist(), kept.tolist(), strict=True):
        parts.append(values[offsets[row] : offsets[row] + n])
    return np.concatenate(parts) if parts else values[:0], offsets_of(kept)
