"""Intrinsic colours by temperature, and extinction, in the bands of Gaia, 2MASS and AllWISE.

Sources (rounded): dwarfs Pecaut & Mamajek 2013; giants Worthey & Lee 2011 and van Belle et al. 1999; V to G Riello et
al. 2021 (Gaia EDR3); extinction coefficients Wang & Chen 2019.
"""

from __future__ import annotations

import numpy as np

# Intrinsic colours [mag] by effective temperature [K].
DWARF_TEFF = np.array([3200, 3550, 3850, 4440, 5270, 5930, 6550, 7220, 8080, 9700, 12500.0])
DWARF_VK = np.array([5.05, 4.2, 3.67, 2.75, 1.93, 1.37, 1.0, 0.72, 0.38, 0.04, -0.25])
DWARF_BPRP = np.array([2.65, 2.17, 1.84, 1.36, 0.98, 0.75, 0.55, 0.38, 0.21, 0.0, -0.12])
DWARF_JK = np.array([0.85, 0.83, 0.82, 0.68, 0.48, 0.34, 0.24, 0.15, 0.07, 0.0, -0.06])
GIANT_TEFF = np.array([2600, 2800, 3000, 3200, 3400, 3600, 3850, 4200, 4800, 5300, 6000, 7000.0])
GIANT_VK = np.array([10.2, 9.0, 7.8, 6.8, 5.9, 4.8, 3.8, 3.0, 2.25, 1.85, 1.35, 0.85])
GIANT_BPRP = np.array([6.0, 5.3, 4.7, 4.1, 3.4, 2.6, 1.95, 1.5, 1.13, 0.94, 0.72, 0.45])
GIANT_JK = np.array([1.48, 1.42, 1.36, 1.3, 1.22, 1.12, 1.0, 0.82, 0.6, 0.5, 0.35, 0.19])

# A(band) / A(V)
EXTINCTION = {
    "bp": 1.0,
    "g": 0.79,
    "rp": 0.59,
    "j": 0.243,
    "h": 0.131,
    "k": 0.078,
    "w1": 0.039,
    "w2": 0.026,
    "w3": 0.04,
    "w4": 0.03,
}


def v_minus_k_of_giants(teff: np.ndarray) -> np.ndarray:
    """Colour V - K [mag] of giants of an effective temperature [K]."""
    return np.interp(teff, GIANT_TEFF, GIANT_VK)


def absolute_magnitudes(m_v: np.ndarray, teff: np.ndarray, giant: np.ndarray) -> dict[str, np.ndarray]:
    """Absolute magnitudes without extinction in the bands of EXTINCTION, from M_V.

    teff: effective temperature [K]; giant: 0 for dwarfs to 1 for giants; all (n,).
    """

    def colour(of_dwarfs: np.ndarray, of_giants: np.ndarray) -> np.ndarray:
        of_dwarf = np.interp(teff, DWARF_TEFF, of_dwarfs)
        of_giant = np.interp(teff, GIANT_TEFF, of_giants)
        return (1 - giant) * of_dwarf + giant * of_giant

    bp_rp = colour(DWARF_BPRP, GIANT_BPRP)
    v_k = colour(DWARF_VK, GIANT_VK)
    j_k = colour(DWARF_JK, GIANT_JK)
    x = np.minimum(bp_rp, 5.5)  # the polynomials end there
    g = m_v - 0.02704 + 0.01424 * x - 0.2156 * x**2 + 0.01426 * x**3
    g_rp = 0.66 * x - 0.075 * np.minimum(x, 4.2) ** 2 - 0.03 * np.maximum(x - 4.2, 0)
    rp = g - g_rp
    k = m_v - v_k
    dust = np.clip((3300 - teff) / 600, 0, 1.2) * giant  # circumstellar excess of cool giants
    cool = teff < 4200
    w1 = k - 0.03 - 0.05 * j_k - 0.15 * dust
    w2 = w1 + 0.03 - 0.06 * np.clip(j_k, 0, 1) + 0.05 * giant * cool + 0.02 * dust
    w3 = w2 - 0.02 - 0.1 * giant * cool - 0.6 * dust
    return {
        "g": g,
        "bp": rp + bp_rp,
        "rp": rp,
        "k": k,
        "j": k + j_k,
        "h": k + 0.2 * j_k,
        "w1": w1,
        "w2": w2,
        "w3": w3,
        "w4": w3 - 0.05 - 0.5 * dust,
    }
