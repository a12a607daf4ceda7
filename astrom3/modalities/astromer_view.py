"""The view "astromer" of a light curve: windows of 200 points with time, magnitude and error centred on zero.

Donoso-Oliva et al. 2023 (A&A 670, A54), section 3, and 2026 (A&A 707, A170). A prepared survey is `values` (total, 3)
with time in days, magnitude and its error, and `offsets` (n + 1,): curve i is `values[offsets[i]:offsets[i + 1]]`.
Means are taken in float64 per window, where the originals use float32 (0.03 day off near MJD 50000).

    windows = sequential_windows(np.diff(offsets))
    batch = empty_batch(len(windows.curves))
    fill_windows(values, offsets, windows.curves, windows.starts, batch)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrom3.kernel import kernel

WINDOW = 200
MIN_POINTS = 5
LARGEST_ERROR = 1.0  # magnitudes; points with an error outside ]0, 1[ are dropped, as in the original records
WEIGHT_FLOOR = 1e-3  # added to loss weights, so that no point counts for nothing
TIMES = "astromer/times"
MAGNITUDES = "astromer/magnitudes"
ERRORS = "astromer/errors"
VALID = "astromer/valid"
WEIGHTS = "astromer/weights"
INPUTS = (TIMES, MAGNITUDES, VALID)
FILLED = (TIMES, MAGNITUDES, ERRORS, VALID, WEIGHTS)


@dataclass(frozen=True)
class Windows:
    """Windows of many curves: `curves` (B,) int64 curve numbers, `starts` (B,) int64 first points, and `overlaps`
    (B,) int64, how many of a window's first points the window before it holds already."""

    curves: np.ndarray
    starts: np.ndarray
    overlaps: np.ndarray


def sequential_windows(
    lengths: np.ndarray,
    window: int = WINDOW,
    min_points: int = MIN_POINTS,
    duplicates: bool = False,
) -> Windows:
    """Cut every curve of `lengths` (n,) points into consecutive windows, the last one shifted back to stay full.

    Curves of fewer than `min_points` points get no window. `duplicates=True` reproduces the published floor(L / W) + 1
    windows, where a curve whose length is a multiple of the window has its last window twice.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    counts = lengths // window + 1
    if not duplicates:
        counts -= (lengths >= window) & (lengths % window == 0)
    counts[lengths < min_points] = 0

    curves = np.repeat(np.arange(len(lengths)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    position = np.arange(len(curves)) - first  # number of the window within its curve
    latest = np.maximum(lengths[curves] - window, 0)
    starts = np.minimum(position * window, latest)
    overlaps = position * window - starts
    return Windows(curves, starts, overlaps)


def random_starts(
    lengths: np.ndarray,
    items: np.ndarray,
    seed: int,
    epoch: int,
    window: int = WINDOW,
    draw: int = 0,
) -> np.ndarray:
    """First points (B,) int64 of one random window per item, uniform in 0..L - W inclusive, 0 for shorter curves.

    `lengths` (B,) are those of the items' curves and `items` (B,) their numbers. The same seed, epoch, item and `draw`
    give the same start, whatever the batch; several windows of one curve differ in `draw`.
    """
    starts = np.empty(len(items), dtype=np.int64)
    _random_starts(
        np.asarray(lengths, np.int64),
        np.asarray(items, np.int64),
        seed,
        epoch,
        draw,
        window,
        starts,
    )
    return starts


def empty_batch(n: int, window: int = WINDOW, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """Arrays (n, window) that `fill_windows` writes into, by batch key."""
    return {key: np.empty((n, window), dtype=dtype) for key in FILLED}


def fill_windows(
    values: np.ndarray,
    offsets: np.ndarray,
    curves: np.ndarray,
    starts: np.ndarray,
    batch: dict[str, np.ndarray],
) -> None:
    """Write windows of the curves numbered `curves` (B,), from the points `starts` (B,) on, into a batch.

    Times [day], magnitudes and errors are centred on their means over the window's points; padding is 0 everywhere.
    `astromer/valid` is 1 on points. `astromer/weights` are the loss weights of `error_weights`, from the errors before
    centring and over the window's points alone.
    """
    arrays = [batch[key] for key in FILLED]
    _fill(values, offsets, curves, starts, *arrays)


def error_weights(errors: np.ndarray) -> np.ndarray:
    """Loss weights (..., L) of windows of L points with these errors [mag]: 1 / error (0 where the error is 0), scaled
    to 0..1 over the window (0 where all are equal), plus 1e-3 (Astromer 2).

    The original computes them on padded windows, where the padding carries the mean error. That moves neither the
    smallest nor the largest error, except by rounding where all errors are equal; here padding has no part.
    """
    flat = np.ascontiguousarray(errors).reshape(-1, errors.shape[-1])
    weights = np.empty_like(flat)
    for i in range(len(flat)):
        _weights(flat[i], weights[i], flat.shape[1])
    return weights.reshape(errors.shape)


@kernel
def mix(state: np.uint64) -> np.uint64:
    """One round of SplitMix64 (Steele et al. 2014): a well mixed 64-bit number for each 64-bit number."""
    z = np.uint64(state) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def stream(
    seed: int,
    epoch: int,
    item: int,
    purpose: int,
) -> np.uint64:
    """The first state of the random numbers that belong to an item in an epoch, for one purpose."""
    state = mix(np.uint64(seed))
    state = mix(state ^ np.uint64(epoch))
    state = mix(state ^ np.uint64(item))
    return mix(state ^ np.uint64(purpose))


@kernel
def below(state: np.uint64, limit: int) -> np.int64:
    """A whole number in 0..limit - 1 from a state, for limits below 2**32."""
    return np.int64(((mix(state) >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32))


@kernel
def _random_starts(
    lengths: np.ndarray,
    items: np.ndarray,
    seed: int,
    epoch: int,
    draw: int,
    window: int,
    starts: np.ndarray,
) -> None:
    for i in range(len(items)):
        choices = max(lengths[i] - window, 0) + 1
        starts[i] = below(
            stream(
                seed,
                epoch,
                items[i],
                2 * draw,
            ),
            choices,
        )


@kernel
def _fill(
    values: np.ndarray,
    offsets: np.ndarray,
    curves: np.ndarray,
    starts: np.ndarray,
    times: np.ndarray,
    magnitudes: np.ndarray,
    errors: np.ndarray,
    valid: np.ndarray,
    weights: np.ndarray,
) -> None:
    window = times.shape[1]
    for i in range(len(curves)):
        begin = offsets[curves[i]] + starts[i]
        n = min(window, offsets[curves[i] + 1] - begin)
        _fill_column(values[begin : begin + n, 0], times[i])
        _fill_column(values[begin : begin + n, 1], magnitudes[i])
        _fill_column(values[begin : begin + n, 2], errors[i])
        _weights(values[begin : begin + n, 2], weights[i], n)
        for k in range(window):
            valid[i, k] = 1 if k < n else 0


@kernel
def _fill_column(column: np.ndarray, out: np.ndarray) -> None:
    total = 0.0
    for k in range(len(column)):
        total += column[k]
    mean = total / max(len(column), 1)
    for k in range(len(column)):
        out[k] = column[k] - mean
    out[len(column) :] = 0


@kernel
def _weights(errors: np.ndarray, out: np.ndarray, n: int) -> None:
    lowest = np.inf
    highest = -np.inf
    for k in range(n):
        inverse = 1 / errors[k] if errors[k] != 0 else 0.0
        lowest = min(lowest, inverse)
        highest = max(highest, inverse)
        out[k] = inverse
    span = highest - lowest
    scale = 1 / span if span > 0 else 0.0
    for k in range(n):
        inverse = 1 / errors[k] if errors[k] != 0 else 0.0
        out[k] = (inverse - lowest) * scale + WEIGHT_FLOOR
    out[n:] = 0
