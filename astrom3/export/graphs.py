"""What there is to export of a model: each encoder, each with its projection or class head, and the whole.

Nothing here knows an encoder or its inputs. Shapes and example values of inputs come from the view of an encoder, its
names in a file too. An encoder that cannot be traced as it is offers `for_export()`, a module that can; one with
`sequence` gives the mean and the vectors of the points.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.astromer import Astromer
from astrom3.encoders.towers import MultimodalClassifier, MultimodalModel
from astrom3.inference.regression import Regression
from astrom3.inference.trained import TrainedModel
from astrom3.inference.windows import encoders_of
from astrom3.modalities.kinds import file_name
from astrom3.modalities.view import View

log = logging.getLogger(__name__)
PRESENT = "present"
ASTROMER_INPUTS = ("input", "times", "mask_in")
ASTROMER_OUTPUTS = ("mean", "max", "sequence")


class Points(nn.Module):
    """(inputs, mask last) -> mean (B, d_model) over the points that are there, sequence (B, L, d_model)."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        sequence = self.encoder.sequence(*inputs)  # type: ignore[operator]
        return sequence.sum(1) / inputs[-1].sum(1, keepdim=True).clamp(min=1), sequence


class Features(nn.Module):
    """An encoder: its inputs -> features (B, D)."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.encoder(*inputs)


class Projected(nn.Module):
    """An encoder and its projection: its inputs -> embedding (B, D) of length 1."""

    def __init__(self, encoder: nn.Module, projection: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.projection = projection

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.normalize(self.projection(self.encoder(*inputs)), dim=-1)


class Numbers(nn.Module):
    """Outputs of a regression (B, T) -> numbers in the units of its targets."""

    mean: Tensor
    std: Tensor

    def __init__(self, regression: Regression):
        super().__init__()
        self.register_buffer("mean", torch.tensor(regression.mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(regression.std, dtype=torch.float32))

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * self.std + self.mean


class Told(nn.Module):
    """A model of one modality with its head: its encoder's inputs -> probabilities (B, C) or numbers (B, T)."""

    def __init__(self, network: nn.Module, keys: tuple[str, ...], meaning: nn.Module):
        super().__init__()
        self.network = network
        self.keys = keys
        self.meaning = meaning

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.meaning(self.network(dict(zip(self.keys, inputs, strict=True))))


class Together(nn.Module):
    """All modalities: present (B, M) 0 or 1, and all inputs (anything finite where absent) -> an embedding (B, D) of
    each modality, zero where absent, their mean, and what the head tells, where there is one."""

    def __init__(self, network: nn.Module, keys: tuple[str, ...], meaning: nn.Module | None = None):
        super().__init__()
        self.network = network
        self.keys = keys
        self.meaning = meaning

    def forward(self, present: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        network: Any = self.network
        with_head = self.meaning is not None
        backbone = network.backbone if with_head else network
        batch = dict(zip(self.keys, inputs, strict=True))
        there = dict(zip(backbone.modalities, present.unbind(1), strict=True))
        found = {}
        for m in backbone.modalities:
            found[m] = backbone.embed(m, batch) * there[m].unsqueeze(1)
        mean = torch.stack(list(found.values())).sum(0) / present.sum(1, keepdim=True).clamp(min=1)
        if self.meaning is None:
            return *found.values(), mean
        return *found.values(), mean, self.meaning(network.head(network.fuse(found, there)))


@dataclass(frozen=True)
class Graph:
    """One file: a module, the keys of the batch that it takes, the names of what it gives, and the views, by slot, that
    fill the keys."""

    name: str
    module: nn.Module
    keys: tuple[str, ...]
    outputs: tuple[str, ...]
    views: Mapping[str, View] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs in the file: what the view calls them, else the last part of the key, or all of it where
        that is the name of another input or of an output."""
        given: dict[str, str] = {}
        for view in self.views.values():
            given |= view.file_inputs
        short = [given.get(key, key.rpartition("/")[2]) for key in self.keys]
        taken = [*short, *self.outputs]
        pairs = zip(self.keys, short, strict=True)
        return tuple(name if taken.count(name) == 1 else key.replace("/", "_") for key, name in pairs)


def graphs(model: TrainedModel) -> list[Graph]:
    """Every file of a model. Of an Astromer encoder the form that the `light-curve` package reads is one of them."""
    network = copy.deepcopy(model.whole).cpu().eval()
    meaning, outputs = meaning_of(model)
    backbone: Any = network.backbone if isinstance(network, MultimodalClassifier) else network
    whole = isinstance(backbone, MultimodalModel)
    own = getattr(network, "encoder", network)
    encoders: Any = backbone.encoders if whole else {model.modalities[0]: own}
    found = []
    for slot, encoder in list(encoders.items()):
        traced = encoder.for_export() if hasattr(encoder, "for_export") else encoder
        encoders[slot] = traced
        view = model.views[slot]
        name = view.file or file_name(slot, view.modality)
        keys = tuple(traced.inputs)
        views = {slot: view}
        found.append(alone(name, traced, keys, views))
        if whole:
            projected = Projected(traced, backbone.projections[slot])
            found.append(Graph(f"{name}_embedding", projected, keys, ("embedding",), views))
        elif meaning is not None and not getattr(network.head, "traceable", True):
            log.info("Recurrent heads have no ONNX form: the encoder is exported without its head")
        elif meaning is not None:
            with_head: Any = network
            with_head.encoder = traced
            task = "classifier" if model.has_head else "regression"
            found.append(Graph(f"{name}_{task}", Told(network, keys, meaning), keys, outputs, views))

    if whole and len(encoders) > 1:
        found.append(together(model, network, meaning, outputs))
    return found


def meaning_of(model: TrainedModel) -> tuple[nn.Module | None, tuple[str, ...]]:
    """What makes probabilities or numbers of the head's outputs, and their name; None without a head."""
    if model.regression is not None:
        return Numbers(model.regression), ("numbers",)
    return (nn.Softmax(dim=-1), ("probabilities",)) if model.has_head else (None, ())


def alone(name: str, encoder: nn.Module, keys: tuple[str, ...], views: Mapping[str, View]) -> Graph:
    """The file of an encoder alone."""
    if isinstance(encoder, Astromer):
        return Graph(name, encoder, (), ASTROMER_OUTPUTS, views)
    if hasattr(encoder, "sequence"):
        return Graph(name, Points(encoder), keys, ("mean", "sequence"), views)
    return Graph(name, Features(encoder), keys, ("features",), views)


def together(model: TrainedModel, network: nn.Module, meaning: nn.Module | None, told: tuple[str, ...]) -> Graph:
    """The file of all modalities together."""
    names = []
    for slot, view in model.views.items():
        names.append(f"{view.file or file_name(slot, view.modality)}_embedding")
    keys = tuple(key for encoder in encoders_of(model).values() for key in encoder.inputs)
    outputs = (*names, "mean", *told)
    return Graph(whole_name(model), Together(network, keys, meaning), (PRESENT, *keys), outputs, model.views)


def whole_name(model: TrainedModel) -> str:
    """The published model of three modalities has the name that it had before; others are called "whole"."""
    return "trimodal" if len(model.modalities) == 3 else "whole"


def example(graph: Graph, n: int, seed: int, points: int | None = None) -> dict[str, Tensor]:
    """Made-up inputs of n objects; points: of every light curve, None: random. Of several modalities each object has at
    least one."""
    generator = torch.Generator().manual_seed(seed)
    batch: dict[str, Tensor] = {}
    for view in graph.views.values():
        batch |= view.example(n, generator, points)
    found = {}
    for key in graph.keys:
        if key != PRESENT:
            found[key] = batch[key]

    if PRESENT not in graph.keys:
        return found

    modalities = len(graph.views)
    present = torch.randint(0, 2, (n, modalities), generator=generator).float()
    present[torch.arange(n), torch.randint(0, modalities, (n,), generator=generator)] = 1
    return {PRESENT: present} | found
