"""Magnitudes to flux: zero points by name, and the relative flux of magnitudes whose zero point is not known."""

from __future__ import annotations

import math

import numpy as np

from astrom3.errors import UserError

# Flux [mJy] of magnitude 0. ASAS-SN: measured on server files that hold both magnitude and flux. AB: by definition
# 3631 Jy. Johnson V: Bessell 1979 (PASP 91, 589), 3640 Jy.
SYSTEMS = {
    "asas-sn-V": 3.836e6,
    "asas-sn-g": 3.631e6,
    "AB": 3.631e6,
    "Johnson-V": 3.64e6,
}

RELATIVE_MAGNITUDE = 15.0  # has flux 1 where no zero point is known
RELATIVE_ZERO_FLUX = 10 ** (0.4 * RELATIVE_MAGNITUDE)  # flux of magnitude 0 in that unit
RELATIVE_UNIT = "relative: 10^(-0.4 (magnitude - 15))"  # as dataset.json says it
RELATIVE_MEANS = (
    "the magnitudes come without a zero point, so fluxes are relative, 10^(-0.4 (m - 15)): networks that read "
    "magnitudes (Astromer) are not affected, but AstroM3's networks read the scale of the flux too, so weights trained "
    "on mJy need {section}.zero_point or {section}.system"
)  # section: of the configuration


def zero_point(system: str) -> float:
    """Flux [mJy] of magnitude 0 in a named system."""
    if system not in SYSTEMS:
        raise UserError(f"system={system} is not known; choose one of {', '.join(SYSTEMS)}, or give zero_point in mJy.")
    return SYSTEMS[system]


def flux_of_magnitude(
    magnitude: np.ndarray, error: np.ndarray, zero: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Flux and its error [mJy] of magnitudes and their errors (N,)."""
    flux = zero * 10 ** (-0.4 * magnitude)
    return flux, flux * error * (math.log(10) / 2.5)
