"""Linear layers of sequences done as convolutions of width 1, which is faster on AMD processors with AVX-512.

MKL, which torch takes for matrix products in float32, uses half the vector width there: 187 GFLOP/s on two cores of an
EPYC, oneDNN 414. Torch hands convolutions to oneDNN but has no switch for float32 products; both sum in float32, so
results differ in the last digits only. In other dtypes, for single vectors and for small batches it is torch's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEWEST = 16  # objects: with fewer, and one thread, torch does not ask oneDNN
NARROWEST = 16  # features of the input and the output
DTYPES = (torch.float32, torch.bfloat16)


class Linear(nn.Linear):
    """nn.Linear, (B, ..., in) -> (B, ..., out)."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not self._suits(x):
            return super().forward(x)
        image = x.reshape(len(x), -1, 1, x.shape[-1]).permute(0, 3, 1, 2)  # (B, in, rows, 1), channels last in memory
        out = F.conv2d(image, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)

    def _suits(self, x: Tensor) -> bool:
        if x.device.type != "cpu" or x.dtype not in DTYPES:
            return False
        return x.ndim > 2 and len(x) >= FEWEST and min(self.weight.shape) >= NARROWEST
