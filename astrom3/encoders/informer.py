"""Light-curve encoder: the Informer encoder with ProbSparse self-attention, as published with AstroM3.

Zhou et al. 2021 (arXiv:2012.07436), as used by Rizhko & Bloom 2024 (arXiv:2411.08842, section 3.1). Eight post-norm
layers over 200 points of 9 channels; the masked outputs of all points, flattened, are the features.

    encoder = InformerEncoder()
    features = encoder(photometry, mask)        # (B, 200, 9), (B, 200) -> (B, 25600)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.layers import ResidualNorm, TransientDropout, for_products
from astrom3.errors import UserError

PUBLISHED_DROPOUT = 0.1  # what the published network applies, whatever its configuration says
MAX_POSITIONS = 5000
HEAD_MERGES = ("published", "usual")
EVALUATIONS = ("sampled", "fixed", "full")


def sinusoidal_positions(length: int, d_model: int) -> Tensor:
    """Fixed sine/cosine positions (length, d_model), float32 (Vaswani et al. 2017, section 3.5)."""
    position = torch.arange(length).float().unsqueeze(1)
    rate = (torch.arange(0, d_model, 2).float() * -(math.log(10000.0) / d_model)).exp()
    table = torch.zeros(length, d_model)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate)[:, : d_model // 2]
    return table


class ValueEmbedding(nn.Module):
    """Circular convolution with kernel 3 and no bias, (B, L, C) -> (B, L, d_model), done as one matrix product."""

    def __init__(self, channels: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model, channels, 3))
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        around = torch.cat([x[:, -1:], x, x[:, :1]], dim=1)  # (B, L + 2, C)
        windows = around.unfold(1, 3, 1).flatten(2)  # (B, L, 3 C)
        return windows @ self.weight.flatten(1).T


class Distinctiveness(nn.Module):
    """How distinctive each query is: max(score) - sum(score) / L over its drawn keys (Zhou et al. 2021, equation 4)."""

    def __init__(self, n_heads: int):
        super().__init__()
        self.n_heads = n_heads

    @torch.no_grad()
    def forward(self, query: Tensor, key: Tensor, keys: Tensor) -> Tensor:
        """query, key (B, L, H D), keys (L, U) int64 positions drawn for each query -> (B, H, L)."""
        length = query.shape[1]
        by_head = [x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x in (query, key)]  # (B, H, L, D)
        scores = by_head[0] @ by_head[1].transpose(-2, -1)  # (B, H, L, L)
        drawn = scores.gather(-1, keys.expand(*scores.shape[:2], -1, -1))  # (B, H, L, U)
        return drawn.amax(-1) - drawn.sum(-1) / length


class ProbSparseAttention(nn.Module):
    """Self-attention in which only the `u` most distinctive queries attend; the others get the mean of the values.

    For every query U = factor * ceil(ln L) keys are drawn with replacement, the same for all objects and heads. The
    queries with the largest max(score) - sum(score) / L over those keys are selected, u = U of them per head
    (Zhou et al. 2021, equations 4 and 5; neither is causal).

    head_merge: how the outputs (head, time, dim) become (time, head * dim).
      "published": in memory order, without swapping heads and time, so output row t holds four consecutive times of
      one head. The published weights were trained like that.
      "usual": heads side by side at each time, as in the Transformer paper.
    """

    def __init__(self, d_model: int, n_heads: int, factor: int, head_merge: str):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"d_model={d_model} is not a multiple of n_heads={n_heads}")
        if head_merge not in HEAD_MERGES:
            raise ValueError(f"head_merge must be one of {', '.join(HEAD_MERGES)}, not {head_merge!r}")
        self.n_heads = n_heads
        self.factor = factor
        self.head_merge = head_merge
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.out = nn.Linear(d_model, d_model)
        self.distinctiveness = Distinctiveness(n_heads)

    def sample_size(self, length: int) -> int:
        """Number of drawn keys per query, and of selected queries per head."""
        return min(self.factor * math.ceil(math.log(length)), length) if length > 1 else 1

    def forward(self, x: Tensor, keys: Tensor | None = None, full: bool = False) -> Tensor:
        """x (B, L, d_model), keys (L, U) int64 positions drawn for each query (None: draw now), full: all queries
        attend. Returns (B, L, d_model)."""
        length = x.shape[1]
        u = length if full else self.sample_size(length)
        if u == length:
            return self._attend_all(x)
        if keys is None:
            keys = torch.randint(length, (length, u), device=x.device)
        return self._attend_some(x, self._select(x, keys))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, L, H D) -> (B, H, L, D)

    @torch.no_grad()
    def _select(self, x: Tensor, keys: Tensor) -> Tensor:
        """Positions (B, H, u) of the queries that attend."""
        scores = self.distinctiveness(self.query(x), self.key(x), keys)  # (B, H, L)
        return scores.topk(keys.shape[1], sorted=False).indices

    def _attend_all(self, x: Tensor) -> Tensor:
        query = self._split(self.query(x))
        key = self._split(self.key(x))
        value = self._split(self.value(x))
        context = F.scaled_dot_product_attention(query, key, value)  # (B, H, L, D)
        if self.head_merge == "published":
            merged = context.contiguous().view(x.shape)
        else:
            merged = context.transpose(1, 2).reshape(x.shape)
        return self.out(merged)

    def _attend_some(self, x: Tensor, top: Tensor) -> Tensor:
        """Attention of the selected queries `top` (B, H, u) and the mean for all others.

        All but u rows of each head's context equal the mean of the values, and no gradient goes through the selection.
        So nothing is projected point by point: only the selected queries are, the key weights are applied to them
        instead of to all points, the attention weights average the inputs, which are then projected to values, and the
        output is that of the mean plus the difference the selected rows make.
        """
        batch, length, d_model = x.shape
        heads = self.n_heads
        u = top.shape[-1]
        dim = d_model // self.n_heads
        flat = top.flatten(1)  # (B, H u)
        chosen = x.gather(1, flat.unsqueeze(-1).expand(-1, -1, d_model))
        chosen = chosen.unflatten(1, (heads, u))  # (B, H, u, d_model)
        query = self._project(self.query, chosen)  # (B, H, u, D)
        key_weight, key_bias = self._per_head(self.key)
        towards = torch.einsum("bhud,hdm->bhum", query, key_weight.to(query.dtype))  # (B, H, u, d_model)
        offset = torch.einsum("bhud,hd->bhu", query, key_bias.to(query.dtype))  # changes no weight, only rounding
        scores = towards.flatten(1, 2) @ x.transpose(1, 2)  # (B, H u, L)
        scores = scores.unflatten(1, (heads, u)) + offset.unsqueeze(-1)
        weights = torch.softmax(scores * dim**-0.5, dim=-1)  # (B, H, u, L)
        inputs = weights.to(x.dtype).flatten(1, 2) @ x
        inputs = inputs.unflatten(1, (heads, u))  # (B, H, u, d_model)
        mean = self._split(self.value(x.mean(1, keepdim=True)))  # (B, H, 1, D)
        difference = (self._project(self.value, inputs) - mean).to(x.dtype)  # (B, H, u, D)

        head = torch.arange(heads, device=x.device).view(1, heads, 1)
        if self.head_merge == "published":  # (head, time) in memory order, H at a time, make one output row
            row = (head * length + top) // heads
            slot = (head * length + top) % heads
        else:
            row = top
            slot = head.expand_as(top)
        # What each selected row changes: its D numbers times the slice of the output weights at its slot.
        spread = difference.new_zeros(batch, heads * u, heads, dim)
        index = slot.flatten(1)[:, :, None, None].expand(-1, -1, 1, dim)
        spread = spread.scatter(2, index, difference.flatten(1, 2).unsqueeze(2)).flatten(2)  # (B, H u, d_model)
        out = self._of_mean(mean.squeeze(2), length)
        change = F.linear(spread, self.out.weight).to(out.dtype)
        return out.scatter_add(1, row.flatten(1).unsqueeze(-1).expand_as(change), change)

    def _per_head(self, layer: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight (H, D, d_model) and bias (H, D) of a projection."""
        return layer.weight.unflatten(0, (self.n_heads, -1)), layer.bias.unflatten(0, (self.n_heads, -1))

    def _project(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """x (B, H, u, d_model), each head through its own part of `layer` -> (B, H, u, D)."""
        weight, bias = self._per_head(layer)
        return torch.einsum("bhum,hdm->bhud", x, weight.to(x.dtype)) + bias.unsqueeze(1)

    def _of_mean(self, mean: Tensor, length: int) -> Tensor:
        """The output where all rows are the mean: mean (B, H, D) -> (B, length, d_model)."""
        heads = self.n_heads
        if self.head_merge == "usual":
            return self.out(mean.flatten(1)).unsqueeze(1).expand(-1, length, -1)
        if length % heads == 0:  # one distinct row per head, the same for length / heads rows
            rows = self.out(mean.repeat(1, 1, heads))  # (B, H, d_model)
            return rows.repeat_interleave(length // heads, dim=1)
        head_of = torch.arange(length * heads, device=mean.device).view(length, heads) // length
        return self.out(mean[:, head_of].flatten(2))


class EncoderLayer(nn.Module):
    """Attention and a GELU feed-forward, each with dropout, residual and LayerNorm after it."""

    def __init__(
        self, d_model: int, n_heads: int, d_ff: int, factor: int, dropout: float, activation: str, head_merge: str
    ):
        super().__init__()
        if activation not in ("gelu", "relu"):
            raise ValueError(f"activation must be gelu or relu, not {activation!r}")
        self.attention = ProbSparseAttention(d_model, n_heads, factor, head_merge)
        self.norm1 = ResidualNorm(d_model)
        self.norm2 = ResidualNorm(d_model)
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)
        self.activation = F.gelu if activation == "gelu" else F.relu
        # The backward pass of a ReLU reads its output.
        self.dropout = nn.Dropout(dropout) if activation == "relu" else TransientDropout(dropout)

    def forward(self, x: Tensor, h: Tensor, keys: Tensor | None = None, full: bool = False) -> tuple[Tensor, Tensor]:
        """x (B, L, d_model), h: x in the dtype of matrix products; both of the output."""
        x, h = self.norm1(x, self.attention(h, keys, full), self.dropout)
        inner = self.dropout(self.activation(self.expand(h)))
        return self.norm2(x, self.contract(inner), self.dropout)


class InformerEncoder(nn.Module):
    """Light curve (B, seq_len, enc_in) and mask (B, seq_len) -> features (B, seq_len * d_model), float32.

    dropout: the number the published configurations carry. The published network ignores it and applies 0.1
    everywhere; `honour_dropout=True` is the variant that applies it.
    evaluation: what happens outside training. "sampled": keys are drawn anew, as published, so results vary from call
    to call; "fixed": the same drawn keys each time; "full": all queries attend, no draw at all.
    """

    view = "photometry"
    inputs = ("photometry", "mask")

    def __init__(
        self,
        enc_in: int = 9,
        seq_len: int = 200,
        d_model: int = 128,
        n_heads: int = 4,
        d_ff: int = 512,
        e_layers: int = 8,
        factor: int = 1,
        dropout: float = PUBLISHED_DROPOUT,
        activation: str = "gelu",
        output_attention: bool = False,
        honour_dropout: bool = False,
        head_merge: str = "published",
        evaluation: str = "sampled",
    ):
        super().__init__()
        if evaluation not in EVALUATIONS:
            raise ValueError(f"evaluation must be one of {', '.join(EVALUATIONS)}, not {evaluation!r}")
        if seq_len > MAX_POSITIONS:
            raise ValueError(f"seq_len={seq_len} is longer than the {MAX_POSITIONS} positions of the embedding")
        p = dropout if honour_dropout else PUBLISHED_DROPOUT
        self.enc_in = enc_in
        self.seq_len = seq_len
        self.d_model = d_model
        self.n_heads = n_heads
        self.d_ff = d_ff
        self.e_layers = e_layers
        self.factor = factor
        self.activation = activation
        self.configured_dropout = dropout
        self.honour_dropout = honour_dropout
        self.output_attention = output_attention
        self.head_merge = head_merge
        self.evaluation = evaluation
        self.out_features = seq_len * d_model
        self.token_features = d_model
        self.embedding = ValueEmbedding(enc_in, d_model)
        self.register_buffer("positions", sinusoidal_positions(MAX_POSITIONS, d_model), persistent=False)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, d_ff, factor, p, activation, head_merge) for _ in range(e_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.dropout = TransientDropout(p)

    def forward(self, photometry: Tensor, mask: Tensor, keys: Sequence[Tensor] | None = None) -> Tensor:
        """keys: one (L, U) int64 tensor of drawn key positions per layer, else they are drawn here."""
        return self.sequence(photometry, mask, keys).flatten(1)

    def tokens(self, photometry: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of every point (B, L, d_model), zero where masked, and which points there are, (B, L) bool."""
        return self.sequence(photometry, mask), mask > 0

    def sequence(self, photometry: Tensor, mask: Tensor, keys: Sequence[Tensor] | None = None) -> Tensor:
        """Masked outputs of every point, (B, L, d_model)."""
        length = photometry.shape[1]
        full = not self.training and self.evaluation == "full" and keys is None
        if keys is None and not self.training and self.evaluation == "fixed":
            keys = self.fixed_keys(length, photometry.device)
        positions = self.positions[:length]  # type: ignore[index]
        x = self.dropout(self.embedding(photometry) + positions)  # (B, L, d_model)
        h = for_products(x)
        for i, layer in enumerate(self.layers):
            x, h = layer(x, h, None if keys is None else keys[i], full)
        return self.dropout(self.norm(x)) * mask.unsqueeze(-1)

    def for_export(self) -> Deterministic:
        """The same encoder without a generator, which cannot be part of a graph."""
        if self.evaluation == "sampled":
            raise UserError("sampled attention cannot be exported: choose evaluation=fixed or evaluation=full")
        return Deterministic(self)

    def fixed_keys(self, length: int, device: torch.device | None = None) -> list[Tensor]:
        """The keys of `evaluation="fixed"`: drawn with a constant seed, one (length, U) tensor per layer."""
        generator = torch.Generator().manual_seed(0)
        shape = (length, self.layers[0].attention.sample_size(length))  # type: ignore[union-attr, operator]
        return [torch.randint(length, shape, generator=generator).to(device) for _ in self.layers]


class Deterministic(nn.Module):
    """A light-curve encoder whose drawn keys are constants: a generator cannot be part of a graph."""

    inputs = InformerEncoder.inputs

    def __init__(self, encoder: InformerEncoder):
        super().__init__()
        self.encoder = encoder
        self.out_features = encoder.out_features
        if encoder.evaluation == "fixed":
            self.register_buffer("keys", torch.stack(encoder.fixed_keys(encoder.seq_len)))  # (layers, L, U)

    def sequence(self, x_enc: Tensor, mask: Tensor) -> Tensor:
        keys: Any = getattr(self, "keys", None)
        return self.encoder.sequence(x_enc, mask, None if keys is None else list(keys.unbind(0)))

    def forward(self, x_enc: Tensor, mask: Tensor) -> Tensor:
        return self.sequence(x_enc, mask).flatten(1)
