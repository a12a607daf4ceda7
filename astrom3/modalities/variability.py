"""Hand-made features of a light curve, 58 numbers of known ranges: what a catalogue of variables would measure.

Moments and percentiles follow Richards et al. 2011 (ApJ 733, 10) and Kim & Bailer-Jones 2016 (A&A 587,
A18); the Stetson index K is that of Stetson 1996 (PASP 108, 851), the structure function that of Simonetti et al. 1985
(ApJ 296, 46). Features of the folded curve take a period that is given, and compare it with its double and its half.
Magnitudes are used, so a zero point changes `median` alone. Numbers without bound are compressed by logarithms.
"""

from __future__ import annotations

import math

import numpy as np

from astrom3.kernel import kernel
from astrom3.modalities.constants import VARIABILITY_FEATURES
from astrom3.modalities.fourier import fourier_fit

LAGS = (1, 2, 4, 8, 16, 32)  # in points, of the structure function
LOG_LAGS = (-2.0, -1.25, -0.5, 0.25, 1.0, 1.75, 2.5)  # log10 day, limits of its eight ranges
HARMONICS = 4
NAMES = (
    "median",
    "log_deviation",
    "skewness",
    "kurtosis",
    "log_mad",
    "log_range_90",
    "log_range_full",
    "brighter_share",
    "mid_20",
    "mid_35",
    "mid_50",
    "mid_65",
    "mid_80",
    "beyond_1",
    "beyond_2",
    "log_error",
    "log_chi_square",
    "stetson_k",
    "log_eta",
    "log_slope",
    "trend",
    "trend_share",
    "cusum_range",
    "rise_share",
    "log_span",
    "log_points",
    *(f"structure_{k}" for k in range(8)),
    "log_period",
    "string_length",
    "string_double",
    "string_half",
    "log_amplitude",
    "r_21",
    "r_31",
    "r_41",
    "cos_21",
    "sin_21",
    "cos_31",
    "sin_31",
    "cos_41",
    "sin_41",
    "explained",
    "explained_double",
    "odd_share",
    "model_skewness",
    "faint_share",
    "minima_ratio",
    "folded_cusum",
    "model_range",
    "rise_phase",
    "known_period",
)
COUNT = VARIABILITY_FEATURES
LARGEST = 10.0  # of any feature
GRID = 64  # phases of the model


def variability_features(time: np.ndarray, flux: np.ndarray, flux_err: np.ndarray, period: float) -> np.ndarray:
    """Features (58,) float32, in the order of NAMES, of a curve sorted by time: days, any unit of flux, period [day].

    Points without positive flux are left out. Fewer than 10 others, or no variation, give zeros. A period that is not
    known (NaN) leaves the features of the folded curve at 0.
    """
    out = np.zeros(COUNT, dtype=np.float32)
    good = (flux > 0) & np.isfinite(flux) & (flux_err >= 0)
    if good.sum() < 10:
        return out
    magnitude = -2.5 * np.log10(flux[good])
    error = 2.5 / math.log(10) * flux_err[good] / flux[good]
    measure(time[good].astype(np.float64), magnitude, error, float(period), out)
    return out


@kernel
def measure(time: np.ndarray, magnitude: np.ndarray, error: np.ndarray, period: float, out: np.ndarray) -> None:
    """Write the features of one curve in magnitudes, float64 (N,) each, into `out` (58,) float32, zero before."""
    if magnitude.max() <= magnitude.min() or time[-1] <= time[0]:
        return
    of_distribution(magnitude, error, out[:18])
    of_order(time, magnitude, out[18:34])
    if 1e-4 < period < 1e6:
        of_phase(time, magnitude, error, period, out[34:])
    for k in range(len(out)):
        if not math.isfinite(out[k]):
            out[k] = 0.0
        out[k] = min(max(out[k], -LARGEST), LARGEST)


@kernel
def level(ordered: np.ndarray, share: float) -> float:
    """A quantile of sorted values."""
    return ordered[round(share * (len(ordered) - 1))]


@kernel
def logarithm(value: float) -> float:
    """log10, at least -4."""
    return math.log10(max(value, 1e-4))


@kernel
def of_distribution(magnitude: np.ndarray, error: np.ndarray, out: np.ndarray) -> None:
    """Moments, percentiles and the errors: 18 features that no order in time changes."""
    n = len(magnitude)
    ordered = np.sort(magnitude)
    middle = level(ordered, 0.5)
    mean = magnitude.mean()
    deviation = max(magnitude.std(), 1e-6)
    mad = np.sort(np.abs(magnitude - middle))[n // 2]
    wide = max(level(ordered, 0.95) - level(ordered, 0.05), 1e-6)
    z = (magnitude - mean) / deviation
    out[0] = middle / 5
    out[1] = logarithm(deviation)
    out[2] = (z**3).mean()
    out[3] = math.log10(max((z**4).mean(), 1.0))
    out[4] = logarithm(mad)
    out[5] = logarithm(wide)
    out[6] = logarithm(ordered[-1] - ordered[0])
    out[7] = (middle - level(ordered, 0.05)) / wide
    for k, share in enumerate((0.1, 0.175, 0.25, 0.325, 0.4)):
        out[8 + k] = (level(ordered, 0.5 + share) - level(ordered, 0.5 - share)) / wide
    out[13] = (np.abs(z) > 1).mean()
    out[14] = (np.abs(z) > 2).mean()
    typical = np.sort(error)[n // 2]
    floor = max(typical, 1e-4)
    out[15] = logarithm(typical)
    residual = (magnitude - middle) / np.maximum(error, 0.3 * floor)
    chi_square = (residual**2).mean()
    out[16] = logarithm(chi_square)
    out[17] = np.abs(residual).mean() / math.sqrt(max(chi_square, 1e-12))


@kernel
def of_order(time: np.ndarray, magnitude: np.ndarray, out: np.ndarray) -> None:
    """What the order in time says: 16 features, among them eight of the structure function."""
    n = len(magnitude)
    mean = magnitude.mean()
    variance = max(magnitude.var(), 1e-12)
    steps = magnitude[1:] - magnitude[:-1]
    waits = np.maximum(time[1:] - time[:-1], 1e-5)
    out[0] = logarithm((steps**2).mean() / variance)
    slopes = np.sort(np.abs(steps) / waits)
    out[1] = logarithm(level(slopes, 0.9))
    span = time[-1] - time[0]
    place = (time - time.mean()) / span
    slope = (place * (magnitude - mean)).sum() / max((place**2).sum(), 1e-12)
    out[2] = slope / math.sqrt(variance)
    out[3] = slope**2 * (place**2).mean() / variance
    total = np.cumsum(magnitude - mean) / (n * math.sqrt(variance))
    out[4] = total.max() - total.min()
    out[5] = (steps > 0).mean()
    out[6] = math.log10(span)
    out[7] = math.log10(n)
    sums = np.zeros(8)
    counts = np.zeros(8)
    for lag in LAGS:
        for i in range(n - lag):
            wait = math.log10(max(time[i + lag] - time[i], 1e-9))
            at = 0
            for limit in LOG_LAGS:
                if wait > limit:
                    at += 1
            sums[at] += abs(magnitude[i + lag] - magnitude[i])
            counts[at] += 1
    for k in range(8):
        if counts[k] > 0:
            out[8 + k] = sums[k] / counts[k] / math.sqrt(variance)
        else:
            out[8 + k] = -1.0


@kernel
def string(time: np.ndarray, magnitude: np.ndarray, period: float) -> float:
    """Clarke's string length of the curve folded at a period, 1 for noise (see features.py)."""
    n = len(magnitude)
    order = np.argsort((time / period) % 1.0)
    folded = magnitude[order]
    steps = ((folded[1:] - folded[:-1]) ** 2).sum() + (folded[0] - folded[-1]) ** 2
    variance = max(((folded - folded.mean()) ** 2).sum(), 1e-12)
    return steps / variance * (n - 1) / (2 * n)


@kernel
def model_at(coefficients: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Fourier series 1, cos, sin, cos 2 ... at phases in turns, without the constant."""
    values = np.zeros(len(phases))
    for h in range(1, (len(coefficients) - 1) // 2 + 1):
        angle = 2 * math.pi * h * phases
        values += coefficients[2 * h - 1] * np.cos(angle) + coefficients[2 * h] * np.sin(angle)
    return values


@kernel
def of_phase(time: np.ndarray, magnitude: np.ndarray, error: np.ndarray, period: float, out: np.ndarray) -> None:
    """Features of the curve folded at the period, its double and its half: 24."""
    t = time - time[0]
    mean = magnitude.mean()
    y = magnitude - mean
    variance = max(y.var(), 1e-12)
    floor = np.sort(error)[len(error) // 2]
    weights = 1.0 / (error**2 + floor**2 + 0.01 * variance + 1e-12)
    weights = weights / weights.sum()
    total = max((weights * (y - (weights * y).sum()) ** 2).sum(), 1e-12)
    out[0] = math.log10(period)
    out[1] = string(t, y, period)
    out[2] = string(t, y, 2 * period)
    out[3] = string(t, y, 0.5 * period)
    coefficients = fourier_fit(t, y, weights, 1 / period, HARMONICS)[0]
    amplitudes = np.empty(HARMONICS)
    angles = np.empty(HARMONICS)
    for h in range(HARMONICS):
        amplitudes[h] = math.hypot(coefficients[2 * h + 1], coefficients[2 * h + 2])
        angles[h] = math.atan2(coefficients[2 * h + 2], coefficients[2 * h + 1])
    first = max(amplitudes[0], 1e-6)
    out[4] = logarithm(first)
    for h in range(1, HARMONICS):
        relative = angles[h] - (h + 1) * angles[0]
        out[4 + h] = math.log10(1 + amplitudes[h] / first)
        out[6 + 2 * h] = math.cos(relative)
        out[7 + 2 * h] = math.sin(relative)
    fitted = model_at(coefficients, (t / period) % 1.0)
    rest = y - fitted
    rest = rest - (weights * rest).sum()
    out[14] = 1 - (weights * rest**2).sum() / total
    double = fourier_fit(t, y, weights, 0.5 / period, 2 * HARMONICS)[0]
    rest = y - model_at(double, (0.5 * t / period) % 1.0)
    rest = rest - (weights * rest).sum()
    out[15] = 1 - (weights * rest**2).sum() / total
    power = double[1:] ** 2
    odd = power[0] + power[1] + power[4] + power[5] + power[8] + power[9] + power[12] + power[13]
    out[16] = odd / max(power.sum(), 1e-12)
    of_model(model_at(coefficients, np.arange(GRID) / GRID), double, out[17:])
    order = np.argsort((t / period) % 1.0)
    sums = np.cumsum(y[order]) / (len(y) * math.sqrt(variance))
    out[20] = sums.max() - sums.min()
    out[23] = 1.0


@kernel
def of_model(model: np.ndarray, double: np.ndarray, out: np.ndarray) -> None:
    """Shape of the smooth folded curve (64,): skewness, share of faint phases, its minima, range, rise."""
    deviation = max(model.std(), 1e-9)
    out[0] = ((model / deviation) ** 3).mean()
    out[1] = (model > 0.5 * (model.max() + model.min())).mean()
    twice = model_at(double, np.arange(2 * GRID) / (2 * GRID))
    deepest = int(np.argmax(twice))
    other = -1e9
    for k in range(GRID // 2, GRID + GRID // 2):
        other = max(other, twice[(deepest + k) % (2 * GRID)])
    middle = np.median(twice)
    out[2] = (other - middle) / max(twice[deepest] - middle, 1e-6)
    out[4] = min(logarithm(twice.max() - twice.min()), 1.0)
    rise = (int(np.argmin(model)) - int(np.argmax(model))) % len(model)
    out[5] = rise / len(model)
