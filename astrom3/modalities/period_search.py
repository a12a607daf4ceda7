"""The period of a variable star: peaks of a Lomb-Scargle periodogram, compared by fits of Fourier series.

The catalogue that is followed, and what else is measured of a curve, is said in features.py.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from astrom3.modalities.fourier import fourier_fit, refine, residuals
from astrom3.modalities.periodogram import periodogram

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
# A shorter period than this may be half of an eclipsing binary's (longer ones are SR and M, whose cycles differ).
MAX_DOUBLED = 20.0


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
    curve = _Curve.of(time, magnitude, error)
    peaks = _peaks(curve)
    fits = [curve.fit(frequency) for frequency in peaks]
    clean = [fit for fit in fits if not near_daily_alias(fit.frequency)]
    best_of_all = _shortest(fits)
    best = _shortest(clean or fits)
    if best_of_all.residual < ALIAS_RESIDUAL * best.residual:
        best = best_of_all
    if 1 / best.frequency > MAX_DOUBLED:
        return 1 / best.frequency
    best = _part(curve, best, peaks)
    return 1 / _doubled(curve, best)


class _Fit(NamedTuple):
    """Fourier series of the best number of harmonics; the least of several has the lowest criterion."""

    criterion: float  # Bayesian information criterion
    residual: float  # variance that the series leaves
    frequency: float  # refined [1/day]


@dataclass(frozen=True)
class _Curve:
    """A light curve that is fitted, and the grid of frequencies that is searched."""

    time: np.ndarray  # from its mean [day], float64 (N,)
    magnitude: np.ndarray  # from its weighted mean, float64 (N,)
    weights: np.ndarray  # of sum 1, float64 (N,)
    baseline: float  # time covered [day]
    lowest: float  # frequency [1/day]
    step: float  # of the grid [1/day]
    n_harmonics: int  # at most

    @classmethod
    def of(cls, time: np.ndarray, magnitude: np.ndarray, error: np.ndarray) -> _Curve:
        baseline = time[-1] - time[0]
        # Points differ by more than their errors say (blends, calibration), so none may weigh far more than others.
        variance = error**2 + np.median(error) ** 2 + (0.1 * np.std(magnitude)) ** 2 + 1e-12
        weights = 1.0 / variance
        weights /= weights.sum()
        lowest = max(2.0 / baseline, 1 / MAX_PERIOD)
        most = (len(time) // 4 - 2) // 2
        return cls(
            time=time - time.mean(),
            magnitude=magnitude - weights @ magnitude,
            weights=weights,
            baseline=baseline,
            lowest=min(lowest, MAX_FREQUENCY / 2),
            step=1 / (SAMPLES_PER_PEAK * baseline),
            n_harmonics=int(np.clip(most, 1, MAX_HARMONICS)),
        )

    def fit(self, frequency: float, wide: int = 1) -> _Fit:
        """The best fit near a frequency, which is refined with `wide` times two harmonics."""
        n = len(self.time)
        harmonics = min(2 * wide, self.n_harmonics)
        refined = refine(self.time, self.magnitude, self.weights, frequency, harmonics, self.step)
        rss = residuals(self.time, self.magnitude, self.weights, refined, self.n_harmonics)
        rss = np.maximum(rss, 1e-9 * (self.weights @ self.magnitude**2))
        n_free = 2 * np.arange(1, self.n_harmonics + 1) + 2
        criterion = n * np.log(rss) + n_free * math.log(n)
        best = int(np.argmin(criterion))
        return _Fit(float(criterion[best]), float(rss[best] / (n - n_free[best])), refined)


def _shortest(fits: list[_Fit]) -> _Fit:
    """The fit of lowest criterion; one at a lower frequency than the highest peak (first) must leave clearly less."""
    first = fits[0]
    best = min(fits)
    longer = best.frequency < 0.75 * first.frequency
    leaves_as_much = best.residual > PART_RESIDUAL * first.residual
    return first if longer and leaves_as_much else best


def _part(curve: _Curve, best: _Fit, peaks: list[float]) -> _Fit:
    """The best fit at half or a third of a strong frequency, where it leaves clearly less, else the one there is."""
    parts = []
    for frequency in dict.fromkeys([best.frequency, *peaks[:3]]):
        for divisor in (2, 3):
            if frequency / divisor > curve.lowest:
                parts.append(curve.fit(frequency / divisor, divisor))
    parts = [part for part in parts if not near_daily_alias(part.frequency)]
    if not parts:
        return best
    part = min(parts)
    return part if part < best and part.residual < PART_RESIDUAL * best.residual else best


def _doubled(curve: _Curve, best: _Fit) -> float:
    """Half the frequency of the fit where it is that of single eclipses or waves that take turns, else the same."""
    half = best.frequency / 2
    if half <= curve.lowest:
        return best.frequency
    if _eclipses(curve, best.frequency):
        return half
    doubled = curve.fit(half, 2)
    if doubled.criterion < best.criterion - TURNS and not near_daily_alias(doubled.frequency):
        return doubled.frequency
    return best.frequency


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


def _peaks(curve: _Curve) -> list[float]:
    """Frequencies [1/day] of the highest separate peaks of the periodogram, highest first."""
    keep_heap()
    lowest = curve.lowest
    n = max(int((MAX_FREQUENCY - lowest) / curve.step), 10)
    grid = lowest + curve.step * np.arange(n)
    power = periodogram(curve.time, curve.magnitude, curve.weights, lowest, curve.step, n)
    inside = power[1:-1]
    is_peak = (inside >= power[:-2]) & (inside >= power[2:])
    peaks = np.flatnonzero(is_peak) + 1
    highest_first = peaks[np.argsort(power[peaks])[::-1]]
    separate = 1.5 / curve.baseline
    aliases: list[float] = []
    others: list[float] = []
    for frequency in grid[highest_first[: 20 * N_PEAKS]].tolist():
        alike = aliases if near_daily_alias(frequency) else others
        if len(alike) < N_PEAKS and all(abs(frequency - known) > separate for known in alike):
            alike.append(frequency)
    strongest = float(grid[int(np.argmax(power))])
    return others + aliases[: N_PEAKS // 2] or [strongest]


def _eclipses(curve: _Curve, frequency: float) -> bool:
    """Whether the folded curve is one wave with minima of light that are sharper than its maxima."""
    n_harmonics = min(curve.n_harmonics, 4)
    coefficients, _, _ = fourier_fit(curve.time, curve.magnitude, curve.weights, frequency, n_harmonics)
    cosines = coefficients[1::2]
    sines = coefficients[2::2]
    amplitudes = np.hypot(cosines, sines)
    if amplitudes[0] < amplitudes.max():
        return False
    phases = np.arange(100) / 100
    angles = 2 * np.pi * np.outer(np.arange(1, n_harmonics + 1), phases)  # (H, 100)
    model = cosines @ np.cos(angles) + sines @ np.sin(angles)
    skewness = ((model - model.mean()) ** 3).mean() / model.std() ** 3  # > 0: tail to faint magnitudes
    return bool(skewness > ECLIPSE_SKEWNESS)
