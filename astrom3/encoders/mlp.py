"""Metadata encoder: a two-layer perceptron over the 34 z-scored catalogue columns (Rizhko & Bloom 2024, section 3.3).

encoder = MetadataMLP()
features = encoder(metadata)                # (B, 34) -> (B, 512)
"""

from __future__ import annotations

from torch import Tensor, nn


class MetadataMLP(nn.Module):
    """Catalogue columns (B, input_dim) -> features (B, hidden_dim), float32: twice linear, ReLU, dropout."""

    view = "metadata"
    inputs = ("metadata",)

    def __init__(self, input_dim: int = 34, hidden_dim: int = 512, dropout: float = 0.0):
        super().__init__()
        self.input_dim = input_dim
        self.hidden_dim = hidden_dim
        self.configured_dropout = dropout
        self.out_features = hidden_dim
        self.first = nn.Linear(input_dim, hidden_dim)
        self.second = nn.Linear(hidden_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, metadata: Tensor) -> Tensor:
        x = self.dropout(self.first(metadata).relu())
        return self.dropout(self.second(x).relu())
