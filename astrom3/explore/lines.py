"""Spectral features to mark: wavelengths in vacuum, as LAMOST and DESI spectra and this program's layouts have them.

Air wavelengths from the NIST Atomic Spectra Database (lines) and Kirkpatrick et al. 1991, ApJS 77, 417 (heads of TiO
bands, telluric bands of O2), converted with Morton 1991, ApJS 77, 119, equation 4 (the IAU formula).
"""

from __future__ import annotations

from typing import NamedTuple


class Feature(NamedTuple):
    name: str
    wavelength: float  # [Angstrom], vacuum
    kind: str  # balmer, metal, band, forbidden or telluric: how it is drawn; the last is not at an object's redshift


# name, air wavelength [Angstrom], kind
IN_AIR = (
    ("Hα", 6562.80, "balmer"),
    ("Hβ", 4861.33, "balmer"),
    ("Hγ", 4340.47, "balmer"),
    ("Hδ", 4101.74, "balmer"),
    ("Ca II K", 3933.66, "metal"),
    ("Ca II H", 3968.47, "metal"),
    ("Mg b", 5167.32, "metal"),
    ("Mg b", 5172.68, "metal"),
    ("Mg b", 5183.60, "metal"),
    ("Na D", 5889.95, "metal"),
    ("Na D", 5895.92, "metal"),
    ("Ca II", 8498.02, "metal"),
    ("Ca II", 8542.09, "metal"),
    ("Ca II", 8662.14, "metal"),
    ("TiO", 4761.0, "band"),
    ("TiO", 4954.0, "band"),
    ("TiO", 5448.0, "band"),
    ("TiO", 5847.0, "band"),
    ("TiO", 6158.0, "band"),
    ("TiO", 6651.0, "band"),
    ("TiO", 7053.0, "band"),
    ("TiO", 7589.0, "band"),
    ("TiO", 8432.0, "band"),
    ("TiO", 8859.0, "band"),
    ("⊕ B", 6867.2, "telluric"),
    ("⊕ A", 7593.7, "telluric"),
)


def vacuum(air: float) -> float:
    """Wavelength in vacuum of one in air, Angstrom (Morton 1991, equation 4)."""
    s2 = (1e4 / air) ** 2  # [1/micrometre^2]
    return air * (1 + 6.4328e-5 + 2.94981e-2 / (146 - s2) + 2.5540e-4 / (41 - s2))


FEATURES = tuple(Feature(name, round(vacuum(air), 2), kind) for name, air, kind in IN_AIR)

# Lines of galaxies in vacuum at rest (NIST, as in Bolton et al. 2012, AJ 144, 144); the last two are of our atmosphere.
GALAXY_FEATURES = (
    Feature("[O II]", 3728.5, "forbidden"),
    Feature("Ca K", 3934.8, "metal"),
    Feature("Ca H", 3969.6, "metal"),
    Feature("Hδ", 4102.9, "balmer"),
    Feature("G", 4305.6, "band"),
    Feature("Hγ", 4341.7, "balmer"),
    Feature("Hβ", 4862.7, "balmer"),
    Feature("[O III]", 4960.3, "forbidden"),
    Feature("[O III]", 5008.2, "forbidden"),
    Feature("Mg b", 5176.6, "metal"),
    Feature("Na D", 5894.6, "metal"),
    Feature("[O I]", 6302.0, "forbidden"),
    Feature("[N II]", 6549.9, "forbidden"),
    Feature("Hα", 6564.6, "balmer"),
    Feature("[N II]", 6585.3, "forbidden"),
    Feature("[S II]", 6718.3, "forbidden"),
    Feature("[S II]", 6732.7, "forbidden"),
    Feature("[S III]", 9071.1, "forbidden"),
    Feature("⊕ B", 6869.1, "telluric"),
    Feature("⊕ A", 7595.8, "telluric"),
)
