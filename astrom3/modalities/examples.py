"""Made-up observations, for tracing an encoder and comparing its export: `View.example` makes batches of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from astrom3.modalities.ragged import offsets_of
from astrom3.modalities.schema import WAVELENGTH_COUNT, WAVELENGTH_START, WAVELENGTH_STEP

Columns = tuple[np.ndarray, ...]  # offsets (n + 1,), then the raw columns of a modality
FEWEST = 20  # points of a light curve
MOST = 400
PERIODS = (0.2, 20.0)  # days


def periods(n: int, rng: np.random.Generator) -> np.ndarray:
    """Periods (n,) [day] of made-up stars."""
    shortest, longest = np.log(PERIODS).tolist()
    return np.exp(rng.uniform(shortest, longest, n))


def light_curves(n: int, points: int | None, rng: np.random.Generator) -> Columns:
    """Sine waves with noise: time [day], flux and error [mJy] of n stars. points: of each, None: random."""
    if points is None:
        lengths = rng.integers(FEWEST, MOST, n)
    else:
        lengths = np.full(n, min(max(points, FEWEST), MOST))
    offsets = offsets_of(lengths)
    total = int(offsets[-1])
    time = rng.uniform(0, 1000, total)
    for first, last in pairwise(offsets):
        time[first:last].sort()
    period = np.repeat(periods(n, rng), lengths)
    phase = 2 * np.pi * time / period
    amplitude = np.repeat(rng.uniform(0.5, 5, n), lengths)
    flux = 20 + amplitude * np.sin(phase) + rng.normal(0, 0.3, total)
    return offsets, time, flux, np.full(total, 0.3)


def spectra(n: int, points: int | None, rng: np.random.Generator) -> Columns:
    """Smooth spectra with noise: wavelength [Angstrom], flux and inverse variance on AstroM3's grid."""
    grid = WAVELENGTH_START + WAVELENGTH_STEP * np.arange(WAVELENGTH_COUNT)
    offsets = WAVELENGTH_COUNT * np.arange(n + 1)
    wavelength = np.tile(grid, n)
    width = np.repeat(rng.uniform(100, 900, n), WAVELENGTH_COUNT)  # of the waves [Angstrom]
    flux = 10 + np.sin(wavelength / width) + rng.normal(0, 0.2, len(wavelength))
    return offsets, wavelength, flux, np.full(len(wavelength), 25.0)


OBSERVATIONS: dict[str, Callable[[int, int | None, np.random.Generator], Columns]] = {
    "photometry": light_curves,
    "spectra": spectra,
}
