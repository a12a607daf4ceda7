"""Embeddings for tests: any vectors, and clusters of them."""

import numpy as np

from astrom3.inference.embeddings import Embeddings


def embeddings(vectors, labels, present=None, probabilities=None, classes=("a", "b", "c")):
    n = len(labels)
    present = present or {m: np.ones(n, bool) for m in vectors}
    mean = sum(vectors.values()) / len(vectors)
    return Embeddings(np.array([f"o{i}" for i in range(n)]), np.asarray(labels), np.full(n, "test"), present,
                      vectors | {"mean": mean}, probabilities, classes)  # fmt: skip


def clusters(per_class=40, classes=3, width=8, noise=0.3, seed=0):
    """Unit vectors around one direction per class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    centres = np.random.default_rng(7).normal(size=(classes, width))
    return centres[labels] + noise * rng.normal(size=(len(labels), width)), labels
