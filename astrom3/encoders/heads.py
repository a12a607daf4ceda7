"""Heads that classify a light curve from the tokens of an encoder, as in the ASTROMER papers.

Donoso-Oliva et al. 2023 (A&A 670, A54), section 3.5, and 2026 (A&A 707, A170). Every head takes a list of layers, each
(B, L, D) with the input embedding first, and which steps are visible, (B, L); it gives logits (B, classes). `needs`
says what it reads: "last" the last layer at visible steps, "all" every layer there, "window" the last layer at every
step, padding included.

    head = build_head("skip", encoder, classes=6)
    logits = SequenceClassifier(encoder, head)(batch)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from astrom3.encoders.astromer import check_choice, pooled, visible_points
from astrom3.encoders.astromer_blocks import glorot
from astrom3.encoders.recurrent import GRU, HEAD_NORM_EPS, TwoCells
from astrom3.encoders.towers import Classifier
from astrom3.errors import UserError

HIDDEN = (1024, 512, 256)
UNITS = 256
RECURRENT_DROPOUT = 0.3  # of the first version's recurrent heads
SCALES = (None, "standard", "minmax")


class Head(nn.Module):
    """A head: `needs` and forward(layers, visible) -> logits. traceable: whether it can be exported to ONNX."""

    needs = "last"
    traceable = True

    def forward(self, layers: Sequence[Tensor], visible: Tensor) -> Tensor:
        raise NotImplementedError


class MLP(nn.Module):
    """Linear layers with ReLU, LayerNorm, and a linear layer to the classes: (..., D) -> (..., classes)."""

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: Sequence[int] = HIDDEN,
        dropout: float = 0.0,
    ):
        super().__init__()
        widths = [features, *hidden]
        self.mlp = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.norm = nn.LayerNorm(widths[-1], eps=HEAD_NORM_EPS)
        self.out = nn.Linear(widths[-1], classes)
        self.drop = nn.Dropout(dropout)
        glorot(self)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.mlp):
            x = torch.relu(layer(x))
            if i < len(self.mlp) - 1:
                x = self.drop(x)
        return self.out(self.norm(x))


class LinearHead(Head):
    """Mean over the visible steps and a linear layer; with `norm` a LayerNorm before it."""

    def __init__(
        self,
        features: int,
        classes: int,
        norm: bool = False,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(features, eps=HEAD_NORM_EPS) if norm else nn.Identity()
        self.out = nn.Linear(features, classes)
        glorot(self)

    def forward(self, layers: Sequence[Tensor], visible: Tensor) -> Tensor:
        return self.out(self.norm(pooled(layers[-1], visible, "mean")))


class MLPHead(MLP, Head):
    """Mean or maximum over the visible steps and an MLP."""

    def __init__(
        self,
        features: int,
        classes: int,
        hidden: Sequence[int] = HIDDEN,
        dropout: float = 0.0,
        pool: str = "mean",
    ):
        super().__init__(features, classes, hidden, dropout)
        self.pool = pool

    def forward(self, layers: Sequence[Tensor], visible: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(pooled(layers[-1], visible, self.pool))


class StepsHead(MLP, Head):
    """An MLP at every step, and the mean of its logits over the visible steps."""

    def forward(self, layers: Sequence[Tensor], visible: Tensor) -> Tensor:  # type: ignore[override]
        return pooled(super().forward(layers[-1]), visible, "mean")


class SkipHead(MLP, Head):
    """Astromer 2's head: a weighted mean of the means of all layers, and an MLP.

    The weights are softmax(gamma), and the weighted layers are averaged besides, so that each counts weight / members.
    `embedding`: whether the input embedding is one of them; it is not on version 1.
    """

    needs = "all"

    def __init__(
        self,
        features: int,
        classes: int,
        layers: int,
        embedding: bool = True,
        hidden: Sequence[int] = HIDDEN,
    ):
        super().__init__(features, classes, hidden)
        self.embedding = embedding
        members = layers + int(embedding)
        self.gamma = nn.Parameter(torch.full((members,), 1 / members))

    def forward(self, layers: Sequence[Tensor], visible: Tensor) -> Tensor:  # type: ignore[override]
        members = layers if self.embedding else layers[1:]
        means = torch.stack([pooled(member, visible, "mean") for member in members])  # (members, B, D)
        weights = torch.softmax(self.gamma, dim=0)
        return super().forward((weights[:, None, None] * means).mean(0))


class LSTMHead(Head):
    """Version 1's recurrent head: scaled steps, two LSTM cells, their last state, dropout, and a linear layer.

    scale: "standard" (mean 0 and deviation 1 per channel, for an encoder's tokens), "minmax" (0..1 per channel, for
    the raw curve) or None. over_padding: whether padding takes part in the scaling, as published.
    The original leaves the dropout on outside training; here it is on in training alone.
    """

    traceable = False  # the exporter unrolls recurrent cells into hundreds of steps

    def __init__(
        self,
        features: int,
        classes: int,
        units: int = UNITS,
        scale: str | None = "standard",
        over_padding: bool = False,
        dropout: float = RECURRENT_DROPOUT,
    ):
        super().__init__()
        check_choice("scale", scale, SCALES)
        self.scale = scale
        self.over_padding = over_padding
        self.needs = "window" if over_padding else "last"
        self.rnn = TwoCells(features, units)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(units, classes)
        glorot(self)

    def forward(self, layers: Sequence[Tensor], visible: Tensor) -> Tensor:
        steps = layers[-1]
        counted = torch.ones_like(visible) if self.over_padding else visible
        if self.scale == "standard":
            steps = standardised(steps, counted)
        elif self.scale == "minmax":
            steps = between_0_and_1(steps, counted)
        return self.out(self.drop(self.rnn(steps, visible)))


class GRUHead(MLP, Head):
    """The last state of a GRU over the visible steps, and an MLP."""

    traceable = False

    def __init__(
        self,
        features: int,
        classes: int,
        units: int = UNITS,
        hidden: Sequence[int] = HIDDEN,
    ):
        super().__init__(units, classes, hidden)
        self.gru = GRU(features, units)

    def forward(self, layers: Sequence[Tensor], visible: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(self.gru(layers[-1], visible))


class SequenceClassifier(nn.Module):
    """An encoder with tokens and a head on them: batch -> logits (B, num_classes). head: a name in HEADS, or a Head."""

    def __init__(
        self,
        encoder: nn.Module,
        head: Head | str,
        num_classes: int = 0,
    ):
        super().__init__()
        self.encoder = encoder
        self.configured_head = head if isinstance(head, str) else ""
        self.num_classes = num_classes
        self.head = build_head(head, encoder, num_classes) if isinstance(head, str) else head

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        encoder = self.encoder
        inputs = [batch[key] for key in encoder.inputs]  # type: ignore[union-attr]
        if self.head.needs == "last":
            tokens, visible = encoder.tokens(*inputs)  # type: ignore[operator]
            return self.head([tokens], visible.to(tokens.dtype))
        layers = encoder.every_layer(*inputs)  # type: ignore[operator]
        return self.head(layers, visible_points(inputs[-1], None))


def classifier(encoder: nn.Module, num_classes: int, head: str = "linear") -> nn.Module:
    """An encoder with a class head. `linear` reads the encoder's features, the other HEADS read its tokens."""
    if head == "linear":
        return Classifier(encoder, num_classes)
    if not hasattr(encoder, "token_features") or not hasattr(encoder, "every_layer"):
        raise UserError(
            f"head={head} reads the tokens of an encoder, and {type(encoder).__name__} has none: head=linear"
        )
    return SequenceClassifier(encoder, head, num_classes)


def build_head(
    kind: str,
    encoder: nn.Module,
    classes: int,
    hidden: Sequence[int] = HIDDEN,
    units: int = UNITS,
    published: bool = False,
) -> Head:
    """The head of a name in HEADS for an encoder with `token_features`. `published` scales the LSTM's inputs over the
    padding too, which needs the encoder's output there."""
    if kind not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}, not {kind!r}")
    features: int = encoder.token_features  # type: ignore[assignment]
    if kind == "skip":
        with_embedding = getattr(encoder, "version", 2) != 1
        layers: int = encoder.layers  # type: ignore[assignment]
        return SkipHead(features, classes, layers, with_embedding, hidden)
    if kind == "lstm":
        scale = "minmax" if features == 2 else "standard"
        return LSTMHead(
            features,
            classes,
            units,
            scale,
            over_padding=published,
        )
    if kind == "gru":
        return GRUHead(features, classes, units, hidden)
    return SIMPLE[kind](features, classes, hidden)


SIMPLE: dict[str, Callable[[int, int, Sequence[int]], Head]] = {
    "linear": lambda features, classes, hidden: LinearHead(features, classes),
    "norm_linear": lambda features, classes, hidden: LinearHead(features, classes, norm=True),
    "mlp": MLPHead,
    "mlp_dropout": lambda features, classes, hidden: MLPHead(
        features,
        classes,
        hidden,
        dropout=0.2,
    ),
    "mlp_avg": StepsHead,
    "max": lambda features, classes, hidden: MLPHead(
        features,
        classes,
        hidden,
        pool="max",
    ),
}
HEADS = (*SIMPLE, "skip", "lstm", "gru")


def standardised(x: Tensor, counted: Tensor) -> Tensor:
    """Steps (B, L, D) with mean 0 and deviation 1 per window and channel over the counted steps (B, L); 0 where the
    deviation is 0."""
    weight = counted.unsqueeze(-1)
    number = weight.sum(1, keepdim=True).clamp(min=1)
    centred = x - (x * weight).sum(1, keepdim=True) / number
    variance = (centred.square() * weight).sum(1, keepdim=True) / number
    varies = variance > 0
    deviation = torch.where(varies, variance, torch.ones_like(variance)).sqrt()
    return torch.where(varies, centred / deviation, torch.zeros_like(centred))


def between_0_and_1(x: Tensor, counted: Tensor) -> Tensor:
    """Steps (B, L, D) scaled to 0..1 per window and channel over the counted steps (B, L); 0 where all are equal."""
    skipped = counted.unsqueeze(-1) <= 0
    lowest = x.masked_fill(skipped, torch.inf).amin(1, keepdim=True)
    highest = x.masked_fill(skipped, -torch.inf).amax(1, keepdim=True)
    span = highest - lowest
    varies = (span > 0) & span.isfinite()
    return torch.where(varies, (x - lowest) / torch.where(varies, span, torch.ones_like(span)), torch.zeros_like(x))
