"""Linear layers; on AMD processors with AVX-512 they are done as convolutions of width 1, by oneDNN instead of MKL.

MKL, which torch takes for matrix products in float32, uses half the vector width there: 187 GFLOP/s on two cores of an
EPYC, oneDNN 414. Torch hands convolutions to oneDNN but has no switch for float32 products; both sum in float32, so
results differ in the last digits only. Elsewhere, in other dtypes and for small batches it is torch's own layer.
"""

from __future__ import annotations

from functools import cache

import torch
from llvmlite.binding import get_host_cpu_name
from torch import Tensor, nn
from torch.nn import functional as F

FEWEST = 16  # objects: with fewer, and one thread, torch does not ask oneDNN
DTYPES = (torch.float32, torch.bfloat16)


@cache
def convolution_is_faster() -> bool:
    """Whether this processor is one on which MKL falls behind: decided by its kind, so that a run gives the same
    numbers whenever it is started."""
    amd = get_host_cpu_name().startswith("znver")
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return amd and wide and torch.backends.mkldnn.is_available()


class Linear(nn.Linear):
    """nn.Linear, (B, ..., in) -> (B, ..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or x.device.type != "cpu" or not convolution_is_faster():
            return super().forward(x)
        if x.dtype not in DTYPES or len(x) < FEWEST:
            return super().forward(x)
        image = x.reshape(len(x), -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (B, in, rows, 1), channels last in memory
        out = F.conv2d(image, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
