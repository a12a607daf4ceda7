"""Parts of the ASTROMER encoders: features of continuous times, attention, blocks, the reconstruction head.

Donoso-Oliva et al. 2023 (A&A 670, A54; "version 1") and 2026 (A&A 707, A170; "version 2").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.layers import ResidualNorm, TransientDropout

NORM_EPS = 1e-6
BASE = 10000.0  # the published configurations name another base, which the published code does not use


def positional_features(times: Tensor, d_model: int) -> Tensor:
    """Sines and cosines (..., d_model) of times (...) in days, in the dtype of the times.

    Feature j is sin(w t) for even j and cos(w t) for odd j with w = 10000^(-2 j / d_model). The exponent runs with
    every index, not with every pair as in Vaswani et al. 2017. In float32 the angle of a time of 2000 days is off by up
    to 1e-4, as in the original.
    """
    rates = positional_rates(d_model, times.dtype).to(times.device)
    time = times.unsqueeze(-1)
    sines = torch.sin(time * rates[0::2])  # (..., ceil(d_model / 2))
    cosines = torch.cos(time * rates[1::2])  # (..., floor(d_model / 2))
    if d_model % 2:
        cosines = F.pad(cosines, (0, 1))
    return torch.stack([sines, cosines], dim=-1).flatten(-2)[..., :d_model]


def positional_rates(d_model: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The rates w (d_model,) [radian / day] of the features, computed in `dtype`."""
    index = torch.arange(d_model, dtype=dtype)
    return 1 / BASE ** (2 * index / d_model)


class Attention(nn.Module):
    """Attention of H heads over continuous slices of the channels; logits are also divided by `temperature`, if any."""

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        temperature: float,
    ):
        super().__init__()
        self.n_heads = n_heads
        self.scale = (d_model // n_heads) ** -0.5 / (temperature or 1.0)
        self.q = nn.Linear(d_model, d_model)
        self.k = nn.Linear(d_model, d_model)
        self.v = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self,
        asking: Tensor,
        asked: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """asking (B, Q, D) attend to asked (B, K, D); bias (B, 1, Q or 1, K) is added to logits. Gives (B, Q, D)."""
        query = self._split(self.q(asking))
        key = self._split(self.k(asked))
        value = self._split(self.v(asked))
        if bias is not None:
            bias = bias.to(query.dtype)
        context = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            scale=self.scale,
        )  # (B, H, Q, D/H)
        return self.out(context.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, L, D) -> (B, H, L, D/H)


class FeedForward(nn.Module):
    """Two linear layers with tanh between them, (..., d_model) -> (..., d_model)."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.fc1 = nn.Linear(d_model, d_ff)
        self.tanh = nn.Tanh()
        self.fc2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.tanh(self.fc1(x)))


class Block(nn.Module):
    """Attention and feed-forward, each followed by dropout and LayerNorm.

    Version 1 has no residual connections. Version 2 adds a linear map of each half's input, `leak1` and `leak2`.
    """

    def __init__(
        self,
        version: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        dropout: float,
        temperature: float,
    ):
        super().__init__()
        self.attn = Attention(d_model, n_heads, temperature)
        self.norm1 = ResidualNorm(d_model, eps=NORM_EPS)
        self.norm2 = ResidualNorm(d_model, eps=NORM_EPS)
        self.ffn = FeedForward(d_model, d_ff)
        self.leak1 = nn.Linear(d_model, d_model) if version == 2 else None
        self.leak2 = nn.Linear(d_model, d_model) if version == 2 else None
        self.dropout = TransientDropout(dropout)

    def forward(
        self,
        asking: Tensor,
        asked: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """asking (B, Q, D): the points that are updated; asked (B, K, D): those they attend to. Gives (B, Q, D)."""
        h = self._after(
            self.norm1,
            self.leak1,
            asking,
            self.attn(asking, asked, bias),
        )
        return self._after(
            self.norm2,
            self.leak2,
            h,
            self.ffn(h),
        )

    def _after(
        self,
        norm: ResidualNorm,
        leak: nn.Linear | None,
        x: Tensor,
        branch: Tensor,
    ) -> Tensor:
        if leak is None:
            return F.layer_norm(
                self.dropout(branch),
                norm.normalized_shape,
                norm.weight,
                norm.bias,
                norm.eps,
            )
        normed, _ = norm(leak(x), branch, self.dropout)
        return normed


class Reconstruction(nn.Module):
    """The magnitude of every point from its token: LayerNorm and one linear layer, (..., d_model) -> (...)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.d_model = d_model
        self.norm = nn.LayerNorm(d_model, eps=NORM_EPS)
        self.linear = nn.Linear(d_model, 1)
        glorot(self)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.linear(self.norm(tokens)).squeeze(-1)


def glorot(module: nn.Module) -> None:
    """Initial values of the original (Keras defaults): Glorot uniform weights and zero biases in linear layers."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
