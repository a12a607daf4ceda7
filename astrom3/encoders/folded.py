"""Light-curve encoder for surveys of one's own: what a hand-made catalogue would measure, left to a network to weigh.

A few thousand labelled curves do not teach a Transformer to fold a curve. Here the curve is folded at twice its period
on a ring of 64 phases, which a circular convolution reads; beside it stand the distribution of the fluxes, how much the
flux changes over hours, days and months (the structure function, Simonetti et al. 1985, ApJ 296, 46), and the
constants of the view, all brought to mean 0 and deviation 1 by batch normalisation.

    features = FoldedEncoder()(photometry, mask)        # (B, 512, 11), (B, 512) -> (B, 128)
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

FLOOR = 1e-3  # weight of the wide kernel that fills gaps in the folded curve
WIDE = 4.0  # its concentration
LAGS = (1, 2, 4, 8, 16, 32)  # in points
LOG_LAGS = (-2.0, -1.25, -0.5, 0.25, 1.0, 1.75, 2.5)  # log10 day, limits of eight ranges
SPAN = 8  # channel of log10(span)
CONSTANTS = slice(3, 10)


def ring_kernel(phases: int) -> Tensor:
    """Weights (phases, phases) of a bin for a phase: a von Mises kernel one bin wide, and a wide one for gaps."""
    ring = torch.arange(phases) / phases
    near = torch.cos(2 * math.pi * (ring.unsqueeze(1) - ring)) - 1
    return torch.exp((phases / (2 * math.pi)) ** 2 * near) + FLOOR * torch.exp(WIDE * near)


def ring_profile(total: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean flux, the same with mean 0 and deviation 1, and scatter on the ring, (..., phases) each.

    total, first, second: smoothed sums of the weights, and of the weighted flux and its square, (..., phases).
    """
    total = total.clamp(min=1e-12)
    mean = first / total
    variance = second / total - mean.square()
    scatter = variance.clamp(min=0).add(1e-6).sqrt()
    centred = mean - mean.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-4).sqrt()
    return mean, centred / deviation, scatter


class FoldedEncoder(nn.Module):
    """Points (B, L, 11) and mask (B, L) of the view `photometry-scaled` -> features (B, out_features), float32.

    width: channels of the convolutions. out_features: length of the features. phases: of the ring. quantiles: of the
    fluxes. thinning: in training, each curve loses up to this share of its points, anew in each step.
    """

    view = "photometry-scaled"
    inputs = ("photometry", "mask")
    rings = 4  # channels that `fold` gives
    constant = 7  # numbers that `constants` gives
    smoothing: Tensor
    shares: Tensor
    log_lags: Tensor

    def __init__(
        self,
        width: int = 64,
        out_features: int = 128,
        phases: int = 64,
        quantiles: int = 16,
        dropout: float = 0.3,
        thinning: float = 0.5,
    ):
        super().__init__()
        self.width = width
        self.out_features = out_features
        self.phases = phases
        self.quantiles = quantiles
        self.dropout = dropout
        self.thinning = thinning
        self.register_buffer("smoothing", ring_kernel(phases), persistent=False)
        self.register_buffer("shares", torch.linspace(0.01, 0.99, quantiles), persistent=False)
        self.register_buffer("log_lags", torch.tensor(LOG_LAGS), persistent=False)
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(before, width, 5, padding=2, padding_mode="circular"), nn.BatchNorm1d(width), nn.GELU()
            )
            for before in (self.rings, width, width)
        )
        measured = quantiles + len(LOG_LAGS) + 1 + self.constant + 1
        self.norm = nn.BatchNorm1d(measured)
        self.mlp = nn.Sequential(
            nn.Linear(measured + 4 * width, 2 * out_features),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * out_features, out_features),
            nn.GELU(),
            nn.Dropout(dropout),
        )

    def forward(self, photometry: Tensor, mask: Tensor) -> Tensor:
        longest = photometry.shape[1]
        if not torch.compiler.is_compiling():  # a graph has fixed shapes
            longest = max(int(mask.sum(1).max()) if len(mask) else 0, 2 * max(LAGS))
        photometry = photometry[:, :longest]
        mask = mask[:, :longest]
        constants = self.constants(photometry, mask)
        if self.training and self.thinning > 0:
            mask = self.thin(mask)
        folded = self.fold(photometry, mask)
        measured = self.norm(torch.cat([self.measure(photometry, mask), constants], dim=1))
        levels = []
        for i, layer in enumerate(self.convolutions):
            folded = layer(folded)
            if i > 0:
                levels += [folded.mean(2), folded.amax(2)]
        return self.mlp(torch.cat([measured, *levels], dim=1))

    def constants(self, photometry: Tensor, mask: Tensor) -> Tensor:
        """What is the same for all points of a curve, (B, constant)."""
        return photometry[:, 0, CONSTANTS]

    def thin(self, mask: Tensor) -> Tensor:
        """Mask (B, L) with a share of the points taken away at random; ten of a curve that has ten stay."""
        share = self.thinning * torch.rand(len(mask), 1, device=mask.device)
        kept = mask * (torch.rand_like(mask) >= share)
        return torch.where(kept.sum(1, keepdim=True) >= 10, kept, mask)

    def fold(self, photometry: Tensor, mask: Tensor) -> Tensor:
        """Mean flux, the same with mean 0 and deviation 1, scatter and density on the ring, (B, 4, phases)."""
        flux = photometry[..., 1]
        error = torch.pow(10.0, photometry[..., 2].clamp(max=1.0))
        weight = mask / (0.25 + error.square())
        place = (photometry[..., -1] * self.phases).long().clamp(0, self.phases - 1)  # (B, L)
        sums = torch.stack([weight, weight * flux, weight * flux.square(), mask])  # (4, B, L)
        binned = flux.new_zeros(4, flux.shape[0], self.phases)
        binned = binned.scatter_add(2, place.expand(4, -1, -1), sums)
        total, first, second, count = binned @ cast(Tensor, self.smoothing)
        mean, shape, scatter = ring_profile(total, first, second)
        points = mask.sum(1, keepdim=True).clamp(min=1)
        density = torch.log10(1e-3 + count / points)
        return torch.stack([mean, shape, scatter, density], dim=1)

    def measure(self, photometry: Tensor, mask: Tensor) -> Tensor:
        """Quantiles of the flux, structure function and log10 of the number of points, (B, quantiles + 8 + 1)."""
        flux = photometry[..., 1]
        count = mask.sum(1, keepdim=True).clamp(min=1)
        ordered = flux.masked_fill(mask <= 0, torch.inf).sort(1).values
        place = (cast(Tensor, self.shares) * (count - 1)).round().long()  # (B, quantiles)
        levels = ordered.gather(1, place)
        levels = torch.where(levels.isfinite(), levels, torch.zeros_like(levels))
        log_span = photometry[:, :1, SPAN]
        total = flux.new_zeros(flux.shape[0], len(LOG_LAGS) + 1)
        pairs = torch.full_like(total, 1e-3)
        for lag in LAGS:
            step = photometry[:, lag:, 0] - photometry[:, :-lag, 0]
            log_step = step.clamp(min=1e-9).log10() + log_span  # log10 [day]
            both = mask[:, lag:] * mask[:, :-lag]
            change = (flux[:, lag:] - flux[:, :-lag]).abs()
            place = torch.bucketize(log_step, cast(Tensor, self.log_lags))
            total = total.scatter_add(1, place, change * both)
            pairs = pairs.scatter_add(1, place, both)
        return torch.cat([levels, total / pairs, count.log10()], dim=1)
