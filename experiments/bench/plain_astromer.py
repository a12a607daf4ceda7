"""The plain variant of Astromer 1 and 2: the same network in stock layers of torch, every window at its full length."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from astrom3.encoders.astromer import Astromer, MaskedAstromer
from astrom3.encoders.astromer_blocks import positional_features

NORM_EPS = 1e-6
BLOCKED = -1e9


class PlainAttention(nn.Module):
    """Dense attention with its logits written out."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, blocked: Tensor) -> Tensor:
        """x (B, L, D); blocked (B, L): 1 where a point is not attended to."""
        batch, length, width = x.shape
        shape = (batch, length, self.heads, width // self.heads)
        query = self.q(x).view(shape).transpose(1, 2)
        key = self.k(x).view(shape).transpose(1, 2)
        value = self.v(x).view(shape).transpose(1, 2)
        logits = query @ key.transpose(2, 3) / math.sqrt(shape[-1])  # (B, H, L, L)
        logits = logits + BLOCKED * blocked[:, None, None, :]
        context = torch.softmax(logits, dim=-1) @ value
        return self.out(context.transpose(1, 2).reshape(batch, length, width))


class PlainBlock(nn.Module):
    """Attention and a tanh network, with version 2's learned residuals."""

    def __init__(self, version: int, width: int, heads: int, hidden: int, p: float):
        super().__init__()
        self.attn = PlainAttention(width, heads)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.leak1 = nn.Linear(width, width) if version == 2 else None
        self.leak2 = nn.Linear(width, width) if version == 2 else None
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(p)

    def forward(self, x: Tensor, blocked: Tensor) -> Tensor:
        branch = self.dropout(self.attn(x, blocked))
        if self.leak1 is not None:
            branch = branch + self.leak1(x)
        x = self.norm1(branch)
        branch = self.dropout(self.fc2(torch.tanh(self.fc1(x))))
        if self.leak2 is not None:
            branch = branch + self.leak2(x)
        return self.norm2(branch)


class PlainAstromer(nn.Module):
    """times, magnitudes, valid and hidden (B, L) -> tokens (B, L, D), padding and hidden points attended to by none."""

    def __init__(self, version: int, layers: int, width: int = 256, heads: int = 4, hidden: int = 512, p: float = 0.1):
        super().__init__()
        self.width = width
        self.embed = nn.Linear(1, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1))
        self.blocks = nn.ModuleList(PlainBlock(version, width, heads, hidden, p) for _ in range(layers))
        self.dropout = nn.Dropout(p)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)  # of the reconstruction
        self.linear = nn.Linear(width, 1)

    def forward(self, times: Tensor, magnitudes: Tensor, valid: Tensor, hidden: Tensor) -> Tensor:
        blocked = 1 - valid * (1 - hidden)
        seen = torch.where(blocked > 0, self.mask_token, magnitudes)
        x = self.dropout(self.embed(seen.unsqueeze(-1)) + positional_features(times, self.width))
        for block in self.blocks:
            x = block(x, blocked)
        return x

    def features(self, times: Tensor, magnitudes: Tensor, valid: Tensor) -> Tensor:
        """Mean token (B, D) of the points."""
        tokens = self(times, magnitudes, valid, torch.zeros_like(valid))
        return (tokens * valid.unsqueeze(-1)).sum(1) / valid.sum(1, keepdim=True).clamp(min=1)

    def reconstruct(self, times: Tensor, magnitudes: Tensor, valid: Tensor, hidden: Tensor) -> Tensor:
        """Magnitudes (B, L)."""
        return self.linear(self.norm(self(times, magnitudes, valid, hidden))).squeeze(-1)


def adopt(plain: PlainAstromer, ours: MaskedAstromer) -> PlainAstromer:
    """The weights of our network in the plain one of the same size."""
    state = {}
    for name, tensor in ours.state_dict().items():
        name = name.removeprefix("encoder.").removeprefix("head.").replace(".ffn.", ".")
        state[name] = tensor
    plain.load_state_dict(state)
    return plain


def published(version: int) -> Astromer:
    """The encoder in its published size."""
    layers = 2 if version == 1 else 6
    return Astromer(version=version, layers=layers)
