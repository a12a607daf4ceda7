"""LAMOST-like low-resolution spectra: continuum, lines and bands of the temperature, sky, noise, calibration errors.

3909 pixels, log10(wavelength) from 3.5682 in steps of 0.0001 (3700 to 9100 Angstrom, vacuum), R about 1800. A
spectrum is a black body times exp(-sum of optical depths), one profile per group of lines or bands, each with a
strength by temperature, gravity and metallicity. Sources: LAMOST Luo et al. 2015 (format, relative flux calibration
good to about 10%); line strengths along the spectral sequence Gray & Corbally 2009; TiO, VO and CaH bands
Kirkpatrick et al. 1991; emission of Miras Yao et al. 2017, of active stars Strassmeier 2009; extinction law
Cardelli, Clayton & Mathis 1989 (as a power of wavelength).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from astrom3.modalities.schema import CLASSES
from astrom3.simulate.populations import SUN

PIXELS = 3909
LOG_STEP = 1e-4
WAVELENGTH = np.round(10 ** (3.5682 + LOG_STEP * np.arange(PIXELS)), 4)  # [Angstrom]
LIGHT_SPEED = 299792.458  # [km/s]
KMS_PER_PIXEL = LIGHT_SPEED * np.log(10) * LOG_STEP  # 69
RESOLUTION = 1800.0
FWHM = 2.355  # full width at half maximum of a Gaussian in sigma
RADIATION = 1.438777  # h c / k [cm K]

BALMER = np.array([6564.6, 4862.7, 4341.7, 4102.9, 3971.2, 3890.2, 3836.5, 3798.9, 3771.7, 3751.2])
CALCIUM_HK = np.array([3934.8, 3969.6])
TRIPLET = np.array([8500.4, 8544.4, 8664.5])
MAGNESIUM = np.array([5168.7, 5174.1, 5185.0])
SODIUM = np.array([5891.6, 5897.6])
IRON = np.array([3748, 3758, 3820, 3860, 3878, 3905, 4046, 4064, 4072, 4133, 4145, 4203, 4228, 4251, 4261, 4273, 4327,
                 4385, 4406, 4416, 4457, 4530, 4669, 4873, 4893, 4922, 4959, 5043, 5081, 5210, 5229, 5272, 5330,
                 5373, 5399, 5407, 5431, 5457, 5588, 5618, 5710, 6103, 6123, 6138, 6163, 6193, 6232, 6394, 6432,
                 6496, 6680, 6719, 7391, 7447, 8390, 8470, 8516, 8690, 8826.0])  # fmt: skip
TITANIUM_OXIDE: dict[float, float] = {
    4586: 1.0, 4763: 1.3, 4956: 1.5, 5169: 1.6, 5450: 1.2, 5599: 0.9, 5849: 1.3, 6160: 1.8, 6323: 0.6,
    6653: 1.2, 7055: 2.2, 7127: 0.8, 7591: 0.8, 7668: 1.2, 8207: 0.5, 8434: 1.4, 8861: 1.0,
}  # fmt: skip
SKY_LINES = {5578.9: 6.0, 5891.5: 1.5, 6302.0: 2.5, 6365.5: 1.2, 6865.0: 0.8, 6925.0: 0.8, 7278.0: 1.2, 7318.0: 1.3,
             7343.0: 1.4, 7753.0: 1.5, 7796.0: 1.5, 7823.0: 1.2, 7966.0: 1.3, 7996.0: 1.4, 8028.0: 1.2, 8346.0: 1.8,
             8401.0: 2.0, 8432.0: 1.8, 8467.0: 1.5, 8507.0: 1.2, 8780.0: 1.8, 8829.0: 1.8, 8888.0: 2.0, 8922.0: 1.6,
             8960.0: 1.4, 9004.0: 1.2}  # fmt: skip
TELLURIC = {
    7610.0: 0.5,
    7630.0: 0.4,
    6874.0: 0.2,
    7190.0: 0.12,
    7250.0: 0.1,
    8180.0: 0.12,
    8250.0: 0.08,
}


def _lines(centres: np.ndarray, strengths: ArrayLike, width: float = 0.0, wings: float = 0.0) -> np.ndarray:
    """Sum of line profiles (PIXELS,): Gaussian of the resolution and `width` [Angstrom], Lorentz `wings` beside it."""
    profile = np.zeros(PIXELS)
    each = np.broadcast_to(strengths, len(centres))
    for centre, strength in zip(centres, each, strict=True):
        sigma = np.hypot(centre / RESOLUTION / FWHM, width)
        offset = WAVELENGTH - centre
        line = np.exp(-0.5 * (offset / sigma) ** 2)
        if wings:
            line = line + 0.5 / (1 + (offset / wings) ** 2)
        profile += strength * line
    return profile


def _bands(heads: dict[float, float], length: float) -> np.ndarray:
    """Sum of bands that begin sharply at a head and fade to the red over `length` [Angstrom]."""
    profile = np.zeros(PIXELS)
    for head, strength in heads.items():
        offset = WAVELENGTH - head
        edge = 1 / (1 + np.exp(-np.clip(offset / 2.5, -50, 50)))
        fading = np.exp(-np.clip(offset, 0, None) / length)
        profile += strength * edge * fading
    return profile


_IRON_STRENGTHS = 0.5 + 0.5 * np.abs(np.sin(1.7 * np.arange(len(IRON))))  # unlike, and the same in every run
_DECREMENT = np.array([1.0, 1.0, 0.97, 0.93, 0.85, 0.75, 0.62, 0.5, 0.38, 0.28])
# Groups of features; rows of PROFILES in the order of `strengths`.
PROFILES = np.stack([
    _lines(BALMER, _DECREMENT, 1.0),  # Balmer cores
    _lines(BALMER, 0.8 * _DECREMENT, 3.0, 9.0),  # Balmer wings of A stars
    _lines(CALCIUM_HK, [1.0, 0.85], 2.0, 4.0),
    _lines(np.array([4300.0, 4308.0]), 0.5, 6.0),  # G band (CH)
    _lines(MAGNESIUM, [0.6, 0.8, 1.0], 1.0) + 0.35 * _lines(np.array([5170.0]), 1.0, 22.0),  # Mg b and MgH
    _lines(SODIUM, 1.0, 1.0, 1.0),
    _lines(TRIPLET, [0.6, 1.0, 0.85], 1.2),
    _lines(IRON, _IRON_STRENGTHS, 0.8),
    1 / (1 + np.exp((WAVELENGTH - 4300) / 350)),  # blanketing in the blue
    _bands(TITANIUM_OXIDE, 130.0),
    _bands({7380: 1.0, 7865: 1.2, 8521: 0.8}, 110.0),  # VO
    _lines(np.array([6385.0, 6830.0, 6930.0]), [0.4, 0.8, 1.0], 28.0),  # CaH
    _lines(np.array(list(TELLURIC)), list(TELLURIC.values()), 14.0),
])  # fmt: skip
EMISSION = np.stack([_lines(BALMER[:1], 1.0), _lines(BALMER[1:4], [0.5, 1.0, 1.4]), _lines(CALCIUM_HK, 1.0)])
SKY = _lines(np.array(list(SKY_LINES)), np.array(list(SKY_LINES.values())))
RED_SKY = 1 + 1.2 * np.clip((WAVELENGTH - 7200) / 1900, 0, None)  # OH forest
_FROM_PEAK = (np.log(WAVELENGTH) - np.log(6900)) / 0.28
THROUGHPUT = 0.25 + 0.75 * np.exp(-(_FROM_PEAK**2))
JOIN = 1 / (1 + np.exp(-(WAVELENGTH - 5800) / 40))  # blue and red arm
REDDENING = (WAVELENGTH / 5500.0) ** -1.35  # A(lambda) / A_V
SCALED = (WAVELENGTH - 6400.0) / 2700.0  # wavelength as -1 to 1


def strengths(teff: float, giant: float, feh: float) -> np.ndarray:
    """Optical depth of each row of PROFILES at the line centre, (13,)."""

    def cooler_than(hottest: float, span: float, most: float) -> float:
        """0 for hotter stars, rising by 1 over `span` [K], at most `most`."""
        return np.clip((hottest - teff) / span, 0, most)

    log_teff = np.log(teff)
    hydrogen = np.exp(-0.5 * ((log_teff - np.log(9300)) / 0.29) ** 2)
    metals = 10 ** (0.45 * feh)
    cool = cooler_than(6800, 2800, 1.2)
    calcium = np.clip(2.3 - 2.6 * np.log(teff / 4500), 0.05, 2.5)
    ch = cooler_than(6700, 1500, 1)
    dissociated = np.clip((teff - 3500) / 800, 0, 1)  # 0 where CH has given its carbon to CO
    sodium = cooler_than(5800, 2300, 1.3)
    triplet = cooler_than(7500, 2500, 1)
    iron = np.clip((8500 - teff) / 7000, 0.02, 0.6)
    tio = cooler_than(4050, 900, 1.6) ** 1.25
    return np.array([
        0.95 * hydrogen + 0.05,
        0.75 * hydrogen**2,
        metals * calcium,
        metals * 0.9 * ch * dissociated,
        metals * (0.12 + 0.9 * cool * (1 - 0.45 * giant)),
        metals * (0.1 + 1.3 * sodium * (1 - 0.4 * giant)),
        metals * (0.25 + 0.45 * triplet) * (1 + 0.45 * giant),
        metals * iron,
        metals * cooler_than(6500, 2600, 1.1),  # blanketing
        0.75 * tio * (0.85 + 0.15 * giant),
        0.8 * cooler_than(3250, 500, 1.5) * giant,  # VO
        0.6 * cooler_than(4100, 900, 1) * (1 - giant),  # CaH
        1.0,
    ])  # fmt: skip


def template(teff: float, giant: float, feh: float) -> np.ndarray:
    """Noiseless spectrum (PIXELS,) with mean 1, at rest and without reddening."""
    micron = WAVELENGTH / 1e4
    planck = micron**-5 / np.expm1(RADIATION / (micron * teff / 1e4))
    depth = strengths(teff, giant, feh)[:, None] * PROFILES
    flux = planck * np.exp(-depth.sum(0))
    return flux / flux.mean()


def emission(rng: np.random.Generator, label: int, teff: float) -> np.ndarray:
    """Emission (PIXELS,) in units of the continuum: shocks in some Miras, chromospheres of active stars."""
    name = CLASSES[label]
    if name == "M" and rng.random() < 0.5:
        shock = rng.exponential(1.2) * np.array([0.5, 1.0, 0.0])
        return (shock[:, None] * EMISSION).sum(0)
    if name == "ROT" and rng.random() < 0.75:
        cooler_than_sun = np.clip((SUN - teff) / 1500, 0, 1.5)
        activity = rng.lognormal(-1.2, 0.6) * (1.0 + cooler_than_sun)
        chromosphere = activity * np.array([1.0, 0.25, 1.4])
        return (chromosphere[:, None] * EMISSION).sum(0)
    return np.zeros(PIXELS)


def signal_to_noise(rng: np.random.Generator, v_mag: float) -> float:
    """Per pixel in the red arm: brighter stars are exposed for a shorter time, so the slope is shallow."""
    typical = 20 * 10 ** (-0.10 * (v_mag - 14))
    return float(np.clip(typical * rng.lognormal(0, 0.75), 2.0, 300))


def _calibration(rng: np.random.Generator) -> np.ndarray:
    """Factor (PIXELS,) of the relative flux calibration, on average 1.

    Its error is a standard star's wrong reddening, a slow wave, and a step between the two arms. About twice LAMOST's
    10%, and low signal to noise: so that a network finds classes as hard to tell as published.
    """
    tilt = rng.normal(0, 0.24) * SCALED
    bend = rng.normal(0, 0.09) * (SCALED**2 - 0.33)
    height = rng.normal(0, 0.03)
    wave = height * np.sin(6 * SCALED + rng.uniform(0, 6.28))
    step = rng.normal(0, 0.03) * JOIN
    return np.exp(tilt + bend + wave + step)


def _moved(flux: np.ndarray, velocity: float) -> np.ndarray:
    """A spectrum (PIXELS,) at rest as it is seen at a radial velocity [km/s]."""
    pixel = np.arange(PIXELS)
    return np.interp(pixel - velocity / KMS_PER_PIXEL, pixel, flux)


def spectrum(
    rng: np.random.Generator, label: int, teff: float, giant: float, feh: float, a_v: float, rv: float, v_mag: float
) -> tuple[np.ndarray, np.ndarray]:
    """Flux and inverse variance of one star, each (PIXELS,) float32, on WAVELENGTH."""
    observed_teff = teff * rng.lognormal(0, 0.03)  # phase of the pulsation, companion
    teff = float(np.clip(observed_teff, 2600, 15000))
    flux = template(teff, giant, feh) * (1 + emission(rng, label, teff))
    flux = _moved(flux, rv + rng.normal(0, 8))
    extinction = 10 ** (-0.4 * a_v * REDDENING)
    flux = flux * extinction * _calibration(rng)
    flux = flux / flux.mean()

    snr = signal_to_noise(rng, v_mag)
    brightness = 10 ** (-0.12 * (v_mag - 14.0))
    sky = 0.25 / brightness * RED_SKY * (1 + SKY)
    sigma = np.sqrt((np.maximum(flux, 0) + sky) / THROUGHPUT) / snr
    noise = rng.normal(size=PIXELS) * sigma
    residual = rng.normal(0, 0.5) * SKY * np.median(sigma) * RED_SKY  # sky lines that are not quite taken out
    scale = 10 ** (2.3 - 0.13 * (v_mag - 14) + rng.normal(0, 0.55))  # fibre losses: flux is not absolute
    ivar = 1 / np.square(sigma * scale)
    ivar[rng.random(PIXELS) < 0.0005] = 0.0  # cosmic rays
    measured = (flux + noise + residual) * scale
    return _short(measured, 13), _short(ivar, 9)


def _short(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 with `bits` of its 23 bits of mantissa: what is below the noise would only fill the files."""
    raw = x.astype(np.float32).view(np.uint32)
    drop = np.uint32(23 - bits)
    half = np.uint32(1) << (drop - np.uint32(1))
    rounded = (raw + half) >> drop << drop
    return rounded.view(np.float32)
