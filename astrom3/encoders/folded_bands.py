"""The folded light curve in several bands: one ring of phases for each of five ranges of wavelength.

A point counts for the ranges near its band's wavelength, so a network trained on one survey's bands can read another's.
Beside the rings stand each range's level and variability relative to the whole, which are colours and the ratios of
amplitudes, and its share of the points. See `FoldedEncoder` for what the networks have in common.

    features = FoldedBandsEncoder()(photometry, mask)        # (B, 512, 12), (B, 512) -> (B, 128)
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from astrom3.encoders.folded import FoldedEncoder, ring_profile
from astrom3.modalities.constants import REFERENCE, WAVELENGTH

CENTRES = (3600.0, 4700.0, 6200.0, 7600.0, 9000.0)  # Angstrom
WIDTH = 0.03  # of a range, in log10 of the wavelength
PHASE = 10
DEVIATION = 7  # channel of log10(MAD / median)
MEDIAN = 9  # channel of log10(median)


class FoldedBandsEncoder(FoldedEncoder):
    """Points (B, L, 12) and mask (B, L) of the view `photometry-bands` -> features (B, out_features), float32.

    Arguments are those of `FoldedEncoder`.
    """

    view = "photometry-bands"
    rings = 4 * len(CENTRES)
    constant = 7 + 3 * len(CENTRES)
    centres: Tensor

    def __init__(
        self,
        width: int = 64,
        out_features: int = 128,
        phases: int = 64,
        quantiles: int = 16,
        dropout: float = 0.3,
        thinning: float = 0.5,
    ):
        super().__init__(width, out_features, phases, quantiles, dropout, thinning)
        places = [math.log10(centre / REFERENCE) for centre in CENTRES]
        self.register_buffer("centres", torch.tensor(places), persistent=False)

    def ranges(self, photometry: Tensor, mask: Tensor) -> Tensor:
        """How much each point counts for each range, (B, S, L); its weights sum to 1, or 0 on padding."""
        distance = photometry[..., WAVELENGTH].unsqueeze(1) - cast(Tensor, self.centres).unsqueeze(-1)
        weights = torch.softmax(-0.5 * (distance / WIDTH).square(), dim=1)
        return weights * mask.unsqueeze(1)

    def constants(self, photometry: Tensor, mask: Tensor) -> Tensor:
        """Features, span, mean level and variability, and those of each range relative to the means, (B, 22)."""
        weights = self.ranges(photometry, mask)  # (B, S, L)
        count = weights.sum(2)
        total = mask.sum(1, keepdim=True).clamp(min=1)
        share = count / total
        levels = photometry[..., [DEVIATION, MEDIAN]]
        mean = (levels * mask.unsqueeze(-1)).sum(1) / total  # (B, 2)
        own = weights @ levels / count.clamp(min=1e-6).unsqueeze(-1)  # (B, S, 2)
        relative = (own - mean.unsqueeze(1)) * (share > 0.01).unsqueeze(-1)
        first = photometry[:, 0, 3:9].clone()
        first[:, 4] = mean[:, 0]
        return torch.cat([first, mean[:, 1:], relative.flatten(1), share], dim=1)

    def fold(self, photometry: Tensor, mask: Tensor) -> Tensor:
        """Mean flux, the same with mean 0 and deviation 1, scatter and density of each range, (B, 4 S, phases)."""
        flux = photometry[..., 1].unsqueeze(1)
        error = torch.pow(10.0, photometry[..., 2].clamp(max=1.0)).unsqueeze(1)
        member = self.ranges(photometry, mask)  # (B, S, L)
        weight = member / (0.25 + error.square())
        place = (photometry[..., PHASE] * self.phases).long().clamp(0, self.phases - 1)
        sums = torch.stack([weight, weight * flux, weight * flux.square(), member])  # (4, B, S, L)
        binned = flux.new_zeros(*sums.shape[:3], self.phases)
        binned = binned.scatter_add(3, place.unsqueeze(1).expand(sums.shape), sums)
        total, first, second, count = binned @ cast(Tensor, self.smoothing)
        seen = (member.sum(2, keepdim=True) > 1).to(total.dtype)  # ranges with more than one point
        mean, shape, scatter = ring_profile(total, first, second)
        points = mask.sum(1).clamp(min=1).view(-1, 1, 1)
        density = torch.log10(1e-3 + count / points)
        return torch.cat([mean * seen, shape * seen, scatter * seen, density], dim=1)
