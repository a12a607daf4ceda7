"""Weighted fits of Fourier series to light curves, compiled.

time: float64 (N,) [day]; magnitude: float64 (N,); weights: float64 (N,) of sum 1; frequency [1/day].
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def fourier_fit(
    t: np.ndarray, y: np.ndarray, weights: np.ndarray, frequency: float, n_harmonics: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares of 1, cos, sin, cos 2, sin 2 ...: coefficients (2 H + 1,), normal matrix, right side."""
    n_free = 2 * n_harmonics + 1
    normal = np.zeros((n_free, n_free))
    right = np.zeros(n_free)
    row = np.empty(n_free)
    row[0] = 1.0
    for i in range(len(t)):
        angle = 2 * np.pi * ((t[i] * frequency) % 1.0)
        c1 = np.cos(angle)
        s1 = np.sin(angle)
        c = 1.0
        s = 0.0
        for h in range(n_harmonics):
            c, s = c * c1 - s * s1, s * c1 + c * s1
            row[2 * h + 1] = c
            row[2 * h + 2] = s
        for a in range(n_free):
            wa = weights[i] * row[a]
            right[a] += wa * y[i]
            for b in range(a + 1):
                normal[a, b] += wa * row[b]
    for a in range(n_free):
        normal[a, a] += 1e-9  # weights sum to 1: harmless, and gaps in phase cannot make it singular
        for b in range(a):
            normal[b, a] = normal[a, b]
    return np.linalg.solve(normal, right), normal, right


@numba.njit(cache=True, nogil=True)
def residuals(t: np.ndarray, y: np.ndarray, weights: np.ndarray, frequency: float, n_harmonics: int) -> np.ndarray:
    """Weighted residual sum of squares of the best Fourier series of 1, 2 ... H harmonics, (H,)."""
    _, normal, right = fourier_fit(t, y, weights, frequency, n_harmonics)
    total = np.sum(weights * y * y)
    rss = np.empty(n_harmonics)
    for h in range(n_harmonics):
        m = 2 * h + 3
        part = np.ascontiguousarray(normal[:m, :m])
        rss[h] = total - np.sum(np.linalg.solve(part, right[:m]) * right[:m])
    return rss


@numba.njit(cache=True, nogil=True)
def refine(t: np.ndarray, y: np.ndarray, weights: np.ndarray, frequency: float, n_harmonics: int, step: float) -> float:
    """Frequency of the lowest residual within a grid step, by a scan and two finer ones."""
    width = step
    for _ in range(3):
        centre = frequency
        lowest = np.inf
        for k in range(-3, 4):
            trial = centre + width * k / 3
            coefficients, _, right = fourier_fit(t, y, weights, trial, n_harmonics)
            rss = -np.sum(coefficients * right)
            if rss < lowest:
                lowest = rss
                frequency = trial
        width /= 3
    return frequency
