"""Spectra on another wavelength grid: flux, inverse variance and which part of the grid was observed.

Two rules, chosen by the pixel widths (`method="auto"`):

- Onto a coarser grid, flux is conserved: every input pixel is a bin of constant flux density, and an output pixel is
  the mean over the bins that it overlaps, weighted by the overlap (Carnall 2017, arXiv:1705.05165).
- Onto a grid of the same or a finer step, flux is interpolated linearly between pixel centres.

Errors are propagated as independent in both. Pixels whose flux is not finite or whose inverse variance is not above 0
carry no information: they are left out, and the grid pixels that only they cover get flux 0 and inverse variance 0.

    flux, ivar, covered = resample(wavelength, flux, ivar, grid)
    coverage = covered.mean()
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from astrom3.errors import UserError
from astrom3.kernel import kernel

METHODS = ("auto", "conserving", "linear")
COARSER = 1.5  # output pixels wider than this many input pixels are averages; LAMOST onto 2 Angstrom (1.4) is not
LARGEST_GAP = 3.0  # steps: between pixels further apart than this, nothing was observed
LEAST_OVERLAP = 0.5  # of an output pixel that input pixels must cover


class Resampled(NamedTuple):
    """A spectrum of M pixels. flux (M,) float64, 0 where not covered; ivar (M,) float64, 0 where not covered or where
    no errors were given; covered (M,) bool."""

    flux: np.ndarray
    ivar: np.ndarray
    covered: np.ndarray

    @property
    def coverage(self) -> float:
        """Fraction of the grid that was observed."""
        return float(self.covered.mean()) if len(self.covered) else 0.0


def resample(
    wavelength: np.ndarray,
    flux: np.ndarray,
    ivar: np.ndarray | None,
    grid: np.ndarray,
    method: str = "auto",
) -> Resampled:
    """Bring a spectrum (N,) onto the pixel centres `grid` (M,), increasing, in the unit of `wavelength`.

    wavelength may be in any order; flux is a density, so its unit is kept. Without ivar every finite pixel counts the
    same. Raises UserError for an unknown method and for a grid that does not increase.
    """
    if method not in METHODS:
        raise UserError(f"the resampling method {method!r} does not exist: it is one of {', '.join(METHODS)}")
    grid = np.ascontiguousarray(grid, dtype=np.float64)
    if len(grid) < 2 or not (np.diff(grid) > 0).all():
        raise UserError("a wavelength grid needs two or more increasing values")
    wavelength, flux, weight = good_pixels(wavelength, flux, ivar)
    empty = Resampled(np.zeros(len(grid)), np.zeros(len(grid)), np.zeros(len(grid), dtype=bool))
    if len(wavelength) < 2:
        return empty
    if method == "auto":
        method = "conserving" if width_ratio(wavelength, grid) > COARSER else "linear"
    if method == "linear":
        steps = local_steps(wavelength)
        _interpolate(wavelength, flux, weight, steps, grid, *empty)
    else:
        _average(pixel_edges(wavelength), flux, weight, grid_edges(grid), *empty)
    if ivar is None:
        empty.ivar[:] = 0.0
    return empty


def good_pixels(
    wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelength, flux and inverse variance of the pixels that carry information, sorted, each wavelength once."""
    wavelength = np.asarray(wavelength, dtype=np.float64)
    flux = np.asarray(flux, dtype=np.float64)
    weight = np.ones(len(flux)) if ivar is None else np.asarray(ivar, dtype=np.float64)
    good = np.isfinite(wavelength) & np.isfinite(flux) & np.isfinite(weight) & (weight > 0)
    places = np.flatnonzero(good)
    _, first = np.unique(wavelength[places], return_index=True)
    chosen = places[first]
    return wavelength[chosen], flux[chosen], weight[chosen]


def coverage(wavelength: np.ndarray, grid: np.ndarray) -> float:
    """Fraction of `grid` (M,) that lies between neighbouring pixels of an increasing `wavelength` (N,)."""
    ones = np.ones(len(wavelength))
    return resample(wavelength, ones, None, grid, "linear").coverage


def width_ratio(wavelength: np.ndarray, grid: np.ndarray) -> float:
    """How many input pixels an output pixel holds, the median over the part of the grid that was observed."""
    steps = np.gradient(grid)
    inside = (grid >= wavelength[0]) & (grid <= wavelength[-1])
    if not inside.any():
        return 1.0
    own = np.interp(grid[inside], wavelength, local_steps(wavelength))
    return float(np.median(steps[inside] / own))


def local_steps(wavelength: np.ndarray) -> np.ndarray:
    """Distance to the nearer neighbour of each pixel (N,): the pixel's width, except beside a gap."""
    differences = np.diff(wavelength)
    before = np.concatenate([differences[:1], differences])
    after = np.concatenate([differences, differences[-1:]])
    return np.minimum(before, after)


def pixel_edges(wavelength: np.ndarray) -> np.ndarray:
    """Lower and upper edges (N, 2) of pixels, half-way to the neighbours; beside a gap as wide as on the other side."""
    half = local_steps(wavelength) / 2
    middle = (wavelength[1:] + wavelength[:-1]) / 2
    lower = wavelength - half
    upper = wavelength + half
    lower[1:] = np.where(wavelength[1:] - middle <= LARGEST_GAP / 2 * half[1:], middle, lower[1:])
    upper[:-1] = np.where(middle - wavelength[:-1] <= LARGEST_GAP / 2 * half[:-1], middle, upper[:-1])
    return np.stack([lower, upper], axis=1)


def grid_edges(grid: np.ndarray) -> np.ndarray:
    """Edges (M, 2) of output pixels, half-way to the neighbours."""
    middle = (grid[1:] + grid[:-1]) / 2
    first = grid[0] - (middle[0] - grid[0])
    last = grid[-1] + (grid[-1] - middle[-1])
    return np.stack([np.append(first, middle), np.append(middle, last)], axis=1)


@kernel
def _interpolate(
    wavelength: np.ndarray,
    flux: np.ndarray,
    weight: np.ndarray,
    steps: np.ndarray,
    grid: np.ndarray,
    out_flux: np.ndarray,
    out_ivar: np.ndarray,
    covered: np.ndarray,
) -> None:
    """Linear interpolation of N pixels onto M; the variance is that of the weighted sum of two pixels."""
    right = 0
    for k in range(len(grid)):
        while right < len(wavelength) and wavelength[right] < grid[k]:
            right += 1
        if right < len(wavelength) and wavelength[right] == grid[k]:
            out_flux[k] = flux[right]
            out_ivar[k] = weight[right]
            covered[k] = True
            continue
        if right == 0 or right == len(wavelength):
            continue
        left = right - 1
        gap = wavelength[right] - wavelength[left]
        if gap > LARGEST_GAP * min(steps[left], steps[right]):
            continue
        part = (grid[k] - wavelength[left]) / gap
        out_flux[k] = (1 - part) * flux[left] + part * flux[right]
        out_ivar[k] = 1 / ((1 - part) ** 2 / weight[left] + part**2 / weight[right])
        covered[k] = True


@kernel
def _average(
    edges: np.ndarray,
    flux: np.ndarray,
    weight: np.ndarray,
    bins: np.ndarray,
    out_flux: np.ndarray,
    out_ivar: np.ndarray,
    covered: np.ndarray,
) -> None:
    """Mean over the overlap of N pixels with M bins; the variance is that of the weighted mean."""
    first = 0
    for k in range(len(bins)):
        low = bins[k, 0]
        high = bins[k, 1]
        while first < len(edges) and edges[first, 1] <= low:
            first += 1
        total = 0.0
        light = 0.0
        variance = 0.0
        j = first
        while j < len(edges) and edges[j, 0] < high:
            overlap = min(edges[j, 1], high) - max(edges[j, 0], low)
            if overlap > 0:
                total += overlap
                light += overlap * flux[j]
                variance += overlap**2 / weight[j]
            j += 1
        if total > 0 and total >= LEAST_OVERLAP * (high - low):
            out_flux[k] = light / total
            out_ivar[k] = total**2 / variance
            covered[k] = True
