"""Random crops of galaxy cutouts for self-distillation, with blur and noise in flux space (AstroDINO, section 4.2).

`CropSettings.draw` makes every random choice but the noise field; `crop_image` carries them out. One image a call,
in compiled loops, so that loader processes do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from astrom3.errors import UserError
from astrom3.modalities.cutout import SOFTENING, STRETCH
from astrom3.modalities.pixel_kernels import add_normal, coloured, cut, smooth

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

    def images(self, flux: np.ndarray, random: Generator, out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """Flux (3, H, W) g, r, z in nanomaggies -> network images of new random crops, float32 (3, size, size).

        They are written into `out` where it is given: an array for each crop.
        """
        crops = self.draw(random, *flux.shape[1:])
        scratch = np.empty(3 * self.global_size**2, dtype=np.float32)
        places: Sequence[np.ndarray | None] = [None] * len(crops) if out is None else out
        found = []
        for crop, place in zip(crops, places, strict=True):
            found.append(crop_image(flux, crop, random=random, out=place, scratch=scratch))
        return found


def crop_image(
    flux: np.ndarray,
    crop: Crop,
    noise: np.ndarray | None = None,
    random: Generator | None = None,
    out: np.ndarray | None = None,
    scratch: np.ndarray | None = None,
) -> np.ndarray:
    """The network image of one crop, float32 (3, size, size), planes z, r, g.

    flux is (3, H, W) g, r, z. The noise field (3, size, size) is drawn from `random` where it is not given. out: where
    the image is written. scratch: room for 3 size^2 numbers of float32, so that none is asked for again.
    """
    part = window(flux, crop, scratch)
    if crop.blur is not None:
        blur(part, crop.blur)
    if noise is not None:
        part += noise
    elif crop.noise is not None and any(crop.noise):
        if random is None:
            raise UserError("a crop with noise needs either the noise field or a random generator")
        add_noise(part, crop.noise, random)
    return colour(part, out=out)


def window(flux: np.ndarray, crop: Crop, scratch: np.ndarray | None = None) -> np.ndarray:
    """The window of a crop, flipped, as a float32 array (3, size, size) in `scratch`, or a new one."""
    count = 3 * crop.size**2
    room = np.empty(count, dtype=np.float32) if scratch is None or len(scratch) < count else scratch[:count]
    out = room.reshape(3, crop.size, crop.size)
    cut(flux, crop.top, crop.left, crop.hflip, crop.vflip, out)
    return out


def add_noise(image: np.ndarray, sigma: tuple[float, float, float], random: Generator) -> None:
    """Add Gaussian noise of `sigma` nanomaggies to each band of image (3, H, W), in place; nothing where it is 0."""
    keys = random.integers(0, 1 << 64, size=3, dtype=np.uint64)
    for plane, width, key in zip(image, sigma, keys, strict=True):
        if width > 0:
            add_normal(plane.reshape(-1), np.float32(width), key)


def blur(image: np.ndarray, sigma: Sequence[float]) -> None:
    """Convolve each band of image, float32 (3, H, W), with a Gaussian of `sigma` pixels, in place.

    Borders are mirrored at half a pixel and the Gaussian is cut at 4 sigma, as in scipy.ndimage.gaussian_filter.
    """
    smooth(image, np.asarray(sigma, dtype=np.float64), FILTER_CUT)


def gaussian_filter(plane: np.ndarray, sigma: float) -> np.ndarray:
    """plane, float32 (H, W), convolved with a Gaussian of `sigma` pixels along both axes."""
    out = np.array(plane[None], dtype=np.float32)
    blur(out, (sigma,))
    return out[0]


def colour(image: np.ndarray, m: float = SOFTENING, q: float = STRETCH, out: np.ndarray | None = None) -> np.ndarray:
    """Flux, float32 (3, H, W) g, r, z -> network image (3, H, W) z, r, g in [0, 1], as `cutout.stretch`, in `out`."""
    out = np.empty_like(image) if out is None else out
    coloured(image[None], 0, 0, m, q, out[None])
    return out
