"""A trained model, ready to use: batches (data/schema.py) in, embeddings and class probabilities out as numpy arrays.

    model = TrainedModel.load("runs/clip-full-scratch-42")      # a run folder, a model folder or a hub id
    found = model.encode(batch)                                 # Encoded

What stands for an object: the L2-normalised projections of a trimodal model, one for each modality; of a model with a
single encoder its features (light curves: the mean of the outputs over the points that are there, 128 numbers).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from astrom3 import registry
from astrom3.data.layouts.table import Source
from astrom3.data.origins import Origin, open_origin
from astrom3.data.schema import CLASSES, PHOTO_COLS
from astrom3.encoders.cpu import accelerate
from astrom3.encoders.heads import SequenceClassifier
from astrom3.encoders.informer import EVALUATIONS, InformerEncoder
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel, encode
from astrom3.errors import UserError
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.galaxy_views import GalaxyView, reads_galaxies
from astrom3.modalities.quality import Decision
from astrom3.modalities.view import View, get_view
from astrom3.published import astroclip_model, astromer, native
from astrom3.published import astrom3 as published

DATASET = "AstroMLCore/AstroM3Dataset"
CHUNK = 256  # raw objects that go through the network at once
PREPROCESSING = "preprocessing.json"  # classes and statistics, beside config.json


@dataclass(frozen=True)
class Encoded:
    """B objects. present: modality -> bool (B,); embeddings: modality -> float32 (B, D), zero rows where absent;
    mean: float32 (B, D), of the embeddings that an object has; probabilities: float32 (B, C), None without a head."""

    present: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]
    mean: np.ndarray
    probabilities: np.ndarray | None


@dataclass(frozen=True)
class Embedded(Encoded):
    """Raw observations, embedded. decisions: what was repaired or rejected; object_id is the place in the list."""

    decisions: list[Decision] = field(default_factory=list)


@dataclass(frozen=True)
class Classified:
    """classes: names; probabilities: float32 (n, C), NaN for an object that has nothing usable; decisions as above."""

    classes: tuple[str, ...]
    probabilities: np.ndarray
    decisions: list[Decision]

    @property
    def labels(self) -> list[str | None]:
        """Most probable class of each object, None where nothing could be said."""
        return [None if np.isnan(p).any() else self.classes[int(p.argmax())] for p in self.probabilities]

    def as_dicts(self) -> list[dict[str, float]]:
        """Class -> probability of each object, the most probable first."""
        order = np.argsort(-self.probabilities, axis=1)
        return [{self.classes[j]: float(p[j]) for j in row} for p, row in zip(self.probabilities, order, strict=True)]


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
        return cls(str(source), network, classes, normaliser, torch.device(device), pad_constants)

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
        moved = to_device({k: batch[k] for k in batch if k in self.inputs or k == "present"}, self.device)
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
        return Encoded(
            {m: p.cpu().numpy() for m, p in present.items()},
            {m: e.float().cpu().numpy() for m, e in found.items()},
            mean.cpu().numpy(),
            None if logits is None else torch.softmax(logits.float(), dim=-1).cpu().numpy(),
        )

    def embed(
        self, light_curve: Any = None, spectrum: Any = None, metadata: Any = None, images: Any = None,
        spectra: Any = None, **options: Any,
    ) -> Embedded:  # fmt: skip
        """Embeddings of raw observations, of one object or of lists of n; see observations.py for what may be given of
        stars, and its Options for system, zero_point, air and features, and galaxies.py for images and spectra of
        galaxies. `spectra` is another name of `spectrum`.

        Raises UserError for units, columns and values that do not fit, for a modality that the model does not have,
        and where the only object cannot be used; of many, those are listed in `decisions`.
        """
        if spectrum is not None and spectra is not None:
            raise UserError("spectrum= and spectra= are two names of one argument: give one of them")
        spectrum = spectra if spectrum is None else spectrum
        if reads_galaxies(self.views):
            if light_curve is not None or metadata is not None:
                raise UserError(f"{self.name} reads images and spectra of galaxies: leave the others away")
            return self._galaxies(images, spectrum, options)
        if images is not None:
            raise UserError(f"{self.name} knows {', '.join(self.modalities)}, not images: leave them away")
        return self._raw(light_curve, spectrum, metadata, options)

    def classify(
        self, light_curve: Any = None, spectrum: Any = None, metadata: Any = None, **options: Any
    ) -> Classified:
        """Class probabilities of raw observations; needs a model with a class head. As `embed` otherwise."""
        if not self.has_head:
            raise UserError(
                f"{self.name} has no class head: load a fine-tuned model (mode photo, spectra, meta or all), or "
                "compare its embeddings with those of labelled objects (python -m astrom3.analyse)"
            )
        found = self._raw(light_curve, spectrum, metadata, options)
        assert found.probabilities is not None
        return Classified(self.classes, found.probabilities, found.decisions)

    def _raw(self, light_curve: Any, spectrum: Any, metadata: Any, options: Mapping[str, Any]) -> Embedded:
        from astrom3.inference.observations import Options, listed_rows, prepare

        if not self.uses_features:
            light_curve = magnitudes_or_fluxes(light_curve)
        rows = listed_rows(metadata)
        given = {"photometry": light_curve, "spectra": spectrum, "metadata": rows}
        features_only = rows is not None and all(r is None or set(r) <= set(PHOTO_COLS) for r in rows)
        for name, value in given.items():
            if value is not None and name not in self.modalities and not (name == "metadata" and features_only):
                raise UserError(f"{self.name} knows {', '.join(self.modalities)}, not {name}: leave it away")
        normaliser = self.normaliser or hub_statistics(self.name)
        try:
            chosen = Options(**options)
        except TypeError:
            raise UserError(f"{', '.join(options)}: the options are system, zero_point, air and features") from None
        if not self.uses_features and chosen.system is None and chosen.zero_point is None:
            chosen = replace(chosen, zero_point=1.0)  # windows are centred on their mean: no zero point is needed
        prepared = prepare(light_curve, spectrum, rows, normaliser, self.pad_constants, chosen, self.views)
        return self._embedded(prepared)

    def _galaxies(self, images: Any, spectra: Any, options: Mapping[str, Any]) -> Embedded:
        from astrom3.inference.galaxies import prepare

        foreign = [name for name in options if name != "air"]
        if foreign:
            raise UserError(f"{foreign[0]} is no option for galaxies: there is air (wavelengths are those in air)")
        given = {"images": images, "spectra": spectra}
        for name, value in given.items():
            if value is not None and name not in self.modalities:
                raise UserError(f"{self.name} knows {', '.join(self.modalities)}, not {name}: leave it away")
        return self._embedded(prepare(images, spectra, self.views, bool(options.get("air", False))))

    def _embedded(self, prepared: Any) -> Embedded:
        """The embeddings of a prepared batch. UserError where the only object lacks what was handed in of it."""
        from astrom3.inference.observations import reason_of

        present = {m: prepared.batch["present"][m].numpy() for m in self.modalities}
        size = len(next(iter(present.values())))
        if size == 1:
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
            present, {m: np.concatenate([p.embeddings[m] for p in parts]) for m in self.modalities},
            np.concatenate([p.mean for p in parts]), probabilities, prepared.decisions,
        )  # fmt: skip

    def _single(self, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor | None]:
        encoder, modality = self.encoder, self.modalities[0]
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
    def uses_features(self) -> bool:
        """Whether catalogue features of the light curve are part of what the model reads."""
        return "photometry" not in self.views or self.views["photometry"].uses_features

    @property
    def inputs(self) -> tuple[str, ...]:
        """Keys of the batch that the model reads."""
        encoders: Any = self.backbone.encoders.values() if self.backbone is not None else [self.encoder]
        return tuple(key for encoder in encoders for key in encoder.inputs)


@dataclass(frozen=True)
class WithStatistics:
    """An origin whose raw catalogue values are normalised with the model's statistics, not with its own."""

    origin: Origin
    normaliser: Normaliser | None

    def open(self, sub: str, seed: int) -> Source:
        return self._normalised(self.origin.open(sub, seed))

    def stream(self, sub: str, seed: int) -> Source:
        """The same, of which nothing is copied where the origin can do that."""
        return self._normalised(open_origin(self.origin, sub, seed, True))

    def _normalised(self, source: Source) -> Source:
        if source.normaliser is None:
            return source  # normalised beforehand
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
        "modalities": model.modalities, "views": model.views,
        "labelled_only": False, "min_modalities": 1, "cache": cfg_data.cache, "streaming": cfg_data.streaming,
        "batch_size": cfg_data.batch_size, "eval_batch_size": cfg_data.eval_batch_size,
    }  # fmt: skip
    origin = WithStatistics(registry.instantiate(cfg_data.origin, allow), model.normaliser)
    data = AstroM3DataModule(origin, sub, seed, **(given | options))
    data.prepare_data()
    return data


def read_preprocessing(folder: Path, network: nn.Module) -> tuple[tuple[str, ...], Normaliser | None, bool]:
    """Classes, statistics and pad_constants beside the weights; published models have none, their classes are those of
    the paper."""
    path, heads = folder / PREPROCESSING, getattr(network, "num_classes", None)
    if not path.is_file():
        if heads not in (None, len(CLASSES)):
            raise UserError(f"{folder} has a head of {heads} classes, but no {PREPROCESSING} that names them")
        of_galaxies = heads is None and view_of_galaxies(network)
        return () if of_galaxies else CLASSES, None, True
    try:
        found = json.loads(path.read_text())
        classes = tuple(found["classes"])
        statistics = found["normaliser"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}): copy or fetch it again") from None
    if heads not in (None, len(classes)):
        raise UserError(f"{path} names {len(classes)} classes, the head has {heads}: it belongs to another model")
    normaliser = None if statistics is None else Normaliser.from_dict(statistics, str(path))
    return classes, normaliser, bool(found.get("pad_constants", True))


def view_of_galaxies(network: nn.Module) -> bool:
    """Whether the first encoder of a network reads galaxies."""
    encoders: Any = getattr(network, "encoders", None)
    first: Any = next(iter(encoders.values())) if encoders else getattr(network, "encoder", network)
    return isinstance(get_view(first.view), GalaxyView) if hasattr(first, "view") else False


def predicts_numbers(folder: Path) -> bool:
    """Whether the model is a regression: its encoders are of use here, and its head has no classes."""
    try:
        found = json.loads((folder / PREPROCESSING).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and bool(found.get("targets"))


def hub_statistics(source: str) -> Normaliser | None:
    """Statistics of a published model: the info.json of the raw data set on the hub, of the split with the seed that
    the model's name ends in (42 without one). None where `source` is no published model."""
    found = re.fullmatch(r"AstroMLCore/AstroM3-CLIP(?:-(\d+|photo|spectra|meta|all))?", source)
    if found is None:
        return None
    seed = found[1] if found[1] and found[1].isdigit() else "42"
    from huggingface_hub import hf_hub_download

    name = f"splits/full/{seed}/info.json"
    try:
        path = hf_hub_download(DATASET, name, repo_type="dataset", endpoint=os.environ.get("HF_ENDPOINT"))
    except Exception as error:  # whatever fails between here and the file
        raise UserError(
            f"the statistics of {source} are in {name} of {DATASET}, which the hub did not give "
            f"({type(error).__name__}): fetch it on a machine that can, and load the model with statistics=<that file>"
        ) from None
    return read_info(Path(path))


def read_info(path: Path) -> Normaliser:
    """Statistics from a file in the form of the raw data set's info.json, or from a preprocessing.json."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"statistics={path} cannot be read ({error}): give the info.json of a train split") from None
    return Normaliser.from_dict(found.get("normaliser") or found, str(path))


def magnitudes_or_fluxes(given: Any) -> Any:
    """Arrays (L, 3) of time [day], magnitude and its error, as ASTROMER's users have them, become columns by name."""
    if isinstance(given, list):
        return [magnitudes_or_fluxes(item) for item in given]
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.shape[1] == 3:
        return {"time": given[:, 0], "mag": given[:, 1], "mag_err": given[:, 2]}
    return given


def to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {k: to_device(v, device) for k, v in value.items()}
    return torch.as_tensor(value).to(device)


def rows_of(batch: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    return {k: rows_of(v, rows) if isinstance(v, dict) else v[rows] for k, v in batch.items()}
