"""Projection head of self-distillation (Caron et al. 2021, arXiv:2104.14294), shared by class and patch tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WeightNormLinear(nn.Module):
    """x (..., in) -> (..., out) without bias.

    Each row of the weight has a direction `weight_v` and a length `weight_g`, both trained.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_features, 1))
        self.weight_v = nn.Parameter(torch.empty(out_features, in_features))
        bound = in_features**-0.5
        nn.init.uniform_(self.weight_v, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=1, keepdim=True))
        return F.linear(x, weight)


class DINOHead(nn.Module):
    """Tokens (..., in_dim) -> logits over prototypes (..., out_dim). The published size is the default."""

    def __init__(
        self,
        in_dim: int = 1024,
        out_dim: int = 65_536,
        nlayers: int = 3,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
    ) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.out_dim = out_dim
        self.nlayers = nlayers
        self.hidden_dim = hidden_dim
        self.bottleneck_dim = bottleneck_dim
        self.mlp = _layers(in_dim, bottleneck_dim, max(nlayers, 1), hidden_dim)
        self.last_layer = WeightNormLinear(bottleneck_dim, out_dim)
        for module in self.mlp.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.mlp(tokens)
        smallest = 1e-6 if x.dtype == torch.float16 else 1e-12
        return self.last_layer(F.normalize(x, eps=smallest))


def _layers(in_dim: int, out_dim: int, count: int, hidden_dim: int) -> nn.Module:
    """`count` Linear layers with a GELU between them, named as in the published head."""
    if count == 1:
        return nn.Linear(in_dim, out_dim)
    layers: list[nn.Module] = [nn.Linear(in_dim, hidden_dim), nn.GELU()]
    for _ in range(count - 2):
        layers.append(nn.Linear(hidden_dim, hidden_dim))
        layers.append(nn.GELU())
    layers.append(nn.Linear(hidden_dim, out_dim))
    return nn.Sequential(*layers)


class Branch(nn.Module):
    """A student or a teacher of self-distillation: an image encoder and its projection head, named as in the published
    file. As an encoder it is the image encoder: cutouts (B, 3, S, S) in nanomaggies -> embedding (B, out_features)."""

    def __init__(self, backbone: nn.Module, dino_head: DINOHead) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.dino_head = dino_head
        self.view = backbone.view
        self.inputs = backbone.inputs
        self.out_features = backbone.out_features

    def forward(self, flux: Tensor) -> Tensor:
        return self.backbone(flux)
