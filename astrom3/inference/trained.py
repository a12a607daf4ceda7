"""A trained model, ready to use: batches in (modalities/schema.py), embeddings and class probabilities out, in numpy.

    model = TrainedModel.load("runs/clip-full-scratch-42")      # a run folder, a model folder or a hub id
    found = model.encode(batch)                                 # Encoded

What stands for an object: the L2-normalised projections of a trimodal model, one for each modality; of a model with a
single encoder its features (light curves: the mean of the outputs over the points that are there, 128 numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from astrom3 import registry
from astrom3.data.layouts.table import Source
from astrom3.data.origins import Origin, open_origin
from astrom3.encoders.cpu import accelerate
from astrom3.encoders.heads import SequenceClassifier
from astrom3.encoders.informer import EVALUATIONS, InformerEncoder
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel, encode
from astrom3.errors import UserError
from astrom3.hardware import check_device
from astrom3.inference.batches import joined, magnitudes_or_fluxes, points_of, rows_of, to_device
from astrom3.inference.confidence import Confidence, read_confidence
from astrom3.inference.conformal import check_coverage, vouched
from astrom3.inference.preprocessing import (
    PREPROCESSING,
    hub_statistics,
    predicts_numbers,
    read_info,
    read_preprocessing,
)
from astrom3.inference.results import Classified, Embedded, Encoded
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.galaxy_views import reads_galaxies
from astrom3.modalities.schema import PHOTO_COLS
from astrom3.modalities.view import View, get_view
from astrom3.published import astroclip_model, astromer, native
from astrom3.published import astrom3 as published

CHUNK = 256  # raw objects that go through the network at once
__all__ = [
    "PREPROCESSING",
    "Classified",
    "Embedded",
    "Encoded",
    "TrainedModel",
    "data_of",
    "hub_statistics",
    "read_info",
    "read_preprocessing",
]


@dataclass(frozen=True)
class TrainedModel:
    """network: in evaluation mode, on `device`. classes: names, id = position. normaliser: statistics of the training
    objects' catalogue columns, None where they are not known (data normalised beforehand)."""

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    normaliser: Normaliser | None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    pad_constants: bool = True  # the six constants stand in padded rows too, as in the data it was trained on
    confidence: Confidence | None = None  # of its validation split; None: probabilities are not calibrated

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
        if evaluation not in EVALUATIONS:
            raise UserError(f"evaluation={evaluation} does not exist: it is one of {', '.join(EVALUATIONS)}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        check_device(device)
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
        if predicts_numbers(folder):
            inner: Any = getattr(network, "encoder", None)
            network = getattr(network, "backbone", network) if inner is None else inner
        classes, normaliser, pad_constants = read_preprocessing(folder, network)
        if statistics is not None:
            normaliser = read_info(Path(statistics))
        network = accelerate(network.to(device).eval())
        model = cls(str(source), network, classes, normaliser, torch.device(device), pad_constants)
        if not model.has_head:
            return model
        return replace(model, confidence=read_confidence(folder, classes, model.width))

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.views)

    @property
    def views(self) -> dict[str, View]:
        """Modality -> the view that its encoder reads."""
        if self.backbone is not None:
            encoders: Any = self.backbone.encoders
            return {m: get_view(encoder.view) for m, encoder in encoders.items()}
        view = get_view(self.encoder.view)
        return {view.modality: view}

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
    def has_head(self) -> bool:
        return isinstance(self.network, Classifier | MultimodalClassifier | SequenceClassifier)

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
        chosen = {k: batch[k] for k in batch if k in self.inputs or k == "present"}
        moved = to_device(self.as_trained(chosen, points), self.device)
        size = len(moved[self.inputs[0]])
        everyone = torch.ones(size, dtype=torch.bool, device=self.device)
        present = {m: moved.get("present", {}).get(m, everyone) for m in self.modalities}
        moved["present"] = present
        logits = None
        if self.backbone is not None:
            found = self.backbone(moved)
            if isinstance(self.network, MultimodalClassifier):
                logits = self.network.head(self.network.fuse(found, present))
        else:
            found, logits = self._single(moved)
            there = present[self.modalities[0]].unsqueeze(1)
            found = {m: e * there for m, e in found.items()}
        count = torch.stack([present[m] for m in self.modalities]).sum(0).clamp(min=1).unsqueeze(1)
        mean = torch.stack([found[m].float() for m in self.modalities]).sum(0) / count
        if not mean.isfinite().all():
            raise UserError(
                f"{self.name} gives embeddings that are not finite: its weights are damaged, fetch it again"
            )
        vectors = mean.cpu().numpy()
        probabilities = None if logits is None else torch.softmax(logits.float(), dim=-1).cpu().numpy()
        novelty = None
        if self.confidence is not None and probabilities is not None:
            probabilities = self.confidence.calibrated(probabilities, points)
            novelty = None if self.confidence.novelty is None else self.confidence.novelty.score(vectors)
        return Encoded(
            {m: p.cpu().numpy() for m, p in present.items()},
            {m: e.float().cpu().numpy() for m, e in found.items()},
            vectors,
            probabilities,
            points,
            novelty,
        )

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

    def embed(
        self,
        light_curve: Any = None,
        spectrum: Any = None,
        metadata: Any = None,
        images: Any = None,
        spectra: Any = None,
        ids: Sequence[Any] | None = None,
        **options: Any,
    ) -> Embedded:
        """Embeddings of raw observations, of one object or of lists of n; see observations.py for what may be given of
        stars, and its Options for system, zero_point, air, features and band, and galaxies.py for images and spectra of
        galaxies. `spectra` is another name of `spectrum`. ids: names of the objects, integers or text, for the results.

        Raises UserError for units, columns and values that do not fit, for a modality that the model does not have,
        and where the only object cannot be used; of many, those are listed in `decisions`.
        """
        if spectrum is not None and spectra is not None:
            raise UserError("spectrum= and spectra= are two names of one argument: give one of them")
        spectrum = spectra if spectrum is None else spectrum
        if reads_galaxies(self.views):
            if light_curve is not None or metadata is not None:
                raise UserError(f"{self.name} reads images and spectra of galaxies: leave the others away")
            return named(self._galaxies(images, spectrum, options), ids)
        if images is not None:
            raise UserError(f"{self.name} knows {', '.join(self.modalities)}, not images: leave them away")
        return named(self._raw(light_curve, spectrum, metadata, options), ids)

    def classify(
        self,
        light_curve: Any = None,
        spectrum: Any = None,
        metadata: Any = None,
        coverage: float | None = None,
        ids: Sequence[Any] | None = None,
        **options: Any,
    ) -> Classified:
        """Class probabilities of raw observations; needs a model with a class head. As `embed` otherwise.

        coverage: how often, of each class, the set of classes holds the true one, such as 0.9. Sets need a model with a
        confidence.json, which training writes; without it probabilities are those of the network, and `calibrated` is
        false.
        """
        self.check_classes(coverage)
        return self.classified(named(self._raw(light_curve, spectrum, metadata, options), ids), coverage)

    def check_classes(self, coverage: float | None = None) -> None:
        """UserError where the model cannot give class probabilities, or no prediction sets of this coverage."""
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
        assert found.probabilities is not None
        confidence = self.confidence
        if confidence is None:
            return Classified(self.classes, found.probabilities, found.decisions, ids=found.ids)
        known = None if confidence.novelty is None else confidence.novelty
        quantile = None if known is None or found.novelty is None else known.quantile(found.novelty)
        in_set = None
        promised: dict[str, float] = {}
        if coverage is not None:
            in_set = self.sets(found, coverage)
            counts = zip(self.classes, confidence.complete.counts, strict=True)
            promised = {name: vouched(n, coverage) for name, n in counts}
        return Classified(
            self.classes,
            found.probabilities,
            found.decisions,
            True,
            coverage,
            in_set,
            promised,
            found.novelty,
            quantile,
            found.ids,
        )

    def sets(self, found: Encoded, coverage: float) -> np.ndarray:
        """Prediction sets of encoded objects, bool (B, C). UserError where the model has no confidence.json."""
        check_coverage(coverage)
        if not self.has_head:
            raise UserError(f"{self.name} has no class head, so there are no prediction sets: leave coverage away")
        if self.confidence is None or found.probabilities is None:
            raise UserError(no_confidence(self.name))
        return self.confidence.sets(found.probabilities, coverage, found.points)

    def _raw(self, light_curve: Any, spectrum: Any, metadata: Any, options: Mapping[str, Any]) -> Embedded:
        from astrom3.inference.observations import listed_rows, prepare

        if not self.uses_features:
            light_curve = magnitudes_or_fluxes(light_curve)
        rows = listed_rows(metadata)
        self.refuse_foreign(light_curve, spectrum, rows)
        chosen = self.options_of(options)
        prepared = prepare(light_curve, spectrum, rows, self.statistics, self.pad_constants, chosen, self.views)
        return self.embedded(prepared)

    def refuse_foreign(self, light_curve: Any, spectrum: Any, rows: Sequence[Any] | None) -> None:
        """UserError for observations of a modality that the model does not have. rows: of the catalogue."""
        given = {"photometry": light_curve, "spectra": spectrum, "metadata": rows}
        features_only = rows is not None and all(of_curve(row) for row in rows)
        for name, value in given.items():
            features = name == "metadata" and features_only
            self.refuse(value is not None and name not in self.modalities and not features, name)

    def refuse(self, is_foreign: bool, modality: str) -> None:
        """UserError where observations of this modality are foreign to the model."""
        if is_foreign:
            raise UserError(f"{self.name} knows {', '.join(self.modalities)}, not {modality}: leave it away")

    def options_of(self, options: Mapping[str, Any]) -> Any:
        """The Options of observations.py."""
        from astrom3.inference.observations import Options

        try:
            chosen = Options(**options)
        except TypeError:
            raise UserError(
                f"{', '.join(options)}: the options are {', '.join(f.name for f in fields(Options))}"
            ) from None
        if not self.uses_features and chosen.system is None and chosen.zero_point is None:
            return replace(chosen, zero_point=1.0)  # windows are centred on their mean: no zero point is needed
        return chosen

    def galaxy_options(self, options: Mapping[str, Any]) -> bool:
        """Whether wavelengths are those in air, the only option of galaxies."""
        foreign = [name for name in options if name != "air"]
        if foreign:
            raise UserError(f"{foreign[0]} is no option for galaxies: there is air (wavelengths are those in air)")
        return bool(options.get("air", False))

    def _galaxies(self, images: Any, spectra: Any, options: Mapping[str, Any]) -> Embedded:
        from astrom3.inference.galaxies import prepare

        air = self.galaxy_options(options)
        self.refuse(images is not None and "images" not in self.modalities, "images")
        self.refuse(spectra is not None and "spectra" not in self.modalities, "spectra")
        return self.embedded(prepare(images, spectra, self.views, air))

    def embedded(self, prepared: Any, strict: bool = True) -> Embedded:
        """The embeddings of a prepared batch. strict: UserError where the only object lacks what was given."""
        from astrom3.inference.observations import reason_of

        present = {m: prepared.batch["present"][m].numpy() for m in self.modalities}
        size = len(next(iter(present.values())))
        if size == 1 and strict:
            for m in self.modalities:
                if prepared.given[m][0] and not present[m][0]:
                    raise UserError(f"the {m} cannot be used: {reason_of(prepared.decisions, m)}")
        parts = [self.encode(rows_of(prepared.batch, slice(i, i + CHUNK))) for i in range(0, size, CHUNK)]
        there = np.logical_or.reduce(list(present.values()))
        probabilities = None
        if self.has_head:  # nothing can be said of an object without any modality
            probabilities = np.concatenate([p.probabilities for p in parts])  # type: ignore[misc]
            probabilities[~there] = np.nan
        return Embedded(
            present,
            {m: np.concatenate([p.embeddings[m] for p in parts]) for m in self.modalities},
            np.concatenate([p.mean for p in parts]),
            probabilities,
            joined([p.points for p in parts]),
            joined([p.novelty for p in parts]),
            prepared.decisions,
        )

    def _single(self, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor | None]:
        encoder = self.encoder
        modality = self.modalities[0]
        if isinstance(encoder, InformerEncoder):
            sequence, there = encoder.tokens(batch["photometry"], batch["mask"])  # (B, L, d_model), zero where masked
            features = sequence.flatten(1)
            embedding = sequence.sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        else:
            features = embedding = encode(encoder, batch)
        if isinstance(self.network, SequenceClassifier):
            return {modality: embedding}, self.network(batch)
        logits = self.network.head(features) if isinstance(self.network, Classifier) else None
        return {modality: embedding}, logits

    @property
    def statistics(self) -> Normaliser | None:
        """Of the catalogue columns: the model's own, or those that its hub id is known to need."""
        return self.normaliser or hub_statistics(self.name)

    @property
    def uses_features(self) -> bool:
        """Whether catalogue features of the light curve are part of what the model reads."""
        return "photometry" not in self.views or self.views["photometry"].uses_features

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys of the batch that the model reads."""
        encoders: Any = self.backbone.encoders.values() if self.backbone is not None else [self.encoder]
        return tuple(key for encoder in encoders for key in encoder.inputs)


def of_curve(row: Any) -> bool:
    """Whether the metadata of an object are features of its light curve alone."""
    return row is None or (isinstance(row, Mapping) and set(row) <= set(PHOTO_COLS))


@dataclass(frozen=True)
class WithStatistics:
    """An origin whose raw catalogue values are normalised with the model's statistics, not with its own. needed:
    whether the model reads any of these values."""

    origin: Origin
    normaliser: Normaliser | None
    needed: bool = True

    def open(self, sub: str, seed: int) -> Source:
        return self._normalised(self.origin.open(sub, seed))

    def stream(self, sub: str, seed: int) -> Source:
        """The same, of which nothing is copied where the origin can do that."""
        return self._normalised(open_origin(self.origin, sub, seed, True))

    def _normalised(self, source: Source) -> Source:
        if source.normaliser is None:
            return source  # normalised beforehand
        if self.normaliser is None and not self.needed:
            return source
        if self.normaliser is None:
            raise UserError(
                f"the catalogue values in {source.root} are raw, and the model has no statistics to normalise them "
                "with: give the info.json of the data that it was trained on as statistics=<file>"
            )
        return replace(source, normaliser=self.normaliser)


def data_of(model: TrainedModel, cfg_data: Any, sub: str, seed: int, allow: Any = None, **options: Any) -> Any:
    """The data module of a configuration's `data` group, for this model: its modalities, its statistics, every object
    with at least one modality, with or without label. Prepared, not set up. allow: classes beyond the registry;
    options: more of AstroM3DataModule's."""
    from astrom3.data.datamodule import AstroM3DataModule

    given = {
        "modalities": model.modalities,
        "views": model.views,
        "labelled_only": False,
        "min_modalities": 1,
        "cache": cfg_data.cache,
        "streaming": cfg_data.streaming,
        "batch_size": cfg_data.batch_size,
        "eval_batch_size": cfg_data.eval_batch_size,
    }
    needed = any(view.uses_features or not view.stored for view in model.views.values())
    origin = WithStatistics(registry.instantiate(cfg_data.origin, allow), model.normaliser, needed)
    data = AstroM3DataModule(origin, sub, seed, **(given | options))
    data.prepare_data()
    return data


def named(found: Embedded, ids: Sequence[Any] | None) -> Embedded:
    """The same with the names of its objects, in its decisions too. UserError where there are too few or too many."""
    if ids is None:
        return found
    names = tuple(value.item() if isinstance(value, np.generic) else value for value in ids)
    if len(names) != len(found.mean):
        raise UserError(f"ids= names {len(names)} objects, and {len(found.mean)} were handed in")
    decisions = [decision._replace(object_id=str(names[int(decision.object_id)])) for decision in found.decisions]
    return replace(found, ids=names, decisions=decisions)


def no_confidence(name: str) -> str:
    """What a model without confidence.json says where prediction sets are asked for."""
    return (
        f"{name} has no confidence.json, so its probabilities are not calibrated and it can give no prediction sets: "
        "python -m astrom3.evaluate run=<its run folder> calibrate=true fits one on the validation split"
    )
