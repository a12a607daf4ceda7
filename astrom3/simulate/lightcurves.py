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
SIDEREAL = 1.0027379  # turns of the earth in a day


def _nights(rng: np.random.Generator) -> np.ndarray:
    """Days since the start of the survey on which the star is up, ascending, over a span of SPAN."""
    season = 1 - rng.uniform(80, 170) / YEAR  # share of a year in which the star is up
    start = rng.uniform(0, season)  # years since the season began
    days = np.arange(int(SPAN[1]) - 1)
    year = start + days / YEAR
    up = (year % 1.0) < season
    ends = np.flatnonzero(up & (days >= SPAN[0]))
    last = rng.choice(ends)
    return np.flatnonzero(up[: last + 1])


def observing_times(rng: np.random.Generator) -> np.ndarray:
    """HJD (n,) ascending: one season per year with a gap of 80 to 170 days, nights with one or a few visits."""
    nights = _nights(rng)
    fewest, most = POINTS
    n = int(np.clip(rng.lognormal(5.5, 0.38), fewest, most))
    visited = min(round(n / rng.uniform(1.0, 1.35)), len(nights))  # some nights are visited twice
    # The first and the last night are always among them.
    between = 1 + rng.choice(len(nights) - 2, visited - 2, replace=False)
    chosen = nights[np.concatenate([[0, len(nights) - 1], between])]
    if n > len(chosen):
        again = rng.choice(chosen[2:], n - len(chosen))
        chosen = np.concatenate([chosen, again])
    # The star culminates four minutes earlier each night: observed in the dark hours of one site, or of a second one.
    season = 0.12 * np.sin(TURN * chosen / YEAR + rng.uniform(0, TURN))
    hour = 0.75 + season + rng.uniform(-0.13, 0.13, len(chosen))  # in days
    second_site = rng.random(len(chosen)) < 0.3
    hour = hour + np.where(second_site, -0.29, 0.0)
    first = FIRST_HJD + rng.uniform(0, 300) // 1
    return np.round(np.sort(first + chosen + hour), 5)


def magnitude_error(v: np.ndarray) -> np.ndarray:
    """ASAS-SN error of one V observation [mag] at V [mag]."""
    return np.hypot(0.018, 0.032 * 10 ** (0.32 * (v - 14.0)))


def _warp(phase: np.ndarray, rise: float) -> np.ndarray:
    """Smooth phase change so that the maximum (phase 0.5) is reached after the share `rise` of the cycle."""
    cycle = phase % 1.0
    rising = 0.5 * cycle / rise
    falling = 0.5 + 0.5 * (cycle - rise) / (1 - rise)
    return np.where(cycle < rise, rising, falling)


def _sawtooth(phase: np.ndarray, rise: float, flat: float) -> np.ndarray:
    """Pulsation, 0 at maximum and 1 at minimum light; flat > 1 lengthens the minimum."""
    light = 0.5 - 0.5 * np.cos(TURN * _warp(phase, rise))
    return 1 - light**flat


def _from_eclipse(phase: np.ndarray) -> np.ndarray:
    """Distance in phase from phase 0, at most 0.5."""
    return np.abs((phase + 0.5) % 1.0 - 0.5)


def _dip(phase: np.ndarray, width: float, edge: float) -> np.ndarray:
    """Eclipse around phase 0, 1 in the middle; edge 2 is V-shaped, 6 has a flat bottom."""
    distance = _from_eclipse(phase) / width
    return np.exp(-(distance**edge))


def _contact(rng: np.random.Generator, phase: np.ndarray, amplitude: float) -> np.ndarray:
    """EW: light changes all the time, and the two minima are almost alike."""
    second = rng.uniform(0.8, 1.0)  # depth of the second minimum over that of the first
    wave = 0.5 + 0.5 * np.cos(2 * TURN * phase)
    wave = wave ** rng.uniform(1.0, 1.5)
    first_half = _from_eclipse(phase) < 0.25
    return amplitude * wave * np.where(first_half, 1.0, second)


def _eclipsing(rng: np.random.Generator, name: str, phase: np.ndarray, amplitude: float) -> np.ndarray:
    """EA and EB: two eclipses, and between them the light of stars that tides have stretched."""
    if name == "EB":
        width = rng.uniform(0.06, 0.10)
        second = rng.uniform(0.25, 0.85)
        tidal = rng.uniform(0.15, 0.4)
    else:
        width = rng.uniform(0.02, 0.07)
        second = rng.uniform(0.05, 0.9)
        tidal = rng.uniform(0.0, 0.12)
    edge = rng.uniform(1.8, 3.5)
    second_phase = 0.5
    if name == "EA":  # some orbits are eccentric
        second_phase = 0.5 + rng.normal(0, 0.04) * (rng.random() < 0.3)
    eclipses = _dip(phase, width, edge) + second * _dip(phase - second_phase, width, edge)
    stretched = 0.5 + 0.5 * np.cos(2 * TURN * phase)
    reflected = 0.02 * amplitude * np.cos(TURN * phase)
    return amplitude * ((1 - tidal) * eclipses + tidal * stretched) + reflected


# Share of the cycle from minimum to maximum (from, to), and the power that lengthens the minimum (from, to).
RISE = {
    "RRAB": (0.13, 0.24, 1.5, 2.8),
    "RRC": (0.38, 0.46, 0.9, 1.2),
    "HADS": (0.26, 0.40, 1.1, 1.8),
    "DSCT": (0.42, 0.50, 0.9, 1.2),
}


def _sine(rng: np.random.Generator, time: np.ndarray, period: float) -> np.ndarray:
    """A sine of a period [day] and a random phase."""
    return np.sin(TURN * (time / period + rng.random()))


def _pulsating(
    rng: np.random.Generator, name: str, phase: np.ndarray, time: np.ndarray, period: float, amplitude: float
) -> np.ndarray:
    """RR Lyrae and delta Scuti stars; a fifth of RRAB show the Blazhko effect, DSCT have other modes."""
    fastest, slowest, shortest, longest = RISE[name]
    rise = rng.uniform(fastest, slowest)
    flat = rng.uniform(shortest, longest)
    size: float | np.ndarray = amplitude
    if name == "RRAB" and rng.random() < 0.2:  # Blazhko
        modulation = rng.uniform(0.1, 0.3)
        size = amplitude * (1 + modulation * _sine(rng, time, rng.uniform(20, 120)))
    curve = size * _sawtooth(phase, rise, flat)
    if name == "DSCT":  # other modes
        for share in rng.uniform(0.0, 0.35, 2):
            height = 0.5 * share * amplitude
            curve = curve + height * _sine(rng, time, period * rng.uniform(0.7, 1.1))
    return curve


def _slow_wave(rng: np.random.Generator, time: np.ndarray, scale: float, terms: int = 5) -> np.ndarray:
    """Smooth irregular function of time, mean 0 and deviation about 1, that varies over `scale` days."""
    frequency = rng.uniform(0.2, 1.0, terms)[:, None] / scale
    waves = np.sin(TURN * (frequency * time + rng.random((terms, 1))))
    return np.sqrt(2 / terms) * waves.sum(0)


def _mira(rng: np.random.Generator, phase: np.ndarray, time: np.ndarray, period: float, amplitude: float) -> np.ndarray:
    """Cycles of a Mira, which differ a little in length and height."""
    phase = phase + 0.02 * _slow_wave(rng, time, 4 * period)
    size = amplitude * (1 + 0.08 * _slow_wave(rng, time, 2.5 * period))
    rise = rng.uniform(0.36, 0.5)
    flat = rng.uniform(0.8, 1.2)
    return size * _sawtooth(phase, rise, flat)


def _semi_regular(
    rng: np.random.Generator, phase: np.ndarray, time: np.ndarray, period: float, amplitude: float
) -> np.ndarray:
    """SR: cycles that differ, a shorter period beside, and in some a long secondary period."""
    irregular = 1 - rng.beta(1.4, 1.8)  # 0 keeps its period, 1 is almost irregular
    phase = phase + irregular * 0.16 * _slow_wave(rng, time, 4 * period)
    size = 1 + irregular * 0.5 * _slow_wave(rng, time, 3 * period)
    curve = 0.5 * np.cos(TURN * phase) * size
    overtone = period * rng.uniform(0.45, 0.6)
    curve = curve + irregular * 0.25 * _sine(rng, time, overtone)
    if rng.random() < 0.3:  # long secondary period
        height = rng.uniform(0.1, 0.4)
        curve = curve + height * _sine(rng, time, period * rng.uniform(6, 11))
    return amplitude * curve


def _spotted(rng: np.random.Generator, phase: np.ndarray, time: np.ndarray, amplitude: float) -> np.ndarray:
    """Rotating stars with two spots that grow, fade and drift from season to season, and a slow activity cycle."""
    season = rng.uniform(250, 900)  # days
    size = 1 + rng.uniform(0.1, 0.4) * _slow_wave(rng, time, season)
    drift = rng.uniform(0.0, 0.05) * _slow_wave(rng, time, season)
    second = rng.uniform(0.0, 0.35)
    first_spot = np.cos(TURN * (phase + drift))
    second_spot = second * np.cos(2 * TURN * (phase + rng.random()))
    spots = 0.5 * amplitude * (first_spot + second_spot) * size
    activity = rng.uniform(0.0, 0.25) * amplitude
    return spots + activity * _slow_wave(rng, time, 3 * season)


def shape(rng: np.random.Generator, name: str, time: np.ndarray, period: float, amplitude: float) -> np.ndarray:
    """Noiseless light curve [mag] relative to its mean, (n,)."""
    elapsed = time - FIRST_HJD
    phase = elapsed / period + rng.random()
    if name == "EW":
        curve = _contact(rng, phase, amplitude)
    elif name in ("EA", "EB"):
        curve = _eclipsing(rng, name, phase, amplitude)
    elif name == "ROT":
        curve = _spotted(rng, phase, elapsed, amplitude)
    elif name == "M":
        curve = _mira(rng, phase, elapsed, period, amplitude)
    elif name == "SR":
        curve = _semi_regular(rng, phase, elapsed, period, amplitude)
    else:
        curve = _pulsating(rng, name, phase, elapsed, period, amplitude)
    return curve - curve.mean()


def light_curve(
    rng: np.random.Generator, label: int, period: float, amplitude: float, v_mag: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time [HJD], flux and error [mJy] of one star, each (n,) float64, ascending in time, 100 to 600 points."""
    time = observing_times(rng)
    n = len(time)
    v = np.minimum(v_mag + shape(rng, CLASSES[label], time, period, amplitude), FAINTEST)
    sigma = magnitude_error(v) * rng.lognormal(0, 0.12, n) * rng.lognormal(0, 0.1)  # [mag]
    true = ZERO_POINT * 10 ** (-0.4 * v)
    error = true * sigma * np.log(10) / 2.5
    # A few points in a hundred are worse than their error says (clouds, neighbours).
    deviation = rng.normal(size=n)
    worse = np.where(rng.random(n) < 0.02, 3.0, 1.0)
    noise = np.clip(deviation * worse, -4, 4)
    flux = np.maximum(true + noise * error, 0.2 * error)
    return time, np.round(flux, 4), np.maximum(np.round(error, 4), 1e-4)


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
    """The period [day] that a catalogue gives for a star with this true one."""
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
        upper = rng.random() < 0.5 or period > 0.9
        alias_frequency = 1 / period + SIDEREAL * (1 if upper else -1)
        return float(1 / abs(alias_frequency))
    return period


def features(time: np.ndarray, flux: np.ndarray, error: np.ndarray, period: float) -> tuple[float, ...]:
    """mean V [mag], then PHOTO_COLS, of a light curve folded at `period`: the converter's definitions."""
    measured = light_curve_features(time, flux, error, period)
    magnitude = -2.5 * np.log10(flux / ZERO_POINT)
    return (float(np.mean(magnitude)), *(measured[name] for name in PHOTO_COLS))
