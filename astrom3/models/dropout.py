"""Dropout with cheap masks on the CPU.

`nn.Dropout` draws one Bernoulli number per element from a single-threaded generator: measured at 26% of a float32
training step of the light-curve encoder and 57% of a bfloat16 one. Here one 64-bit draw decides four elements, by
comparing 16-bit pieces with a threshold, so the probability is p rounded to a multiple of 2^-16. Elsewhere than on
the CPU it is `F.dropout`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BITS = 16


def keep_mask(shape: torch.Size, p: float) -> Tensor:
    """Boolean CPU mask of the given shape, False with probability round(p * 2^16) / 2^16, from torch's generator."""
    n = shape.numel()
    words = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # all 64 bits
    threshold = round(p * 2**BITS) - 2 ** (BITS - 1)  # of a signed 16-bit number
    return words.view(torch.int16)[:n].view(shape) >= threshold


class _Masked(torch.autograd.Function):
    """x where the mask is true, times a factor; a product with a boolean mask would take four times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.factor = factor
        return torch.where(mask, x, 0).mul_(factor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (mask,) = ctx.saved_tensors
        return torch.where(mask, gradient, 0).mul_(ctx.factor), None, None


class Dropout(nn.Module):
    """Zero elements with probability `p` while training and scale the rest by 1 / (1 - p)."""

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        return _Masked.apply(x, keep_mask(x.shape, self.p), 1 / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p}"
