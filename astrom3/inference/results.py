"""What a trained model gives for its objects: embeddings, probabilities, sets of classes, and how unlike them it is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from astrom3.modalities.quality import Decision


@dataclass(frozen=True)
class Encoded:
    """B objects. present: modality -> bool (B,); embeddings: modality -> float32 (B, D), zero rows where absent;
    mean: float32 (B, D), of the embeddings that an object has; probabilities: float32 (B, C), None without a head,
    calibrated where the model has a confidence.json. points (B,) int64: of the light curves, where a mask says so.
    novelty (B,) float32: how unlike the training objects, None where the model does not know them."""

    present: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]
    mean: np.ndarray
    probabilities: np.ndarray | None
    points: np.ndarray | None = None
    novelty: np.ndarray | None = None


@dataclass(frozen=True)
class Embedded(Encoded):
    """Raw observations, embedded. decisions: what was repaired or rejected; object_id is the place in the list."""

    decisions: list[Decision] = field(default_factory=list)


@dataclass(frozen=True)
class Classified:
    """classes: names; probabilities: float32 (n, C), NaN for an object that has nothing usable; decisions as above.

    calibrated: whether a temperature was fitted on the validation split; else probabilities are as the network has
    them. in_set: bool (n, C), the prediction sets of the coverage that was asked for, None where none was.
    vouched: class -> the coverage that its validation objects vouch for, less than asked for where they are too few.
    novelty, novelty_quantile: float32 (n,), the distance to the training set, and the share of usual objects that are
    nearer to it (0.99 and more: unlike what the model knows); None where the model does not know its training set.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    decisions: list[Decision]
    calibrated: bool = False
    coverage: float | None = None
    in_set: np.ndarray | None = None
    vouched: dict[str, float] = field(default_factory=dict)
    novelty: np.ndarray | None = None
    novelty_quantile: np.ndarray | None = None

    @property
    def labels(self) -> list[str | None]:
        """Most probable class of each object, None where nothing could be said."""
        return [None if np.isnan(p).any() else self.classes[int(p.argmax())] for p in self.probabilities]

    @property
    def sets(self) -> list[tuple[str, ...]] | None:
        """The set of classes of each object, the most probable first; empty where it fits no class."""
        if self.in_set is None:
            return None
        order = np.argsort(-np.nan_to_num(self.probabilities), axis=1, kind="stable")
        sets = []
        for row, member in zip(order, self.in_set, strict=True):
            sets.append(tuple(self.classes[j] for j in row if member[j]))
        return sets

    def as_dicts(self) -> list[dict[str, float]]:
        """Class -> probability of each object, the most probable first."""
        order = np.argsort(-self.probabilities, axis=1)
        return [{self.classes[j]: float(p[j]) for j in row} for p, row in zip(self.probabilities, order, strict=True)]
