"""The four photometric features of a light curve: period, amplitude, lksl_statistic, rfr_score.

Definitions of the ASAS-SN variable star catalogue (Jayasinghe et al. 2018, MNRAS 477, 3145; 2019, MNRAS 486, 1907),
of the curve in magnitudes:

period          [day]  Lomb-Scargle, candidates compared by Fourier fits, doubled for eclipses (period_search.py)
lksl_statistic         Lafler-Kinman string length T(phi|P) of the folded curve, Clarke 2002 (A&A 386, 763)
amplitude       [mag]  A_RFR: range of a random-forest regression of magnitude on phase
rfr_score              R^2 of that regression on the points it was fitted to

The catalogue does not say which forest it used. With at least 2 points in a leaf pure noise gets R^2 = 0.5 and T = 1,
and R^2 is about 1 - T / 2: the published means and deviations (rfr_score 0.838 +- 0.137, T 0.329 +- 0.269) fulfil just
that relation. Ours is such a forest, written for one sorted variable: 50 trees on 500 points take 2 ms instead of the
30 of scikit-learn's RandomForestRegressor(50, min_samples_leaf=2), with the same scores (tested).
"""

from __future__ import annotations

import math

import numba
import numpy as np

from astrom3.modalities.period_search import find_period
from astrom3.modalities.quality import MAX_SPAN

MIN_POINTS = 10
N_TREES = 50
MIN_LEAF = 2


def light_curve_features(
    time: np.ndarray, flux: np.ndarray, flux_err: np.ndarray, period: float | None = None
) -> dict[str, float]:
    """Features by name (PHOTO_COLS) of one curve, (N,) each, times in days; all NaN where they cannot be computed.

    Points without positive flux have no magnitude and are left out; fewer than 10 others, no variation, no time span
    or one that the quality rules reject (JD and MJD mixed) give NaN. A given `period` is used as it is.
    """
    time = np.asarray(time, dtype=np.float64)
    flux = np.asarray(flux, dtype=np.float64)
    flux_err = np.asarray(flux_err, dtype=np.float64)
    unknown = dict.fromkeys(("amplitude", "period", "lksl_statistic", "rfr_score"), math.nan)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(time) & np.isfinite(flux) & (flux > 0)
        good &= np.isfinite(flux_err) & (flux_err >= 0)
    if good.sum() < MIN_POINTS:
        return unknown
    order = np.argsort(time[good], kind="stable")
    time = time[good][order]
    flux = flux[good][order]
    flux_err = flux_err[good][order]
    magnitude = -2.5 * np.log10(flux)
    error = 2.5 / math.log(10) * flux_err / flux
    if not 0 < np.ptp(time) <= MAX_SPAN or np.ptp(magnitude) <= 0:
        return unknown
    if period is None or not period > 0:
        period = find_period(time, magnitude, error)
    phase = np.mod((time - time[0]) / period, 1.0)
    order = np.argsort(phase, kind="stable")
    folded = magnitude[order]
    model = forest(phase[order], folded)
    residual = ((folded - model) ** 2).sum()
    variance = ((folded - folded.mean()) ** 2).sum()
    return {
        "amplitude": float(np.ptp(model)),
        "period": float(period),
        "lksl_statistic": string_length(folded),
        "rfr_score": float(1 - residual / variance),
    }


def string_length(values: np.ndarray) -> float:
    """Clarke 2002: T of values in order of phase, closed to a ring; 1 for noise, near 0 for a smooth curve."""
    n = len(values)
    steps = ((np.roll(values, -1) - values) ** 2).sum()
    variance = ((values - values.mean()) ** 2).sum()
    return float(steps / variance * (n - 1) / (2 * n))


def forest(phase: np.ndarray, values: np.ndarray, n_trees: int = N_TREES, seed: int = 0) -> np.ndarray:
    """Random-forest regression of values on phase (both in order of phase), predicted at the same points, (N,)."""
    n = len(phase)
    draws = np.random.default_rng([seed, n]).integers(0, n, (n_trees, n))
    return _forest(np.ascontiguousarray(phase), np.ascontiguousarray(values), draws)


@numba.njit(cache=True, nogil=True)
def _forest(phase: np.ndarray, values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Mean over trees, one for each row of `draws` (bootstrap samples, indices into phase)."""
    n = len(phase)
    prediction = np.zeros(n)
    counts = np.empty(n, np.int64)
    x = np.empty(n)
    w = np.empty(n)
    wy = np.empty(n)
    stack = np.empty((2 * n + 2, 2), np.int64)
    for tree in range(len(draws)):
        counts[:] = 0
        for i in draws[tree]:
            counts[i] += 1
        m = 0
        for i in range(n):
            if counts[i] > 0:
                x[m] = phase[i]
                w[m] = counts[i]
                wy[m] = counts[i] * values[i]
                m += 1
        stack[0, 0] = 0
        stack[0, 1] = m
        depth = 1
        while depth > 0:
            depth -= 1
            start, stop = stack[depth]
            total_w = w[start:stop].sum()
            total_wy = wy[start:stop].sum()
            best = total_wy * total_wy / total_w * (1 + 1e-12)
            cut = -1
            left_w = 0.0
            left_wy = 0.0
            for i in range(start, stop - 1):
                left_w += w[i]
                left_wy += wy[i]
                if i + 1 - start < MIN_LEAF or stop - i - 1 < MIN_LEAF or x[i] == x[i + 1]:
                    continue
                right_w = total_w - left_w
                right_wy = total_wy - left_wy
                gain = left_wy * left_wy / left_w + right_wy * right_wy / right_w
                if gain > best:
                    best = gain
                    cut = i + 1
            if cut > 0:
                stack[depth, 0] = start
                stack[depth, 1] = cut
                stack[depth + 1, 0] = cut
                stack[depth + 1, 1] = stop
                depth += 2
                continue
            # A leaf holds every point, in the sample or not, between the middles to its neighbours.
            low = -np.inf if start == 0 else 0.5 * (x[start - 1] + x[start])
            high = np.inf if stop == m else 0.5 * (x[stop - 1] + x[stop])
            mean = total_wy / total_w
            for i in range(np.searchsorted(phase, low, side="right") if start else 0, n):
                if phase[i] > high:
                    break
                prediction[i] += mean
    return prediction / len(draws)
