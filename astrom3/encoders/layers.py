"""Layers that several encoders share, in plain torch. `cpu.accelerate` exchanges them for faster ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def for_products(x: Tensor) -> Tensor:
    """x in the dtype of autocast's matrix products, so that it is cast once and not by each of them."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class TransientDropout(nn.Dropout):
    """Dropout of numbers that nothing else reads, no backward pass either, so that its result may take their place."""


class ResidualNorm(nn.LayerNorm):
    """LayerNorm over the last dimension of x + dropout(branch), as each half of a Transformer layer ends."""

    def forward(self, x: Tensor, branch: Tensor, dropout: nn.Dropout) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """x, branch (..., n) -> the norm, and the same `for_products`. x is float32 under autocast."""
        out = super().forward(x + dropout(branch))
        return out, for_products(out)
