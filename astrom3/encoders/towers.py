"""The models around the encoders: one encoder with a class head, several encoders in one space, and both.

An encoder is a module with `inputs` (keys of the batch it takes, in order; the first names its modality),
`out_features` and `forward(*inputs) -> (B, out_features)`. Nothing here knows which modalities there are, so a new
one is one file and one configuration. Rizhko & Bloom 2024 (arXiv:2411.08842), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOGIT_SCALE_RANGE = (1.0, 100.0)
CLAMPS = ("forward", "parameter")
# Prefixes of batch keys with what a frozen encoder or the frozen part of a tower has said (training/frozen.py).
FEATURES = "features/"
TOKENS = "tokens/"
FUSIONS = ("avg", "concat")

Batch = Mapping[str, Any]


def encode(encoder: nn.Module, batch: Batch) -> Tensor:
    """Features (B, out_features) of one encoder's modality, from what was kept of it where the batch has that."""
    first = str(encoder.inputs[0])  # type: ignore[index]
    if FEATURES + first in batch:
        return batch[FEATURES + first]
    if TOKENS + first in batch:
        return encoder.project(batch[TOKENS + first])  # type: ignore[operator]
    return encoder(*(batch[key] for key in encoder.inputs))  # type: ignore[union-attr]


def taken(encoder: nn.Module, batch: Batch, rows: Tensor) -> dict[str, Tensor]:
    """What `encode` reads of some rows of a batch."""
    first = str(encoder.inputs[0])  # type: ignore[index]
    keys = (*encoder.inputs, FEATURES + first, TOKENS + first)  # type: ignore[misc]
    found = {}
    for key in keys:
        if key in batch:
            found[key] = batch[key][rows]
    return found


def leave_unused(encoder: nn.Module) -> None:
    """Parts of an encoder that only its pre-training needs do not learn: DDP waits for gradients of what does."""
    for name in getattr(encoder, "pretraining_only", ()):
        getattr(encoder, name).requires_grad_(False)


def encoders_of(model: nn.Module) -> dict[str, Any]:
    """Modality -> encoder of a model of any kind."""
    from astrom3.modalities.view import get_view  # here, so that an encoder imports torch alone

    inner: Any = getattr(model, "backbone", model)  # of a tower too, whose view and inputs are its backbone's
    several = getattr(inner, "encoders", None)
    if several is not None:
        return dict(several.items())
    encoder = getattr(inner, "encoder", inner)
    return {get_view(encoder.view).modality: encoder}


def compile_encoders(model: nn.Module) -> None:
    """torch.compile of every encoder, in place: the names of the tensors stay."""
    for encoder in encoders_of(model).values():
        encoder.compile()


class Classifier(nn.Module):
    """One encoder and a linear head on its features: batch -> logits (B, num_classes)."""

    def __init__(self, encoder: nn.Module, num_classes: int):
        super().__init__()
        self.encoder = encoder
        self.num_classes = num_classes
        leave_unused(encoder)
        self.head = nn.Linear(encoder.out_features, num_classes)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Tensor:
        return self.head(encode(self.encoder, batch))


class MultimodalModel(nn.Module):
    """Encoders and linear projections into one space of `hidden_dim`, and a logit scale for each pair of modalities.

    clamp: exp(logit scale) stays in [1, 100]. "forward", as published, clamps inside the forward pass, so a scale
    beyond the range gets no gradient; exp(ln 100) is 100.0000076 in float32, so at the start the gradient is 0 until
    weight decay has pulled the parameter back. "parameter" clamps the parameter after each step (`clamp_parameters`).
    start_scale: the factor of the logits at first; the published one is 100.
    """

    shortest = 1e-12  # length that shorter embeddings are divided by

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        hidden_dim: int = 512,
        clamp: str = "forward",
        start_scale: float = LOGIT_SCALE_RANGE[1],
    ):
        super().__init__()
        if clamp not in CLAMPS:
            raise ValueError(f"clamp must be one of {', '.join(CLAMPS)}, not {clamp!r}")
        self.hidden_dim = hidden_dim
        self.clamp = clamp
        self.start_scale = start_scale
        self.encoders = nn.ModuleDict(encoders)
        for encoder in encoders.values():
            leave_unused(encoder)
        self.projections = nn.ModuleDict()
        for modality, encoder in encoders.items():
            self.projections[modality] = nn.Linear(encoder.out_features, hidden_dim)  # type: ignore[arg-type]
        self.logit_scales = nn.ParameterDict()
        for a, b in self.pairs:
            self.logit_scales[f"{a}_{b}"] = nn.Parameter(torch.tensor(math.log(start_scale)))

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every pair once; for three modalities in the published order (0, 1), (1, 2), (2, 0)."""
        names = self.modalities
        if len(names) == 3:
            return [(names[i], names[(i + 1) % 3]) for i in range(3)]
        return list(combinations(names, 2))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """L2-normalised embeddings, modality -> (B, hidden_dim); rows of absent modalities are 0."""
        return {m: self.embed(m, batch) for m in self.modalities}

    def embed(self, modality: str, batch: Batch) -> Tensor:
        encoder = self.encoders[modality]
        projection = self.projections[modality]
        present = batch.get("present", {}).get(modality)
        if present is None or bool(present.all()):
            return F.normalize(projection(encode(encoder, batch)), dim=-1, eps=self.shortest)
        rows = present.nonzero().squeeze(1)
        found = F.normalize(projection(encode(encoder, taken(encoder, batch, rows))), dim=-1, eps=self.shortest)
        return found.new_zeros(len(present), self.hidden_dim).index_copy(0, rows, found)

    def scale(self, a: str, b: str) -> Tensor:
        """The factor of the logits of a pair, a scalar in [1, 100]."""
        scale = self.logit_scales[f"{a}_{b}"].exp()
        return scale.clamp(*LOGIT_SCALE_RANGE) if self.clamp == "forward" else scale

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """After an optimiser step: hold the parameters in range, where `clamp="parameter"`."""
        if self.clamp == "parameter":
            low, high = (math.log(x) for x in LOGIT_SCALE_RANGE)
            for scale in self.logit_scales.values():
                scale.clamp_(low, high)


class MultimodalClassifier(nn.Module):
    """The embeddings of all modalities fused, and a linear head: batch -> logits (B, num_classes).

    fusion "avg": mean of the embeddings that the object has; "concat": side by side, zeros for absent ones.
    """

    def __init__(self, backbone: MultimodalModel, num_classes: int, fusion: str = "avg"):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, not {fusion!r}")
        self.backbone = backbone
        self.num_classes = num_classes
        self.fusion = fusion
        backbone.logit_scales.requires_grad_(False)  # no part in the logits; DDP waits for gradients of what has
        width = backbone.hidden_dim * (len(backbone.modalities) if fusion == "concat" else 1)
        self.head = nn.Linear(width, num_classes)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.fuse(self.backbone(batch), batch.get("present", {})))

    def fuse(self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """(B, hidden_dim) each -> (B, hidden_dim) or (B, n * hidden_dim). Absent embeddings are zero rows."""
        parts = [embeddings[m] for m in self.backbone.modalities]
        if self.fusion == "concat":
            return torch.cat(parts, dim=-1)
        total = torch.stack(parts).sum(0)
        if not present:
            return total / len(parts)
        count = torch.stack([present[m] for m in self.backbone.modalities]).sum(0).clamp(min=1)
        return total / count.unsqueeze(-1).to(total.dtype)
