"""Images of simulated galaxies: bulge, disc, neighbours, seeing and sky in g, r and z.

A galaxy is the sum of its three components of light. The bulge is a de Vaucouleurs law written as a sum of Gaussians
(Hogg & Lang 2013) whose Fourier transform is known. The old disc and the young stars are drawn on a grid of half
pixels (discs.py). All are convolved in Fourier space with the point-spread function of each band. Seeing and noise
follow the distributions that were fitted to the Legacy Survey for AstroCLIP (Stein et al. 2022). The noise of
neighbouring pixels is correlated by about 0.3, as in resampled coadds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import nnls
from scipy.stats import ncx2

from astrom3.simulate.galaxies.discs import FINE, Plane, disc_light, rotated
from astrom3.simulate.galaxies.populations import Properties, kiloparsec_per_arcsec

SCALE = 0.262  # [arcsec/pixel]
SIZE = 152  # [pixels]
FIBRE = 0.75 / SCALE  # radius [pixels]
FIBRE_SEEING = 2.2  # sigma of the seeing at the spectrograph [pixels]
REGION = 0.15  # width of a star-forming region [kpc]
HALF_LIGHT = 1.678  # half-light radius of an exponential disc in scale lengths
ZERO_POINT = 22.5  # magnitude of one nanomaggy
# Log-normal distributions over g, r, z.
SEEING_SHAPE = np.array([0.2109966, 0.3008485, 0.3471172])
SEEING_LOCATION = np.array([1.0807153, 1.2394326, 1.1928363])  # sigma [pixels]
SEEING_SCALE = np.array([1.3153171, 0.9164757, 0.8233702])
NOISE_SHAPE = np.array([0.2264926, 0.2431146, 0.1334844])
NOISE_LOCATION = np.array([-0.0006735, -0.0023663, -0.0143416])  # sigma of a pixel [nanomaggies]
NOISE_SCALE = np.array([0.0037602, 0.0067417, 0.0260779])
LEAST_NOISE = np.array([0.001, 0.0015, 0.004])
SKY = np.array([0.11, 0.30, 1.9])  # brightness of the sky [nanomaggies/pixel], for the photon noise of objects
CORRELATION = 0.12  # share of a pixel's noise that each neighbour of the same row or column receives
WINGS = 0.12  # share of the light in the wings of the point-spread function ...
WING_WIDTH = 2.3  # ... which are so much wider than its core
PSF_PARTS = ((1 - WINGS, 1.0), (WINGS, WING_WIDTH))  # share and width of core and wings


@dataclass(frozen=True)
class Atmosphere:
    seeing: np.ndarray  # sigma of the core of the point-spread function (bands,) [pixels]
    noise: np.ndarray  # sigma of the sky (bands,) [nanomaggies]


@dataclass(frozen=True)
class Shape:
    """Where the light of a galaxy lies, before seeing."""

    bulge: np.ndarray  # (n, 3) Gaussians of the bulge: share, sigma along and across [pixels]
    angle: float  # position angle of the major axis [radian]
    disc: np.ndarray  # (fine, fine) old disc, sum 1
    young: np.ndarray  # (fine, fine) young stars, sum 1
    centre: np.ndarray  # (x, y) offset from the middle of the image [pixels]
    in_fibre: np.ndarray  # share of bulge, disc and young stars in the fibre (3,)


def atmosphere(rng: np.random.Generator) -> Atmosphere:
    """Seeing and noise of one field."""
    # Bands share part of their weather, so that stars keep their colour from core to halo.
    blur = 0.45 * rng.standard_normal(3) + 0.9 * rng.standard_normal()
    seeing = SEEING_LOCATION + SEEING_SCALE * np.exp(SEEING_SHAPE * blur)
    depth = 0.7 * rng.standard_normal(3) + 0.7 * rng.standard_normal()
    noise = NOISE_LOCATION + NOISE_SCALE * np.exp(NOISE_SHAPE * depth)
    return Atmosphere(seeing, np.maximum(noise, LEAST_NOISE))


@cache
def _sersic(index: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares and widths (n,) of Gaussians that add up to a Sersic law of half-light radius 1."""
    radius = np.geomspace(0.01, 7.0, 200)
    steepness = 1.9992 * index - 0.3271  # b_n of Capaccioli 1989
    law = np.exp(-steepness * (radius ** (1 / index) - 1))
    sigma = np.geomspace(0.012, 4.5, 10)
    area = 2 * np.pi * sigma**2
    basis = np.exp(-0.5 * (radius[:, None] / sigma) ** 2) / area
    weight = radius / np.sqrt(law)  # between equal errors of light and equal relative errors
    share, _ = nnls(basis * weight[:, None], law * weight)
    kept = share > 0
    return share[kept] / share.sum(), sigma[kept]


@cache
def _fibre_table() -> tuple[np.ndarray, np.ndarray]:
    """Share of a point source's light that enters the fibre, by distance from its middle [pixels], both (n,)."""
    distance = np.linspace(0, 30, 301)
    radius = FIBRE / FIBRE_SEEING
    share = ncx2.cdf(radius**2, 2, (distance / FIBRE_SEEING) ** 2)
    return distance, share


def shape(rng: np.random.Generator, galaxy: Properties, size: int) -> Shape:
    """Bulge, disc and young stars of a galaxy in an image of `size` pixels."""
    arcsec = kiloparsec_per_arcsec(galaxy.redshift)
    centre = rng.uniform(-0.5, 0.5, 2)
    angle = rng.uniform(0, np.pi)
    scale_length = max(galaxy.radius / HALF_LIGHT / arcsec / SCALE, 0.3)  # [pixels]
    # A disc has an intrinsic thickness of 0.2 scale lengths.
    flattening = np.sqrt(0.04 + 0.96 * galaxy.inclination**2)
    plane = Plane(size, centre, angle, float(flattening), scale_length)
    disc, young = disc_light(rng, galaxy, plane, REGION / arcsec / SCALE)
    bulge = _bulge(galaxy, galaxy.bulge_radius / arcsec / SCALE)
    distance = np.hypot(plane.along, plane.height) * scale_length
    entering = np.interp(distance, *_fibre_table(), right=0.0)
    in_fibre = np.array([_bulge_in_fibre(bulge), (disc * entering).sum(), (young * entering).sum()])
    return Shape(bulge, angle, disc, young, centre, in_fibre)


def _bulge(galaxy: Properties, radius: float) -> np.ndarray:
    """Gaussians (n, 3) of a bulge of a half-light radius [pixels]: share, sigma along and across."""
    if galaxy.morphology == "elliptical":
        share, sigma = _sersic(4.0)  # de Vaucouleurs
        axis_ratio = galaxy.inclination
    else:
        share, sigma = _sersic(2.5)
        axis_ratio = 0.6 + 0.4 * galaxy.inclination
    major = sigma * radius / np.sqrt(axis_ratio)
    minor = sigma * radius * np.sqrt(axis_ratio)
    return np.stack([share, major, minor], axis=1)


def _bulge_in_fibre(bulge: np.ndarray) -> float:
    """Share of the light of the Gaussians (n, 3) that enters the fibre, as if they were round."""
    share, major, minor = bulge.T
    blurred = major * minor + FIBRE_SEEING**2
    inside = 1 - np.exp(-0.5 * FIBRE**2 / blurred)
    return (share * inside).sum()


def _spread_function(frequency: np.ndarray, sigma: float) -> np.ndarray:
    """Fourier transform of the point-spread function at squared frequencies [1/pixel^2]."""
    core = np.exp(-2 * np.pi**2 * frequency * sigma**2)
    wings = np.exp(-2 * np.pi**2 * frequency * (WING_WIDTH * sigma) ** 2)
    return (1 - WINGS) * core + WINGS * wings


def _bulge_transform(form: Shape, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Fourier transform of the bulge at frequencies [1/pixel], as a grid of half pixels would have it."""
    along, across = rotated(u, v, form.angle)
    light = np.zeros(along.shape)
    for share, major, minor in form.bulge:
        width = (along * major) ** 2 + (across * minor) ** 2
        light += share * np.exp(-2 * np.pi**2 * width)
    # The middle of the image lies between two samples, and the first sample half a step from the edge.
    middle = (form.disc.shape[0] - 1) / (2 * FINE)
    x, y = form.centre + middle
    return light * np.exp(-2j * np.pi * (u * x + v * y))


def noiseless(form: Shape, fluxes: np.ndarray, air: Atmosphere) -> np.ndarray:
    """Image (bands, size, size) [nanomaggies] of the galaxy alone; fluxes (3 components, bands)."""
    fine = form.disc.shape[0]
    size = fine // FINE
    u = np.fft.rfftfreq(fine, 1 / FINE)
    v = np.fft.fftfreq(fine, 1 / FINE)[:, None]
    frequency = u**2 + v**2
    bulge = _bulge_transform(form, u, v)
    disc = np.fft.rfft2(form.disc)
    young = np.fft.rfft2(form.young)
    image = []
    for band, sigma in enumerate(air.seeing):
        of_bulge, of_disc, of_young = fluxes[:, band]
        total = of_bulge * bulge + of_disc * disc + of_young * young
        blurred = total * _spread_function(frequency, sigma)
        light = np.fft.irfft2(blurred, s=(fine, fine))
        samples = light.reshape(size, FINE, size, FINE)
        image.append(samples.sum((1, 3)))
    return np.stack(image)


def _magnitudes(rng: np.random.Generator, star: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """r, g - r and r - z [mag] of stars, where `star` (n,) says so, and of faint galaxies; each (n,)."""
    number = len(star)
    # Counts grow by 0.35 dex a magnitude for galaxies down to r = 24, by 0.15 for stars from 15 down to 22.
    galaxy_r = 24 + np.log10(rng.random(number)) / 0.35
    star_r = 22 + np.log10(rng.random(number)) / 0.15
    r = np.where(star, np.maximum(star_r, 15.5), np.maximum(galaxy_r, 17.5))
    star_g_r = rng.choice([0.45, 0.7, 1.4], number) + rng.normal(0, 0.12, number)
    galaxy_g_r = np.clip(rng.normal(0.8, 0.4, number), 0.0, 1.9)
    g_r = np.where(star, star_g_r, galaxy_g_r)
    star_r_z = 0.55 * g_r - 0.05 + 1.2 * np.clip(g_r - 1.2, 0, 1)
    galaxy_r_z = 0.18 + 0.5 * g_r
    scatter = rng.normal(0, 0.12, number) * ~star
    return r, g_r, np.where(star, star_r_z, galaxy_r_z) + scatter


def _neighbours(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stars and faint galaxies of the field (n, 8): x, y, flux in g, r and z, sigma along, across, angle."""
    area = (size * SCALE / 60) ** 2  # [arcmin^2]
    galaxies = rng.poisson(32 * area)
    stars = rng.poisson(2.6 * area)
    number = galaxies + stars
    star = np.arange(number) < stars
    r, g_r, r_z = _magnitudes(rng, star)
    magnitudes = np.stack([r + g_r, r, r - r_z])
    flux = 10 ** (0.4 * (ZERO_POINT - magnitudes))
    log_radius = rng.normal(-0.32, 0.18, number) - 0.09 * (r - 22)  # log10 [arcsec]
    major = np.where(star, 0.0, 10**log_radius / SCALE * 0.7)
    minor = major * rng.uniform(0.25, 1, number)
    place = rng.uniform(-4, size + 3, (2, number))
    angle = rng.uniform(0, np.pi, number)
    # Nothing much brighter than the target is left on top of it: such galaxies are not in the sample.
    distance = np.hypot(*(place - size / 2))
    clear = distance > np.select([r < 20, r < 22], [26, 14], 7)
    table = np.stack([*place, *flux, major, minor, angle], axis=1)
    return table[clear]


def _add_neighbours(image: np.ndarray, table: np.ndarray, air: Atmosphere) -> None:
    """Add stars and galaxies as Gaussians blurred by both parts of the point-spread function, in place."""
    size = image.shape[1]
    for x, y, *fluxes, major, minor, angle in table:
        reach = 12 + int(3.5 * major)
        if max(fluxes) > 20:
            reach += 14
        left = max(int(x) - reach, 0)
        right = min(int(x) + reach + 1, size)
        low = max(int(y) - reach, 0)
        high = min(int(y) + reach + 1, size)
        if left >= right or low >= high:
            continue
        dx = np.arange(left, right) - x
        dy = (np.arange(low, high) - y)[:, None]
        along, across = rotated(dx, dy, angle)
        along_squared = along**2
        across_squared = across**2
        window = image[:, low:high, left:right]
        for band, flux in enumerate(fluxes):
            for share, width in PSF_PARTS:
                blur = (width * air.seeing[band]) ** 2
                a = major**2 + blur
                b = minor**2 + blur
                peak = share * flux / (2 * np.pi * np.sqrt(a * b))
                window[band] += peak * np.exp(-0.5 * (along_squared / a + across_squared / b))


def noise(rng: np.random.Generator, image: np.ndarray, air: Atmosphere) -> np.ndarray:
    """Noise (bands, size, size) of sky and photons, slightly correlated between neighbours."""
    own = 1 - 2 * CORRELATION
    white = rng.standard_normal(image.shape, dtype=np.float32)
    for axis in (1, 2):
        around = np.roll(white, 1, axis) + np.roll(white, -1, axis)
        white = own * white + CORRELATION * around
    white /= own**2 + 2 * CORRELATION**2  # two passes, each the root of this
    # The deviation of photons grows as the root of sky and object together.
    bright = np.sqrt(1 + np.clip(image, 0, None) / SKY[:, None, None])
    return white * bright * air.noise[:, None, None]


def observe(rng: np.random.Generator, form: Shape, fluxes: np.ndarray, air: Atmosphere) -> np.ndarray:
    """What the survey sees: galaxy, field and noise, float32 (bands, size, size) [nanomaggies]."""
    image = noiseless(form, fluxes, air)
    neighbours = _neighbours(rng, image.shape[1])
    _add_neighbours(image, neighbours, air)
    return (image + noise(rng, image, air)).astype(np.float32)
