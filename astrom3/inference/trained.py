"""A trained model, ready to use: batches in (modalities/schema.py), embeddings and class probabilities out, in numpy.

    model = TrainedModel.load("runs/clip-full-scratch-42")      # a run folder, a model folder or a hub id
    found = model.encode(batch)                                 # Encoded

What stands for an object: the L2-normalised projections of a trimodal model, one for each modality; of a model with a
single encoder its features (light curves: the mean of the outputs over the points that are there, 128 numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from astrom3.encoders.cpu import accelerate
from astrom3.encoders.heads import SequenceClassifier
from astrom3.encoders.informer import EVALUATIONS, InformerEncoder
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel, encode, encoders_of
from astrom3.errors import UserError
from astrom3.hardware import check_device
from astrom3.inference.batches import points_of, to_device
from astrom3.inference.confidence import Confidence, read_confidence
from astrom3.inference.conformal import check_coverage, vouched
from astrom3.inference.handed_in import TakesObservations
from astrom3.inference.preprocessing import (
    PREPROCESSING,
    check_source,
    hub_statistics,
    read_info,
    read_preprocessing,
)
from astrom3.inference.regression import Regression, scales_of, without_head
from astrom3.inference.results import Classified, Embedded, Encoded, no_confidence
from astrom3.inference.survey import WithStatistics, data_of
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.view import View, get_view
from astrom3.published import astroclip_model, astromer, native
from astrom3.published import astrom3 as published

__all__ = [
    "PREPROCESSING",
    "Classified",
    "Embedded",
    "Encoded",
    "TrainedModel",
    "WithStatistics",
    "data_of",
    "read_preprocessing",
]


@dataclass(frozen=True)
class TrainedModel(TakesObservations):
    """network: in evaluation mode, on `device`. classes: names, id = position. normaliser: statistics of the training
    objects' catalogue columns, None where they are not known (data normalised beforehand)."""

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    normaliser: Normaliser | None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    pad_constants: bool = True  # the six constants stand in padded rows too, as in the data it was trained on
    confidence: Confidence | None = None  # of its validation split; None: probabilities are not calibrated
    regression: Regression | None = None  # the head of a model that predicts numbers; `network` is without it

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str = "auto",
        evaluation: str = "fixed",
        statistics: str | Path | None = None,
        allow: str | Sequence[str] | None = None,
        num_heads: int | None = None,
    ) -> TrainedModel:
        """source: a run folder, a model folder, a hub id, released ASTROMER weights (a zip, a folder or a short name
        such as "astromer1-macho"), or a released AstroCLIP file, its folder or hub id. evaluation: how the Informer
        chooses its keys, "fixed" (the same each time), "sampled" (as published, varies from call to call) or "full".
        statistics: a file like the raw data set's info.json, where the model folder has none. allow: classes beyond
        the registry that the folder may construct, "package.Class" or several. num_heads: of an AstroCLIP encoder of
        unpublished width whose file does not say it."""
        check_source(source, statistics)
        if evaluation not in EVALUATIONS:
            raise UserError(f"evaluation={evaluation} does not exist: it is one of {', '.join(EVALUATIONS)}")
        if str(device) == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        check_device(str(device) if isinstance(device, torch.device) else device)
        if astromer.recognises(source):
            encoder, _, _ = astromer.load(source)
            return cls(str(source), accelerate(encoder.to(device).eval()), (), None, torch.device(device))
        if astroclip_model.recognises(source):
            network = astroclip_model.load(source, num_heads, revision)
            return cls(str(source), accelerate(network.to(device)), (), None, torch.device(device))
        folder = published.find(source, revision=revision)
        network = native.load(folder, allow) if native.is_native(folder) else published.load(folder, allow=allow)
        for module in network.modules():
            if isinstance(module, InformerEncoder):
                module.evaluation = evaluation
        scales = scales_of(folder)
        encoders = without_head(network, scales, folder) if scales else network
        classes, normaliser, pad_constants = read_preprocessing(folder, encoders)
        if statistics is not None:
            normaliser = read_info(Path(statistics))
        network = accelerate(network.to(device).eval())
        encoders = without_head(network, scales, folder) if scales else network
        model = cls(str(source), encoders, classes, normaliser, torch.device(device), pad_constants)
        if scales:
            return replace(model, regression=Regression.of(network, scales))
        if not model.has_head:
            return model
        return replace(model, confidence=read_confidence(folder, classes, model.width))

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.views)

    @property
    def views(self) -> dict[str, View]:
        """Modality -> the view that its encoder reads."""
        return {modality: get_view(encoder.view) for modality, encoder in encoders_of(self.network).items()}

    @property
    def backbone(self) -> MultimodalModel | None:
        """The trimodal part, None for a single encoder."""
        if isinstance(self.network, MultimodalClassifier):
            return self.network.backbone
        return self.network if isinstance(self.network, MultimodalModel) else None

    @property
    def encoder(self) -> Any:
        """The encoder of a model of one modality."""
        return getattr(self.network, "encoder", self.network)

    @property
    def whole(self) -> nn.Module:
        """The network with its head, of classes or of numbers."""
        return self.network if self.regression is None else self.regression.network

    @property
    def has_head(self) -> bool:
        """Whether it tells classes."""
        return isinstance(self.network, Classifier | MultimodalClassifier | SequenceClassifier)

    @property
    def predicts(self) -> bool:
        """Whether it tells classes or numbers beside embeddings."""
        return self.has_head or self.regression is not None

    @property
    def width(self) -> int:
        """Length of an embedding."""
        if self.backbone is not None:
            return self.backbone.hidden_dim
        return getattr(self.encoder, "token_features", self.encoder.out_features)

    @torch.inference_mode()
    def encode(self, batch: Mapping[str, Any]) -> Encoded:
        """A batch dict (schema.py; `present` may be missing: all there) of the model's modalities."""
        points = points_of(batch)
        chosen = {key: batch[key] for key in batch if key in self.inputs or key == "present"}
        moved = to_device(self.as_trained(chosen, points), self.device)
        size = len(moved[self.inputs[0]])
        everyone = torch.ones(size, dtype=torch.bool, device=self.device)
        given = moved.get("present", {})
        present = {modality: given.get(modality, everyone) for modality in self.modalities}
        moved["present"] = present

        whole: Any = self.whole
        outputs = None
        if self.backbone is not None:
            found = self.backbone(moved)
            if isinstance(whole, MultimodalClassifier):
                outputs = whole.head(whole.fuse(found, present))
        else:
            found, outputs = self._single(moved)
            only = self.modalities[0]
            found[only] = found[only] * present[only].unsqueeze(1)

        there = torch.stack([present[modality] for modality in self.modalities])  # (M, B)
        parts = torch.stack([found[modality].float() for modality in self.modalities])  # (M, B, D)
        mean = parts.sum(0) / there.sum(0).clamp(min=1).unsqueeze(1)
        given = [mean] if outputs is None else [mean, outputs.float()]
        if not all(values.isfinite().all() for values in given):
            raise UserError(f"{self.name} gives numbers that are not finite: its weights are damaged, fetch it again")

        is_there = {modality: mask.cpu().numpy() for modality, mask in present.items()}
        embeddings = {modality: rows.float().cpu().numpy() for modality, rows in found.items()}
        encoded = Encoded(is_there, embeddings, mean.cpu().numpy(), None, points)
        return encoded if outputs is None else self._told(encoded, outputs.float())

    def _told(self, encoded: Encoded, outputs: Tensor) -> Encoded:
        """The same with what the outputs of the head (B, C) say: probabilities and novelty, or numbers."""
        if self.regression is not None:
            return replace(encoded, numbers=self.regression.numbers(outputs))
        probabilities = torch.softmax(outputs, dim=-1).cpu().numpy()
        if self.confidence is None:
            return replace(encoded, probabilities=probabilities)
        calibrated = self.confidence.calibrated(probabilities, encoded.points)
        novelty = None
        if self.confidence.novelty is not None:
            novelty = self.confidence.novelty.score(encoded.mean)
        return replace(encoded, probabilities=calibrated, novelty=novelty)

    def as_trained(self, batch: dict[str, Any], points: np.ndarray | None) -> dict[str, Any]:
        """The batch; of a model that was trained on cut curves, short curves without their catalogue features.

        A cut curve has no features in training, since those of the whole curve would tell what was cut off.
        """
        if self.confidence is None or not self.confidence.early or points is None:
            return batch
        short = np.flatnonzero(points < self.confidence.shortest)
        for view in self.views.values():
            batch = view.without_features(batch, torch.from_numpy(short))
        return batch

    def check_classes(self, coverage: float | None = None) -> None:
        """UserError where the model cannot give class probabilities, or no prediction sets of this coverage."""
        if self.regression is not None:
            names = ", ".join(self.regression.names)
            raise UserError(f"{self.name} tells no classes, it predicts numbers ({names}): call predict")
        if not self.has_head:
            raise UserError(
                f"{self.name} has no class head: load a fine-tuned model (mode photo, spectra, meta or all), or "
                "compare its embeddings with those of labelled objects (python -m astrom3.analyse)"
            )
        if coverage is not None:
            check_coverage(coverage)
            if self.confidence is None:
                raise UserError(no_confidence(self.name))

    def classified(self, found: Embedded, coverage: float | None = None) -> Classified:
        """What `classify` gives, of objects that `embed` has encoded."""
        confidence = self.confidence
        if confidence is None:
            return Classified.of(found, self.classes)
        quantile = None
        if confidence.novelty is not None and found.novelty is not None:
            quantile = confidence.novelty.quantile(found.novelty)
        sure = Classified.of(found, self.classes, calibrated=True, novelty_quantile=quantile)
        if coverage is None:
            return sure
        counts = zip(self.classes, confidence.complete.counts, strict=True)
        promised = {name: vouched(n, coverage) for name, n in counts}
        return replace(sure, coverage=coverage, in_set=self.sets(found, coverage), vouched=promised)

    def sets(self, found: Encoded, coverage: float) -> np.ndarray:
        """Prediction sets of encoded objects, bool (B, C). UserError where the model has no confidence.json."""
        check_coverage(coverage)
        if not self.has_head:
            raise UserError(f"{self.name} has no class head, so there are no prediction sets: leave coverage away")
        if self.confidence is None or found.probabilities is None:
            raise UserError(no_confidence(self.name))
        return self.confidence.sets(found.probabilities, coverage, found.points)

    def _single(self, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor | None]:
        encoder = self.encoder
        modality = self.modalities[0]
        if isinstance(encoder, InformerEncoder):
            inputs = [batch[key] for key in encoder.inputs]
            sequence, there = encoder.tokens(*inputs)  # (B, L, d_model), zero where masked
            features = sequence.flatten(1)
            embedding = sequence.sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        else:
            features = embedding = encode(encoder, batch)
        whole = self.whole
        if isinstance(whole, SequenceClassifier):
            return {modality: embedding}, whole(batch)
        outputs = whole.head(features) if isinstance(whole, Classifier) else None
        return {modality: embedding}, outputs

    @property
    def statistics(self) -> Normaliser | None:
        """Of the catalogue columns: the model's own, or those that its hub id is known to need."""
        return self.normaliser or hub_statistics(self.name)

    @property
    def uses_features(self) -> bool:
        """Whether catalogue features of the light curve are part of what the model reads."""
        light = [view for view in self.views.values() if view.modality == of_argument("light_curve")]
        return not light or any(view.uses_features for view in light)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys of the batch that the model reads."""
        keys: list[str] = []
        for encoder in encoders_of(self.network).values():
            keys += encoder.inputs
        return tuple(keys)
