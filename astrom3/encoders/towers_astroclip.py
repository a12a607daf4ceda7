"""Towers of AstroCLIP: an encoder, one learned query that attends to its tokens, and an MLP (Parker et al. 2024, 4.3).

Tensor names are those of the published file.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.towers import leave_unused
from astrom3.encoders.transformer import SpectrumMLP
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError


class QueryAttention(nn.Module):
    """Multi-head attention of one query to many tokens, with the tensors of torch.nn.MultiheadAttention.

    As there is one query, it is carried through the key matrix to the tokens' side, and the value matrix is applied to
    the weighted mean of the tokens. That gives the same numbers and gradients, and costs a few products with vectors
    where projecting every token would cost two matrix products (2.5 GFLOP for one spectrum at the published size).
    The bias of the keys shifts all scores of a head alike, so it has no effect and no gradient.
    """

    def __init__(self, embed_dim: int, token_dim: int, num_heads: int) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(f"embed_dim={embed_dim} of a tower is not a multiple of n_head={num_heads}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.joint = token_dim == embed_dim
        if self.joint:
            self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        else:
            self.q_proj_weight = nn.Parameter(torch.empty(embed_dim, embed_dim))
            self.k_proj_weight = nn.Parameter(torch.empty(embed_dim, token_dim))
            self.v_proj_weight = nn.Parameter(torch.empty(embed_dim, token_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial weights of torch.nn.MultiheadAttention."""
        for name, parameter in self.named_parameters(recurse=False):
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
        nn.init.zeros_(self.out_proj.bias)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.joint:
            query, key, value = self.in_proj_weight.chunk(3)
            return query, key, value
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def scores(self, query: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """Attention weights (B, heads, T) of the query (1, 1, D) on tokens (B, T, K), of which some may be invalid."""
        query_weight, key_weight, _ = self._weights()
        width = self.embed_dim // self.num_heads
        query_bias = self.in_proj_bias[: self.embed_dim]
        heads = F.linear(query.reshape(1, -1), query_weight, query_bias).view(self.num_heads, 1, width)
        keys = key_weight.view(self.num_heads, width, -1)  # (heads, D / heads, K)
        directions = torch.bmm(heads / math.sqrt(width), keys).squeeze(1)  # (heads, K)
        logits = F.linear(tokens, directions).transpose(1, 2)  # (B, heads, T)
        if valid is not None:
            logits = logits.masked_fill(~valid.unsqueeze(1), float("-inf"))
        return logits.softmax(dim=-1)

    def forward(self, query: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """query (1, 1, D), tokens (B, T, K), valid bool (B, T) -> the attended vector (B, D)."""
        weights = self.scores(query, tokens, valid)
        _, _, value_weight = self._weights()
        mean = torch.bmm(weights.to(tokens.dtype), tokens)  # (B, heads, K)
        values = value_weight.view(self.num_heads, -1, tokens.shape[-1])  # (heads, D / heads, K)
        attended = torch.einsum("bhk,hdk->bhd", mean, values.to(mean.dtype)).flatten(1)  # (B, D)
        value_bias = self.in_proj_bias[2 * self.embed_dim :]
        return self.out_proj(attended + value_bias)


class CrossAttentionHead(nn.Module):
    """Tokens (B, T, token_dim) -> normed vector (B, embed_dim). The query is not added to the result."""

    def __init__(self, embed_dim: int, token_dim: int, n_head: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.query = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.multihead_attn = QueryAttention(embed_dim, token_dim, n_head)
        self.layernorm = nn.LayerNorm(embed_dim)

    def attention(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """Attention weights (B, heads, 1, T)."""
        return self.multihead_attn.scores(self.query, tokens, valid).unsqueeze(2)

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        attended = self.multihead_attn(self.query, tokens, valid)
        return self.layernorm(F.dropout(attended, self.dropout, self.training))


class CrossAttentionTower(nn.Module):
    """An encoder with tokens and a head: inputs of the encoder -> embedding (B, embed_dim).

    With `freeze` the encoder gets no gradient, and stays in evaluation mode while the head trains. `project` applies
    the head to tokens that were stored. `residual` adds the attended vector to its MLP.
    """

    def __init__(
        self,
        backbone: nn.Module,
        embed_dim: int = 1024,
        n_head: int = 4,
        dropout: float = 0.1,
        freeze: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.n_head = n_head
        self.dropout = dropout
        self.freeze = freeze
        self.residual = residual
        self.view = backbone.view
        self.inputs = backbone.inputs
        self.out_features = embed_dim
        self.token_features = backbone.token_features
        self.backbone = backbone
        self.cross_attention = CrossAttentionHead(embed_dim, backbone.token_features, n_head, dropout)  # type: ignore[arg-type]
        self.mlp = SpectrumMLP(embed_dim, 4 * embed_dim, dropout)
        leave_unused(backbone)
        if freeze:
            backbone.requires_grad_(False)
            backbone.eval()

    def train(self, mode: bool = True) -> CrossAttentionTower:
        super().train(mode)
        if self.freeze:
            self.backbone.eval()
        return self

    def read(self, prepared: Tensor) -> Tensor:
        """What the head attends to, from the prepared input of the encoder (`backbone.prepare`): (B, T, D)."""
        return self.backbone.encode(prepared)  # type: ignore[operator]

    def tokens(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What the head attends to (B, T, D), and which of it is valid, bool (B, T), here all."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze):
            tokens = self.read(self.backbone.prepare(*inputs))  # type: ignore[operator]
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)

    def attend(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D) -> the attended vector after its norm (B, embed_dim)."""
        return self.cross_attention(tokens, valid)

    def project(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D), fresh or stored -> embedding (B, embed_dim)."""
        attended = self.attend(tokens, valid)
        transformed = self.mlp(attended)
        return attended + transformed if self.residual else transformed

    def attention(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """Attention weights (B, heads, 1, T) of the query on tokens (B, T, D)."""
        return self.cross_attention.attention(tokens, valid)

    def forward(self, *inputs: Tensor) -> Tensor:
        tokens, _ = self.tokens(*inputs)
        return self.project(tokens)


class SpectrumTower(CrossAttentionTower):
    """SpecFormer and its head: raw flux (B, 7781) -> embedding (B, embed_dim). The head reads all normed tokens."""

    def __init__(
        self,
        backbone: SpecFormer,
        embed_dim: int = 1024,
        n_head: int = 4,
        dropout: float = 0.1,
        freeze: bool = True,
    ) -> None:
        super().__init__(backbone, embed_dim, n_head, dropout, freeze)


class ImageTower(CrossAttentionTower):
    """The image encoder and its head: cutouts (B, 3, S, S) in nanomaggies -> embedding (B, embed_dim).

    With `compat` the head reads patch tokens computed without class token and positions, and its MLP has no residual
    connection. Both are mistakes that the published weights need. Without it the head reads the ordinary tokens.
    """

    def __init__(
        self,
        backbone: VisionTransformer,
        embed_dim: int = 1024,
        n_head: int = 4,
        dropout: float = 0.1,
        freeze: bool = True,
        compat: bool = False,
    ) -> None:
        super().__init__(backbone, embed_dim, n_head, dropout, freeze, residual=not compat)
        self.compat = compat
        if compat:  # neither is read
            backbone.cls_token.requires_grad_(False)
            backbone.pos_embed.requires_grad_(False)

    def read(self, prepared: Tensor) -> Tensor:
        """Network images (B, 3, H, W) -> what the head attends to (B, T, D)."""
        if self.compat:
            return self.backbone.position_free(prepared)  # type: ignore[operator]
        return super().read(prepared)
