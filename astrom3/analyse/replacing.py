"""Inputs of the test objects with a catalogue feature replaced, and what a model makes of them.

A light curve enters the encoder with four features of the catalogue (PHOTO_COLS) as constant channels, the metadata
encoder takes 34 columns (META_COLS). `Trial.outcome` gives the embeddings and predictions for other values of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from astrom3.analyse.ablation import through_head
from astrom3.analyse.fewshot import by_centroid
from astrom3.analyse.section import having, labelled
from astrom3.data.observed import locate, observations, units
from astrom3.encoders.towers import MultimodalClassifier
from astrom3.inference.batches import rows_of, to_device
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.inference.neighbours import unit
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.catalogue import COLUMN, Normaliser
from astrom3.modalities.features import light_curve_features
from astrom3.modalities.schema import ALL_COLS, PHOTO_COLS
from astrom3.modalities.view import View

FIRST = 3  # channel of the first of PHOTO_COLS
CHUNK = 256


@dataclass(frozen=True)
class Outcome:
    """n objects. vectors (n, D): the embedding of the modality that was changed; mean (n, D): that of all; predicted
    (n,): class by the head, or by centroids of the training objects' embeddings of that modality."""

    vectors: np.ndarray
    mean: np.ndarray
    predicted: np.ndarray


@dataclass
class Trial:
    """The labelled test objects (n) that have `modality`. inputs: as in schema.py, on the CPU; base: their embeddings
    as they are; train: to predict by where the model has no head; padded: the constants stand in padded rows too."""

    model: TrainedModel
    modality: str
    inputs: dict[str, torch.Tensor]
    base: Embeddings
    train: Embeddings
    padded: bool

    @classmethod
    def of(cls, model: TrainedModel, data: Any, modality: str, base: Embeddings, train: Embeddings) -> Trial:
        """base: of the whole test split, in its order; data: the data module, see `trained.data_of`."""
        if "test" not in data.splits:
            data.setup("test")
        batches = list(data.split_dataloader("test"))
        positions = np.concatenate([np.asarray(batch["index"]) for batch in batches])
        place = dict(zip(base.ids.tolist(), range(len(base)), strict=True))
        order = [place[str(name)] for name in data.object_ids("test")[positions]]
        base = base.take(np.array(order))  # in the order of the batches
        keep = (base.labels >= 0) & base.present[modality]
        inputs = {}
        for key in model.views[modality].keys:
            whole = torch.cat([torch.as_tensor(batch[key]) for batch in batches])
            inputs[key] = whole[torch.from_numpy(keep)]

        train = labelled(train)
        train = train.take(having(train, modality))
        return cls(model, modality, inputs, base.take(keep), train, data.splits["test"].pad_constants)

    @property
    def view(self) -> View:
        """What the encoder reads: its first key holds the columns, a second one which points there are."""
        return self.model.views[self.modality]

    @property
    def labels(self) -> np.ndarray:
        return self.base.labels

    def given(self, column: str) -> np.ndarray:
        """The z-scores (n,) of a column as they are."""
        main = self.inputs[self.view.keys[0]]
        if self.view.uses_metadata:
            return main[:, COLUMN[column] - len(PHOTO_COLS)].numpy().copy()
        return main[:, 0, FIRST + COLUMN[column]].numpy().copy()

    def replaced(self, values: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """The inputs with columns set to z-scores (n,)."""
        main = self.inputs[self.view.keys[0]].clone()
        for column, z in values.items():
            new = torch.from_numpy(np.asarray(z, dtype=np.float32))
            if self.view.uses_metadata:
                main[:, COLUMN[column] - len(PHOTO_COLS)] = new
            else:
                there = 1.0 if self.padded else self.inputs[self.view.keys[1]]
                main[:, :, FIRST + COLUMN[column]] = new.unsqueeze(1) * there
        return self.inputs | {self.view.keys[0]: main}

    @cached_property
    def before(self) -> Outcome:
        """With nothing replaced."""
        return self.outcome({})

    @torch.inference_mode()
    def outcome(self, values: Mapping[str, np.ndarray]) -> Outcome:
        """What the model makes of the inputs with columns set to z-scores (n,)."""
        model = self.model
        base = self.base
        inputs = self.replaced(values)
        parts = [rows_of(inputs, slice(start, start + CHUNK)) for start in range(0, len(base), CHUNK)]
        if model.backbone is None:
            encoded = [model.encode(part) for part in parts]
            vectors = np.concatenate([one.embeddings[self.modality] for one in encoded])
            if model.has_head:
                probabilities = np.concatenate([one.probabilities for one in encoded])  # type: ignore[misc]
                return Outcome(vectors, vectors, probabilities.argmax(1))
            return Outcome(vectors, vectors, self.by_centroid(vectors))

        pieces = []
        for part in parts:
            embedding = model.backbone.embed(self.modality, to_device(part, model.device))
            pieces.append(embedding.float().cpu().numpy())

        vectors = np.concatenate(pieces)
        count = np.sum(list(base.present.values()), axis=0)[:, None]
        mean = base.vectors[MEAN] + (vectors - base.vectors[self.modality]) / count
        if not isinstance(model.network, MultimodalClassifier):
            return Outcome(vectors, mean, self.by_centroid(vectors))

        changed = replace(base, vectors=base.vectors | {self.modality: vectors}, probabilities=None)
        probabilities = through_head(model.network, changed, base.modalities)
        return Outcome(vectors, mean, probabilities.argmax(1))

    def by_centroid(self, vectors: np.ndarray) -> np.ndarray:
        """Classes (n,) by the centroids of the training objects' embeddings."""
        return by_centroid(self.train.vectors[self.modality], self.train.labels, vectors)


def moved(before: Outcome, after: Outcome, labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
    """distance, distance_sd: 1 - cosine between the embeddings before and after, mean and deviation (ddof 0) over
    objects; distance_mean: of the mean embedding; accuracy, accuracy_change, changed: share of the predictions;
    per_class: the same for each class."""

    distance = cosine_distance(before.vectors, after.vectors)
    distance_of_mean = cosine_distance(before.mean, after.mean)
    was_right = before.predicted == labels
    is_right = after.predicted == labels
    is_changed = after.predicted != before.predicted

    def of(rows: np.ndarray) -> dict[str, float]:
        accuracy = is_right[rows].mean()
        return {
            "n": int(rows.sum()),
            "distance": float(distance[rows].mean()),
            "distance_sd": float(distance[rows].std()),
            "distance_mean": float(distance_of_mean[rows].mean()),
            "accuracy": float(accuracy),
            "accuracy_change": float(accuracy - was_right[rows].mean()),
            "changed": float(is_changed[rows].mean()),
        }

    scores: dict[str, Any] = of(np.ones(len(labels), bool))
    scores["per_class"] = {}
    for number, name in enumerate(classes):
        members = labels == number
        if members.any():
            scores["per_class"][name] = of(members)

    return scores


def cosine_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """1 - cosine of two embeddings (n, D) of each object, (n,) float64."""
    cosine = (unit(first) * unit(second)).sum(1)
    return 1 - cosine.astype(np.float64)


def z_score(column: str, raw: np.ndarray, normaliser: Normaliser) -> np.ndarray:
    """Raw catalogue values (n,) -> z-scores (n,), unknown ones 0."""
    values = np.full((len(raw), len(ALL_COLS)), np.nan)
    values[:, COLUMN[column]] = raw
    return normaliser.apply(values)[:, COLUMN[column]]


def why_not_recomputed(data: Any, normaliser: Normaliser | None) -> str | None:
    """Why PHOTO_COLS cannot be computed from the light curves of a data set, None where they can."""
    if normaliser is None:
        return "the statistics that the catalogue values were normalised with are not known (statistics=<info.json>)"
    if data.source.layout == "processed-2":
        return "the light curves of this layout are normalised: they have no magnitudes"
    if step := units(data.source).time_step:
        return f"the times of this layout are in steps of {step} d"
    return None


def recomputed(data: Any, ids: np.ndarray, advance: Callable[[int], Any] = lambda done: None) -> np.ndarray:
    """PHOTO_COLS (n, 4) of the light curves of these objects, computed by us (data/features.py), NaN where not
    possible."""
    tables, where = locate(data.source)
    out = np.full((len(ids), len(PHOTO_COLS)), np.nan)
    owner, rows = np.array([where[str(name)] for name in ids], dtype=np.int64).reshape(-1, 2).T
    for number, table in enumerate(tables):
        mine = np.flatnonzero(owner == number)
        mine = mine[np.argsort(rows[mine], kind="stable")]
        for i, found in zip(mine.tolist(), observations(table, rows[mine]), strict=True):
            if found.light_curve is not None:
                features = light_curve_features(*found.light_curve)
                out[i] = [features[name] for name in PHOTO_COLS]
            advance(1)
    return out
