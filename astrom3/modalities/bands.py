"""Light curves in several bands: each band is checked as a curve of its own, then they are put together again.

Points are flat columns with offsets, as in quality.py, and `band` (total,) is any number that tells bands apart: a code
or a wavelength. A band of fewer than 5 usable points, or a constant one, is left out of its light curve; the light
curve is rejected where fewer than 10 points are left in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrom3.modalities.quality import MIN_POINTS, Checked, check_light_curves
from astrom3.modalities.ragged import offsets_of

BAND_POINTS = 5  # fewest points of a band
TOO_FEW = 1  # position in quality.LIGHT_CURVE_REJECTIONS
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
    points = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((band, points))
    points = points[order]
    sorted_band = np.asarray(band, dtype=np.float64)[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(points) != 0) | (np.diff(sorted_band) != 0)
    starts = np.flatnonzero(new)
    ends = np.append(starts, len(order))
    return Parts(ends, tuple(np.asarray(column)[order] for column in columns), points[starts], sorted_band[starts])


def check_bands(
    offsets: np.ndarray, time: np.ndarray, flux: np.ndarray, error: np.ndarray, band: np.ndarray
) -> CheckedBands:
    """Repair or reject light curves of several bands."""
    n = len(offsets) - 1
    parts = split_bands(offsets, (time, flux, error), band)
    checked = check_light_curves(parts.offsets, *parts.columns, min_points=BAND_POINTS)
    lengths = np.diff(checked.offsets)
    total = np.bincount(parts.owner, weights=lengths, minlength=n)
    accepted = total >= MIN_POINTS

    given = np.diff(parts.offsets)
    verdict = np.zeros(n, dtype=np.int8)
    for part in np.argsort(given, kind="stable").tolist():  # what is said of the best sampled band stays
        verdict[parts.owner[part]] = checked.verdict[part]
    verdict = np.where(accepted, 0, verdict)
    verdict = np.where(~accepted & (np.diff(offsets) > 0) & (verdict == 0), TOO_FEW, verdict).astype(np.int8)
    repairs = np.zeros((n, checked.repairs.shape[1]), dtype=np.int64)
    np.add.at(repairs, parts.owner, checked.repairs)
    repairs[:, SORTED] = np.minimum(repairs[:, SORTED], 1)
    return _together(parts, checked, accepted, verdict, repairs)


def _together(
    parts: Parts, checked: Checked, accepted: np.ndarray, verdict: np.ndarray, repairs: np.ndarray
) -> CheckedBands:
    """The points of all bands of an accepted object, in order of time."""
    lengths = np.diff(checked.offsets)
    points = np.repeat(parts.owner, lengths)
    band = np.repeat(parts.band, lengths)
    order = np.lexsort((checked.columns[0], points))
    order = order[accepted[points[order]]]
    counts = np.bincount(points[order], minlength=len(accepted))
    columns = tuple(column[order] for column in checked.columns)
    return CheckedBands(checked.modality, offsets_of(counts), columns, verdict, repairs, band[order])


def best_sampled(band: np.ndarray) -> np.ndarray:
    """Which points (N,) of one light curve are in its band with the most points, (N,) bool."""
    _, places, counts = np.unique(band, return_inverse=True, return_counts=True)
    return places == counts.argmax()


def combined(
    time: np.ndarray, flux: np.ndarray, error: np.ndarray, band: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All bands of a light curve (N,) as if they were one: time, flux, error of the points with a magnitude.

    In magnitudes, every band is moved and stretched to the median and the median absolute deviation of the best sampled
    one. A period search then has the points of all bands.
    """
    good = flux > 0
    time, flux, error, band = (column[good] for column in (time, flux, error, band))
    magnitude = -2.5 * np.log10(flux)
    reference = magnitude[best_sampled(band)]
    level = np.median(reference)
    height = np.median(np.abs(reference - level))
    moved = np.empty(len(time))
    stretch = np.ones(len(time))
    for name in np.unique(band):
        own = band == name
        median = np.median(magnitude[own])
        deviation = np.median(np.abs(magnitude[own] - median))
        if deviation > 0 and height > 0:
            stretch[own] = height / deviation
        moved[own] = level + (magnitude[own] - median) * stretch[own]
    light = 10 ** (-0.4 * moved)
    return time, light, error / flux * stretch * light
