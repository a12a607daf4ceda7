"""Training the alignment of images and spectra (Parker et al. 2024, section 4.3), or of any encoders with tokens.

The objective is the mean of the two cross-entropies of a pair, over all objects that have both modalities, on all
ranks; AstroM3's is their sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from astrom3.tasks.contrastive import ContrastiveModule


class AlignmentModule(ContrastiveModule):
    """model: AlignedTowers. The weights of the lowest validation loss are kept, as published."""

    best_metric = "val/loss"
    direction = "min"

    def _losses(self, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
        losses, matched = super()._losses(batch)
        return {name: loss / 2 for name, loss in losses.items()}, matched
