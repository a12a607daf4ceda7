"""Light curves, images and spectra of BLOCK objects at a time, packed so that the page decodes only what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from astrom3.data.observed import Columns, Observed
from astrom3.explore.packing import linear, pack, stretched
from astrom3.explore.pictures import pictures

BLOCK = 64  # objects; a click decodes about 100 kB of light curves and 300 kB of spectra
TIME_STEP = 1e-5  # [day], 0.9 s: the last digit of the HJD in ASAS-SN files
WAVELENGTH_STEP = 0.01  # [Angstrom], of grids that are neither logarithmic nor linear
GRID_TOLERANCE = 0.02  # [Angstrom]
NONE, LOGARITHMIC, LINEAR, GIVEN = range(4)  # kinds of wavelength grids


@dataclass
class Tally:
    """What became of the numbers on their way into the page."""

    light_curves: int = 0
    spectra: int = 0
    images: int = 0
    points_not_finite: int = 0
    pixels_not_finite: int = 0
    thinned: int = 0  # light curves with fewer points than the data set has
    spectrum_errors: list[float] = field(default_factory=list)  # medians, as shares of the middle 90 % of the flux


@dataclass
class Blocks:
    """points: the most of a light curve that are kept, evenly, None: all. bits: 8 or 16 per pixel of a spectrum."""

    bits: int
    points: int | None = None
    tally: Tally = field(default_factory=Tally)

    def light_curves(self, objects: Sequence[Observed]) -> bytes:
        """Of m objects: count, full (points before thinning), dropped, t0, t_step [day], flux and error as
        low + step * code, (m,) each; flat: time (differences of codes), flux, error."""
        rows = [self._light_curve(o.light_curve) for o in objects]
        return _stack(rows, {"count": np.uint32, "full": np.uint32, "dropped": np.uint32})

    def images(self, objects: Sequence[Observed]) -> bytes:
        """Of m galaxies: see `pictures`."""
        self.tally.images += sum(one.image is not None for one in objects)
        return pictures(objects)

    def spectra(self, objects: Sequence[Observed]) -> bytes:
        """Of m objects: count, dropped, grid (kind), first, step [Angstrom or dex], and centre, scale, low, code_step
        of `stretched`, (m,) each; flat: flux, and wavelength (differences in 0.01 Angstrom) of grids that are given."""
        rows = [self._spectrum(o.spectrum) for o in objects]
        return _stack(rows, {"count": np.uint32, "dropped": np.uint32, "grid": np.uint8})

    def _light_curve(self, columns: Columns | None) -> dict[str, Any]:
        time, flux, error = columns or (np.empty(0),) * 3
        usable = np.isfinite(time) & np.isfinite(flux)
        order = ascending(time, usable)
        full = len(order)
        dropped = len(time) - full
        if self.points is not None and full > self.points:
            kept = np.linspace(0, full - 1, self.points).round().astype(int)
            order = order[kept]
        time = time[order]
        flux = flux[order]
        error = np.nan_to_num(error[order], nan=0, posinf=0, neginf=0)

        t0 = 0.0
        span = 0.0
        if len(time):
            t0 = float(time[0])
            span = float(time[-1]) - t0
        t_step = max(TIME_STEP, span / 2**32)
        ticks = np.rint((time - t0) / t_step).astype(np.int64)
        fluxes = linear(flux, 16)
        errors = linear(error, 16)

        self.tally.light_curves += full > 0
        self.tally.points_not_finite += dropped
        self.tally.thinned += len(order) < full
        return {
            "count": len(order),
            "full": full,
            "dropped": dropped,
            "t0": t0,
            "t_step": t_step,
            "flux_low": fluxes.low,
            "flux_step": fluxes.step,
            "error_low": errors.low,
            "error_step": errors.step,
            "time": np.diff(ticks, prepend=0).astype(np.uint32),
            "flux": fluxes.codes,
            "error": errors.codes,
        }

    def _spectrum(self, columns: Columns | None) -> dict[str, Any]:
        wavelength, flux = columns[:2] if columns is not None else (np.empty(0), np.empty(0))
        usable = np.isfinite(wavelength) & np.isfinite(flux) & (wavelength > 0)
        order = ascending(wavelength, usable)
        dropped = len(wavelength) - len(order)
        wavelength = wavelength[order]
        flux = flux[order]
        self.tally.pixels_not_finite += dropped

        kind, first, step = grid_of(wavelength)
        ticks = np.empty(0, np.int64)
        if kind == GIVEN:
            ticks = np.rint(wavelength / WAVELENGTH_STEP).astype(np.int64)
        if len(order):
            stretch = stretched(flux, self.bits)
            codes = stretch.codes
            scales = stretch[1:]
            self.tally.spectra += 1
            error = np.median(np.abs(stretch.decode() - flux))
            self.tally.spectrum_errors.append(float(error) / (2 * stretch.scale))
        else:
            codes = np.empty(0, np.uint8 if self.bits == 8 else np.uint16)
            scales = (0.0, 1.0, 0.0, 1.0)

        centre, scale, low, code_step = scales
        return {
            "count": len(order),
            "dropped": dropped,
            "grid": kind,
            "first": first,
            "step": step,
            "centre": centre,
            "scale": scale,
            "low": low,
            "code_step": code_step,
            "flux": codes,
            "wavelength": np.diff(ticks, prepend=0).astype(np.uint32),
        }


def ascending(values: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Places of the usable ones (n,) bool of some values (n,), the least value first."""
    places = np.flatnonzero(usable)
    return places[np.argsort(values[places], kind="stable")]


def grid_of(wavelength: np.ndarray) -> tuple[int, float, float]:
    """Kind, first and step of an increasing grid [Angstrom], in log10 for LOGARITHMIC; GIVEN where no rule fits."""
    n = len(wavelength)
    if not n:
        return NONE, 0.0, 0.0
    if n > 2:
        for kind, values in ((LOGARITHMIC, np.log10(wavelength)), (LINEAR, wavelength)):
            first = float(values[0])
            step = float(values[-1] - values[0]) / (n - 1)
            rule = first + step * np.arange(n)
            if kind == LOGARITHMIC:
                rule = 10**rule
            if np.abs(rule - wavelength).max() < GRID_TOLERANCE:
                return kind, first, step
    return GIVEN, 0.0, 0.0


def _stack(rows: Sequence[dict[str, Any]], kinds: dict[str, type]) -> bytes:
    """Scalars to arrays (m,), float64 unless `kinds` says otherwise; arrays one behind the other."""
    arrays = {}
    for name, value in rows[0].items():
        column = [row[name] for row in rows]
        if isinstance(value, np.ndarray):
            arrays[name] = np.concatenate(column)
        else:
            arrays[name] = np.array(column, dtype=kinds.get(name, np.float64))
    return pack(arrays)
