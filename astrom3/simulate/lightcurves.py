"""ASAS-SN-like V-band light curves: cadence, shape of each class, errors by magnitude; and their four features.

Sources: ASAS-SN cadence, depth and errors Kochanek et al. 2017 and Jayasinghe et al. 2018; features see
astrom3.modalities.features; shapes of RR Lyrae (fast rise, Blazhko effect) Smith 1995, of Mira and semi-regular
variables (cycles that differ, long secondary periods) Wood et al. 2004, of spots that evolve from season to season
Strassmeier 2009.
"""

from __future__ import annotations

import numpy as np

from astrom3.modalities.features import light_curve_features
from astrom3.modalities.schema import CLASSES, PHOTO_COLS

ZERO_POINT = 3.836e6  # mJy of V = 0 in ASAS-SN
YEAR = 365.25
FIRST_HJD = 2456300.0  # January 2013
POINTS = (100, 600)
SPAN = (1466.0, 2004.0)  # days: 4.01 to 5.49 years
FAINTEST = 17.0  # V of a detection
TURN = 2 * np.pi


def observing_times(rng: np.random.Generator) -> np.ndarray:
    """HJD (n,) ascending: one season per year with a gap of 80 to 170 days, nights with one or a few visits."""
    season = 1 - rng.uniform(80, 170) / YEAR  # share of a year in which the star is up
    start = rng.uniform(0, season)  # years since the season began
    days = np.arange(int(SPAN[1]) - 1)
    up = ((start + days / YEAR) % 1.0) < season
    ends = np.flatnonzero(up & (days >= SPAN[0]))
    nights = np.flatnonzero(up[: rng.choice(ends) + 1])
    n = int(np.clip(rng.lognormal(5.5, 0.38), POINTS[0], POINTS[1]))
    visits = round(n / rng.uniform(1.0, 1.35))  # some nights are visited twice
    keep = np.concatenate(
        [[0, len(nights) - 1], 1 + rng.choice(len(nights) - 2, min(visits, len(nights)) - 2, replace=False)]
    )
    chosen = nights[keep]
    chosen = np.concatenate([chosen, rng.choice(chosen[2:], n - len(chosen))]) if n > len(chosen) else chosen
    # The star culminates four minutes earlier each night: observed in the dark hours of one site, or of a second one.
    hour = 0.75 + 0.12 * np.sin(TURN * chosen / YEAR + rng.uniform(0, TURN)) + rng.uniform(-0.13, 0.13, len(chosen))
    hour = hour + np.where(rng.random(len(chosen)) < 0.3, -0.29, 0.0)
    time = np.sort(FIRST_HJD + rng.uniform(0, 300) // 1 + chosen + hour)
    return np.round(time, 5)


def magnitude_error(v: np.ndarray) -> np.ndarray:
    """ASAS-SN error of one V observation [mag] at V [mag]."""
    return np.hypot(0.018, 0.032 * 10 ** (0.32 * (v - 14.0)))


def _warp(phase: np.ndarray, rise: float) -> np.ndarray:
    """Smooth phase change so that the maximum (phase 0.5) is reached after the share `rise` of the cycle."""
    p = phase % 1.0
    return np.where(p < rise, 0.5 * p / rise, 0.5 + 0.5 * (p - rise) / (1 - rise))


def _sawtooth(phase: np.ndarray, rise: float, flat: float) -> np.ndarray:
    """Pulsation, 0 at maximum and 1 at minimum light; flat > 1 lengthens the minimum."""
    bright = (0.5 - 0.5 * np.cos(TURN * _warp(phase, rise))) ** flat
    return 1 - bright


def _dip(phase: np.ndarray, width: float, edge: float) -> np.ndarray:
    """Eclipse around phase 0, 1 in the middle; edge 2 is V-shaped, 6 has a flat bottom."""
    x = np.abs((phase + 0.5) % 1.0 - 0.5) / width
    return np.exp(-(x**edge))


def _eclipsing(rng: np.random.Generator, name: str, phase: np.ndarray, amplitude: float) -> np.ndarray:
    if name == "EW":
        second = rng.uniform(0.8, 1.0)
        wave = (0.5 + 0.5 * np.cos(2 * TURN * phase)) ** rng.uniform(1.0, 1.5)
        return amplitude * wave * np.where(np.abs((phase + 0.5) % 1 - 0.5) < 0.25, 1.0, second)
    if name == "EB":
        width = rng.uniform(0.06, 0.10)
        second = rng.uniform(0.25, 0.85)
        tidal = rng.uniform(0.15, 0.4)
    else:
        width = rng.uniform(0.02, 0.07)
        second = rng.uniform(0.05, 0.9)
        tidal = rng.uniform(0.0, 0.12)
    edge = rng.uniform(1.8, 3.5)
    where = 0.5 + (rng.normal(0, 0.04) * (rng.random() < 0.3) if name == "EA" else 0.0)
    deep = _dip(phase, width, edge) + second * _dip(phase - where, width, edge)
    tide = 0.5 + 0.5 * np.cos(2 * TURN * phase)
    return amplitude * ((1 - tidal) * deep + tidal * tide) + 0.02 * amplitude * np.cos(TURN * phase)


# Share of the cycle from minimum to maximum (from, to), and the power that lengthens the minimum (from, to).
RISE = {
    "RRAB": (0.13, 0.24, 1.5, 2.8),
    "RRC": (0.38, 0.46, 0.9, 1.2),
    "HADS": (0.26, 0.40, 1.1, 1.8),
    "DSCT": (0.42, 0.50, 0.9, 1.2),
}


def _pulsating(
    rng: np.random.Generator, name: str, phase: np.ndarray, time: np.ndarray, period: float, amplitude: float
) -> np.ndarray:
    fastest, slowest, shortest, longest = RISE[name]
    rise = rng.uniform(fastest, slowest)
    flat = rng.uniform(shortest, longest)
    size: float | np.ndarray = amplitude
    if name == "RRAB" and rng.random() < 0.2:  # Blazhko
        size = amplitude * (1 + rng.uniform(0.1, 0.3) * np.sin(TURN * (time / rng.uniform(20, 120) + rng.random())))
    curve = size * _sawtooth(phase, rise, flat)
    if name == "DSCT":  # other modes
        for share in rng.uniform(0.0, 0.35, 2):
            curve = curve + 0.5 * share * amplitude * np.sin(
                TURN * (time / (period * rng.uniform(0.7, 1.1)) + rng.random())
            )
    return curve


def _slow_wave(rng: np.random.Generator, time: np.ndarray, scale: float, terms: int = 5) -> np.ndarray:
    """Smooth irregular function of time, mean 0 and deviation about 1, that varies over `scale` days."""
    f = rng.uniform(0.2, 1.0, terms)[:, None] / scale
    return np.sqrt(2 / terms) * np.sin(TURN * (f * time + rng.random((terms, 1)))).sum(0)


def _long_period(
    rng: np.random.Generator, name: str, phase: np.ndarray, time: np.ndarray, period: float, amplitude: float
) -> np.ndarray:
    if name == "M":
        phase = phase + 0.02 * _slow_wave(rng, time, 4 * period)
        size = amplitude * (1 + 0.08 * _slow_wave(rng, time, 2.5 * period))
        return size * _sawtooth(phase, rng.uniform(0.36, 0.5), rng.uniform(0.8, 1.2))
    regular = rng.beta(1.4, 1.8)  # 1 keeps its period, 0 is almost irregular
    phase = phase + (1 - regular) * 0.16 * _slow_wave(rng, time, 4 * period)
    size = 1 + (1 - regular) * 0.5 * _slow_wave(rng, time, 3 * period)
    curve = 0.5 * np.cos(TURN * phase) * size
    curve = curve + (1 - regular) * 0.25 * np.sin(TURN * (time / (period * rng.uniform(0.45, 0.6)) + rng.random()))
    if rng.random() < 0.3:  # long secondary period
        curve = curve + rng.uniform(0.1, 0.4) * np.sin(TURN * (time / (period * rng.uniform(6, 11)) + rng.random()))
    return amplitude * curve


def _spotted(rng: np.random.Generator, phase: np.ndarray, time: np.ndarray, amplitude: float) -> np.ndarray:
    season = rng.uniform(250, 900)
    size = 1 + rng.uniform(0.1, 0.4) * _slow_wave(rng, time, season)
    drift = rng.uniform(0.0, 0.05) * _slow_wave(rng, time, season)
    second = rng.uniform(0.0, 0.35)
    curve = np.cos(TURN * (phase + drift)) + second * np.cos(2 * TURN * (phase + rng.random()))
    return 0.5 * amplitude * curve * size + rng.uniform(0.0, 0.25) * amplitude * _slow_wave(rng, time, 3 * season)


def shape(rng: np.random.Generator, name: str, time: np.ndarray, period: float, amplitude: float) -> np.ndarray:
    """Noiseless light curve [mag] relative to its mean, (n,)."""
    phase = (time - FIRST_HJD) / period + rng.random()
    if name in ("EA", "EB", "EW"):
        curve = _eclipsing(rng, name, phase, amplitude)
    elif name == "ROT":
        curve = _spotted(rng, phase, time - FIRST_HJD, amplitude)
    elif name in ("M", "SR"):
        curve = _long_period(rng, name, phase, time - FIRST_HJD, period, amplitude)
    else:
        curve = _pulsating(rng, name, phase, time - FIRST_HJD, period, amplitude)
    return curve - curve.mean()


def light_curve(
    rng: np.random.Generator, label: int, period: float, amplitude: float, v_mag: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time [HJD], flux and error [mJy] of one star, each (n,) float64, ascending in time, 100 to 600 points."""
    time = observing_times(rng)
    v = np.minimum(v_mag + shape(rng, CLASSES[label], time, period, amplitude), FAINTEST)
    sigma = magnitude_error(v) * rng.lognormal(0, 0.12, len(v)) * rng.lognormal(0, 0.1)
    true = ZERO_POINT * 10 ** (-0.4 * v)
    error = true * sigma * np.log(10) / 2.5
    # A few points in a hundred are worse than their error says (clouds, neighbours).
    noise = np.clip(rng.normal(size=len(v)) * np.where(rng.random(len(v)) < 0.02, 3.0, 1.0), -4, 4)
    return time, np.round(np.maximum(true + noise * error, 0.2 * error), 4), np.maximum(np.round(error, 4), 1e-4)


# Share of stars whose catalogue period is not the true one: half of it (two like eclipses), twice, or a one-day alias.
HALF = {
    "EA": 0.05,
    "EB": 0.04,
    "EW": 0.03,
    "ROT": 0.06,
}
TWICE = {
    "RRC": 0.03,
    "DSCT": 0.03,
    "HADS": 0.02,
    "ROT": 0.04,
    "SR": 0.04,
}
ALIAS = {"M": 0.0, "SR": 0.02, "RRAB": 0.01}
ALIAS_OTHER = 0.02


def catalogue_period(rng: np.random.Generator, label: int, period: float) -> float:
    name = CLASSES[label]
    u = rng.random()
    half = HALF.get(name, 0.0)
    twice = TWICE.get(name, 0.0)
    alias = ALIAS.get(name, ALIAS_OTHER)
    if u < half:
        return period / 2
    if u < half + twice:
        return period * 2
    if u < half + twice + alias:
        return float(1 / abs(1 / period + 1.0027379 * (1 if rng.random() < 0.5 or period > 0.9 else -1)))
    return period


def features(time: np.ndarray, flux: np.ndarray, error: np.ndarray, period: float) -> tuple[float, ...]:
    """mean V [mag], then PHOTO_COLS, of a light curve folded at `period`: the converter's definitions."""
    measured = light_curve_features(time, flux, error, period)
    return (float(np.mean(-2.5 * np.log10(flux / ZERO_POINT))), *(measured[name] for name in PHOTO_COLS))
