"""Frozen embeddings, few labels: class centroids, nearest neighbours, a linear probe (Rizhko & Bloom 2024, section 4).

Each takes unit-length training vectors (n, D) with labels (n,) and gives labels for queries (m, D).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from astrom3.data.schema import UNLABELLED

Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; zero rows stay zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def centroids(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels that occur (k,), and the direction (k, D) of the mean of the unit vectors of each."""
    found = np.unique(labels)
    return found, unit(np.stack([unit(vectors[labels == k]).mean(0) for k in found]))


def by_centroid(vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Class of the nearest centroid by cosine."""
    found, centres = centroids(vectors, labels)
    return found[(unit(queries) @ centres.T).argmax(1)]


def by_neighbours(vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int = 5) -> np.ndarray:
    """Majority of the k nearest by cosine; the nearest decides a tie."""
    k, classes = min(k, len(vectors)), int(labels.max()) + 1
    near = np.empty((len(queries), k), dtype=np.int64)
    base = unit(vectors).T
    for i in range(0, len(queries), 2048):
        cosine = unit(queries[i : i + 2048]) @ base
        top = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(cosine, top, 1).argsort(1)[:, ::-1]
        near[i : i + 2048] = labels[np.take_along_axis(top, order, 1)]
    votes = np.zeros((len(queries), classes))
    for rank in range(k):
        votes[np.arange(len(queries)), near[:, rank]] += 1 + (k - rank) * 1e-3  # earlier ranks decide ties
    return votes.argmax(1)


def by_probe(vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression (L2, C = 1) on standardised vectors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) == 1:
        return np.full(len(queries), labels[0])
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(vectors, labels).predict(queries)


METHODS: dict[str, Predict] = {"centroid": by_centroid, "neighbours": by_neighbours, "probe": by_probe}


def few_shot(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray,
    shots: int | None, draws: int = 5, seed: int = 0,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Accuracy and macro recall of every method with `shots` labels per class (None: all, one draw), over draws.

    A class with fewer training objects gives all it has. Unlabelled objects take no part.
    """
    keep, kept = train_labels != UNLABELLED, test_labels != UNLABELLED
    train, train_labels, test, test_labels = train[keep], train_labels[keep], test[kept], test_labels[kept]
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    for draw in range(1 if shots is None else draws):
        rows = np.arange(len(train)) if shots is None else drawn(train_labels, shots, seed + draw)
        for name, predict in METHODS.items():
            scores[name].append(accuracy(test_labels, predict(train[rows], train_labels[rows], test)))
    return {name: summary(np.array(values)) for name, values in scores.items()}


def drawn(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows of up to `shots` objects of every class."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    return np.concatenate([rng.permutation(g)[:shots] for g in groups])


def accuracy(true: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Accuracy and the mean over classes of the recall."""
    right = true == predicted
    return float(right.mean()), float(np.mean([right[true == k].mean() for k in np.unique(true)]))


def summary(values: np.ndarray) -> dict[str, float]:
    deviation = values.std(0, ddof=1) if len(values) > 1 else np.zeros(2)
    return {
        "accuracy": float(values[:, 0].mean()), "accuracy_sd": float(deviation[0]),
        "macro_recall": float(values[:, 1].mean()), "macro_recall_sd": float(deviation[1]),
    }  # fmt: skip
