"""What is made of observations, read from files or handed in: checked curves with their bands, features, coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from astrom3.modalities.bands import best_sampled, check_bands, combined
from astrom3.modalities.catalogue import PERIOD
from astrom3.modalities.features import light_curve_features
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Checked, Decision, check_light_curves
from astrom3.modalities.ragged import joined, ragged
from astrom3.modalities.resampling import coverage
from astrom3.modalities.schema import PHOTO_COLS, WAVELENGTH_COUNT, WAVELENGTH_START, WAVELENGTH_STEP

GRID = WAVELENGTH_START + WAVELENGTH_STEP * np.arange(WAVELENGTH_COUNT)
WELL_COVERED = 0.9  # part of the grid; a spectrum that covers less is listed


@dataclass(frozen=True)
class CurveSet:
    """Checked light curves of n objects; bands (total,) of str, the band of each point, where they are kept."""

    checked_curves: Checked
    bands: np.ndarray | None

    @classmethod
    def checked(cls, curves: Sequence[Any], keep_bands: bool) -> CurveSet:
        """Of light curves as they were read."""
        offsets, time, flux, error = ragged(curves)
        if not keep_bands:
            return cls(check_light_curves(offsets, time, flux, error), None)
        names = joined(map(band_of, curves), str)
        known, codes = np.unique(names, return_inverse=True)
        found = check_bands(offsets, time, flux, error, codes)
        return cls(found, known[found.band.astype(np.int64)] if len(known) else names)

    @property
    def accepted(self) -> np.ndarray:
        """(n,) bool: which light curves can be used."""
        return self.checked_curves.accepted

    def part(self, i: int) -> slice:
        """Points of an object."""
        offsets = self.checked_curves.offsets
        return slice(int(offsets[i]), int(offsets[i + 1]))

    def curve(self, i: int) -> tuple[np.ndarray, ...]:
        """Time, flux and error of an object."""
        part = self.part(i)
        return tuple(column[part] for column in self.checked_curves.columns)

    def row(self, i: int) -> dict[str, np.ndarray]:
        """The light curve of an object as a data set has it."""
        row = dict(zip(("time", "flux", "flux_err"), self.curve(i), strict=True))
        if self.bands is not None:
            row["band"] = self.bands[self.part(i)].astype(object)
        return row

    def features(self, i: int, given: np.ndarray, which: str) -> np.ndarray:
        """PHOTO_COLS of an object: the period from all bands, the others from the best sampled one."""
        time, flux, error = self.curve(i)
        if self.bands is None:
            return given_or_computed(given, time, flux, error, which)
        return features_of_bands(given, time, flux, error, self.bands[self.part(i)], which)


def features_of_bands(
    given: np.ndarray, time: np.ndarray, flux: np.ndarray, error: np.ndarray, band: np.ndarray, which: str
) -> np.ndarray:
    """PHOTO_COLS of a curve (N,) in several bands; without a given period, all bands together are searched for one."""
    best = best_sampled(band)
    curve = time[best], flux[best], error[best]
    if best.all() or (which == "missing" and given[PERIOD] > 0):
        return given_or_computed(given, *curve, which)
    searched = light_curve_features(*combined(time, flux, error, band))[PHOTO_COLS[PERIOD]]
    period = None if np.isnan(searched) else searched
    return filled_in(given, light_curve_features(*curve, period), which)


def band_of(curve: Any) -> np.ndarray:
    """Band of each point of a curve, without a name where its file says none."""
    band = getattr(curve, "band", None)
    return np.full(len(curve[0]), "") if band is None else np.asarray(band, dtype=str)


def given_or_computed(
    given: np.ndarray, time: np.ndarray, flux: np.ndarray, error: np.ndarray, which: str
) -> np.ndarray:
    """The four features (PHOTO_COLS) of a curve; given ones are kept unless `which` is all, a given period is used."""
    period = given[PERIOD]
    use = period if which == "missing" and period > 0 else None
    return filled_in(given, light_curve_features(time, flux, error, use), which)


def filled_in(given: np.ndarray, computed: Mapping[str, float], which: str) -> np.ndarray:
    """PHOTO_COLS as computed, or where only missing ones are wanted, as given and else as computed."""
    values = np.array([computed[name] for name in PHOTO_COLS])
    if which == "missing":
        return np.where(np.isnan(given), values, given)
    return values


def grid_coverage(wavelength: np.ndarray) -> float:
    """Part of the grid of the view `spectra` that a spectrum's pixels (N,), increasing [Angstrom], cover."""
    return coverage(wavelength, GRID)


def partly_covered(object_id: str, covered: float) -> list[Decision]:
    """What rejected.csv says of a spectrum that covers only a part of the grid."""
    if covered >= WELL_COVERED:
        return []
    reason = f"covers a part of {GRID[0]:g}-{GRID[-1]:g} Angstrom, held constant beyond: {covered:.0%}"
    return [Decision(object_id, of_argument("spectrum"), "repaired", reason)]


def coverage_of(values: Sequence[float]) -> dict[str, float]:
    """What summary.json says of the coverage of all spectra."""
    return {
        "lowest": round(float(np.min(values)), 4),
        "median": round(float(np.median(values)), 4),
        "below_0.9": int((np.asarray(values) < WELL_COVERED).sum()),
    }
