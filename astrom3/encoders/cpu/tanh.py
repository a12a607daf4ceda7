"""The hyperbolic tangent in float32 on the CPU, as a ratio of polynomials.

Torch's own is exact to the last digit and takes 9 % of an Astromer 2 inference; this one is within 4e-7 and several
times as fast. It is a rational function of x (odd over even, as in Eigen, which TensorFlow uses on the CPU), so the
loop has no branches and is vectorised. Elsewhere than on the CPU, and in other dtypes, it is `torch.tanh`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

from astrom3.encoders.cpu.bfloat16 import array
from astrom3.encoders.cpu.threads import share

CHUNK = 1 << 16  # elements a thread takes at a time
LARGEST = np.float32(7.90531110763549805)  # beyond it float32 has no number between tanh(x) and 1
ODD = (
    np.float32(4.89352455891786e-03),
    np.float32(6.37261928875436e-04),
    np.float32(1.48572235717979e-05),
    np.float32(5.12229709037114e-08),
    np.float32(-8.60467152213735e-11),
    np.float32(2.00018790482477e-13),
    np.float32(-2.76076847742355e-16),
)
EVEN = (
    np.float32(4.89352518554385e-03),
    np.float32(2.26843463243900e-03),
    np.float32(1.18534705686654e-04),
    np.float32(1.19825839466702e-06),
)


class Tanh(nn.Tanh):
    """tanh of every element."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
            return super().forward(x)
        return _Tanh.apply(x.contiguous())


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        source = array(x).reshape(-1)
        target = array(out).reshape(-1)

        def part(start: int, stop: int) -> None:
            _tanh(source[start:stop], target[start:stop])

        share(part, x.numel(), CHUNK)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (out,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(gradient, out)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # no test for a divisor of 0, which would stop vectorisation
def _tanh(x: np.ndarray, out: np.ndarray) -> None:
    o0, o1, o2, o3, o4, o5, o6 = ODD
    e0, e1, e2, e3 = EVEN
    for i in range(x.size):
        value = x[i]
        value = LARGEST if value > LARGEST else value  # NaN stays NaN
        value = -LARGEST if value < -LARGEST else value
        square = value * value
        odd = ((((((o6 * square + o5) * square + o4) * square + o3) * square + o2) * square + o1) * square + o0) * value
        even = ((e3 * square + e2) * square + e1) * square + e0
        out[i] = odd / even
