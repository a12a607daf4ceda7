"""Light curves in magnitudes: fluxes converted, unusable points dropped by rule, points sorted by time.

A survey given in magnitudes needs no zero point here. Curves are packed: columns (total,) and `offsets` (n + 1,).
The rules are those of the published ASTROMER records: points with a missing number or an error outside ]0, 1[ mag are
dropped, exact duplicates once, and a curve of fewer than 5 points is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrom3.errors import UserError
from astrom3.kernel import kernel
from astrom3.modalities.astromer_view import LARGEST_ERROR, MIN_POINTS

MAGNITUDES_PER_E_FOLD = 2.5 / np.log(10)


@dataclass(frozen=True)
class Magnitudes:
    """Curves ready for windows: `values` (total, 3) float64 [day, mag, mag], `offsets` (n + 1,) int64.

    Every curve keeps its place; one left out has no points. Per curve (n,) int64: `dropped` unusable points and
    `not_positive` fluxes that have no magnitude (0 for a survey in magnitudes). `usable` (n,) bool.
    """

    values: np.ndarray
    offsets: np.ndarray
    dropped: np.ndarray
    not_positive: np.ndarray
    usable: np.ndarray


def prepare_magnitudes(
    offsets: np.ndarray,
    time: np.ndarray,
    magnitude: np.ndarray,
    error: np.ndarray,
    min_points: int = MIN_POINTS,
    largest_error: float = LARGEST_ERROR,
) -> Magnitudes:
    """Check, sort and pack curves of time [day], magnitude and its error, all (total,).

    Raises UserError where the columns and offsets do not fit each other.
    """
    time = np.ascontiguousarray(time, dtype=np.float64)
    magnitude = np.ascontiguousarray(magnitude, dtype=np.float64)
    error = np.ascontiguousarray(error, dtype=np.float64)
    bounds = np.ascontiguousarray(offsets, dtype=np.int64)
    total = int(bounds[-1]) if len(bounds) else 0
    lengths = [len(time), len(magnitude), len(error)]
    rising = len(bounds) > 0 and bounds[0] == 0 and bool(np.all(np.diff(bounds) >= 0))
    if not rising or lengths != [total] * 3:
        raise UserError(
            f"The offsets of the light curves must rise from 0 to the number of points, which is {lengths[0]}, "
            f"{lengths[1]} and {lengths[2]} for time, magnitude and error; the last offset is {total}."
        )
    n = len(bounds) - 1
    values = np.empty((total, 3), dtype=np.float64)
    packed = np.zeros(n + 1, dtype=np.int64)
    dropped = np.zeros(n, dtype=np.int64)
    _prepare(
        bounds,
        time,
        magnitude,
        error,
        min_points,
        largest_error,
        values,
        packed,
        dropped,
    )
    usable = np.diff(packed) > 0
    return Magnitudes(
        values[: packed[-1]].copy(),
        packed,
        dropped,
        np.zeros(n, dtype=np.int64),
        usable,
    )


def prepare_fluxes(
    offsets: np.ndarray,
    time: np.ndarray,
    flux: np.ndarray,
    error: np.ndarray,
    zero_point: float,
    min_points: int = MIN_POINTS,
    largest_error: float = LARGEST_ERROR,
) -> Magnitudes:
    """The same from fluxes and their errors, in any unit in which `zero_point` is the magnitude of flux 1.

    A flux that is not positive has no magnitude: the point is dropped and counted in `not_positive`.
    """
    magnitude, magnitude_error = magnitudes_of_fluxes(flux, error, zero_point)
    prepared = prepare_magnitudes(offsets, time, magnitude, magnitude_error, min_points, largest_error)
    bad = np.asarray(flux, dtype=np.float64) <= 0
    before = np.concatenate([[0], np.cumsum(bad)])
    not_positive = np.diff(before[np.asarray(offsets, dtype=np.int64)])
    dropped = prepared.dropped - not_positive
    return Magnitudes(prepared.values, prepared.offsets, dropped, not_positive, prepared.usable)


def magnitudes_of_fluxes(flux: np.ndarray, error: np.ndarray, zero_point: float) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes -2.5 log10(flux) + zero_point and their errors, float64; NaN where the flux is not positive."""
    flux = np.asarray(flux, dtype=np.float64)
    positive = np.where(flux > 0, flux, np.nan)
    magnitude = zero_point - MAGNITUDES_PER_E_FOLD * np.log(positive)
    magnitude_error = MAGNITUDES_PER_E_FOLD * np.asarray(error, dtype=np.float64) / positive
    return magnitude, magnitude_error


@kernel
def _prepare(
    offsets: np.ndarray,
    time: np.ndarray,
    magnitude: np.ndarray,
    error: np.ndarray,
    min_points: int,
    largest_error: float,
    values: np.ndarray,
    packed: np.ndarray,
    dropped: np.ndarray,
) -> None:
    position = 0
    for i in range(len(offsets) - 1):
        order = np.argsort(time[offsets[i] : offsets[i + 1]], kind="mergesort") + offsets[i]
        end = position
        for j in order:
            usable = np.isfinite(time[j]) and np.isfinite(magnitude[j]) and 0 < error[j] < largest_error
            if usable and not _repeats(
                values,
                position,
                end,
                time[j],
                magnitude[j],
                error[j],
            ):
                values[end, 0] = time[j]
                values[end, 1] = magnitude[j]
                values[end, 2] = error[j]
                end += 1
        dropped[i] = len(order) - (end - position)
        if end - position >= min_points:
            position = end
        packed[i + 1] = position


@kernel
def _repeats(
    values: np.ndarray,
    start: int,
    end: int,
    time: float,
    magnitude: float,
    error: float,
) -> bool:
    """Whether the point equals one of those at the same time that are written already."""
    k = end - 1
    while k >= start and values[k, 0] == time:
        if values[k, 1] == magnitude and values[k, 2] == error:
            return True
        k -= 1
    return False
