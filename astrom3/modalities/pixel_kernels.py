"""Compiled loops over the pixels of galaxy images, made so that the compiler works on many pixels at once.

The logarithm is that of Cephes in float32, good to two units of the last place. Normal numbers are Box and Muller's of
a counter, so that no loop waits for the number before: a pixel's noise is a function of (key, position in its plane).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np

from astrom3.modalities.cutout import BAND_SCALES

F = TypeVar("F", bound=Callable)
ONE = np.float32(1)
HALF = np.float32(0.5)
ZERO = np.float32(0)
TWO = np.float32(2)
PI = np.float32(np.pi)
THIRD = np.float32(1 / 3)
DARK = np.float32(1e-6)  # brightness that stands for 0, as published
STEP = np.float32(2.0**-24)
SCALES = np.array([BAND_SCALES[band] for band in "grz"], dtype=np.float32)
BLOCK = 1024  # numbers that are summed at a time: they stay in the first cache
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele, Lea & Flood 2014)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


def pixel_kernel(function: F) -> F:
    """Divisions follow IEEE and sums may be reordered: both are what lets loops be vectorised."""
    wrapped = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
    return wrapped(function)  # type: ignore[return-value]


@pixel_kernel
def log32(x: np.float32) -> np.float32:
    """Natural logarithm of a positive float32."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - np.int32(0x3F3504F3)) >> np.int32(23))
    mantissa = np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32)  # sqrt(1/2) to sqrt(2)
    f = mantissa - ONE
    e = np.float32(exponent)
    z = f * f
    y = np.float32(7.0376836292e-2)
    y = y * f - np.float32(1.1514610310e-1)
    y = y * f + np.float32(1.1676998740e-1)
    y = y * f - np.float32(1.2420140846e-1)
    y = y * f + np.float32(1.4249322787e-1)
    y = y * f - np.float32(1.6668057665e-1)
    y = y * f + np.float32(2.0000714765e-1)
    y = y * f - np.float32(2.4999993993e-1)
    y = y * f + np.float32(3.3333331174e-1)
    y = y * f * z - np.float32(2.12194440e-4) * e - HALF * z
    return f + y + np.float32(0.693359375) * e


@numba.njit(cache=True, nogil=True, error_model="numpy")
def arcsinh32(y: np.float32) -> np.float32:
    """arcsinh of a float32 that is not negative, to the same relative precision where it is tiny. No reordering of its
    sums: they hold what rounding lost."""
    t = y + y * y / (ONE + np.sqrt(ONE + y * y))
    u = ONE + t
    return log32(u) + (t - (u - ONE)) / u  # log1p of t


@pixel_kernel
def colours(
    flux: np.ndarray, top: int, left: int, scales: np.ndarray, m: np.float32, q: np.float32, out: np.ndarray
) -> None:
    """Flux (B, 3, H, W) g, r, z -> images (B, 3, h, w) z, r, g in [0, 1] of the window at (top, left), all float32."""
    count, _, height, width = out.shape
    root = ONE / np.sqrt(q)
    g_scale = scales[0]
    r_scale = scales[1]
    z_scale = scales[2]
    for b in range(count):
        for i in range(height):
            g_in = flux[b, 0, top + i, left : left + width]
            r_in = flux[b, 1, top + i, left : left + width]
            z_in = flux[b, 2, top + i, left : left + width]
            z_out = out[b, 0, i]
            r_out = out[b, 1, i]
            g_out = out[b, 2, i]
            for j in range(width):
                g = g_in[j] * g_scale + m
                r = r_in[j] * r_scale + m
                z = z_in[j] * z_scale + m
                light = (g if g > ZERO else ZERO) + (r if r > ZERO else ZERO) + (z if z > ZERO else ZERO)
                light = light * THIRD
                factor = arcsinh32(q * light) * root / (light if light > ZERO else DARK)
                g = g * factor
                r = r * factor
                z = z * factor
                z = z if z > ZERO else ZERO
                r = r if r > ZERO else ZERO
                g = g if g > ZERO else ZERO
                z_out[j] = z if z < ONE else ONE
                r_out[j] = r if r < ONE else ONE
                g_out[j] = g if g < ONE else ONE


def coloured(flux: np.ndarray, top: int, left: int, m: float, q: float, out: np.ndarray) -> None:
    """`colours` with the scales of g, r and z; m and q are numbers of Python."""
    colours(flux, top, left, SCALES, np.float32(m), np.float32(q), out)


@pixel_kernel
def mixed(key: np.uint64, position: np.uint64) -> np.uint64:
    """64 random bits of a key and a position, both uint64: splitmix64."""
    x = key + position * GOLDEN
    x = (x ^ (x >> np.uint64(30))) * MIX_1
    x = (x ^ (x >> np.uint64(27))) * MIX_2
    return x ^ (x >> np.uint64(31))


@pixel_kernel
def add_normal(plane: np.ndarray, sigma: np.float32, key: np.uint64) -> None:
    """Add normal numbers of deviation `sigma` to a plane (N,) float32, in place; key: uint64."""
    half = len(plane) // 2
    first = plane[:half]
    second = plane[half : 2 * half]
    for i in range(half):
        bits = mixed(key, np.uint64(i))
        radius = sigma * np.sqrt(-TWO * log32((np.float32(np.int32(bits >> np.uint64(40))) + ONE) * STEP))
        x = PI * (np.float32(np.int32((bits >> np.uint64(8)) & np.uint64(0xFFFFFF))) * STEP - HALF)
        w = x * x  # sine and cosine of half the angle, which is at most pi / 2
        sine = np.float32(-2.5052108e-8)
        sine = sine * w + np.float32(2.7557319e-6)
        sine = sine * w - np.float32(1.9841270e-4)
        sine = sine * w + np.float32(8.3333333e-3)
        sine = sine * w - np.float32(1.6666667e-1)
        sine = (sine * w + ONE) * x
        cosine = np.float32(2.0876757e-9)
        cosine = cosine * w - np.float32(2.7557319e-7)
        cosine = cosine * w + np.float32(2.4801587e-5)
        cosine = cosine * w - np.float32(1.3888889e-3)
        cosine = cosine * w + np.float32(4.1666667e-2)
        cosine = (cosine * w - HALF) * w + ONE
        first[i] += radius * (cosine * cosine - sine * sine)
        second[i] += radius * (TWO * sine * cosine)
    if len(plane) > 2 * half:
        bits = mixed(key, np.uint64(half))
        radius = sigma * np.sqrt(-TWO * log32((np.float32(np.int32(bits >> np.uint64(40))) + ONE) * STEP))
        angle = TWO * PI * np.float32(np.int32((bits >> np.uint64(8)) & np.uint64(0xFFFFFF))) * STEP
        plane[2 * half] += radius * np.cos(angle)


@pixel_kernel
def cut(flux: np.ndarray, top: int, left: int, hflip: bool, vflip: bool, out: np.ndarray) -> None:
    """The window of flux (3, H, W) at (top, left), flipped as said, into out (3, h, w) float32."""
    _, height, width = out.shape
    for band in range(3):
        for i in range(height):
            row = top + height - 1 - i if vflip else top + i
            source = flux[band, row, left : left + width]
            target = out[band, i]
            if hflip:
                for j in range(width):
                    target[j] = source[width - 1 - j]
            else:
                for j in range(width):
                    target[j] = source[j]


@pixel_kernel
def smooth(image: np.ndarray, sigmas: np.ndarray, cut_at: float) -> None:
    """Each band of image (B, H, W) float32 convolved along both axes with a Gaussian of sigmas (B,) pixels, in place;
    as it is where that is 0. The Gaussian ends at `cut_at` sigmas, and borders are mirrored, half a pixel out.

    Both passes run over the flat plane, since rows of 60 pixels are too short for loops over vectors. Along rows the
    mirrored borders between two rows are filtered too, and not used.
    """
    bands, height, width = image.shape
    for band in range(bands):
        sigma = sigmas[band]
        if sigma <= 0:
            continue
        radius = int(cut_at * sigma + 0.5)
        weights = half_gaussian(sigma, radius)
        plane = image[band]
        tall = np.empty((height + 2 * radius, width), np.float32)
        for i in range(height + 2 * radius):
            tall[i] = plane[mirrored(i - radius, height)]
        filtered = np.empty(height * width, np.float32)
        weighted_sums(tall.reshape(-1), weights, width, filtered)
        wide = np.empty((height, width + 2 * radius), np.float32)
        for i in range(height):
            line = wide[i]
            line[radius : radius + width] = filtered[i * width : (i + 1) * width]
            for j in range(radius):
                line[j] = line[radius + mirrored(j - radius, width)]
                line[radius + width + j] = line[radius + mirrored(width + j, width)]
        blurred = np.empty(height * (width + 2 * radius), np.float32)
        weighted_sums(wide.reshape(-1), weights, 1, blurred[: len(blurred) - 2 * radius])
        for i in range(height):
            first = i * (width + 2 * radius)
            plane[i] = blurred[first : first + width]


@pixel_kernel
def weighted_sums(values: np.ndarray, weights: np.ndarray, step: int, out: np.ndarray) -> None:
    """out[j] = sum of weights[|k|] values[j + (R + k) step] over k from -R to R; values has 2 R step numbers more."""
    radius = len(weights) - 1
    for start in range(0, len(out), BLOCK):
        part = out[start : start + BLOCK]
        count = len(part)
        middle = values[start + radius * step : start + radius * step + count]
        for j in range(count):
            part[j] = weights[0] * middle[j]
        for k in range(1, radius, 2):  # two pairs at a time
            near = weights[k]
            far = weights[k + 1]
            a = values[start + (radius - k) * step : start + (radius - k) * step + count]
            b = values[start + (radius + k) * step : start + (radius + k) * step + count]
            c = values[start + (radius - k - 1) * step : start + (radius - k - 1) * step + count]
            d = values[start + (radius + k + 1) * step : start + (radius + k + 1) * step + count]
            for j in range(count):
                part[j] += near * (a[j] + b[j]) + far * (c[j] + d[j])
        if radius % 2:
            a = values[start : start + count]
            b = values[start + 2 * radius * step : start + 2 * radius * step + count]
            for j in range(count):
                part[j] += weights[radius] * (a[j] + b[j])


@pixel_kernel
def half_gaussian(sigma: float, radius: int) -> np.ndarray:
    """Weights (radius + 1,) float32 of a Gaussian at 0, 1, 2 ... pixels; with those on the other side they sum to 1."""
    weights = np.empty(radius + 1, np.float64)
    total = -1.0
    for k in range(radius + 1):
        weights[k] = math.exp(-0.5 * (k / sigma) ** 2)
        total += 2 * weights[k]
    return (weights / total).astype(np.float32)


@pixel_kernel
def mirrored(position: int, length: int) -> int:
    """The pixel that stands at a position when a line is mirrored at its ends, half a pixel out."""
    position %= 2 * length
    return position if position < length else 2 * length - 1 - position
