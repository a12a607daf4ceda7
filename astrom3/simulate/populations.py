"""Who is in the simulated survey: per class the period, amplitude, temperature, luminosity and apparent magnitude.

Sources of the numbers (rounded, and broadened where real catalogues are contaminated): class counts Rizhko & Bloom
2024; periods and amplitudes per class the ASAS-SN catalogue of variable stars (Jayasinghe et al. 2018, 2019); main
sequence M_V(T) Pecaut & Mamajek 2013; contact binaries Rucinski & Duerbeck 1997 and Chen et al. 2018 (period,
colour, luminosity); RR Lyrae Smith 1995 and Muraveva et al. 2018; delta Scuti Ziaali et al. 2019 and McNamara 2011;
long-period variables Whitelock et al. 2008 (M_K and period), van Belle et al. 1999 (temperatures); spotted stars
and RS CVn Strassmeier 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrom3.modalities.schema import CLASSES
from astrom3.simulate.colours import v_minus_k_of_giants

COUNTS = {
    "EW": 6168,
    "SR": 4590,
    "EA": 2916,
    "RRAB": 2351,
    "EB": 1976,
    "ROT": 1839,
    "RRC": 796,
    "HADS": 281,
    "M": 268,
    "DSCT": 255,
}
TOTAL = sum(COUNTS.values())  # 21,440
LEAST = 3  # objects of a class in a small survey
THIN = 0
THICK = 1
HALO = 2
MEAN_FEH = (0.0, -0.45, -1.4)  # [Fe/H] of thin disc, thick disc and halo
SUN = 5772.0  # K
# What the functions of DRAW give for n stars: log10 period [day], amplitude [mag], effective temperature [K], M_V and
# `giant` as in Stars, each (n,), the population, and [Fe/H] (n,) where the class has its own.
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int | np.ndarray, *tuple[np.ndarray, ...]]

# Main sequence, Pecaut & Mamajek 2013 (rounded): effective temperature [K] and M_V [mag].
DWARF_TEFF = np.array(
    [2900, 3200, 3550, 3850, 4100, 4440, 4830, 5270, 5660, 5930, 6240, 6550, 7220, 8080, 9700, 12500.0]
)
DWARF_MV = np.array([15.0, 12.8, 10.3, 8.8, 8.1, 7.3, 6.5, 5.9, 5.0, 4.4, 3.9, 3.4, 2.7, 1.9, 1.0, -0.2])


@dataclass
class Stars:
    """True properties of n stars; every array is (n,) in the order of the survey."""

    label: np.ndarray  # class id, position in CLASSES
    period: np.ndarray  # [day]
    amplitude: np.ndarray  # peak to peak in V [mag]
    teff: np.ndarray  # [K]
    giant: np.ndarray  # 0 dwarf ... 1 giant (surface gravity)
    feh: np.ndarray  # [Fe/H]
    population: np.ndarray  # THIN, THICK or HALO
    m_v: np.ndarray  # absolute magnitude in V
    v_mag: np.ndarray  # apparent mean magnitude in V


def class_counts(n_objects: int) -> np.ndarray:
    """Objects per class (10,) in the order of CLASSES: the paper's proportions, at least LEAST each."""
    share = np.array([COUNTS[name] for name in CLASSES]) * n_objects / TOTAL
    whole = np.floor(share)
    least = min(LEAST, n_objects // len(CLASSES))
    counts = np.maximum(whole.astype(int), least)
    largest_remainders = np.argsort(-(share - whole), kind="stable")
    while counts.sum() < n_objects:
        missing = n_objects - counts.sum()
        counts[largest_remainders[:missing]] += 1
    while counts.sum() > n_objects:  # only where LEAST raised rare classes
        counts[np.argmax(counts)] -= 1
    return counts


def _normal(
    rng: np.random.Generator, n: int, mean: float | np.ndarray, sigma: float, low: float, high: float
) -> np.ndarray:
    """Normal deviates (n,), folded back at the bounds so that no value piles up there."""
    x = rng.normal(mean, sigma, n)
    x = np.where(x < low, 2 * low - x, x)
    x = np.where(x > high, 2 * high - x, x)
    return np.clip(x, low, high)


def main_sequence_mv(teff: np.ndarray) -> np.ndarray:
    """M_V [mag] of a dwarf of an effective temperature [K]."""
    return np.interp(np.log(teff), np.log(DWARF_TEFF), DWARF_MV)


def _contact(rng: np.random.Generator, n: int, kind: str) -> Drawn:
    """EW: period, temperature and luminosity are tied (contact); EB: a wider, hotter and longer mixture."""
    if kind == "EW":
        log_p = _normal(rng, n, -0.42, 0.105, -0.66, 0.05)
        longer = log_p + 0.44  # than the typical period [dex]
        log_teff = 0.42 * longer + rng.normal(0, 0.022, n)
        teff = 5750 * 10**log_teff
        slope = np.where(log_p > -0.25, 0.85, 1.0)
        m_v = -9.0 * longer * slope + 4.1 + rng.normal(0, 0.35, n)
        amplitude = 10 ** _normal(rng, n, -0.43, 0.15, -0.95, 0.0)
    else:
        log_p = _normal(rng, n, 0.02, 0.18, -0.42, 1.2)
        log_teff = 3.80 + 0.12 * log_p + rng.normal(0, 0.05, n)
        teff = 10**log_teff
        m_v = main_sequence_mv(teff) - 0.5 - rng.exponential(0.5, n)
        amplitude = 10 ** _normal(rng, n, -0.38, 0.18, -0.95, 0.2)
    return log_p, amplitude, teff, m_v, np.full(n, 0.1), THIN


def _detached(rng: np.random.Generator, n: int, kind: str) -> Drawn:
    """EA: two stars of the main sequence, the brighter one often somewhat evolved."""
    log_p = _normal(rng, n, 0.33, 0.33, -0.5, 1.9)
    teff = 10 ** _normal(rng, n, 3.85, 0.06, 3.58, 4.05)
    m_v = main_sequence_mv(teff) - 0.4 - rng.exponential(0.6, n)
    amplitude = 10 ** _normal(rng, n, -0.37, 0.21, -1.0, 0.3)
    return log_p, amplitude, teff, m_v, np.full(n, 0.15), THIN


def _rotating(rng: np.random.Generator, n: int, kind: str) -> Drawn:
    """Young spotted dwarfs (three fifths) and RS CVn subgiants and giants (the rest)."""
    evolved = rng.random(n) < 0.42
    evolved_log_p = _normal(rng, n, 1.1, 0.4, -0.2, 2.0)
    dwarf_log_p = _normal(rng, n, 0.6, 0.45, -0.6, 1.6)
    log_p = np.where(evolved, evolved_log_p, dwarf_log_p)
    evolved_teff = _normal(rng, n, 4800, 220, 4200, 5500)
    dwarf_teff = _normal(rng, n, 4950, 430, 3700, 6000)
    teff = np.where(evolved, evolved_teff, dwarf_teff)
    dwarf_m_v = main_sequence_mv(teff) - np.abs(rng.normal(0, 0.6, n))
    m_v = np.where(evolved, rng.normal(2.6, 1.0, n), dwarf_m_v)
    amplitude = 10 ** _normal(rng, n, -0.72, 0.18, -1.3, -0.1)
    return log_p, amplitude, teff, m_v, np.where(evolved, 0.7, 0.05), THIN


def _rr_lyrae(rng: np.random.Generator, n: int, kind: str) -> Drawn:
    """RRAB and RRC: old, poor in metals, and fainter the more metals they have."""
    feh = _normal(rng, n, -1.4, 0.45, -2.6, -0.1)
    if kind == "RRAB":
        log_p = -0.25 - 0.03 * (feh + 1.4) + rng.normal(0, 0.055, n)
        bailey = 0.84 - 3.2 * (log_p + 0.25)  # amplitude by period, Bailey's diagram
        amplitude = np.clip(bailey + rng.normal(0, 0.17, n), 0.25, 1.4)
        teff = _normal(rng, n, 6550, 220, 5900, 7200)
    else:
        log_p = _normal(rng, n, -0.495, 0.05, -0.7, -0.32)
        amplitude = _normal(rng, n, 0.42, 0.08, 0.15, 0.65)
        teff = _normal(rng, n, 7050, 200, 6500, 7600)
    m_v = 1.04 + 0.29 * (feh + 0.2) + 0.15 + rng.normal(0, 0.15, n)
    return log_p, amplitude, teff, m_v, np.full(n, 0.35), HALO, feh


def _delta_scuti(rng: np.random.Generator, n: int, kind: str) -> Drawn:
    """HADS and DSCT: one relation of period and luminosity, other amplitudes."""
    hads = kind == "HADS"
    log_p = _normal(rng, n, -1.02 if hads else -1.0, 0.13, -1.35, -0.62)
    teff = _normal(rng, n, 7250, 330, 6400, 8400)
    m_v = -2.94 * log_p - 1.34 + rng.normal(0, 0.3, n)
    if hads:
        log_amplitude = _normal(rng, n, -0.36, 0.11, -0.62, -0.05)
        population = THICK
    else:
        log_amplitude = _normal(rng, n, -0.85, 0.16, -1.25, -0.5)
        population = THIN
    return log_p, 10**log_amplitude, teff, m_v, np.full(n, 0.2), population


def _long_period(rng: np.random.Generator, n: int, kind: str) -> Drawn:
    """M and SR: M_K from the period, M_V from the V-K of the temperature."""
    if kind == "M":
        log_p = _normal(rng, n, 2.47, 0.13, 1.95, 2.85)
        amplitude = 10 ** _normal(rng, n, 0.47, 0.12, 0.2, 0.75)
        teff = 3050 - 700 * (log_p - 2.47) + rng.normal(0, 130, n)
        m_k = -3.51 * (log_p - 2.38) - 7.15 + rng.normal(0, 0.3, n)
    else:
        log_p = _normal(rng, n, 2.12, 0.36, 1.2, 2.95)
        longer = log_p - 2.08  # than 120 days [dex]
        amplitude = 10 ** _normal(rng, n, -0.4 + 0.25 * longer, 0.22, -1.0, 0.4)
        teff = 3420 - 180 * longer + rng.normal(0, 150, n) - 120 * np.log10(amplitude / 0.35)
        m_k = -1.5 * longer - 6.6 + rng.normal(0, 0.6, n)
    teff = np.clip(teff, 2650, 4100)
    m_v = m_k + v_minus_k_of_giants(teff)
    return log_p, amplitude, teff, m_v, np.ones(n), THICK


DRAW = {
    "EW": _contact,
    "EB": _contact,
    "EA": _detached,
    "ROT": _rotating,
    "RRAB": _rr_lyrae,
    "RRC": _rr_lyrae,
    "HADS": _delta_scuti,
    "DSCT": _delta_scuti,
    "M": _long_period,
    "SR": _long_period,
}

# Apparent V: mean and deviation [mag] of a normal folded at the survey's limits (LAMOST stars in ASAS-SN, V < 17).
V_MAG = {"EW": (14.1, 1.1), "EB": (13.7, 1.2), "EA": (13.6, 1.2), "ROT": (13.3, 1.0), "RRAB": (15.1, 1.1),
         "RRC": (15.1, 1.0), "HADS": (13.8, 1.2), "DSCT": (12.4, 1.0), "M": (13.2, 1.2), "SR": (13.6, 1.2)}  # fmt: skip
V_LIMITS = (10.5, 16.8)


def draw_stars(rng: np.random.Generator, labels: np.ndarray) -> Stars:
    """True properties of the stars with these class ids (n,)."""
    n = len(labels)
    columns = {name: np.empty(n) for name in Stars.__dataclass_fields__}
    columns["label"] = labels
    columns["population"] = np.zeros(n, int)
    for label, name in enumerate(CLASSES):
        members = np.flatnonzero(labels == label)
        count = len(members)
        log_p, amplitude, teff, m_v, giant, population, *own_feh = DRAW[name](rng, count, name)
        old = rng.random(count) < 0.15
        population = np.where(old & (population == THIN), THICK, population)
        if own_feh:
            feh = own_feh[0]
        else:
            feh = np.choose(population, MEAN_FEH) + rng.normal(0, 0.22, count)
        v_mag = _normal(rng, count, *V_MAG[name], *V_LIMITS)
        values = {
            "period": 10**log_p,
            "amplitude": amplitude,
            "teff": teff,
            "giant": giant,
            "feh": feh,
            "population": population,
            "m_v": m_v,
            "v_mag": v_mag,
        }
        for key, value in values.items():
            columns[key][members] = value
    return Stars(**columns)
