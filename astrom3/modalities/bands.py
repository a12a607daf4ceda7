"""Light curves in several bands: each band is checked as a curve of its own, then they are put together again.

Points are flat columns with offsets, as in quality.py, and `band` (total,) is any number that tells bands apart: a code
or a wavelength. A band of fewer than 5 usable points, or a constant one, is left out of its light curve; the light
curve is rejected where fewer than 10 points are left in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from astrom3.modalities.quality import MIN_POINTS, Checked, check_light_curves
from astrom3.modalities.ragged import offsets_of

BAND_POINTS = 5  # fewest points of a band
TOO_FEW = 1  # position in quality.LIGHT_CURVE_REJECTIONS
VISIT = 0.01  # day
ERROR_FLOOR = 0.1  # of the median variance, beside a point's own: no point alone decides a visit
SORTED = 2  # column of repairs that says yes or no and is not a count


@dataclass(frozen=True)
class CheckedBands(Checked):
    """Checked curves of n objects; band (total,) float64 of each point. Points of an object stand in order of time."""

    band: np.ndarray


@dataclass(frozen=True)
class Parts:
    """Curves of one band each, s in all: offsets (s + 1,), three columns, owner (s,) object and band (s,)."""

    offsets: np.ndarray
    columns: tuple[np.ndarray, ...]
    owner: np.ndarray
    band: np.ndarray


def split_bands(offsets: np.ndarray, columns: tuple[np.ndarray, ...], band: np.ndarray) -> Parts:
    """Curves (n) -> one curve for each object and band that it has. Points keep their order."""
    lengths = np.diff(offsets)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((band, owner))
    owner = owner[order]
    sorted_band = np.asarray(band, dtype=np.float64)[order]
    sorted_columns = tuple(np.asarray(column)[order] for column in columns)
    new = np.ones(len(order), dtype=bool)  # a point of another object or band than the one before
    new[1:] = (np.diff(owner) != 0) | (np.diff(sorted_band) != 0)
    starts = np.flatnonzero(new)
    part_offsets = np.append(starts, len(order))
    return Parts(part_offsets, sorted_columns, owner[starts], sorted_band[starts])


def check_bands(
    offsets: np.ndarray, time: np.ndarray, flux: np.ndarray, error: np.ndarray, band: np.ndarray
) -> CheckedBands:
    """Repair or reject light curves of several bands."""
    given = np.diff(offsets)
    n = len(given)
    parts = split_bands(offsets, (time, flux, error), band)
    checked = check_light_curves(parts.offsets, *parts.columns, min_points=BAND_POINTS)
    left = np.bincount(parts.owner, weights=np.diff(checked.offsets), minlength=n)
    accepted = left >= MIN_POINTS

    verdict = _verdict_of_best_band(parts, checked, n)
    verdict = np.where(accepted, 0, verdict)
    too_few = ~accepted & (given > 0) & (verdict == 0)
    verdict = np.where(too_few, TOO_FEW, verdict).astype(np.int8)
    repairs = np.zeros((n, checked.repairs.shape[1]), dtype=np.int64)
    np.add.at(repairs, parts.owner, checked.repairs)
    repairs[:, SORTED] = np.minimum(repairs[:, SORTED], 1)
    return _together(parts, checked, accepted, verdict, repairs)


def _verdict_of_best_band(parts: Parts, checked: Checked, n: int) -> np.ndarray:
    """What is said of each object's best sampled band (n,)."""
    verdict = np.zeros(n, dtype=np.int8)
    points = np.diff(parts.offsets)
    for part in np.argsort(points, kind="stable").tolist():  # the last one stays
        verdict[parts.owner[part]] = checked.verdict[part]
    return verdict


def _together(
    parts: Parts, checked: Checked, accepted: np.ndarray, verdict: np.ndarray, repairs: np.ndarray
) -> CheckedBands:
    """The points of all bands of an accepted object, in order of time."""
    lengths = np.diff(checked.offsets)
    owner = np.repeat(parts.owner, lengths)
    band = np.repeat(parts.band, lengths)
    time = checked.columns[0]
    order = np.lexsort((time, owner))
    order = order[accepted[owner[order]]]
    counts = np.bincount(owner[order], minlength=len(accepted))
    columns = tuple(column[order] for column in checked.columns)
    return CheckedBands(checked.modality, offsets_of(counts), columns, verdict, repairs, band[order])


def best_sampled(band: np.ndarray) -> np.ndarray:
    """Which points (N,) of one light curve are in its band with the most points, (N,) bool."""
    _, places, counts = np.unique(band, return_inverse=True, return_counts=True)
    return places == counts.argmax()


def combined(
    time: np.ndarray, flux: np.ndarray, error: np.ndarray, band: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All bands of a light curve (N,) as if they were one: time, flux, error of the visits with a magnitude.

    In magnitudes, every band is moved and stretched to the median and the median absolute deviation of the best sampled
    one. What was observed in several bands at one visit is averaged: the star is the same, so such points are no
    measurements of their own, and a period search that counts them so believes in too much (of 483 RR Lyrae stars
    in five bands it finds 94 % of the periods in place of 87 %, and 92 % in the best band).
    """
    good = flux > 0
    order = np.argsort(time[good], kind="stable")
    time = time[good][order]
    flux = flux[good][order]
    error = error[good][order]
    band = band[good][order]
    magnitude = -2.5 * np.log10(flux)
    reference = magnitude[best_sampled(band)]
    level, height = _median_and_deviation(reference)
    moved = np.empty(len(time))
    stretch = np.ones(len(time))
    for name in np.unique(band):
        own = band == name
        median, deviation = _median_and_deviation(magnitude[own])
        if deviation > 0 and height > 0:
            stretch[own] = height / deviation
        moved[own] = level + (magnitude[own] - median) * stretch[own]

    relative = error / flux * stretch  # of the flux that a moved magnitude stands for
    weight = 1 / (relative**2 + ERROR_FLOOR * np.median(relative) ** 2 + 1e-18)
    visit = visits(time, band)
    total = np.bincount(visit, weight)
    mean_time = np.bincount(visit, weight * time) / total
    mean_flux = 10 ** (-0.4 * np.bincount(visit, weight * moved) / total)
    return mean_time, mean_flux, mean_flux / np.sqrt(total)


def visits(time: np.ndarray, band: np.ndarray) -> np.ndarray:
    """(N,) int64: number of the visit that each point, in order of time, belongs to. A visit is VISIT long at most and
    sees each band once."""
    numbers = np.zeros(len(time), dtype=np.int64)
    seen: set[Any] = set()
    start = -np.inf
    number = -1
    for i, (at, name) in enumerate(zip(time.tolist(), band.tolist(), strict=True)):
        if at - start > VISIT or name in seen:
            number += 1
            start = at
            seen.clear()
        seen.add(name)
        numbers[i] = number
    return numbers


def _median_and_deviation(magnitude: np.ndarray) -> tuple[float, float]:
    """Median and median absolute deviation."""
    median = np.median(magnitude)
    return median, np.median(np.abs(magnitude - median))
