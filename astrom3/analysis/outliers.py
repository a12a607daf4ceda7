"""Objects far from the others of their class, and labels that look wrong (Rizhko & Bloom 2024, section 4.4).

Distance: 1 - cosine to the centroid of the object's own class, per modality. Suspicion of a label: that distance minus
the distance to the nearest centroid of another class; positive where another class is nearer.
"""

from __future__ import annotations

import numpy as np

from astrom3.analysis.fewshot import centroids, unit
from astrom3.data.schema import UNLABELLED
from astrom3.inference.embeddings import Embeddings


def distances(objects: Embeddings, name: str) -> dict[str, np.ndarray]:
    """own, other (n,) float: distances to the own class and to the nearest other one, NaN without label or modality;
    nearest (n,) int64: that other class."""
    n, vectors = len(objects), objects.vectors[name]
    there = objects.present.get(name, np.logical_or.reduce(list(objects.present.values())))
    known = there & (objects.labels != UNLABELLED)
    own, other, nearest = np.full(n, np.nan), np.full(n, np.nan), np.full(n, UNLABELLED)
    if known.any():
        found, centres = centroids(vectors[known], objects.labels[known])
        far = 1 - unit(vectors[known]) @ centres.T  # (n, k)
        at = np.searchsorted(found, objects.labels[known])
        rows = np.arange(len(far))
        own[known] = far[rows, at]
        if len(found) > 1:
            far[rows, at] = np.inf
            other[known], nearest[known] = far.min(1), found[far.argmin(1)]
    return {"own": own, "other": other, "nearest": nearest}


def suspicion(objects: Embeddings, name: str = "mean") -> np.ndarray:
    """(n,) own minus other distance, NaN where there is none: the larger, the likelier the label is wrong."""
    found = distances(objects, name)
    return found["own"] - found["other"]


def average_precision(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the precision-recall curve of finding `wrong` (n,) bool by descending score; NaN scores come last."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    hits = wrong[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean()) if hits.any() else float("nan")


def recall_of_swapped(scores: np.ndarray, swapped: np.ndarray) -> dict[str, float]:
    """How well the score finds labels that were swapped on purpose: recall among as many objects as there are swapped
    ones, and among twice as many, average precision, and what chance gives."""
    k = int(swapped.sum())
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return {
        "swapped": k, "recall@k": float(swapped[order[:k]].mean()) if k else float("nan"),
        "recall@2k": float(swapped[order[: 2 * k]].sum() / k) if k else float("nan"),
        "average_precision": average_precision(scores, swapped), "chance": float(swapped.mean()),
    }  # fmt: skip
