"""The four photometric features of a light curve: period, amplitude, lksl_statistic, rfr_score.

Definitions of the ASAS-SN variable star catalogue (Jayasinghe et al. 2018, MNRAS 477, 3145; 2019, MNRAS 486, 1907),
of the curve in magnitudes:

period          [day]  Lomb-Scargle (periodogram.py); candidates compared by Fourier fits; doubled for eclipses
lksl_statistic         Lafler-Kinman string length T(phi|P) of the folded curve, Clarke 2002 (A&A 386, 763)
amplitude       [mag]  A_RFR: range of a random-forest regression of magnitude on phase
rfr_score              R^2 of that regression on the points it was fitted to

The catalogue does not say which forest it used. With at least 2 points in a leaf pure noise gets R^2 = 0.5 and T = 1,
and R^2 is about 1 - T / 2: the published means and deviations (rfr_score 0.838 +- 0.137, T 0.329 +- 0.269) fulfil just
that relation. Ours is such a forest, written for one sorted variable: 50 trees on 500 points take 2 ms instead of the
30 of scikit-learn's RandomForestRegressor(50, min_samples_leaf=2), with the same scores (tested).
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np

from astrom3.modalities.periodogram import periodogram

MIN_POINTS = 10
MAX_FREQUENCY = 24.0  # 1/day: periods from 1 hour (DSCT and HADS have 0.02 to 0.3 d)
SAMPLES_PER_PEAK = 2.5  # grid step 1 / (2.5 T): every peak is refined afterwards
SIDEREAL = 1.0027379  # cycles per solar day
MAX_PERIOD = 1000.0  # day; longer ones are trends more often than periods
N_PEAKS = 8
MAX_HARMONICS = 8
ALIAS_RESIDUAL = 0.6  # see find_period
PART_RESIDUAL = 0.85
ECLIPSE_SKEWNESS = 0.25  # of the ASAS sample 85% of EW and all EB lie above, all but one RRC and DSCT below
TURNS = 5.0  # of the information criterion
N_TREES = 50
MIN_LEAF = 2
# A shorter period than this may be half of an eclipsing binary's (longer ones are SR and M, whose cycles differ).
MAX_DOUBLED = 20.0


def light_curve_features(
    time: np.ndarray, flux: np.ndarray, flux_err: np.ndarray, period: float | None = None
) -> dict[str, float]:
    """Features by name (PHOTO_COLS) of one curve, (N,) each, times in days; all NaN where they cannot be computed.

    Points without positive flux have no magnitude and are left out; fewer than 10 others, no time span or no
    variation give NaN. A given `period` is used as it is.
    """
    time, flux, flux_err = (np.asarray(a, dtype=np.float64) for a in (time, flux, flux_err))
    unknown = dict.fromkeys(("amplitude", "period", "lksl_statistic", "rfr_score"), math.nan)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(time) & np.isfinite(flux) & (flux > 0) & np.isfinite(flux_err) & (flux_err >= 0)
    if good.sum() < MIN_POINTS:
        return unknown
    order = np.argsort(time[good], kind="stable")
    time, flux, flux_err = time[good][order], flux[good][order], flux_err[good][order]
    magnitude = -2.5 * np.log10(flux)
    error = 2.5 / math.log(10) * flux_err / flux
    if np.ptp(time) <= 0 or np.ptp(magnitude) <= 0:
        return unknown
    if period is None or not period > 0:
        period = find_period(time, magnitude, error)
    phase = np.mod((time - time[0]) / period, 1.0)
    order = np.argsort(phase, kind="stable")
    phase, magnitude = phase[order], magnitude[order]
    model = forest(phase, magnitude)
    residual = ((magnitude - model) ** 2).sum() / ((magnitude - magnitude.mean()) ** 2).sum()
    return {
        "amplitude": float(np.ptp(model)),
        "period": float(period),
        "lksl_statistic": string_length(magnitude),
        "rfr_score": float(1 - residual),
    }


def string_length(values: np.ndarray) -> float:
    """Clarke 2002: T of values in order of phase, closed to a ring; 1 for noise, near 0 for a smooth curve."""
    n = len(values)
    steps = ((np.roll(values, -1) - values) ** 2).sum()
    return float(steps / ((values - values.mean()) ** 2).sum() * (n - 1) / (2 * n))


def forest(phase: np.ndarray, values: np.ndarray, n_trees: int = N_TREES, seed: int = 0) -> np.ndarray:
    """Random-forest regression of values on phase (both in order of phase), predicted at the same points, (N,)."""
    draws = np.random.default_rng([seed, len(phase)]).integers(0, len(phase), (n_trees, len(phase)))
    return _forest(np.ascontiguousarray(phase), np.ascontiguousarray(values), draws)


def find_period(time: np.ndarray, magnitude: np.ndarray, error: np.ndarray) -> float:
    """Best period [day] of a curve sorted by time: from 1/24 d to half of the time covered, at most 1000 d.

    1. Highest peaks of the Lomb-Scargle periodogram (of all, and of those away from the daily aliases).
    2. Each is refined and fitted by Fourier series of 1 to 8 harmonics; the lowest Bayesian information criterion
       wins, a longer period than that of the highest peak only if it leaves less than 85% of the residual (any
       multiple of a period fits as well, and irregular variation even better). A frequency near a multiple of one
       cycle per day wins only if it leaves less than 60% of the residual of any other: slow irregular variation and
       season-long trends always have such aliases.
    3. Half and a third of the strongest frequencies are tried too (an eclipsing binary with two eclipses peaks at half
       its period), and taken where they leave less than 85% of the residual.
    4. A curve of one wave per period whose minima are sharper than its maxima, as contact binaries with two like
       eclipses have it at half their period, gets twice the period.
    5. So does one whose waves take turns, as those of a star with two unlike spots or eclipses: the information
       criterion of twice the period is lower by 5.
    """
    baseline = time[-1] - time[0]
    t = time - time.mean()
    # Points differ by more than their errors say (blends, calibration): no point may weigh far more than the others.
    weights = 1.0 / (error**2 + np.median(error) ** 2 + (0.1 * np.std(magnitude)) ** 2 + 1e-12)
    weights /= weights.sum()
    y = magnitude - weights @ magnitude
    lowest = min(max(2.0 / baseline, 1 / MAX_PERIOD), MAX_FREQUENCY / 2)
    n_harmonics = int(np.clip((len(t) // 4 - 2) // 2, 1, MAX_HARMONICS))
    step = 1 / (SAMPLES_PER_PEAK * baseline)

    def fit(frequency: float, wide: int = 1) -> tuple[float, float, float]:
        """(information criterion, residual variance, refined frequency) of the best number of harmonics."""
        refined = _refine(t, y, weights, frequency, min(2 * wide, n_harmonics), step)
        rss = np.maximum(_residuals(t, y, weights, refined, n_harmonics), 1e-9 * (weights @ y**2))
        n_free = 2 * np.arange(1, n_harmonics + 1) + 2
        criterion = len(t) * np.log(rss) + n_free * math.log(len(t))
        best = int(np.argmin(criterion))
        return float(criterion[best]), float(rss[best] / (len(t) - n_free[best])), refined

    peaks = _peaks(t, y, weights, lowest, step, baseline)
    fits = [fit(f) for f in peaks]
    clean = [f for f in fits if not near_daily_alias(f[2])]
    best = _shortest(clean or fits)
    if _shortest(fits)[1] < ALIAS_RESIDUAL * best[1]:
        best = _shortest(fits)
    if 1 / best[2] > MAX_DOUBLED:
        return 1 / best[2]
    parts = [fit(f / k, k) for f in dict.fromkeys([best[2], *peaks[:3]]) for k in (2, 3) if f / k > lowest]
    parts = [p for p in parts if not near_daily_alias(p[2])]
    if parts and min(parts) < best and min(parts)[1] < PART_RESIDUAL * best[1]:
        best = min(parts)
    frequency = best[2]
    if frequency / 2 > lowest:
        doubled = fit(frequency / 2, 2)
        if _eclipses(t, y, weights, frequency, min(n_harmonics, 4)):
            frequency /= 2
        elif doubled[0] < best[0] - TURNS and not near_daily_alias(doubled[2]):
            frequency = doubled[2]
    return 1 / frequency


def _shortest(fits: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The fit of lowest criterion; one at a lower frequency than the highest peak (first) must leave clearly less."""
    first = fits[0]
    best = min(fits)
    return first if best[2] < 0.75 * first[2] and best[1] > PART_RESIDUAL * first[1] else best


def near_daily_alias(frequency: float) -> bool:
    """Whether a frequency [1/day] lies within 0.02 of a multiple of one cycle per solar or sidereal day."""
    cycles = round(frequency)
    return cycles > 0 and -0.02 < frequency - cycles < 0.02 + cycles * (SIDEREAL - 1)


@functools.cache
def keep_heap() -> None:
    """Let this process keep freed memory up to 30 MB; the FFTs take a third of the time on virtual machines.

    glibc returns each freed array over 128 kB to the system and fetches zeroed pages for the next one, until it has
    seen a larger one freed (mallopt(3), M_MMAP_THRESHOLD). The array is never touched, so it costs no memory.
    """
    np.empty(30 * 2**20, dtype=np.uint8)


def _peaks(
    t: np.ndarray, y: np.ndarray, weights: np.ndarray, lowest: float, step: float, baseline: float
) -> list[float]:
    """Frequencies [1/day] of the highest separate peaks of the periodogram, highest first."""
    keep_heap()
    n = max(int((MAX_FREQUENCY - lowest) / step), 10)
    grid = lowest + step * np.arange(n)
    power = periodogram(t, y, weights, lowest, step, n)
    inner = np.flatnonzero((power[1:-1] >= power[:-2]) & (power[1:-1] >= power[2:])) + 1
    chosen: dict[bool, list[float]] = {True: [], False: []}  # near a daily alias or not
    for index in inner[np.argsort(power[inner])[::-1][: 20 * N_PEAKS]]:
        same = chosen[near_daily_alias(grid[index])]
        if len(same) < N_PEAKS and all(abs(grid[index] - f) > 1.5 / baseline for f in same):
            same.append(float(grid[index]))
    return chosen[False] + chosen[True][: N_PEAKS // 2] or [float(grid[int(np.argmax(power))])]


def _eclipses(t: np.ndarray, y: np.ndarray, weights: np.ndarray, frequency: float, n_harmonics: int) -> bool:
    """Whether the folded curve is one wave with minima of light that are sharper than its maxima."""
    coefficients = _fourier_fit(t, y, weights, frequency, n_harmonics)[0]
    amplitudes = np.hypot(coefficients[1::2], coefficients[2::2])
    if amplitudes[0] < amplitudes.max():
        return False
    angles = 2 * np.pi * np.outer(np.arange(1, n_harmonics + 1), np.arange(100) / 100)  # (H, 100)
    model = coefficients[1::2] @ np.cos(angles) + coefficients[2::2] @ np.sin(angles)
    skewness = ((model - model.mean()) ** 3).mean() / model.std() ** 3  # > 0: tail to faint magnitudes
    return bool(skewness > ECLIPSE_SKEWNESS)


@numba.njit(cache=True, nogil=True)
def _fourier_fit(
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
            row[2 * h + 1], row[2 * h + 2] = c, s
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
def _residuals(t: np.ndarray, y: np.ndarray, weights: np.ndarray, frequency: float, n_harmonics: int) -> np.ndarray:
    """Weighted residual sum of squares of the best Fourier series of 1, 2 ... H harmonics, (H,)."""
    _, normal, right = _fourier_fit(t, y, weights, frequency, n_harmonics)
    total = np.sum(weights * y * y)
    rss = np.empty(n_harmonics)
    for h in range(n_harmonics):
        m = 2 * h + 3
        part = np.ascontiguousarray(normal[:m, :m])
        rss[h] = total - np.sum(np.linalg.solve(part, right[:m]) * right[:m])
    return rss


@numba.njit(cache=True, nogil=True)
def _refine(
    t: np.ndarray, y: np.ndarray, weights: np.ndarray, frequency: float, n_harmonics: int, step: float
) -> float:
    """Frequency of the lowest residual within a grid step, by a scan and two finer ones."""
    width = step
    for _ in range(3):
        centre = frequency
        lowest = np.inf
        for k in range(-3, 4):
            trial = centre + width * k / 3
            coefficients, _, right = _fourier_fit(t, y, weights, trial, n_harmonics)
            rss = -np.sum(coefficients * right)
            if rss < lowest:
                lowest = rss
                frequency = trial
        width /= 3
    return frequency


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
                x[m], w[m], wy[m] = phase[i], counts[i], counts[i] * values[i]
                m += 1
        stack[0, 0], stack[0, 1] = 0, m
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
                stack[depth, 0], stack[depth, 1] = start, cut
                stack[depth + 1, 0], stack[depth + 1, 1] = cut, stop
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
