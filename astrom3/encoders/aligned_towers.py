"""The aligned model of AstroCLIP: towers of spectra and images whose embeddings are compared by their cosine.

Parker et al. 2024 (MNRAS 531, 4990), section 4.3. Each encoder has a head with one query that attends to its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from astrom3.encoders.towers import LOGIT_SCALE_RANGE, MultimodalModel
from astrom3.encoders.towers_astroclip import CrossAttentionTower, ImageTower, SpectrumTower
from astrom3.encoders.vit import VisionTransformer

SHORTEST = 1e-3  # as published
SCALE = 15.5  # of the cosines, as published
ALL_PAIRS = "all"
UNUSED = ("head", "mask_token")  # parts of the encoders that only their pre-training needs


class AlignedTowers(MultimodalModel):
    """encoders: slot -> encoder with tokens; their towers stand in `self.encoders`, and there are no projections.

    frozen: the encoders do not learn. compat: the image head reads what the published weights need (`ImageTower`).
    scale: of the cosines, fixed or, where it is learnable, at the start; one for all pairs.
    """

    shortest = SHORTEST

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        embed_dim: int = 1024,
        n_head: int = 4,
        dropout: float = 0.1,
        frozen: bool = True,
        compat: bool = False,
        scale: float = SCALE,
        learnable: bool = False,
    ) -> None:
        options = {"embed_dim": embed_dim, "n_head": n_head, "dropout": dropout, "freeze": frozen}
        super().__init__({slot: tower(encoder, compat, options) for slot, encoder in encoders.items()}, embed_dim)
        self.embed_dim = embed_dim
        self.n_head = n_head
        self.dropout = dropout
        self.frozen = frozen
        self.compat = compat
        self.configured_scale = scale
        self.learnable = learnable
        self.projections = nn.ModuleDict({slot: nn.Identity() for slot in encoders})
        for encoder in encoders.values():
            for name in UNUSED:
                if hasattr(encoder, name):
                    getattr(encoder, name).requires_grad_(False)  # DDP waits for gradients of what has them
        self.logit_scales = nn.ParameterDict()
        if learnable:
            self.logit_scales[ALL_PAIRS] = nn.Parameter(torch.tensor(math.log(scale)))
        self.register_buffer("fixed_scale", torch.tensor(scale), persistent=False)

    @property
    def configured_encoders(self) -> dict[str, nn.Module]:
        """The encoders without their heads, as the model was made from them."""
        return {slot: tower.backbone for slot, tower in self.encoders.items()}  # type: ignore[misc]

    def scale(self, a: str, b: str) -> Tensor:
        """The factor of the cosines, a scalar, the same for every pair."""
        return self.logit_scales[ALL_PAIRS].exp() if self.learnable else self.fixed_scale  # type: ignore[return-value]

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """After an optimiser step: a learned scale stays in [1, 100]."""
        low, high = (math.log(bound) for bound in LOGIT_SCALE_RANGE)
        for scale in self.logit_scales.values():
            scale.clamp_(low, high)


def tower(encoder: nn.Module, compat: bool, options: Mapping) -> CrossAttentionTower:
    """The tower of an encoder; that of images has the published form where `compat` asks for it."""
    if isinstance(encoder, VisionTransformer):
        return ImageTower(encoder, **options, compat=compat)
    return SpectrumTower(encoder, **options)  # type: ignore[arg-type]
