"""Images of simulated galaxies: bulge, disc with bar and arms, clumps, neighbours, seeing and sky in g, r and z.

A galaxy is the sum of its three components of light. The bulge is a de Vaucouleurs law written as a sum of Gaussians
(Hogg & Lang 2013) whose Fourier transform is known. The old disc and the young stars are drawn on a grid of half
pixels, because arms, bars and clumps have no formula. All are convolved in Fourier space with the point-spread
function of each band. Seeing and noise follow the distributions that were fitted to the Legacy Survey for AstroCLIP
(Stein et al. 2022). The noise of neighbouring pixels is correlated by about 0.3, as in resampled coadds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import nnls
from scipy.stats import ncx2

from astrom3.simulate.galaxies.populations import CLUMPY, Properties, kiloparsec_per_arcsec

SCALE = 0.262  # [arcsec/pixel]
SIZE = 152  # [pixels]
FIBRE = 0.75 / SCALE  # radius [pixels]
FINE = 2  # samples a pixel and axis of the grid on which discs are drawn
# Log-normal distributions over g, r, z: shape, location, scale.
SEEING = np.array([[0.2109966, 0.3008485, 0.3471172], [1.0807153, 1.2394326, 1.1928363],
                   [1.3153171, 0.9164757, 0.8233702]])  # sigma [pixels]  # fmt: skip
NOISE = np.array([[0.2264926, 0.2431146, 0.1334844], [-0.0006735, -0.0023663, -0.0143416],
                  [0.0037602, 0.0067417, 0.0260779]])  # sigma of a pixel [nanomaggies]  # fmt: skip
SKY = np.array([0.11, 0.30, 1.9])  # brightness of the sky [nanomaggies/pixel], for the photon noise of objects
CORRELATION = 0.12  # share of a pixel's noise that each neighbour of the same row or column receives
WINGS = 0.12  # share of the light in the wings of the point-spread function ...
WING_WIDTH = 2.3  # ... which are so much wider than its core


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
    seeing = SEEING[1] + SEEING[2] * np.exp(SEEING[0] * blur)
    depth = 0.7 * rng.standard_normal(3) + 0.7 * rng.standard_normal()
    noise = NOISE[1] + NOISE[2] * np.exp(NOISE[0] * depth)
    return Atmosphere(seeing, np.maximum(noise, [0.001, 0.0015, 0.004]))


@cache
def _sersic(index: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares and widths (n,) of Gaussians that add up to a Sersic law of half-light radius 1."""
    radius = np.geomspace(0.01, 7.0, 200)
    law = np.exp(-(1.9992 * index - 0.3271) * (radius ** (1 / index) - 1))
    sigma = np.geomspace(0.012, 4.5, 10)
    basis = np.exp(-0.5 * (radius[:, None] / sigma) ** 2) / (2 * np.pi * sigma**2)
    weight = radius / np.sqrt(law)  # between equal errors of light and equal relative errors
    share, _ = nnls(basis * weight[:, None], law * weight)
    kept = share > 0
    return share[kept] / share.sum(), sigma[kept]


@cache
def _fibre_table() -> tuple[np.ndarray, np.ndarray]:
    """Share of a point source's light that enters the fibre, by distance from its middle [pixels], both (n,)."""
    distance = np.linspace(0, 30, 301)
    return distance, ncx2.cdf((FIBRE / 2.2) ** 2, 2, (distance / 2.2) ** 2)


class _Plane:
    """Coordinates of a grid of half pixels in the plane of a disc, in units of its scale length."""

    def __init__(self, size: int, centre: np.ndarray, angle: float, flattening: float, length: float) -> None:
        side = (np.arange(size * FINE) + 0.5) / FINE - size / 2
        x = side - centre[0]
        y = (side - centre[1])[:, None]
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        self.along = along / length
        self.height = across / length
        self.across = self.height / flattening
        self.radius = np.hypot(self.along, self.across)
        self.azimuth = np.arctan2(self.across, self.along)
        self.angle = angle
        self.flattening = flattening
        self.length = length


def _arms(rng: np.random.Generator, galaxy: Properties, plane: _Plane) -> np.ndarray:
    """Logarithmic spiral arms, 0 between them and 1 on the ridge."""
    number = galaxy.arms
    pitch = np.tan(np.radians(galaxy.pitch))
    sharpness = rng.uniform(1.2, 3.5)
    turn = rng.choice([-1, 1])
    wobble = 0.25 * np.sin(plane.azimuth * rng.integers(1, 4) + rng.uniform(0, 2 * np.pi))
    phase = number * (turn * plane.azimuth - np.log(plane.radius + 0.1) / pitch + wobble)
    return (0.5 + 0.5 * np.cos(phase + rng.uniform(0, 2 * np.pi))) ** sharpness


def _clumps(rng: np.random.Generator, field: np.ndarray, number: int, width: float) -> np.ndarray:
    """Star-forming regions at random places of a density (fine, fine); light (fine, fine), sum 1.

    The width [pixels] is that of one region, widened to what a half-pixel grid can hold.
    """
    density = np.cumsum(field.ravel())
    place = np.searchsorted(density, rng.random(number) * density[-1])
    strength = rng.lognormal(0, 1.0, number)
    light = np.zeros(field.shape)
    sigma = max(width, 0.35) * FINE
    reach = int(np.ceil(3.5 * sigma))
    padded = np.zeros((field.shape[0] + 2 * reach, field.shape[1] + 2 * reach))
    offset = np.arange(-reach, reach + 1)
    profile = np.exp(-0.5 * (offset / sigma) ** 2)
    spot = profile[:, None] * profile
    rows, columns = np.unravel_index(np.minimum(place, field.size - 1), field.shape)
    for row, column, share in zip(rows, columns, strength, strict=True):
        padded[row : row + 2 * reach + 1, column : column + 2 * reach + 1] += share * spot
    light = padded[reach : reach + field.shape[0], reach : reach + field.shape[1]]
    return light / light.sum()


def _bar(rng: np.random.Generator, plane: _Plane) -> np.ndarray:
    """A bar in the plane of the disc (fine, fine), 1 in its middle."""
    angle = rng.uniform(0, np.pi)
    along = plane.along * np.cos(angle) + plane.across * np.sin(angle)
    across = plane.across * np.cos(angle) - plane.along * np.sin(angle)
    length = rng.uniform(0.7, 1.3)
    return np.exp(-((np.abs(along / length) ** 2.6 + np.abs(across / (0.28 * length)) ** 2) ** 1.2))


def _spiral(rng: np.random.Generator, galaxy: Properties, plane: _Plane) -> tuple[np.ndarray, np.ndarray]:
    smooth = np.exp(-plane.radius)
    arms = _arms(rng, galaxy, plane)
    inner = np.clip((plane.radius - 0.4) / 0.6, 0, 1)
    contrast = rng.uniform(0.5, 1.6)
    disc = smooth * (1 + contrast * inner * (arms - 0.35))
    density = np.exp(-plane.radius * 0.85) * (0.12 + inner * arms**1.5)
    if galaxy.morphology == "barred_spiral":
        disc = disc * (1 - 0.35 * np.exp(-((plane.radius / 1.1) ** 4)))
        disc = disc + rng.uniform(0.45, 0.9) * _bar(rng, plane)
        density = density * np.clip(plane.radius / 1.1, 0.1, 1)
    return np.clip(disc, 0, None), density


def _edge_on(rng: np.random.Generator, plane: _Plane) -> tuple[np.ndarray, np.ndarray]:
    """A disc of finite thickness seen from the side, with a dust lane in some."""
    thickness = rng.uniform(0.13, 0.24) + plane.flattening * 0.3
    reach = np.abs(plane.along)
    height = np.abs(plane.height)
    disc = np.exp(-reach) * (0.4 + reach) ** 0.3 / np.cosh(np.clip(height / thickness, 0, 50)) ** 1.5
    lane = rng.uniform(0.2, 0.75) * (rng.random() < 0.6)
    shift = rng.normal(0, 0.03)
    dust = 1 - lane * np.exp(-(((plane.height - shift) / (0.3 * thickness)) ** 2)) * np.exp(-((reach / 2.2) ** 4))
    young = np.exp(-reach * 0.8) / np.cosh(np.clip(height / (0.6 * thickness), 0, 50)) ** 2
    return disc * dust, young * np.sqrt(dust)


def _irregular(rng: np.random.Generator, plane: _Plane) -> tuple[np.ndarray, np.ndarray]:
    """A lopsided disc with a few off-centre regions."""
    side = rng.uniform(0, 2 * np.pi)
    lopsided = 1 + rng.uniform(0.2, 0.6) * np.tanh(plane.radius) * np.cos(plane.azimuth - side)
    disc = np.exp(-plane.radius * lopsided)
    shift = plane.along - rng.normal(0, 0.5)
    density = np.exp(-np.hypot(shift, plane.across - rng.normal(0, 0.5)) * 0.9)
    return disc, density


def _merger(rng: np.random.Generator, galaxy: Properties, plane: _Plane) -> tuple[np.ndarray, np.ndarray]:
    """Two discs that overlap, with a tidal tail on each side."""
    disc, density = _spiral(rng, galaxy, plane)
    where = rng.uniform(0, 2 * np.pi)
    distance = rng.uniform(2.0, 4.2)
    x = plane.along - distance * np.cos(where)
    y = plane.across - distance * np.sin(where)
    size = rng.uniform(0.4, 0.8)
    lean = rng.uniform(0, np.pi)
    flat = np.hypot(x * np.cos(lean) + y * np.sin(lean), (y * np.cos(lean) - x * np.sin(lean)) / rng.uniform(0.4, 0.9))
    companion = rng.uniform(1.5, 4.0) * np.exp(-flat / size)
    turn = rng.choice([-1, 1])
    bend = plane.azimuth - where - turn * 0.55 * (plane.radius - distance)
    bend = (bend + np.pi) % (2 * np.pi) - np.pi
    tail = np.exp(-((bend * plane.radius / 0.7) ** 2)) * np.exp(-plane.radius / 3.2) * np.clip(plane.radius - 0.8, 0, 1)
    disc = disc + companion + 0.5 * tail
    return disc, density + 0.4 * companion + 0.5 * tail


def _disc_light(rng: np.random.Generator, galaxy: Properties, plane: _Plane) -> tuple[np.ndarray, np.ndarray]:
    """Old disc and young stars (fine, fine), each with sum 1."""
    if galaxy.morphology == "edge_on":
        disc, density = _edge_on(rng, plane)
    elif galaxy.morphology == "irregular":
        disc, density = _irregular(rng, plane)
    elif galaxy.morphology == "merger":
        disc, density = _merger(rng, galaxy, plane)
    elif galaxy.morphology in ("elliptical", "lenticular"):
        disc = density = np.exp(-plane.radius)
    else:
        disc, density = _spiral(rng, galaxy, plane)
    # Regions of 150 pc hold two fifths of the young light, more where they are few; the rest is smooth.
    share = 0.6 if galaxy.clumps < CLUMPY else 0.4
    width = 0.15 / kiloparsec_per_arcsec(galaxy.redshift) / SCALE
    young = (1 - share) * density / density.sum() + share * _clumps(rng, density, galaxy.clumps, width)
    return disc / disc.sum(), young


def shape(rng: np.random.Generator, galaxy: Properties, size: int) -> Shape:
    """Bulge, disc and young stars of a galaxy in an image of `size` pixels."""
    arcsec = kiloparsec_per_arcsec(galaxy.redshift)
    centre = rng.uniform(-0.5, 0.5, 2)
    angle = rng.uniform(0, np.pi)
    length = max(galaxy.radius / 1.678 / arcsec / SCALE, 0.3)
    flattening = np.sqrt(0.04 + 0.96 * galaxy.inclination**2)
    plane = _Plane(size, centre, angle, float(flattening), length)
    disc, young = _disc_light(rng, galaxy, plane)
    pure = galaxy.morphology == "elliptical"
    share, sigma = _sersic(4.0 if pure else 2.5)
    bulge_radius = galaxy.bulge_radius / arcsec / SCALE
    ratio = galaxy.inclination if pure else 0.6 + 0.4 * galaxy.inclination
    bulge = np.stack([share, sigma * bulge_radius / np.sqrt(ratio), sigma * bulge_radius * np.sqrt(ratio)], axis=1)
    distance, entering = _fibre_table()
    fine = np.hypot(plane.along, plane.height) * length
    weight = np.interp(fine, distance, entering, right=0.0)
    blurred = bulge[:, 1] * bulge[:, 2] + 2.2**2
    in_bulge = (share * (1 - np.exp(-0.5 * FIBRE**2 / blurred))).sum()
    in_fibre = np.array([in_bulge, (disc * weight).sum(), (young * weight).sum()])
    return Shape(bulge, angle, disc, young, centre, in_fibre)


def _spread_function(frequency: np.ndarray, sigma: float) -> np.ndarray:
    """Fourier transform of the point-spread function at squared frequencies [1/pixel^2]."""
    core = np.exp(-2 * np.pi**2 * frequency * sigma**2)
    wings = np.exp(-2 * np.pi**2 * frequency * (WING_WIDTH * sigma) ** 2)
    return (1 - WINGS) * core + WINGS * wings


def noiseless(form: Shape, fluxes: np.ndarray, air: Atmosphere) -> np.ndarray:
    """Image (bands, size, size) [nanomaggies] of the galaxy alone; fluxes (3 components, bands)."""
    fine = form.disc.shape[0]
    u = np.fft.rfftfreq(fine, 1 / FINE)
    v = np.fft.fftfreq(fine, 1 / FINE)[:, None]
    along = u * np.cos(form.angle) + v * np.sin(form.angle)
    across = v * np.cos(form.angle) - u * np.sin(form.angle)
    # The middle of the image lies between two samples, and the first sample half a step from the edge.
    middle = (fine - 1) / (2 * FINE)
    bulge = np.zeros(along.shape)
    for share, major, minor in form.bulge:
        bulge += share * np.exp(-2 * np.pi**2 * ((along * major) ** 2 + (across * minor) ** 2))
    moved = bulge * np.exp(-2j * np.pi * (u * (form.centre[0] + middle) + v * (form.centre[1] + middle)))
    disc = np.fft.rfft2(form.disc)
    young = np.fft.rfft2(form.young)
    image = []
    for band, sigma in enumerate(air.seeing):
        total = fluxes[0, band] * moved + fluxes[1, band] * disc + fluxes[2, band] * young
        light = np.fft.irfft2(total * _spread_function(u**2 + v**2, sigma), s=(fine, fine))
        image.append(light.reshape(fine // FINE, FINE, fine // FINE, FINE).sum((1, 3)))
    return np.stack(image)


def _neighbours(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stars and faint galaxies of the field (n, 8): x, y, flux in g, r and z, sigma along, across, angle."""
    area = (size * SCALE / 60) ** 2  # [arcmin^2]
    galaxies = rng.poisson(32 * area)
    stars = rng.poisson(2.6 * area)
    number = galaxies + stars
    star = np.arange(number) < stars
    # Counts grow by 0.35 dex a magnitude for galaxies down to r = 24, by 0.15 for stars from 15 down to 22.
    galaxy_r = 24 + np.log10(rng.random(number)) / 0.35
    star_r = np.maximum(22 + np.log10(rng.random(number)) / 0.15, 15.5)
    r = np.where(star, star_r, np.maximum(galaxy_r, 17.5))
    star_colour = rng.choice([0.45, 0.7, 1.4], number) + rng.normal(0, 0.12, number)
    blue = np.where(star, star_colour, np.clip(rng.normal(0.8, 0.4, number), 0.0, 1.9))
    star_red = 0.55 * blue - 0.05 + 1.2 * np.clip(blue - 1.2, 0, 1)
    red = np.where(star, star_red, 0.18 + 0.5 * blue) + rng.normal(0, 0.12, number) * ~star
    flux = 10 ** (0.4 * (22.5 - np.stack([r + blue, r, r - red])))
    radius = np.where(star, 0.0, 10 ** (rng.normal(-0.32, 0.18, number) - 0.09 * (r - 22)) / SCALE * 0.7)
    ratio = rng.uniform(0.25, 1, number)
    place = rng.uniform(-4, size + 3, (2, number))
    # Nothing much brighter than the target is left on top of it: such galaxies are not in the sample.
    clear = np.hypot(*(place - size / 2)) > np.where(r < 20, 26, np.where(r < 22, 14, 7))
    table = np.stack([*place, *flux, radius, radius * ratio, rng.uniform(0, np.pi, number)], axis=1)
    return table[clear]


def _add_neighbours(image: np.ndarray, table: np.ndarray, air: Atmosphere) -> None:
    """Add stars and galaxies as Gaussians blurred by both parts of the point-spread function, in place."""
    size = image.shape[1]
    for x, y, *fluxes, major, minor, angle in table:
        reach = 12 + int(3.5 * major) + (14 if max(fluxes) > 20 else 0)
        left = max(int(x) - reach, 0)
        right = min(int(x) + reach + 1, size)
        low = max(int(y) - reach, 0)
        high = min(int(y) + reach + 1, size)
        if left >= right or low >= high:
            continue
        dx = np.arange(left, right) - x
        dy = (np.arange(low, high) - y)[:, None]
        along = (dx * np.cos(angle) + dy * np.sin(angle)) ** 2
        across = (dy * np.cos(angle) - dx * np.sin(angle)) ** 2
        for band, flux in enumerate(fluxes):
            for share, width in ((1 - WINGS, 1.0), (WINGS, WING_WIDTH)):
                blur = (width * air.seeing[band]) ** 2
                a = major**2 + blur
                b = minor**2 + blur
                peak = share * flux / (2 * np.pi * np.sqrt(a * b))
                image[band, low:high, left:right] += peak * np.exp(-0.5 * (along / a + across / b))


def noise(rng: np.random.Generator, image: np.ndarray, air: Atmosphere) -> np.ndarray:
    """Noise (bands, size, size) of sky and photons, slightly correlated between neighbours."""
    white = rng.standard_normal(image.shape, dtype=np.float32)
    for axis in (1, 2):
        around = np.roll(white, 1, axis) + np.roll(white, -1, axis)
        white = (1 - 2 * CORRELATION) * white + CORRELATION * around
    white /= (1 - 2 * CORRELATION) ** 2 + 2 * CORRELATION**2  # two passes, each the root of this
    bright = np.sqrt(1 + np.clip(image, 0, None) / SKY[:, None, None])
    return white * bright * air.noise[:, None, None]


def observe(rng: np.random.Generator, form: Shape, fluxes: np.ndarray, air: Atmosphere) -> np.ndarray:
    """What the survey sees: galaxy, field and noise, float32 (bands, size, size) [nanomaggies]."""
    image = noiseless(form, fluxes, air)
    _add_neighbours(image, _neighbours(rng, image.shape[1]), air)
    return (image + noise(rng, image, air)).astype(np.float32)
