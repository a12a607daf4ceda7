"""Random crops of galaxy cutouts for self-distillation, with blur and noise in flux space (AstroDINO, section 4.2).

`CropSettings.draw` makes every random choice but the noise field; `crop_image` carries them out. One image a call,
in compiled loops, so that loader processes do it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from astrom3.errors import UserError
from astrom3.kernel import kernel, summing_kernel
from astrom3.modalities.cutout import BAND_SCALES, SOFTENING, STRETCH

SCALES = np.array([BAND_SCALES[band] for band in "grz"], dtype=np.float32)
FILTER_CUT = 4.0  # standard deviations where the blur's Gaussian ends


@dataclass(frozen=True)
class Spread:
    """Log-normal distribution of a quantity of each band g, r, z: LogNormal(ln scale, shape) + location."""

    shape: tuple[float, float, float]
    location: tuple[float, float, float]
    scale: tuple[float, float, float]

    def draw_added(self, random: Generator, count: int) -> np.ndarray:
        """What brings drawn true values to drawn final ones in quadrature, float64 (count, 3).

        It is 0 where the true value is larger, which is about half of all.
        """
        normal = random.standard_normal((2, count, 3))
        true, final = np.exp(np.log(self.scale) + np.array(self.shape) * normal) + self.location
        return np.sqrt(np.maximum(final**2 - true**2, 0))


# Of the Legacy Survey, as fitted by the reference: noise in nanomaggies, blur in pixels.
NOISE = Spread(
    (0.2264926, 0.2431146, 0.1334844), (-0.0006735, -0.0023663, -0.0143416), (0.0037602, 0.0067417, 0.0260779)
)
BLUR = Spread((0.2109966, 0.3008485, 0.3471172), (1.0807153, 1.2394326, 1.1928363), (1.3153171, 0.9164757, 0.8233702))


@dataclass(frozen=True)
class Crop:
    """One crop: window in pixels, flips, and the Gaussian widths added to each band (none where not applied)."""

    top: int
    left: int
    size: int
    hflip: bool = False
    vflip: bool = False
    blur: tuple[float, float, float] | None = None
    noise: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class CropSettings:
    """Sizes in pixels and probabilities. The probabilities are those with which blur and noise are applied.

    The reference writes 1.0, 0.1 and 0.5 for the first global, second global and local crops and applies one minus
    them; the published weights were made with the effective numbers, which are the defaults here.
    """

    global_size: int = 144
    local_size: int = 60
    local_crops: int = 8
    flip: float = 0.5
    blur: tuple[float, float, float] = (0.0, 0.9, 0.5)
    added_noise: tuple[float, float, float] = (0.0, 0.9, 0.5)
    blur_spread: Spread = field(default=BLUR)
    noise_spread: Spread = field(default=NOISE)

    def draw(self, random: Generator, height: int = 152, width: int = 152) -> list[Crop]:
        """All crops of one image: first global, second global, then the local ones."""
        count = 2 + self.local_crops
        kinds = [0, 1] + self.local_crops * [2]
        sizes = np.where(np.array(kinds) < 2, self.global_size, self.local_size)
        if sizes.max() > min(height, width):
            raise UserError(f"an image of {height} x {width} pixels is too small for crops of {sizes.max()} pixels")
        tops = random.integers(height - sizes + 1)
        lefts = random.integers(width - sizes + 1)
        flips = random.random((count, 2)) < self.flip
        applied = random.random((count, 2))
        blurs = self.blur_spread.draw_added(random, count)
        noises = self.noise_spread.draw_added(random, count)
        crops = []
        for index, kind in enumerate(kinds):
            blurred = applied[index, 0] < self.blur[kind]
            noisy = applied[index, 1] < self.added_noise[kind]
            crop = Crop(
                int(tops[index]),
                int(lefts[index]),
                int(sizes[index]),
                bool(flips[index, 0]),
                bool(flips[index, 1]),
                tuple(blurs[index].tolist()) if blurred else None,
                tuple(noises[index].tolist()) if noisy else None,
            )
            crops.append(crop)
        return crops

    def images(self, flux: np.ndarray, random: Generator) -> list[np.ndarray]:
        """Flux (3, H, W) g, r, z in nanomaggies -> network images of new random crops, float32 (3, size, size)."""
        crops = self.draw(random, *flux.shape[1:])
        return [crop_image(flux, crop, random=random) for crop in crops]


def crop_image(
    flux: np.ndarray,
    crop: Crop,
    noise: np.ndarray | None = None,
    random: Generator | None = None,
) -> np.ndarray:
    """The network image of one crop, float32 (3, size, size), planes z, r, g.

    flux is (3, H, W) g, r, z. The noise field (3, size, size) is drawn from `random` where it is not given.
    """
    out = window(flux, crop)
    if crop.blur is not None:
        blur(out, crop.blur)
    if noise is not None:
        out += noise
    elif crop.noise is not None and any(crop.noise):
        if random is None:
            raise UserError("a crop with noise needs either the noise field or a random generator")
        add_noise(out, crop.noise, random)
    return colour(out)


def window(flux: np.ndarray, crop: Crop) -> np.ndarray:
    """The window of a crop, flipped, as a new float32 array (3, size, size)."""
    part = flux[:, crop.top : crop.top + crop.size, crop.left : crop.left + crop.size]
    if crop.hflip:
        part = part[:, :, ::-1]
    if crop.vflip:
        part = part[:, ::-1]
    return np.array(part, dtype=np.float32, order="C")


def add_noise(image: np.ndarray, sigma: tuple[float, float, float], random: Generator) -> None:
    """Add Gaussian noise of `sigma` nanomaggies to each band of image (3, H, W), in place; nothing where it is 0."""
    for plane, width in zip(image, sigma, strict=True):
        if width > 0:
            plane += random.standard_normal(plane.shape, dtype=np.float32) * np.float32(width)


def blur(image: np.ndarray, sigma: tuple[float, float, float]) -> None:
    """Convolve each band of image, float32 (3, H, W), with a Gaussian of `sigma` pixels, in place.

    Borders are mirrored at half a pixel and the Gaussian is cut at 4 sigma, as in scipy.ndimage.gaussian_filter.
    """
    for plane, width in zip(image, sigma, strict=True):
        if width > 0:
            plane[:] = gaussian_filter(plane, width)


def gaussian_filter(plane: np.ndarray, sigma: float) -> np.ndarray:
    """plane, float32 (H, W), convolved with a Gaussian of `sigma` pixels along both axes."""
    radius = int(FILTER_CUT * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    rows = _mirrored(plane.shape[0], radius)
    columns = _mirrored(plane.shape[1], radius)
    out = np.empty_like(plane)
    _separable(np.ascontiguousarray(plane), weights, rows, columns, out)
    return out


def _mirrored(length: int, radius: int) -> np.ndarray:
    """Which pixel stands at -radius ... length + radius - 1 when a line is mirrored at its ends, half a pixel out."""
    position = np.arange(-radius, length + radius) % (2 * length)
    return np.minimum(position, 2 * length - 1 - position)


@summing_kernel
def _separable(plane, weights, rows, columns, out):
    height, width = plane.shape
    taps = len(weights)
    line = np.empty(width + taps - 1, np.float32)
    for i in range(height):
        line[:] = 0
        middle = line[taps // 2 : taps // 2 + width]
        for k in range(taps):
            source = plane[rows[i + k]]
            for j in range(width):
                middle[j] += weights[k] * source[j]
        left = taps // 2
        for j in range(left):
            line[j] = line[left + columns[j]]
            line[left + width + j] = line[left + columns[left + width + j]]
        for j in range(width):
            out[i, j] = 0
        for k in range(taps):
            for j in range(width):
                out[i, j] += weights[k] * line[j + k]


def colour(image: np.ndarray, m: float = SOFTENING, q: float = STRETCH) -> np.ndarray:
    """Flux, float32 (3, H, W) g, r, z -> network image (3, H, W) z, r, g in [0, 1], as `cutout.stretch`.

    The logarithm is numpy's, which works on many numbers at once where a compiled loop takes one.
    """
    flat = image.reshape(3, -1)
    out = np.empty_like(flat)
    argument = np.empty(flat.shape[1], dtype=np.float32)
    factor = np.empty_like(argument)
    _arcsinh_argument(flat, SCALES, np.float32(m), np.float32(q), np.float32(1 / math.sqrt(q)), argument, factor)
    factor *= np.log1p(argument, out=argument)
    _scale_bands(flat, SCALES, np.float32(m), factor, out)
    return out.reshape(image.shape)


@kernel
def _arcsinh_argument(flux, scales, m, q, root, argument, factor):
    """For brightness I: argument with arcsinh(q I) = log1p(argument), and factor = root / I."""
    one = np.float32(1)
    zero = np.float32(0)
    third = np.float32(1 / 3)
    dark = np.float32(1e-6)
    for j in range(flux.shape[1]):
        g = max(flux[0, j] * scales[0] + m, zero)
        r = max(flux[1, j] * scales[1] + m, zero)
        z = max(flux[2, j] * scales[2] + m, zero)
        brightness = (g + r + z) * third
        y = q * brightness
        argument[j] = y + y * y / (one + np.sqrt(one + y * y))
        factor[j] = root / (brightness if brightness > zero else dark)


@kernel
def _scale_bands(flux, scales, m, factor, out):
    for band in range(3):
        scale = scales[band]
        plane = out[2 - band]
        for j in range(flux.shape[1]):
            value = (flux[band, j] * scale + m) * factor[j]
            plane[j] = min(max(value, np.float32(0)), np.float32(1))
