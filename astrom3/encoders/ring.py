"""Encoders of the two views for surveys of one's own (modalities/ring_view.py): the folded curve, and its features.

curve = RingEncoder()(ring, scalars)            # (B, 4, 64), (B, 5) -> (B, 128)
measured = VariabilityEncoder()(features)       # (B, 58) -> (B, 128)

"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from astrom3.modalities.constants import CHANNELS, FEATURES, RING, SCALAR, SCALARS, VARIABILITY_FEATURES

KERNEL = 5  # phases that a convolution reads


class RingEncoder(nn.Module):
    """Ring (B, 4, 64) and scalars (B, 5) of the view `folded` -> features (B, out_features), float32.

    Three circular convolutions, each halving the ring after the first, with the mean and the maximum of every level;
    so a shift in phase changes next to nothing. width: channels. out_features: length of the features.
    """

    view = "folded"
    inputs = (RING, SCALAR)

    def __init__(self, width: int = 48, out_features: int = 128, dropout: float = 0.1):
        super().__init__()
        self.width = width
        self.out_features = out_features
        self.dropout = dropout
        self.convolutions = nn.ModuleList(
            [
                circular(CHANNELS, width, 1),
                circular(width, width, 2),
                circular(width, 2 * width, 2),
            ]
        )
        self.norm = nn.BatchNorm1d(SCALARS)
        self.mlp = two_layers(SCALARS + 8 * width, out_features, dropout)

    def forward(self, ring: Tensor, scalars: Tensor) -> Tensor:
        levels = [self.norm(scalars)]
        for layer in self.convolutions:
            ring = layer(ring)
            levels.append(ring.mean(2))
            levels.append(ring.amax(2))
        return self.mlp(torch.cat(levels, dim=1))


class VariabilityEncoder(nn.Module):
    """Features (B, 58) of the view `variability` -> features (B, out_features), float32."""

    view = "variability"
    inputs = (FEATURES,)

    def __init__(self, out_features: int = 128, dropout: float = 0.1):
        super().__init__()
        self.out_features = out_features
        self.dropout = dropout
        self.norm = nn.BatchNorm1d(VARIABILITY_FEATURES)
        self.mlp = two_layers(VARIABILITY_FEATURES, out_features, dropout)

    def forward(self, features: Tensor) -> Tensor:
        return self.mlp(self.norm(features).clamp(-5.0, 5.0))


def circular(before: int, after: int, stride: int) -> nn.Sequential:
    """One convolution on the ring."""
    return nn.Sequential(
        nn.Conv1d(before, after, KERNEL, stride=stride, padding=KERNEL // 2, padding_mode="circular"),
        nn.BatchNorm1d(after),
        nn.GELU(),
    )


def two_layers(before: int, after: int, dropout: float) -> nn.Sequential:
    """A perceptron with one hidden layer of twice the width."""
    return nn.Sequential(
        nn.Linear(before, 2 * after),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(2 * after, after),
    )
