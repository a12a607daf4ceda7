"""The methods that are compared, each as `score(fold, shots, seed)`; what a method needs is made when first asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from astrom3.encoders.astromer import Astromer
from astrom3.encoders.cpu import accelerate
from astrom3.encoders.curve import RawCurve
from astrom3.encoders.heads import LSTMHead, MLPHead, SkipHead
from astrom3.encoders.informer import InformerEncoder
from astrom3.published import astromer, native
from experiments.astromer.classifiers import Recipe, train_forest, train_network
from experiments.astromer.inputs import Rows, Sample, embedded
from experiments.astromer.pretraining import Pretraining, pretrain
from experiments.astromer.surveys import Fold

LSTM_UNITS = 32
HIDDEN = (256, 128, 64)  # of the heads on frozen encoders, a quarter of the published widths
Score = Callable[[Fold, int, int], dict[str, Any]]


class RawLSTM(nn.Module):
    """Two LSTM cells on the raw curve, as the baseline of the first paper."""

    def __init__(self, classes: int, units: int = LSTM_UNITS):
        super().__init__()
        self.curve = RawCurve(order="time_magnitude")
        self.head = LSTMHead(2, classes, units, scale="minmax")

    def forward(self, times: Tensor, magnitudes: Tensor, valid: Tensor) -> Tensor:
        return self.head(self.curve.every_layer(times, magnitudes, valid), valid)


class LightCurveClassifier(nn.Module):
    """AstroM3's light-curve encoder, small, with a linear class head."""

    def __init__(self, classes: int):
        super().__init__()
        self.encoder = InformerEncoder(d_model=32, n_heads=4, d_ff=64, e_layers=1, evaluation="fixed")
        self.out = nn.Linear(self.encoder.out_features, classes)

    def forward(self, photometry: Tensor, mask: Tensor) -> Tensor:
        return self.out(self.encoder(photometry, mask))


class OnMeans(nn.Module):
    """A head on the means (B, layers + 1, D) of a frozen encoder's layers, which stand in for windows of one point."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, means: Tensor) -> Tensor:
        layers = list(means.unsqueeze(2).unbind(1))  # (B, 1, D) each
        return self.head(layers, torch.ones_like(means[:, :1, 0]))


@dataclass(frozen=True)
class Workshop:
    """What all methods share. pretrainings: masked runs by name. data: their unlabelled curves."""

    sample: Sample
    root: Path
    data: Path
    weights: Path
    pretrainings: dict[str, Pretraining]
    recipe: Recipe

    def released(self, as_published: bool) -> Callable[[], Astromer]:
        return lambda: accelerate(astromer.load(self.weights, as_published=as_published)[0])

    def own(self, name: str) -> Callable[[], Astromer]:
        def load() -> Astromer:
            run = pretrain(self.pretrainings[name], self.data, self.root, self.weights)
            model: Any = native.load(run / "model")
            return accelerate(model.encoder)

        return load

    def frozen(self, name: str, load: Callable[[], Astromer], head: str = "skip") -> Score:
        """A head on an encoder that does not learn; windows are embedded once."""

        @cache
        def prepare() -> tuple[Rows, Callable[[], nn.Module]]:
            encoder = load()
            rows = embedded(encoder, self.sample.windows, self.root / "embeddings" / f"{name}.npy")
            classes = len(self.sample.classes)
            if head == "skip":
                embedding = encoder.version != 1
                make: Any = partial(SkipHead, encoder.d_model, classes, encoder.layers, embedding, HIDDEN)
            else:
                make = partial(MLPHead, encoder.d_model, classes, HIDDEN)
            return rows, lambda: OnMeans(make())

        def score(fold: Fold, shots: int, seed: int) -> dict[str, Any]:
            rows, make = prepare()
            return train_network(make, rows, self.sample, fold, shots, seed, self.recipe)

        return score

    def from_scratch(self, model: Callable[[int], nn.Module], rows: Rows) -> Score:
        """A network that learns from the labels alone."""

        def score(fold: Fold, shots: int, seed: int) -> dict[str, Any]:
            make = partial(model, len(self.sample.classes))
            return train_network(make, rows, self.sample, fold, shots, seed, self.recipe)

        return score


def methods(shop: Workshop) -> dict[str, Score]:
    """Name in the table -> how to score it."""

    def untrained() -> Astromer:
        torch.manual_seed(0)
        return Astromer(version=1, layers=2, d_model=64, n_heads=4, d_ff=128)

    return {
        "random forest, 4 features": lambda fold, shots, seed: train_forest(shop.sample, fold, shots, seed),
        "Astromer 1 MACHO, as published, skip": shop.frozen("macho", shop.released(True)),
        "Astromer 1 MACHO, as published, mlp": shop.frozen("macho", shop.released(True), "mlp"),
        "Astromer 1 small, random weights": shop.frozen("random", untrained),
        "AstroM3 light-curve encoder, from scratch": shop.from_scratch(LightCurveClassifier, shop.sample.photometry),
        "LSTM on the raw curve": shop.from_scratch(RawLSTM, shop.sample.windows),
        "Astromer 1 MACHO, tuned on the surveys, skip": shop.frozen("macho-tuned", shop.own("macho-tuned")),
        "Astromer 1 small, own": shop.frozen("astromer1", shop.own("astromer1")),
        "Astromer 1 small, own, leak": shop.frozen("astromer1-leak", shop.own("astromer1-leak")),
        "Astromer 2 small, own": shop.frozen("astromer2", shop.own("astromer2")),
        "Astromer 2 small, own, leak": shop.frozen("astromer2-leak", shop.own("astromer2-leak")),
        "Astromer 1 MACHO, padding hidden, skip": shop.frozen("macho-hidden", shop.released(False)),
    }
