"""Dropout with cheap masks on the CPU.

`nn.Dropout` draws one Bernoulli number per element from a single-threaded generator: measured at 26% of a float32
training step of the light-curve encoder and 57% of a bfloat16 one. Here element i is kept where a 32-bit hash of i and
a key is large enough, with a key drawn from torch's generator for each call. Nothing depends on the element before, so
the loop is vectorised and shared by threads, and the backward pass computes the mask again instead of reading it.
Elsewhere than on the CPU it is `F.dropout`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import uint32
from torch import Tensor, nn

from astrom3.encoders import layers
from astrom3.encoders.cpu.bfloat16 import array, stored, wide
from astrom3.encoders.cpu.threads import share
from astrom3.kernel import kernel

BITS = 32
CHUNK = 1 << 18  # elements a thread takes at a time
FACTORS = {torch.float32: np.float32, torch.float64: np.float64, torch.bfloat16: np.float32}  # type for each dtype
Key = tuple[int, int]


def draw_key() -> Key:
    """Two numbers of 32 bits from torch's generator."""
    a, b = torch.randint(2**BITS, (2,)).tolist()
    return a, b


def loop_arguments(key: Key, p: float, number: Callable = np.float32) -> tuple[Any, ...]:
    """What compiled loops with dropout need: key (2), threshold, factor of what is kept."""
    return np.uint32(key[0]), np.uint32(key[1]), np.uint32(round(p * 2**BITS)), number(1 / (1 - p))


def drop(x: Tensor, key: Key, p: float, out: Tensor) -> Tensor:
    """Write x / (1 - p) into `out` where the element is kept, 0 elsewhere; both contiguous on the CPU, `out` may be x.

    An element is dropped with probability round(p 2^32) / 2^32.
    """
    if x.dtype not in FACTORS:  # float16, say: as float32
        return out.copy_(drop(wide := x.float(), key, p, wide))
    if x is not out and x.numel() and x.data_ptr() == out.data_ptr():
        raise ValueError("to overwrite x, give x itself as out")
    function: Callable[..., None] = _drop_here if x is out else _drop
    tensors = (x,) if x is out else (x, out)
    arrays = [array(t).reshape(-1) for t in tensors]
    rest = loop_arguments(key, p, FACTORS[x.dtype])

    def part(start: int, stop: int) -> None:
        function(*(a[start:stop] for a in arrays), np.uint32(start), *rest)

    share(part, x.numel(), CHUNK)
    return out


@kernel
def kept(i: np.uint32, a: np.uint32, b: np.uint32, threshold: np.uint32) -> np.bool_:
    # Wellons' lowbias32, keyed before and between its rounds
    h = uint32(uint32(i * uint32(0x9E3779B9)) + a)
    h = uint32(uint32(h ^ uint32(h >> uint32(16))) * uint32(0x7FEB352D))
    h = uint32(uint32(h ^ uint32(h >> uint32(15))) * uint32(0x846CA68B))
    h = uint32(uint32(h ^ uint32(h >> uint32(16))) + b)
    h = uint32(uint32(h ^ uint32(h >> uint32(16))) * uint32(0x7FEB352D))
    h = uint32(uint32(h ^ uint32(h >> uint32(15))) * uint32(0x846CA68B))
    return uint32(h ^ uint32(h >> uint32(16))) >= threshold


@kernel
def _drop(
    x: np.ndarray,
    out: np.ndarray,
    first: np.uint32,
    a: np.uint32,
    b: np.uint32,
    threshold: np.uint32,
    factor: np.floating,
) -> None:
    for i in range(x.size):
        scaled = stored(wide(x[i]) * factor, x[i])
        out[i] = scaled if kept(uint32(first + uint32(i)), a, b, threshold) else x.dtype.type(0)


@kernel
def _drop_here(
    x: np.ndarray, first: np.uint32, a: np.uint32, b: np.uint32, threshold: np.uint32, factor: np.floating
) -> None:
    # its own loop: two arrays that overlap are not vectorised
    for i in range(x.size):
        scaled = stored(wide(x[i]) * factor, x[i])
        x[i] = scaled if kept(uint32(first + uint32(i)), a, b, threshold) else x.dtype.type(0)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, key: Key, p: float, inplace: bool) -> Tensor:
        ctx.key = key
        ctx.p = p
        if inplace:
            ctx.mark_dirty(x)
        return drop(x, key, p, x if inplace else torch.empty_like(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        gradient = gradient.contiguous()
        return drop(gradient, ctx.key, ctx.p, torch.empty_like(gradient)), None, None, None


class Dropout(nn.Dropout):
    """Zero elements with probability `p` while training and scale the rest by 1 / (1 - p)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling() or self.p == 1:
            return super().forward(x)
        if self.inplace and not x.is_contiguous():
            return super().forward(x)
        return _Dropped.apply(x.contiguous(), draw_key(), self.p, self.inplace)


class TransientDropout(Dropout, layers.TransientDropout):
    """The same, and the input is overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling() or self.p == 1:
            return super().forward(x)
        return _Dropped.apply(x.contiguous(), draw_key(), self.p, True)
