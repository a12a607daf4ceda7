"""The aligned model of AstroCLIP: towers of spectra and images whose embeddings are compared by their cosine.

Parker et al. 2024 (MNRAS 531, 4990), section 4.3. Each encoder has a head with one query that attends to its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from astrom3.encoders.towers import LOGIT_SCALE_RANGE, MultimodalModel
from astrom3.encoders.towers_astroclip import CrossAttentionTower, ImageTower, SpectrumTower
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError

SHORTEST = 1e-3  # as published
SCALE = 15.5  # of the cosines, as published
ALL_PAIRS = "all"


class AlignedTowers(MultimodalModel):
    """encoders: slot -> encoder. Towers of those with tokens stand in `self.encoders`; others (photometry) stand there
    themselves, always learn and have a linear projection.

    frozen: the encoders with tokens do not learn, or those of the slots that it names. compat: the image head reads
    what the published weights need (`ImageTower`). scale: of the cosines, fixed or, where it is learnable, at the
    start; one for all pairs.
    """

    shortest = SHORTEST

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        embed_dim: int = 1024,
        n_head: int = 4,
        dropout: float = 0.1,
        frozen: bool | Sequence[str] = True,
        compat: bool = False,
        scale: float = SCALE,
        learnable: bool = False,
    ) -> None:
        fixed = fixed_slots(frozen, encoders)
        options = {"embed_dim": embed_dim, "n_head": n_head, "dropout": dropout}
        towers = {
            slot: tower(encoder, compat, options | {"freeze": slot in fixed}) for slot, encoder in encoders.items()
        }
        super().__init__(towers, embed_dim)
        self.embed_dim = embed_dim
        self.n_head = n_head
        self.dropout = dropout
        self.frozen = frozen if isinstance(frozen, bool) else list(frozen)
        self.compat = compat
        self.configured_scale = scale
        self.learnable = learnable
        for slot, encoder in towers.items():
            if isinstance(encoder, CrossAttentionTower):
                self.projections[slot] = nn.Identity()
        self.logit_scales = nn.ParameterDict()
        if learnable:
            self.logit_scales[ALL_PAIRS] = nn.Parameter(torch.tensor(math.log(scale)))
        self.register_buffer("fixed_scale", torch.tensor(scale), persistent=False)

    @property
    def configured_encoders(self) -> dict[str, nn.Module]:
        """The encoders without their heads, as the model was made from them."""
        return {slot: getattr(tower, "backbone", tower) for slot, tower in self.encoders.items()}

    def scale(self, a: str, b: str) -> Tensor:
        """The factor of the cosines, a scalar, the same for every pair."""
        return self.logit_scales[ALL_PAIRS].exp() if self.learnable else self.fixed_scale  # type: ignore[return-value]

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """After an optimiser step: a learned scale stays in [1, 100]."""
        low, high = (math.log(bound) for bound in LOGIT_SCALE_RANGE)
        for scale in self.logit_scales.values():
            scale.clamp_(low, high)


def fixed_slots(frozen: bool | Sequence[str], slots: Iterable[str]) -> set[str]:
    """Slots whose encoders do not learn; UserError for one that the model has not."""
    if isinstance(frozen, bool):
        return set(slots) if frozen else set()
    unknown = sorted(set(frozen) - set(slots))
    if unknown:
        raise UserError(f"model.frozen=[{unknown[0]}]: the model has encoders of {', '.join(slots)}")
    return set(frozen)


def tower(encoder: nn.Module, compat: bool, options: Mapping) -> nn.Module:
    """The tower of an encoder, or itself where it has no tokens. That of images has the published form where `compat`
    asks for it."""
    if not hasattr(encoder, "token_features"):
        return encoder
    if isinstance(encoder, VisionTransformer):
        return ImageTower(encoder, **options, compat=compat)
    return SpectrumTower(encoder, **options)  # type: ignore[arg-type]
