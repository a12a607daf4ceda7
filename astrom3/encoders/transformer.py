"""Pre-norm Transformer blocks of SpecFormer and the image encoder, with the tensor names of their published files."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def self_attention(joint: Tensor, num_heads: int, dropout: float = 0.0) -> Tensor:
    """Attention of every token to every token: joint query, key, value (B, T, 3 D) -> (B, T, D)."""
    batch, length, width = joint.shape
    of_head = width // (3 * num_heads)
    split = joint.view(batch, length, 3, num_heads, of_head)
    query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, T, D / heads) each
    attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    return attended.transpose(1, 2).reshape(batch, length, width // 3)


def some_tokens(x: Tensor, rows: Tensor) -> Tensor:
    """The tokens of x (B, T, D) at positions int64 (B, H) -> (B, H, D)."""
    index = rows.unsqueeze(-1).expand(-1, -1, x.shape[-1])  # (B, H, D)
    return x.gather(1, index)


class SpectrumAttention(nn.Module):
    """Self-attention of SpecFormer: x (B, T, D) -> (B, T, D), or what the tokens at `rows` (B, H) see -> (B, H, D)."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.attention = nn.Linear(embed_dim, 3 * embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if rows is None:
            attended = self_attention(self.attention(x), self.num_heads, dropout)
        else:
            attended = self._attend(some_tokens(x, rows), x, dropout)
        return F.dropout(self.projection(attended), self.dropout, self.training)

    def _attend(self, some: Tensor, x: Tensor, dropout: float) -> Tensor:
        """Attention of some tokens (B, H, D) to all tokens x (B, T, D)."""
        width = x.shape[-1]
        sizes = (width, 2 * width)
        query_weight, weight = self.attention.weight.split(sizes)
        query_bias, bias = self.attention.bias.split(sizes)
        query = F.linear(some, query_weight, query_bias)
        key, value = F.linear(x, weight, bias).chunk(2, dim=-1)
        query = self._by_head(query)
        key = self._by_head(key)
        value = self._by_head(value)
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)  # (B, heads, H, D / heads)
        return attended.transpose(1, 2).flatten(2)

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, H, D) -> (B, heads, H, D / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class SpectrumMLP(nn.Module):
    """Two layers with an exact GELU between: x (..., D) -> (..., D), dropout at the end."""

    def __init__(self, embed_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.encoder = nn.Linear(embed_dim, hidden_dim)
        self.decoder = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.encoder(x))
        return F.dropout(self.decoder(hidden), self.dropout, self.training)


class SpectrumBlock(nn.Module):
    """x += attention(norm x), then x += MLP(norm x), for x (B, T, D).

    With `rows`, positions int64 (B, H), only these tokens are computed, which attend to all: -> (B, H, D).
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.layernorm1 = nn.LayerNorm(embed_dim)
        self.attention = SpectrumAttention(embed_dim, num_heads, dropout)
        self.layernorm2 = nn.LayerNorm(embed_dim)
        self.mlp = SpectrumMLP(embed_dim, 4 * embed_dim, dropout)

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        attended = self.attention(self.layernorm1(x), rows)
        if rows is not None:
            x = some_tokens(x, rows)
        x = attended + x
        return x + self.mlp(self.layernorm2(x))


class ImageAttention(nn.Module):
    """Self-attention of the image encoder: x (B, N, D) -> (B, N, D)."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.proj = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self_attention(self.qkv(x), self.num_heads))


class ImageMLP(nn.Module):
    """Two layers with an exact GELU between: x (..., D) -> (..., D)."""

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A trained factor for each feature of a branch, small at the start (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, embed_dim: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class ImageBlock(nn.Module):
    """x += scale * attention(norm x), then x += scale * MLP(norm x), for x (B, N, D).

    With stochastic depth a random int((1 - drop_path) B) of the images keep each branch, scaled up by B over that
    number, and the others are not computed at all (DINOv2, Oquab et al. 2023, section 5).
    """

    def __init__(self, embed_dim: int, num_heads: int, mlp_ratio: float, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.attn = ImageAttention(embed_dim, num_heads)
        self.ls1 = LayerScale(embed_dim, layer_scale)
        self.norm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.mlp = ImageMLP(embed_dim, int(mlp_ratio * embed_dim))
        self.ls2 = LayerScale(embed_dim, layer_scale)

    def attend(self, x: Tensor) -> Tensor:
        """The attention branch, (B, N, D) -> (B, N, D)."""
        return self.ls1(self.attn(self.norm1(x)))

    def transform(self, x: Tensor) -> Tensor:
        """The MLP branch, (B, N, D) -> (B, N, D)."""
        return self.ls2(self.mlp(self.norm2(x)))

    def forward(self, x: Tensor, orders: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """`orders` are the random orders of the B images for the two branches; they are drawn where not given."""
        if not self.training or self.drop_path == 0:
            x = x + self.attend(x)
            return x + self.transform(x)
        attention_order = None if orders is None else orders[0]
        mlp_order = None if orders is None else orders[1]
        x = self._add_to_some(x, self.attend, attention_order)
        return self._add_to_some(x, self.transform, mlp_order)

    def _add_to_some(self, x: Tensor, branch: Callable[[Tensor], Tensor], order: Tensor | None) -> Tensor:
        count = x.shape[0]
        kept = max(int(count * (1 - self.drop_path)), 1)
        if order is None:
            order = torch.randperm(count, device=x.device)
        chosen = order[:kept]
        added = branch(x[chosen]).to(x.dtype)  # (kept, N, D)
        return torch.index_add(x, 0, chosen, added, alpha=count / kept)
