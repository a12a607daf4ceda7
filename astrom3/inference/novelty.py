"""How unlike its training objects an object is: the Mahalanobis distance of its embedding to the nearest class.

Lee et al. 2018 (arXiv:1807.03888), with one covariance for all classes and embeddings of length 1 (Mueller & Hein 2025,
arXiv:2505.18032): on two real surveys with a class left out, the mean AUROC is 0.89, without the normalisation 0.79,
of 5 nearest neighbours 0.88, of the entropy of the probabilities 0.67. The covariance is kept as its largest principal
directions and one variance for all others, so that it stays small and cannot be singular. Quantiles are those of
validation objects: training objects are nearer than any new object, since the network has seen them.

    novelty = Novelty.fit(train, labels, validation)
    score = novelty.score(vectors)                    # (n,)
    share = novelty.quantile(score)                   # of usual objects that are nearer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from astrom3.inference.neighbours import unit

DIRECTIONS = 32
QUANTILES = 101
FLOOR = 1e-3  # of the variance along a direction, relative to the mean one
DIGITS = 7
FEWEST = 2  # training objects of a class that a centre is taken of


@dataclass(frozen=True)
class Novelty:
    """centres (C, D): means of the classes. directions (R, D): orthonormal, of the spread within classes. scales (R,)
    and rest: deviations along them, and along every other direction. quantiles (101,): of validation objects' scores.
    All float64."""

    centres: np.ndarray
    directions: np.ndarray
    scales: np.ndarray
    rest: float
    quantiles: np.ndarray

    @classmethod
    def fit(cls, train: np.ndarray, labels: np.ndarray, validation: np.ndarray) -> Novelty | None:
        """Of embeddings (n, D) with labels (n,) and of validation objects (m, D); None where there are too few."""
        found, counts = np.unique(labels, return_counts=True)
        classes = found[counts >= FEWEST]
        if not len(classes) or not len(validation):
            return None

        vectors = unit(np.asarray(train, dtype=np.float64))
        centres = []
        offsets = []
        for label in classes:
            members = vectors[labels == label]
            centre = members.mean(0)
            centres.append(centre)
            offsets.append(members - centre)

        within = np.concatenate(offsets)
        width = within.shape[1]
        _, singular, directions = np.linalg.svd(within, full_matrices=False)
        variances = singular**2 / max(len(within) - len(classes), 1)
        mean = variances.sum() / width
        if not mean > 0:
            return None

        kept = min(DIRECTIONS, len(variances))
        least = FLOOR * mean
        others = variances[kept:].sum() / max(width - kept, 1)
        rest = np.sqrt(max(others, least))
        scales = np.sqrt(np.maximum(variances[:kept], least))
        unfinished = cls(
            centres=significant(np.stack(centres)),
            directions=significant(directions[:kept]),
            scales=significant(scales),
            rest=float(significant(np.array(rest))),
            quantiles=np.zeros(QUANTILES),
        )
        scores = unfinished.score(validation)
        quantiles = np.quantile(np.sort(scores), np.linspace(0, 1, QUANTILES))
        return replace(unfinished, quantiles=significant(quantiles))

    def score(self, vectors: np.ndarray) -> np.ndarray:
        """Distances (n,) float32 of embeddings (n, D) in deviations, per square root of the number of dimensions."""
        directed = unit(np.asarray(vectors, dtype=np.float64))
        scores = np.full(len(vectors), np.inf)
        for centre in self.centres:
            offset = directed - centre
            along = offset @ self.directions.T
            across = np.maximum((offset**2).sum(1) - (along**2).sum(1), 0)
            squared = ((along / self.scales) ** 2).sum(1) + across / self.rest**2
            scores = np.minimum(scores, squared)
        return np.sqrt(scores / vectors.shape[1]).astype(np.float32)

    def quantile(self, scores: np.ndarray) -> np.ndarray:
        """Share of usual objects that are nearer to the training set than objects of these scores (n,), float32."""
        shares = np.linspace(0, 1, len(self.quantiles))
        return np.interp(scores, self.quantiles, shares).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in confidence.json."""
        return {
            "centres": self.centres.tolist(),
            "directions": self.directions.tolist(),
            "scales": self.scales.tolist(),
            "rest": self.rest,
            "quantiles": self.quantiles.tolist(),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], width: int) -> Novelty:
        """Of embeddings of `width` numbers. Raises ValueError, KeyError or TypeError where anything cannot be."""
        centres = table(found["centres"], width, "centres")
        directions = table(found["directions"], width, "directions")
        scales = numbers(found["scales"], "scales")
        rest = float(numbers([found["rest"]], "rest")[0])
        quantiles = numbers(found["quantiles"], "quantiles")
        if len(scales) != len(directions) or not (scales > 0).all() or not rest > 0:
            raise ValueError("scales of novelty that do not fit its directions")
        if len(quantiles) != QUANTILES or (np.diff(quantiles) < 0).any():
            raise ValueError("quantiles of novelty that are not ascending")
        return cls(centres, directions, scales, rest, quantiles)


def significant(values: np.ndarray) -> np.ndarray:
    """Values with seven significant digits, so that the file stays small."""
    rounded = [float(f"{value:.{DIGITS}g}") for value in values.ravel()]
    return np.array(rounded).reshape(values.shape)


def numbers(values: Any, name: str) -> np.ndarray:
    """Finite numbers of a list, float64 (n,)."""
    found = np.array(values, dtype=np.float64)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"{name} of novelty is no list of numbers")
    return found


def table(values: Any, width: int, name: str) -> np.ndarray:
    """Finite numbers of a list of lists, float64 (n, width)."""
    found = np.array(values, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != width or not len(found) or not np.isfinite(found).all():
        raise ValueError(f"{name} of novelty is no table of {width} columns")
    return found
