"""A light curve as the same survey could have seen it at another time: what pre-training on curves alone needs.

Points are lost at random and by seasons, noise is added by the law of the errors, and the period may come out as its
half or double, as a period search has it for one star in six. Every alteration is drawn from one number a curve.
"""

from __future__ import annotations

import math

import numpy as np

from astrom3.kernel import kernel

FEWEST = 20  # points that are left
THINNED = 0.6  # largest share of the points that is lost at random
GAP_CHANCE = 0.3
GAP = 0.4  # largest share of the span that a missing season takes
NOISE_CHANCE = 0.5
NOISE = 0.7  # largest added noise, in errors
FACTOR_CHANCE = 0.15  # of half or twice the period


@kernel
def uniform(state: np.ndarray) -> float:
    """The next number in [0, 1) of a generator whose state is an array of one uint64 (xorshift64*, Vigna 2016)."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return float((x * np.uint64(2685821657736338717)) >> np.uint64(11)) / 9007199254740992.0


@kernel
def normal(state: np.ndarray) -> float:
    """A number of the normal distribution (Box & Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(state)))
    return radius * math.cos(2.0 * math.pi * uniform(state))


@kernel
def alter(
    time: np.ndarray, flux: np.ndarray, error: np.ndarray, period: float, state: np.ndarray, out: np.ndarray
) -> tuple[int, float]:
    """Write an altered curve into out (3, N) float64 and give its number of points and its period.

    time [day], flux and error in one unit, (N,) each. state: uint64 (1,), not 0; it moves on.
    """
    n = len(time)
    span = time[-1] - time[0]
    share = THINNED * uniform(state)
    gap = 0.0
    if uniform(state) < GAP_CHANCE:
        gap = GAP * uniform(state)
    begin = time[0] + span * (1.0 - gap) * uniform(state)
    noise = 0.0
    if uniform(state) < NOISE_CHANCE:
        noise = NOISE * uniform(state)
    factor = 1.0
    if uniform(state) < FACTOR_CHANCE:
        factor = 2.0
        if uniform(state) < 0.5:
            factor = 0.5
    kept = 0
    for i in range(n):
        inside = begin <= time[i] < begin + gap * span
        lost = inside or uniform(state) < share
        if lost and kept + n - i > FEWEST:
            continue
        extra = noise * error[i]
        out[0, kept] = time[i]
        out[1, kept] = flux[i] + extra * normal(state)
        out[2, kept] = math.sqrt(error[i] ** 2 + extra**2)
        kept += 1
    return kept, factor * period
