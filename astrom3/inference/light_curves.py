"""Light curves as users hand them in: files, arrays, tables, frames, TimeSeries and lightkurve's LightCurve.

Objects are told by their columns, not by their classes, so that none of those packages is needed. Fluxes in mJy or any
unit that converts are taken as they are. Counts, such as the electron / s of Kepler and TESS, have no zero point; those
of a mission whose zero point is known become the relative flux that `convert` makes of its files, and others are
divided by their median, which a decision says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from astrom3.data.bands import need_wavelengths
from astrom3.data.checked import features_of_bands, given_or_computed
from astrom3.data.readers import LightCurve
from astrom3.data.readers.auto import LightCurveReader
from astrom3.data.readers.measured import NON_DETECTION
from astrom3.data.readers.surveys import SURVEYS
from astrom3.data.readers.systems import RELATIVE_ZERO_FLUX, flux_of_magnitude
from astrom3.data.readers.tables import LightCurveColumns
from astrom3.errors import UserError
from astrom3.inference.columns import columns_of, days, find, numbers, pick, same_length, unit_of
from astrom3.modalities.bands import best_sampled, check_bands
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, check_light_curves
from astrom3.modalities.ragged import ragged
from astrom3.modalities.schema import PHOTO_COLS

if TYPE_CHECKING:
    from astrom3.inference.observations import Options

COUNTS = ("electron", "ct", "count", "adu", "ph", "photon", "DN", "dn")
NO_ZERO_POINT = (
    "magnitudes without zero_point (mJy of magnitude 0) or system (asas-sn-V, asas-sn-g, AB or Johnson-V) are taken as "
    "relative fluxes, 10^(-0.4 (m - 15)), which mislead weights trained on mJy"
)
MISSIONS = {"kepler": "Kepler", "k2": "Kepler", "tess": "TESS"}  # as lightkurve names them -> survey


def light_curve_of(given: Any, options: Options) -> LightCurve:
    """Time [day], flux and error [mJy, or relative], (N,) each, in all bands or in `options.band`.

    Raises UserError for units, columns and bands that do not fit.
    """
    if isinstance(given, str | os.PathLike):
        columns = LightCurveColumns(system=options.system, zero_point=options.zero_point)
        curve, relative = LightCurveReader(columns=columns, keep_bands=True).read(Path(given))
        if relative:
            curve = curve._replace(notes=(*curve.notes, NO_ZERO_POINT))
        return in_band(curve, options.band)

    band = None
    if isinstance(given, tuple):
        if len(given) != 3:
            raise UserError(f"a light curve is (time, flux, error), three arrays, not {len(given)}")
        time, bright, error = given
        magnitudes = unit_of(bright) is not None and "mag" in str(unit_of(bright))
    else:
        names = columns_of(given, "light curve")
        time = pick(names, "time", "light curve")
        magnitudes = find(names, "flux") is None
        kinds = ("mag", "mag_err") if magnitudes else ("flux", "flux_err")
        bright, error = (pick(names, kind, "light curve") for kind in kinds)
        band = find(names, "band")

    notes: tuple[str, ...] = ()
    if magnitudes:
        flux, flux_err, notes = from_magnitudes(bright, error, options)
    elif is_counts(unit_of(bright)):
        flux, flux_err, note = from_counts(bright, error, getattr(given, "meta", None) or {})
        notes = (note,)
    else:
        flux = numbers(bright, "mJy", "flux")
        flux_err = numbers(error, "mJy", "flux error")

    curve = LightCurve(*same_length("light curve", days(time), flux, flux_err), notes, band_names(band, len(flux)))
    return in_band(curve, options.band)


def from_magnitudes(bright: Any, error: Any, options: Options) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Flux and error [mJy] of magnitudes, and what is to be said of them, as of those in files. Where the options say
    no zero point fluxes are relative."""
    magnitude = numbers(bright, "mag", "magnitude")
    undetected = magnitude >= NON_DETECTION
    magnitude = np.where(undetected, np.nan, magnitude)
    notes: tuple[str, ...] = ()
    if undetected.any():
        notes = (f"{undetected.sum()} non-detections left out",)
    sigma = numbers(error, "mag", "magnitude error")
    same_length("light curve", magnitude, sigma, sigma)
    zero = LightCurveColumns(system=options.system, zero_point=options.zero_point).zero()
    if zero is None:
        zero = RELATIVE_ZERO_FLUX
        notes += (NO_ZERO_POINT,)
    flux, flux_err = flux_of_magnitude(magnitude, sigma, zero)
    return flux, flux_err, notes


def is_counts(unit: Any) -> bool:
    """Whether a unit is a count, or counts per time."""
    if unit is None or not hasattr(unit, "decompose"):
        return False
    names = [str(base) for base in unit.decompose().bases]
    return any(name in COUNTS for name in names) and all(name in (*COUNTS, "s", "pix") for name in names)


def from_counts(bright: Any, error: Any, about: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, str]:
    """Relative flux and error of counts, and the sentence that says how. about: what the light curve says of itself."""
    unit = unit_of(bright)
    flux = numbers(bright, None, "flux")
    flux_err = numbers(error, None, "flux error")
    mission = MISSIONS.get(str(about.get("MISSION") or about.get("mission") or "").strip().lower())
    known = []
    for survey in SURVEYS:
        if survey.name == mission:
            known.append(survey)

    if known:
        factor = known[0].flux_factor
        note = f"flux in {unit} has no zero point, made relative as fluxes of {mission} are"
    else:
        level = np.nanmedian(flux) if np.isfinite(flux).any() else np.nan
        factor = 1 / level if level > 0 else 1.0
        note = f"flux in {unit} has no zero point, made relative to its median"

    return flux * factor, flux_err * factor, note


def band_names(band: Any, length: int) -> np.ndarray | None:
    """Names of the bands of N points, None without a column of them."""
    if band is None:
        return None
    plain = []
    for name in np.asarray(band).ravel().tolist():
        plain.append(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name))
    names = np.array(plain, dtype=str)
    if len(names) != length:
        raise UserError(f"the light curve has {length} points and {len(names)} bands")
    return names


def in_band(curve: LightCurve, band: str | None) -> LightCurve:
    """The points of one band, or all of them where none is asked for."""
    if band is None:
        return curve
    if curve.band is None:
        raise UserError(f"band={band}: the light curve has no column of bands, leave band away")
    there = sorted(set(curve.band.tolist()))
    if band not in there:
        raise UserError(f"band={band}: the light curve has the bands {', '.join(there)}")
    return curve.of_band(band)


@dataclass(frozen=True)
class Curves:
    """Light curves of n objects as they were read. wavelengths [Angstrom]: of bands that are not known by name."""

    curves: Sequence[LightCurve]
    wavelengths: Mapping[str, float] | None = None

    def columns(self, several_bands: bool) -> tuple[np.ndarray, ...]:
        """What `check` of a view takes: offsets (n + 1,), time, flux, error, and with several bands the wavelength of
        each point, 0 where the light curve says no band. Without, each curve is in its best sampled band."""
        if not several_bands:
            return ragged([chosen(curve) for curve in self.curves])
        return *ragged(self.curves), self._lengths

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Wavelengths (total,) float64 [Angstrom] of all points."""
        parts: list[np.ndarray] = [np.empty(0)]
        for curve in self.curves:
            if curve.band is None:
                parts.append(np.zeros(len(curve.time)))
                continue
            names, codes = np.unique(curve.band, return_inverse=True)
            parts.append(np.array(need_wavelengths(names.tolist(), self.wavelengths), dtype=np.float64)[codes])
        return np.concatenate(parts)

    def choices(self) -> list[Decision]:
        """What is said of curves in several bands where a network reads one."""
        decisions = []
        for i, curve in enumerate(self.curves):
            if curve.band is None or len(set(curve.band.tolist())) < 2:
                continue
            taken = curve.band[best_sampled(curve.band)][0]
            reason = f"of the bands {', '.join(sorted(set(curve.band.tolist())))} the best sampled, {taken}, is taken"
            decisions.append(Decision(str(i), of_argument("light_curve"), "repaired", reason))
        return decisions

    def complete_features(self, values: np.ndarray, which: str) -> None:
        """Compute PHOTO_COLS in `values` (n, 38) from the usable light curves, from all their bands as convert does."""
        for curve, row in zip(self.curves, values, strict=True):
            given = row[: len(PHOTO_COLS)]  # a view: what is put here stands in `values`
            is_missing = np.isnan(given).any()
            if which == "none" or (which != "all" and not is_missing):
                continue
            if curve.band is None or len(set(curve.band.tolist())) < 2:
                checked = check_light_curves(*ragged([curve]))
                if checked.accepted[0]:
                    time, flux, error = checked.columns
                    given[:] = given_or_computed(given, time, flux, error, which)
                continue

            _, codes = np.unique(curve.band, return_inverse=True)
            offsets, time, flux, error = ragged([curve])
            several = check_bands(offsets, time, flux, error, codes)
            if several.accepted[0]:
                time, flux, error = several.columns
                given[:] = features_of_bands(given, time, flux, error, several.band, which)


def chosen(curve: LightCurve) -> LightCurve:
    """The points of the best sampled band."""
    if curve.band is None:
        return curve
    best = best_sampled(curve.band) if len(curve.band) else slice(None)
    return LightCurve(curve.time[best], curve.flux[best], curve.flux_err[best], curve.notes)
