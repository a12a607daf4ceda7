"""Masks of the ASTROMER pre-training task: which points are probed, and what the network sees of them.

Donoso-Oliva et al. 2023 (A&A 670, A54), section 3.3: of the points of a window a fraction is probed, which means that
it enters the loss. A part of the probed points stays visible, another part is visible with the magnitude of another
point of the window, and the rest is hidden. Times are never changed. The original draws masks once and repeats them
every epoch; here they follow from the seed, the epoch and the item, so that each epoch has new ones and a resumed run
the same ones.
"""

from __future__ import annotations

from math import ceil, floor
from typing import NamedTuple

import numpy as np

from astrom3.kernel import kernel
from astrom3.modalities.astromer_view import MAGNITUDES, VALID, below, mix, stream

PROBED = "astromer/probed"  # float32 (B, L), 1 = in the loss
HIDDEN = "astromer/hidden"  # float32 (B, L), 1 = the network must not see the magnitude
TARGET = "astromer/target"  # float32 (B, L), the true centred magnitudes
MASKED = (MAGNITUDES, TARGET, PROBED, HIDDEN)
PURPOSE = 1  # of the random numbers: random windows use the even ones


class Fractions(NamedTuple):
    """Part of the points that is probed; of the probed, the part left as it is; of what then is hidden, the part that
    becomes visible with another magnitude."""

    probed: float = 0.5
    same: float = 0.2
    random: float = 0.2


class Counts(NamedTuple):
    """Numbers of points of a window: probed = same + random + hidden."""

    probed: int
    same: int
    random: int
    hidden: int


def mask_counts(points: int, fractions: Fractions) -> Counts:
    """How many of `points` points are probed, stay the same, get a random magnitude and are hidden."""
    probed = floor(fractions.probed * points)
    same = ceil(fractions.same * probed)
    random = ceil(fractions.random * (probed - same))
    return Counts(
        probed,
        same,
        random,
        probed - same - random,
    )


def mask_windows(
    batch: dict[str, np.ndarray],
    items: np.ndarray,
    seed: int,
    epoch: int,
    fractions: Fractions | None = None,
    draw: int = 0,
) -> None:
    """Draw masks for the windows of a batch made by `fill_windows`, and add what the pre-training task needs.

    `items` (B,) int64 are the numbers of the curves or windows. Their seed, epoch, item and `draw` decide the masks,
    never their place in the batch. `astromer/magnitudes` becomes the network's input, in which some probed points have
    another magnitude; `astromer/target`, `astromer/probed` and `astromer/hidden` (B, L) are added. The true magnitudes
    of hidden points stay in the input, as published: encoders hide them (`Astromer`, hidden="token").
    """
    fractions = fractions or Fractions()
    shape = batch[MAGNITUDES].shape
    batch[TARGET] = batch[MAGNITUDES].copy()
    for key in (PROBED, HIDDEN):
        if key not in batch:
            batch[key] = np.empty(shape, dtype=np.float32)
    lengths = batch[VALID].sum(1).astype(np.int64)
    arrays = [batch[key] for key in MASKED]
    _mask(np.asarray(items, np.int64), lengths, seed, epoch, draw, *_count_table(shape[1], fractions), *arrays)


def everything_visible(batch: dict[str, np.ndarray]) -> None:
    """Add target and masks in the form of classification and tests: every point is probed and nothing is hidden."""
    batch[TARGET] = batch[MAGNITUDES].copy()
    batch[PROBED] = batch[VALID].astype(np.float32)
    batch[HIDDEN] = np.zeros_like(batch[PROBED])


def apply_masks(
    target: np.ndarray,
    probed: np.ndarray,
    same: np.ndarray,
    random: np.ndarray,
    replacement: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks with given points instead of drawn ones: input, probed and hidden (n,), for a window's true magnitudes.

    `probed`, `same` and `random` are positions, `replacement` (n,) the magnitude that each point gets if it is random.
    """
    magnitudes = target.copy()
    magnitudes[random] = replacement[random]
    is_probed = np.zeros(len(target), dtype=np.float32)
    is_probed[probed] = 1
    hidden = is_probed.copy()
    hidden[same] = 0
    hidden[random] = 0
    return magnitudes, is_probed, hidden


def _count_table(window: int, fractions: Fractions) -> list[np.ndarray]:
    """Probed, same and random points for windows of 0..window points, int64 (window + 1,) each."""
    counts = [mask_counts(points, fractions) for points in range(window + 1)]
    return [np.array(column, dtype=np.int64) for column in list(zip(*counts, strict=True))[:3]]


@kernel
def _mask(
    items: np.ndarray,
    lengths: np.ndarray,
    seed: int,
    epoch: int,
    draw: int,
    n_probed: np.ndarray,
    n_same: np.ndarray,
    n_random: np.ndarray,
    magnitudes: np.ndarray,
    target: np.ndarray,
    probed: np.ndarray,
    hidden: np.ndarray,
) -> None:
    order = np.empty(magnitudes.shape[1], np.int64)
    shuffled = np.empty(magnitudes.shape[1], np.int64)
    for i in range(len(items)):
        n = lengths[i]
        state = stream(
            seed,
            epoch,
            items[i],
            2 * draw + PURPOSE,
        )
        state = _shuffle(
            order,
            n,
            n_probed[n],
            state,
        )
        state = _shuffle(shuffled, n, n, state)
        probed[i] = 0
        hidden[i] = 0
        for k in range(n_probed[n]):
            point = order[k]
            probed[i, point] = 1
            if k < n_same[n]:
                continue
            if k < n_same[n] + n_random[n]:
                magnitudes[i, point] = target[i, shuffled[point]]
            else:
                hidden[i, point] = 1


@kernel
def _shuffle(
    order: np.ndarray,
    n: int,
    chosen: int,
    state: np.uint64,
) -> np.uint64:
    """Put a random choice of `chosen` of the numbers 0..n - 1 at the start of `order` (Fisher and Yates)."""
    for k in range(n):
        order[k] = k
    for k in range(chosen):
        state = mix(state)
        other = k + below(state, n - k)
        order[k], order[other] = order[other], order[k]
    return state
