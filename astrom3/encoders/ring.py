"""Encoders of the two views for surveys of one's own (modalities/ring_view.py): the folded curve, and its features.

curve = RingEncoder()(ring, scalars)            # (B, 4, 64), (B, 5) -> (B, 128)
measured = VariabilityEncoder()(features)       # (B, 58) -> (B, 128)
"""

from __future__ import annotations

import math

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
    """Features (B, 58) of the view `variability` -> features (B, out_features), float32.

    steps: pieces that each feature is cut into, as a tree cuts it (`Pieces`); 0 reads the features as they are.
    """

    view = "variability"
    inputs = (FEATURES,)
    measures = VARIABILITY_FEATURES

    def __init__(self, out_features: int = 128, dropout: float = 0.1, steps: int = 0):
        super().__init__()
        self.out_features = out_features
        self.dropout = dropout
        self.steps = steps
        self.norm = nn.BatchNorm1d(VARIABILITY_FEATURES)
        self.pieces = Pieces(VARIABILITY_FEATURES, steps) if steps else nn.Identity()
        self.mlp = two_layers(VARIABILITY_FEATURES * max(steps, 1), out_features, dropout)

    def forward(self, features: Tensor) -> Tensor:
        return self.mlp(self.pieces(self.norm(features).clamp(-5.0, 5.0)))


class Pieces(nn.Module):
    """Standardised columns (B, C) -> (B, C * steps): how much of each piece of its range a value has passed, 0 to 1.

    A linear function of the pieces is any piecewise linear function of the column (Gorishniy et al. 2022,
    arXiv:2203.05556). The pieces hold equally many values of a normal distribution at first, and learn.
    """

    def __init__(self, columns: int, steps: int):
        super().__init__()
        shares = torch.linspace(0.01, 0.99, steps + 1)
        borders = math.sqrt(2) * torch.erfinv(2 * shares - 1)
        self.begin = nn.Parameter(borders[:-1].repeat(columns, 1))
        self.log_width = nn.Parameter(borders.diff().log().repeat(columns, 1))

    def forward(self, values: Tensor) -> Tensor:
        passed = (values.unsqueeze(2) - self.begin) * torch.exp(-self.log_width)
        return passed.clamp(0.0, 1.0).flatten(1)


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
