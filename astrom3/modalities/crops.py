"""Random crops of galaxy cutouts for self-distillation, with blur and noise in flux space (AstroDINO, section 4.2).

`draw_crops` makes every random choice but the noise field; `CropSettings.images` carries them out. One image a call,
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

    def draw(self, random: Generator) -> np.ndarray:
        """One value for each band, float64 (3,)."""
        return random.lognormal(np.log(self.scale), self.shape) + self.location

    def draw_added(self, random: Generator) -> tuple[float, float, float]:
        """What brings a drawn true value to a drawn final one in quadrature; 0 where the true one is larger."""
        true = self.draw(random)
        final = self.draw(random)
        added = np.sqrt(np.maximum(final**2 - true**2, 0))
        return (float(added[0]), float(added[1]), float(added[2]))


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
        crops = [self._draw_one(random, height, width, self.global_size, kind) for kind in (0, 1)]
        for _ in range(self.local_crops):
            crops.append(self._draw_one(random, height, width, self.local_size, 2))
        return crops

    def _draw_one(self, random: Generator, height: int, width: int, size: int, kind: int) -> Crop:
        if size > min(height, width):
            raise UserError(f"an image of {height} x {width} pixels is too small for crops of {size} pixels")
        choices = random.random(4)
        top = int(random.integers(height - size + 1))
        left = int(random.integers(width - size + 1))
        blur = self.blur_spread.draw_added(random) if choices[2] < self.blur[kind] else None
        noise = self.noise_spread.draw_added(random) if choices[3] < self.added_noise[kind] else None
        return Crop(top, left, size, bool(choices[0] < self.flip), bool(choices[1] < self.flip), blur, noise)

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
    """Flux, float32 (3, H, W) g, r, z -> network image (3, H, W) z, r, g in [0, 1], as `cutout.stretch`."""
    out = np.empty_like(image)
    flat = image.reshape(3, -1)
    _colour(flat, SCALES, np.float32(m), np.float32(q), np.float32(1 / math.sqrt(q)), out.reshape(3, -1))
    return out


@kernel
def _colour(flux, scales, m, q, factor, out):
    one = np.float32(1)
    zero = np.float32(0)
    third = np.float32(1 / 3)
    block = 512
    brightness = np.empty(block, np.float32)
    for start in range(0, flux.shape[1], block):
        count = min(block, flux.shape[1] - start)
        for j in range(count):
            g = max(flux[0, start + j] * scales[0] + m, zero)
            r = max(flux[1, start + j] * scales[1] + m, zero)
            z = max(flux[2, start + j] * scales[2] + m, zero)
            brightness[j] = (g + r + z) * third
        for j in range(count):
            y = q * brightness[j]
            # asinh(y) = log1p(y + y^2 / (1 + sqrt(1 + y^2))), without cancellation for small y
            stretched = np.log1p(y + y * y / (one + np.sqrt(one + y * y))) * factor
            below = brightness[j] if brightness[j] > zero else np.float32(1e-6)
            brightness[j] = stretched / below
        for band in range(3):
            scale = scales[band]
            plane = out[2 - band]
            for j in range(count):
                value = (flux[band, start + j] * scale + m) * brightness[j]
                plane[start + j] = min(max(value, zero), one)
