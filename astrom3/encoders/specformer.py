"""SpecFormer, the masked Transformer for galaxy spectra (Parker et al. 2024, MNRAS 531, 4990, section 4.1).

A raw spectrum is normalised and cut into overlapping windows, the tokens. Tensor names are those of the published file.
"""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.transformer import SpectrumBlock
from astrom3.errors import UserError

SMALLEST_DEVIATION = 0.2  # flux units; fainter spectra are not stretched to unit variance
MEAN_CENTRE = 2.0  # token 0 holds (mean - 2) / 2 and (deviation - 2) / 8
MEAN_SCALE = 2.0
DEVIATION_CENTRE = 2.0
DEVIATION_SCALE = 8.0


def token_count(pixels: int, section: int = 20, overlap: int = 10, compat: bool = True) -> int:
    """Number of tokens of a spectrum, token 0 with its mean and deviation among them."""
    step = section - overlap
    if compat:
        return max(math.ceil((pixels - overlap) / step), 1)
    return max((pixels - section) // step + 2, 1)


def spectrum_to_tokens(
    flux: Tensor,
    section: int = 20,
    overlap: int = 10,
    compat: bool = True,
    valid: Tensor | None = None,
) -> Tensor:
    """Normalise spectra and cut them into tokens.

    flux is float (B, L) or (B, L, 1), in 1e-17 erg/s/cm2/Angstrom. The result is (B, T, section + 2). Token 0 holds the
    scaled mean and deviation. Every other token is two zeros and `section` normalised pixels.

    With `compat` the last window is always dropped and every pixel counts, as in the published model. Without it a
    whole last window is kept, and pixels that are not finite or not `valid` (bool, same shape as flux) are left out of
    the mean and the deviation and read as the mean.
    """
    flux = flux.squeeze(-1) if flux.dim() == 3 else flux  # (B, L)
    if flux.shape[-1] < section:
        raise UserError(f"a spectrum of {flux.shape[-1]} pixels is shorter than one token of {section} pixels")
    if compat:
        mean = flux.mean(dim=1, keepdim=True)
        centred = flux - mean
        length = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        deviation = length / math.sqrt(flux.shape[1] - 1)
    else:
        mean, deviation, centred = _masked_moments(flux, valid)
    deviation = deviation.clamp(min=SMALLEST_DEVIATION)
    windows = (centred / deviation).unfold(1, section, section - overlap)  # (B, windows, section)
    windows = windows[:, : token_count(flux.shape[1], section, overlap, compat) - 1]
    tokens = F.pad(windows, (2, 0, 1, 0))  # (B, T, section + 2)
    tokens[:, 0, 0] = (mean.squeeze(1) - MEAN_CENTRE) / MEAN_SCALE
    tokens[:, 0, 1] = (deviation.squeeze(1) - DEVIATION_CENTRE) / DEVIATION_SCALE
    return tokens


def _masked_moments(flux: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (B, 1), unbiased deviation (B, 1) and flux minus mean (B, L) over the good pixels; bad ones become 0."""
    good = flux.isfinite()
    if valid is not None:
        good = good & valid.reshape(flux.shape).bool()
    count = good.sum(dim=1, keepdim=True)
    filled = torch.where(good, flux, 0)
    mean = filled.sum(dim=1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(good, filled - mean, 0)
    variance = centred.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
    return mean, variance.sqrt(), centred


class SpecFormer(nn.Module):
    """Raw flux (B, L) -> embedding (B, embed_dim), the mean of the normed tokens.

    The published size is the default (43,177,750 parameters). Input width is section + 2.
    """

    view = "specformer"
    inputs = ("specformer/flux",)
    pretraining_only = ("head",)

    def __init__(
        self,
        embed_dim: int = 768,
        num_layers: int = 6,
        num_heads: int = 6,
        max_len: int = 800,
        dropout: float = 0.0,
        slice_section_length: int = 20,
        slice_overlap: int = 10,
        compat: bool = True,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(f"embed_dim={embed_dim} of SpecFormer is not a multiple of num_heads={num_heads}")
        if not 0 <= slice_overlap < slice_section_length:
            raise UserError(
                f"slice_overlap={slice_overlap} of SpecFormer must be at least 0 and below "
                f"slice_section_length={slice_section_length}"
            )
        self.embed_dim = embed_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.max_len = max_len
        self.dropout = dropout
        self.slice_section_length = slice_section_length
        self.slice_overlap = slice_overlap
        self.compat = compat
        self.input_dim = slice_section_length + 2
        self.out_features = embed_dim
        self.token_features = embed_dim
        self.data_embed = nn.Linear(self.input_dim, embed_dim)
        self.position_embed = nn.Embedding(max_len, embed_dim)
        self.blocks = nn.ModuleList([SpectrumBlock(embed_dim, num_heads, dropout) for _ in range(num_layers)])
        self.final_layernorm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, self.input_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial weights of the published recipe: normal, cut at 3 sigma, narrower in the blocks."""
        outer = 1 / math.sqrt(self.embed_dim)
        _truncated_normal(self.data_embed.weight, outer)
        _truncated_normal(self.position_embed.weight, outer)
        _truncated_normal(self.head.weight, outer)
        nn.init.zeros_(self.head.bias)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                _truncated_normal(module.weight, 1 / math.sqrt(2 * module.in_features * self.num_layers))
                nn.init.zeros_(module.bias)

    def prepare(self, flux: Tensor) -> Tensor:
        """Raw flux (B, L) or (B, L, 1) -> network tokens (B, T, input_dim)."""
        return spectrum_to_tokens(flux, self.slice_section_length, self.slice_overlap, self.compat)

    def encode(self, tokens: Tensor, rows: Tensor | None = None) -> Tensor:
        """Network tokens (B, T, input_dim), masked or not -> normed tokens (B, T, embed_dim).

        With `rows`, positions int64 (B, H), only these tokens are computed to the end: (B, H, embed_dim).
        """
        count = tokens.shape[1]
        if count > self.max_len:
            raise UserError(f"a spectrum of {count} tokens is too long for this SpecFormer of max_len={self.max_len}")
        x = self.data_embed(tokens) + self.position_embed.weight[:count]  # (B, T, D)
        x = F.dropout(x, self.dropout, self.training)
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            x = block(x, rows if number == last else None)
        return self.final_layernorm(x)

    def reconstruct(self, tokens: Tensor, rows: Tensor | None = None) -> Tensor:
        """Network tokens (B, T, input_dim), masked -> the network's guess of all tokens, or of those at `rows`."""
        return self.head(self.encode(tokens, rows))

    def tokens(self, flux: Tensor) -> tuple[Tensor, Tensor]:
        """Raw flux (B, L) -> normed tokens (B, T, embed_dim) and which are valid, bool (B, T), here all."""
        encoded = self.encode(self.prepare(flux))
        return encoded, torch.ones(encoded.shape[:2], dtype=torch.bool, device=encoded.device)

    def forward(self, flux: Tensor) -> Tensor:
        """Raw flux (B, L) -> embedding (B, embed_dim)."""
        return self.encode(self.prepare(flux)).mean(dim=1)


class Size(TypedDict):
    """What differs between the sizes."""

    embed_dim: int
    num_layers: int
    num_heads: int


SIZES: dict[str, Size] = {
    "published": {"embed_dim": 768, "num_layers": 6, "num_heads": 6},
    "small": {"embed_dim": 256, "num_layers": 6, "num_heads": 4},
    "tiny": {"embed_dim": 64, "num_layers": 2, "num_heads": 2},
}


def _truncated_normal(weight: Tensor, deviation: float) -> None:
    nn.init.trunc_normal_(weight, std=deviation, a=-3 * deviation, b=3 * deviation)
