"""Photometry of galaxies: total magnitudes in g, r, z, and the colours between them, to an embedding.

The view holds magnitudes as the survey gives them. Here they are scaled by fixed numbers of a survey of bright galaxies
(DESI's Bright Galaxy Survey, r < 20), so no statistics have to travel with the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from astrom3.modalities.constants import MAGNITUDES

CENTRE = (18.8, 18.0, 17.4)  # of g, r, z [mag]
WIDTH = 1.3  # [mag]
COLOUR_CENTRE = (0.8, 0.55)  # of g - r and r - z [mag]
COLOUR_WIDTH = (0.35, 0.25)
FARTHEST = 8.0  # of the scaled numbers; what lies beyond is an error of the catalogue


class MagnitudeMLP(nn.Module):
    """Magnitudes (B, 3) g, r, z -> features (B, hidden_dim). colours: g - r and r - z stand beside them."""

    view = "magnitudes"
    inputs = (MAGNITUDES,)
    centre: Tensor
    colour_centre: Tensor
    colour_width: Tensor

    def __init__(self, hidden_dim: int = 512, layers: int = 3, colours: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.layers = layers
        self.colours = colours
        self.dropout = dropout
        self.out_features = hidden_dim
        width = 5 if colours else 3
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Linear(width, hidden_dim), nn.GELU(), nn.Dropout(dropout)]
            width = hidden_dim
        self.network = nn.Sequential(*parts)
        self.register_buffer("centre", torch.tensor(CENTRE), persistent=False)
        self.register_buffer("colour_centre", torch.tensor(COLOUR_CENTRE), persistent=False)
        self.register_buffer("colour_width", torch.tensor(COLOUR_WIDTH), persistent=False)

    def scaled(self, magnitudes: Tensor) -> Tensor:
        """Network inputs (B, 3) or, with colours, (B, 5), about -2 to 2."""
        parts = [(magnitudes - self.centre) / WIDTH]
        if self.colours:
            between = magnitudes[:, :-1] - magnitudes[:, 1:]
            parts.append((between - self.colour_centre) / self.colour_width)
        return torch.cat(parts, dim=1).clamp(-FARTHEST, FARTHEST)

    def forward(self, magnitudes: Tensor) -> Tensor:
        return self.network(self.scaled(magnitudes))
