"""Spectra of simulated galaxies: stars, dust and gas in the rest frame, magnitudes, and what the spectrograph sees.

Sources: attenuation Calzetti et al. 2000; H alpha and star-formation rate Kennicutt & Evans 2012; line ratios by
metallicity Pettini & Pagel 2004 and Maiolino et al. 2008, of old stars' gas Cid Fernandes et al. 2011; sky and
noise of DESI by wavelength after spectra of its early release (DESI Collaboration 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from astrom3.simulate.galaxies.populations import AGES, YOUNG, Properties, luminosity_distance
from astrom3.simulate.galaxies.stellar import LIBRARY_SIGMA, LIGHT_SPEED, LOG_STEP, WAVELENGTH, population_spectra

PIXELS = 7781
GRID = 3600.0 + 0.8 * np.arange(PIXELS)  # observed, vacuum [Angstrom]
BANDS = ("g", "r", "z")
# Smooth pass bands: half transmission at these observed wavelengths [Angstrom].
EDGE_WIDTH = 60.0  # over which an edge rises [Angstrom]
BAND_EDGES = {"g": (4020.0, 5460.0), "r": (5680.0, 7140.0), "z": (8480.0, 10000.0)}
SUN = 3.828e33  # luminosity [erg/s]
MEGAPARSEC = 3.0857e24  # [cm]
ALPHA_PER_RATE = 10**41.27  # H alpha luminosity of a star-formation rate of one solar mass a year [erg/s]
MAGGY = 3.631e-20  # [erg/s/cm2/Hz]
INSTRUMENT_SIGMA = 0.8  # [Angstrom]

# Emission lines, rest wavelength in vacuum [Angstrom].
LINES = {
    "[O II] 3727": 3727.1,
    "[O II] 3730": 3729.9,
    "[Ne III] 3870": 3869.9,
    "H 8": 3890.2,
    "H epsilon": 3971.2,
    "H delta": 4102.9,
    "H gamma": 4341.7,
    "[O III] 4364": 4364.4,
    "H beta": 4862.7,
    "[O III] 4960": 4960.3,
    "[O III] 5008": 5008.2,
    "He I 5877": 5877.2,
    "[O I] 6302": 6302.0,
    "[N II] 6550": 6549.9,
    "H alpha": 6564.6,
    "[N II] 6585": 6585.3,
    "[S II] 6718": 6718.3,
    "[S II] 6733": 6732.7,
    "[Ar III] 7138": 7137.8,
    "[S III] 9071": 9071.1,
    "[S III] 9533": 9533.2,
}
NAMES = tuple(LINES)
CENTRES = np.array(list(LINES.values()))

# Median noise of a pixel at 7500 Angstrom. The early release, which AstroCLIP was trained on, adds up several
# exposures: its noise is about half of that of one visit of the main survey.
DEPTH = 0.21

# Noise of one pixel over that at 7500 Angstrom, without sky lines: the blue end, and where the cameras meet.
NOISE = np.array([
    [3600, 24], [3650, 16], [3700, 15], [3715, 9.5], [3800, 6.6], [4000, 5.2], [4500, 3.5], [5000, 2.55], [5500, 2.05],
    [5720, 2.0], [5765, 3.4], [5775, 2.0], [5800, 1.65], [6500, 1.2], [7500, 1.0], [7590, 1.0], [7605, 3.0],
    [7640, 1.9], [7680, 1.1], [8000, 0.9], [8500, 0.72], [9100, 0.68], [9305, 0.70], [9320, 0.85], [9824, 1.0],
])  # fmt: skip
SKY = np.array([
    4359.6, 5462.3, 5578.9, 5891.5, 5897.6, 6302.0, 6365.5, 6500.5, 6534.9, 6555.5, 6865.7, 6873.0, 6891.0, 6902.7,
    6914.5, 6925.2, 6941.4, 6950.9, 6980.3, 7242.0, 7278.3, 7286.0, 7305.7, 7318.3, 7331.3, 7342.9, 7360.7, 7371.4,
    7404.2, 7526.0, 7573.9, 7586.8, 7692.0, 7714.0, 7718.0, 7726.0, 7735.0, 7752.8, 7761.0, 7774.0, 7782.0, 7796.3,
    7810.0, 7823.5, 7843.0, 7855.5, 7872.5, 7894.0, 7916.0, 7923.2, 7951.5, 7966.8, 7982.0, 7995.6, 8016.5, 8028.0,
    8064.0, 8102.0, 8282.0, 8290.8, 8301.0, 8313.0, 8346.9, 8355.0, 8367.0, 8384.6, 8401.5, 8417.5, 8432.6, 8454.6,
    8467.7, 8496.0, 8507.1, 8541.0, 8551.0, 8590.0, 8628.0, 8650.0, 8659.0, 8763.0, 8770.3, 8780.5, 8793.0, 8829.5,
    8838.0, 8852.5, 8870.0, 8888.3, 8905.7, 8922.0, 8946.0, 8960.5, 8973.3, 8991.2, 9004.0, 9020.5, 9040.5, 9051.8,
    9106.0, 9156.0, 9219.0, 9309.5, 9316.0, 9326.0, 9340.0, 9352.0, 9378.6, 9400.0, 9422.5, 9442.0, 9461.0, 9479.0,
    9505.5, 9524.0, 9555.0, 9570.0, 9590.5, 9610.0, 9623.0, 9658.0, 9675.0, 9702.5, 9722.5, 9740.0, 9760.0, 9794.0,
    9802.5, 9812.0,
])  # fmt: skip


@dataclass(frozen=True)
class Light:
    """Three components of a galaxy, in the order old bulge, old disc, young stars with their gas."""

    stars: np.ndarray  # (3, wavelengths of the library) [L_sun / Angstrom], attenuated
    lines: np.ndarray  # (3, lines) luminosity [L_sun], attenuated
    fluxes: np.ndarray  # (3, bands) total [nanomaggies]


def attenuation(wavelength: np.ndarray) -> np.ndarray:
    """Attenuation over A_V of Calzetti et al. 2000, same shape as `wavelength` [Angstrom]."""
    micron = np.clip(wavelength, 1500, 22000) / 1e4
    blue = 2.659 * (-2.156 + 1.509 / micron - 0.198 / micron**2 + 0.011 / micron**3)
    red = 2.659 * (-1.857 + 1.040 / micron)
    curve = np.where(micron < 0.63, blue, red) / 4.05 + 1  # R_V is 4.05
    return np.clip(curve, 0, None)


def _components(galaxy: Properties) -> np.ndarray:
    """Mass formed by age (3, ages): the oldest stars are the bulge, the youngest lie in arms and clumps."""
    young = np.where(AGES < YOUNG, galaxy.formed, 0.0)
    old = galaxy.formed - young
    wanted = galaxy.bulge_share * galaxy.formed.sum()
    as_old = np.cumsum(old[::-1])[::-1]  # mass in each bin and in those older
    older = np.append(as_old[1:], 0.0)
    bulge = np.clip(wanted - older, 0, old)
    if galaxy.morphology == "elliptical":
        bulge = old
    return np.stack([bulge, old - bulge, young])


def _star_forming_lines(galaxy: Properties, recent: float) -> np.ndarray:
    """Line luminosities (lines,) [L_sun] of H II regions, before dust; `recent` star-formation rate [M_sun/yr]."""
    oxygen = np.clip(galaxy.gas_metallicity, 7.6, 9.1)
    nitrogen = 10 ** np.clip((oxygen - 8.90) / 0.57, -2.2, -0.3)
    # [O III] over H beta falls with metallicity and flattens where metals are few.
    log_oxygen3 = (8.73 - oxygen) / 0.32 + (oxygen - 8.90) / 0.57
    oxygen3 = 10 ** np.clip(log_oxygen3, -1.3, 0.72)
    excess = oxygen - 8.45
    oxygen2 = 10 ** (0.52 - 1.1 * excess**2 - 0.35 * excess)
    sulphur = 0.32 * 10 ** (0.25 * (oxygen - 8.6))
    beta = 1 / 2.86
    ratio = {
        "[O II] 3727": 0.42 * oxygen2 * beta,
        "[O II] 3730": 0.58 * oxygen2 * beta,
        "[Ne III] 3870": 0.08 * oxygen3 * beta,
        "H 8": 0.105 * beta,
        "H epsilon": 0.159 * beta,
        "H delta": 0.259 * beta,
        "H gamma": 0.468 * beta,
        "[O III] 4364": 0.006 * oxygen3 * beta,
        "H beta": beta,
        "[O III] 4960": oxygen3 * beta / 2.98,
        "[O III] 5008": oxygen3 * beta,
        "He I 5877": 0.12 * beta,
        "[O I] 6302": 0.03,
        "[N II] 6550": nitrogen / 3,
        "H alpha": 1.0,
        "[N II] 6585": nitrogen,
        "[S II] 6718": 0.57 * sulphur,
        "[S II] 6733": 0.43 * sulphur,
        "[Ar III] 7138": 0.03,
        "[S III] 9071": 0.09,
        "[S III] 9533": 0.22,
    }
    alpha = recent * ALPHA_PER_RATE / SUN
    return alpha * np.array([ratio[name] for name in NAMES])


def _retired_lines(continuum: float, nucleus: float) -> np.ndarray:
    """Lines (lines,) [L_sun] of gas lit by old stars (H alpha 0.8 Angstrom wide) and by an active nucleus."""
    ratio = np.zeros(len(NAMES))
    weak = {
        "[O II] 3727": 0.9,
        "[O II] 3730": 1.0,
        "H beta": 0.33,
        "[O III] 4960": 0.2,
        "[O III] 5008": 0.6,
        "[O I] 6302": 0.2,
        "[N II] 6550": 0.4,
        "H alpha": 1.0,
        "[N II] 6585": 1.2,
        "[S II] 6718": 0.55,
        "[S II] 6733": 0.45,
    }
    strong = {
        "[O II] 3727": 0.15,
        "[O II] 3730": 0.15,
        "[Ne III] 3870": 0.1,
        "H gamma": 0.047,
        "H beta": 0.1,
        "[O III] 4960": 0.335,
        "[O III] 5008": 1.0,
        "[O I] 6302": 0.06,
        "[N II] 6550": 0.11,
        "H alpha": 0.31,
        "[N II] 6585": 0.34,
        "[S II] 6718": 0.09,
        "[S II] 6733": 0.09,
    }
    for name, value in weak.items():
        ratio[NAMES.index(name)] += 0.8 * continuum * value
    for name, value in strong.items():
        ratio[NAMES.index(name)] += nucleus * value
    return ratio


def _with_lines(stars: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Spectra (3, wavelengths) with each line put into the nearest pixel of the library, for magnitudes."""
    pixel = np.searchsorted(WAVELENGTH, CENTRES)
    total = stars.copy()
    height = lines / (CENTRES * LOG_STEP)
    for line, where in enumerate(pixel):
        total[:, where] += height[:, line]
    return total


def _sphere(redshift: float) -> float:
    """Area over which the light of a galaxy has spread [cm2]."""
    return 4 * np.pi * (luminosity_distance(redshift) * MEGAPARSEC) ** 2


def band_fluxes(spectrum: np.ndarray, redshift: float) -> np.ndarray:
    """Flux in each band (..., bands) [nanomaggies] of rest-frame luminosities (..., wavelengths) [L_sun/Angstrom]."""
    observed = WAVELENGTH * (1 + redshift)
    area = _sphere(redshift)
    fluxes = []
    for low, high in BAND_EDGES.values():
        blue_edge = np.clip((low - observed) / EDGE_WIDTH, -50, 50)
        red_edge = np.clip((observed - high) / EDGE_WIDTH, -50, 50)
        passed = 1 / (1 + np.exp(blue_edge))
        passed /= 1 + np.exp(red_edge)
        # Photons: f_lambda lambda d lambda over (c / lambda) d lambda; d lambda is proportional to lambda here.
        energy = spectrum @ (passed * observed**2) * SUN / area / (1 + redshift)
        f_nu = energy / (LIGHT_SPEED * 1e13 * passed.sum())
        fluxes.append(f_nu / MAGGY * 1e9)
    return np.stack(fluxes, axis=-1)


def light(galaxy: Properties) -> Light:
    """Spectra, lines and total fluxes of the three components."""
    masses = _components(galaxy)
    stars = population_spectra(masses, galaxy.metallicity)
    curve = attenuation(WAVELENGTH)
    # The bulge is half as dusty as the disc, the birth clouds of young stars twice (Calzetti's 0.44).
    dust = galaxy.dust * np.array([0.5, 1.0, 1.6])
    stars *= 10 ** (-0.4 * dust[:, None] * curve)
    recent = galaxy.formed[AGES < 0.012].sum() / 1.2e7  # [M_sun/yr], over the last 12 Myr
    lines = np.zeros((3, len(NAMES)))
    at_alpha = np.searchsorted(WAVELENGTH, 6600.0)
    lines[0] = _retired_lines(stars[0, at_alpha], galaxy.nucleus)
    lines[2] = _star_forming_lines(galaxy, recent)
    line_dust = galaxy.dust * np.array([0.5, 1.0, 2.2])
    lines *= 10 ** (-0.4 * line_dust[:, None] * attenuation(CENTRES))
    return Light(stars, lines, band_fluxes(_with_lines(stars, lines), galaxy.redshift))


def observed_flux(galaxy: Properties, source: Light, shares: np.ndarray) -> np.ndarray:
    """Flux through the fibre on GRID (PIXELS,) [1e-17 erg/s/cm2/Angstrom]; shares: of each component in the fibre."""
    stretch = 1 + galaxy.redshift
    scale = SUN / _sphere(galaxy.redshift) / stretch * 1e17
    turning = 0.6 * galaxy.rotation * np.sqrt(1 - galaxy.inclination**2)
    widths = np.hypot([galaxy.dispersion, 45.0, 45.0], [0.0, turning, turning])
    middle = 0.5 * (GRID[0] + GRID[-1])
    instrument = INSTRUMENT_SIGMA / middle * LIGHT_SPEED  # [km/s]
    flux = np.zeros(PIXELS)
    for component, (share, width) in enumerate(zip(shares, widths, strict=True)):
        missing = max(width**2 - LIBRARY_SIGMA**2, 0)  # what the lines of the library lack, squared
        sigma = np.sqrt(missing + instrument**2)
        stars = gaussian_filter1d(source.stars[component], sigma / (LOG_STEP * LIGHT_SPEED))
        flux += share * np.interp(GRID, WAVELENGTH * stretch, stars) * scale
        # Gas of the bulge follows its stars, H II regions follow the disc with their own 25 km/s.
        gas = width if component == 0 else np.hypot(turning, 25.0)
        strength = share * source.lines[component] * scale * stretch
        flux += _emission(strength, gas, galaxy.redshift)
    return flux


def _emission(strength: np.ndarray, width: float, redshift: float) -> np.ndarray:
    """Lines of integrated flux `strength` (lines,) and velocity dispersion `width` [km/s] on GRID (PIXELS,)."""
    flux = np.zeros(PIXELS)
    for centre, total in zip(CENTRES * (1 + redshift), strength, strict=True):
        sigma = np.hypot(centre * width / LIGHT_SPEED, INSTRUMENT_SIGMA)
        first, last = np.searchsorted(GRID, [centre - 6 * sigma, centre + 6 * sigma])
        offset = GRID[first:last] - centre
        area = np.sqrt(2 * np.pi) * sigma
        flux[first:last] += total * np.exp(-0.5 * (offset / sigma) ** 2) / area
    return flux


def _sky_noise() -> np.ndarray:
    """Noise of a faint object over that at 7500 Angstrom (PIXELS,), sky lines included; the same in every run."""
    rng = np.random.Generator(np.random.Philox(7500))
    noise = np.exp(np.interp(GRID, NOISE[:, 0], np.log(NOISE[:, 1])))
    lines = np.zeros(PIXELS)
    for centre in SKY:
        height = rng.lognormal(1.0, 0.7)
        if centre < 6800:
            height *= 0.4
        if centre > 9300:
            height *= 2.5
        if 5578 < centre < 5580:  # the line of oxygen, which is always there
            height = 2.5
        lines += height * np.exp(-0.5 * (GRID - centre) ** 2)  # 1 Angstrom wide
    return noise * np.sqrt(1 + lines**2 / 2)


SKY_NOISE = _sky_noise()


def observe(rng: np.random.Generator, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measured flux and inverse variance, both float32 (PIXELS,), of a true flux (PIXELS,).

    Noise of sky and detector by wavelength, of the photons of the object itself, a calibration that errs smoothly by
    a few per cent, and a few pixels lost to cosmic rays (flux and inverse variance 0).
    """
    depth = DEPTH * rng.lognormal(0, 0.3)
    sky = (depth * SKY_NOISE) ** 2
    photons = 0.012 * depth * np.clip(flux, 0, None) * SKY_NOISE
    variance = sky + photons
    place = (GRID - GRID[0]) / (GRID[-1] - GRID[0])
    tilt, slow, fast = rng.normal(0, [0.03, 0.02, 0.01])
    slow_wave = slow * np.cos(3 * np.pi * place)
    fast_wave = fast * np.cos(7 * np.pi * place)
    calibration = 1 + tilt * (place - 0.5) + slow_wave + fast_wave
    measured = flux * calibration + np.sqrt(variance) * rng.standard_normal(PIXELS)
    weight = 1 / variance
    lost = rng.integers(0, PIXELS, rng.poisson(3))
    measured[lost] = 0
    weight[lost] = 0
    return measured.astype(np.float32), weight.astype(np.float32)
