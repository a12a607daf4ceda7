"""Light of the discs of simulated galaxies: smooth discs, bars, spiral arms, star-forming regions, mergers.

Discs are drawn on a grid of half pixels, because arms, bars and clumps have no formula. Every function of a kind of
galaxy gives the light of the old disc and the density of young stars, both (fine, fine) and not normalised.
"""

from __future__ import annotations

import numpy as np

from astrom3.simulate.galaxies.populations import CLUMPY, Properties

FINE = 2  # samples a pixel and axis of the grid
TURN = 2 * np.pi
Lights = tuple[np.ndarray, np.ndarray]  # old disc and young stars


def rotated(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across an axis that is turned by `angle` [radian] from x."""
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return along, across


class Plane:
    """Coordinates of a grid of half pixels in the plane of a disc, in units of its scale length."""

    def __init__(self, size: int, centre: np.ndarray, angle: float, flattening: float, length: float) -> None:
        side = (np.arange(size * FINE) + 0.5) / FINE - size / 2
        x = side - centre[0]
        y = (side - centre[1])[:, None]
        along, across = rotated(x, y, angle)
        self.along = along / length
        self.height = across / length
        self.across = self.height / flattening
        self.radius = np.hypot(self.along, self.across)
        self.azimuth = np.arctan2(self.across, self.along)
        self.flattening = flattening


def arms(rng: np.random.Generator, galaxy: Properties, plane: Plane) -> np.ndarray:
    """Logarithmic spiral arms, 0 between them and 1 on the ridge."""
    pitch = np.tan(np.radians(galaxy.pitch))
    sharpness = rng.uniform(1.2, 3.5)
    turn = rng.choice([-1, 1])
    waves = rng.integers(1, 4)
    wobble = 0.25 * np.sin(plane.azimuth * waves + rng.uniform(0, TURN))
    winding = np.log(plane.radius + 0.1) / pitch
    phase = galaxy.arms * (turn * plane.azimuth - winding + wobble)
    ridge = 0.5 + 0.5 * np.cos(phase + rng.uniform(0, TURN))
    return ridge**sharpness


def _clumps(rng: np.random.Generator, density: np.ndarray, number: int, width: float) -> np.ndarray:
    """Star-forming regions at random places of a density (fine, fine); light (fine, fine), sum 1.

    The width [pixels] is that of one region, widened to what a half-pixel grid can hold.
    """
    height, length = density.shape
    cumulative = np.cumsum(density.ravel())
    place = np.searchsorted(cumulative, rng.random(number) * cumulative[-1])
    place = np.minimum(place, density.size - 1)
    strength = rng.lognormal(0, 1.0, number)
    rows, columns = np.unravel_index(place, density.shape)
    # A round Gaussian, cut at 3.5 sigma.
    sigma = max(width, 0.35) * FINE
    reach = int(np.ceil(3.5 * sigma))
    offset = np.arange(-reach, reach + 1)
    profile = np.exp(-0.5 * (offset / sigma) ** 2)
    spot = profile[:, None] * profile
    padded = np.zeros((height + 2 * reach, length + 2 * reach))
    for row, column, share in zip(rows, columns, strength, strict=True):
        padded[row : row + len(spot), column : column + len(spot)] += share * spot
    light = padded[reach : reach + height, reach : reach + length]
    return light / light.sum()


def _bar(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    """A bar in the plane of the disc (fine, fine), 1 in its middle."""
    angle = rng.uniform(0, np.pi)
    along, across = rotated(plane.along, plane.across, angle)
    length = rng.uniform(0.7, 1.3)
    width = 0.28 * length
    boxy = np.abs(along / length) ** 2.6 + np.abs(across / width) ** 2
    return np.exp(-(boxy**1.2))


def _spiral(rng: np.random.Generator, galaxy: Properties, plane: Plane) -> Lights:
    """A disc with arms that begin outside its middle, and with a bar in barred spirals."""
    smooth = np.exp(-plane.radius)
    ridge = arms(rng, galaxy, plane)
    armed = np.clip((plane.radius - 0.4) / 0.6, 0, 1)  # 0 in the middle, 1 where there are arms
    contrast = rng.uniform(0.5, 1.6)
    disc = smooth * (1 + contrast * armed * (ridge - 0.35))
    density = np.exp(-plane.radius * 0.85) * (0.12 + armed * ridge**1.5)
    if galaxy.morphology == "barred_spiral":
        # The bar has swept up the stars and the gas of the inner disc.
        inner = plane.radius / 1.1
        disc = disc * (1 - 0.35 * np.exp(-(inner**4)))
        disc = disc + rng.uniform(0.45, 0.9) * _bar(rng, plane)
        density = density * np.clip(inner, 0.1, 1)
    return np.clip(disc, 0, None), density


def _edge_on(rng: np.random.Generator, plane: Plane) -> Lights:
    """A disc of finite thickness seen from the side, with a dust lane in some."""
    thickness = rng.uniform(0.13, 0.24) + plane.flattening * 0.3
    reach = np.abs(plane.along)
    height = np.abs(plane.height)
    radial = np.exp(-reach) * (0.4 + reach) ** 0.3
    disc = radial / np.cosh(np.clip(height / thickness, 0, 50)) ** 1.5
    lane = rng.uniform(0.2, 0.75) * (rng.random() < 0.6)
    shift = rng.normal(0, 0.03)
    above = (plane.height - shift) / (0.3 * thickness)
    dust = 1 - lane * np.exp(-(above**2)) * np.exp(-((reach / 2.2) ** 4))
    flat = 0.6 * thickness
    young = np.exp(-reach * 0.8) / np.cosh(np.clip(height / flat, 0, 50)) ** 2
    return disc * dust, young * np.sqrt(dust)


def _irregular(rng: np.random.Generator, plane: Plane) -> Lights:
    """A lopsided disc with a few off-centre regions."""
    side = rng.uniform(0, TURN)
    strength = rng.uniform(0.2, 0.6)
    lopsided = 1 + strength * np.tanh(plane.radius) * np.cos(plane.azimuth - side)
    disc = np.exp(-plane.radius * lopsided)
    x = plane.along - rng.normal(0, 0.5)
    y = plane.across - rng.normal(0, 0.5)
    density = np.exp(-np.hypot(x, y) * 0.9)
    return disc, density


def _merger(rng: np.random.Generator, galaxy: Properties, plane: Plane) -> Lights:
    """Two discs that overlap, with a tidal tail on each side."""
    disc, density = _spiral(rng, galaxy, plane)
    azimuth = rng.uniform(0, TURN)
    distance = rng.uniform(2.0, 4.2)
    x = plane.along - distance * np.cos(azimuth)
    y = plane.across - distance * np.sin(azimuth)
    length = rng.uniform(0.4, 0.8)
    lean = rng.uniform(0, np.pi)
    along, across = rotated(x, y, lean)
    radius = np.hypot(along, across / rng.uniform(0.4, 0.9))
    companion = rng.uniform(1.5, 4.0) * np.exp(-radius / length)
    # The tail winds outwards from the companion; its width is 0.7 scale lengths.
    turn = rng.choice([-1, 1])
    bend = plane.azimuth - azimuth - turn * 0.55 * (plane.radius - distance)
    bend = (bend + np.pi) % TURN - np.pi
    ridge = np.exp(-((bend * plane.radius / 0.7) ** 2))
    tail = ridge * np.exp(-plane.radius / 3.2) * np.clip(plane.radius - 0.8, 0, 1)
    disc = disc + companion + 0.5 * tail
    return disc, density + 0.4 * companion + 0.5 * tail


def _of_morphology(rng: np.random.Generator, galaxy: Properties, plane: Plane) -> Lights:
    if galaxy.morphology == "edge_on":
        return _edge_on(rng, plane)
    if galaxy.morphology == "irregular":
        return _irregular(rng, plane)
    if galaxy.morphology == "merger":
        return _merger(rng, galaxy, plane)
    if galaxy.morphology in ("elliptical", "lenticular"):
        smooth = np.exp(-plane.radius)
        return smooth, smooth
    return _spiral(rng, galaxy, plane)


def disc_light(rng: np.random.Generator, galaxy: Properties, plane: Plane, region: float) -> Lights:
    """Old disc and young stars (fine, fine), each with sum 1; region: width of a star-forming region [pixels]."""
    disc, density = _of_morphology(rng, galaxy, plane)
    # Regions hold two fifths of the young light, more where they are few; the rest is smooth.
    share = 0.6 if galaxy.clumps < CLUMPY else 0.4
    smooth = (1 - share) * density / density.sum()
    young = smooth + share * _clumps(rng, density, galaxy.clumps, region)
    return disc / disc.sum(), young
