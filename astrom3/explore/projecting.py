"""Places on the map of any number of objects: fitted on a sample, all projected, a part of them at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from astrom3 import umap_maps
from astrom3.errors import UserError
from astrom3.explore.positions import MIN_FITTED, pca_text, umap_text

SAMPLE = 50_000  # objects that a large map is fitted on, at most
Project = Callable[[np.ndarray], np.ndarray]  # vectors (m, D) -> float32 (m, 2)


def fitted(vectors: np.ndarray, kind: str) -> tuple[Project, str]:
    """The projection of `kind`, umap or pca, fitted on mean embeddings (n, D), and a sentence that says what it is."""
    if len(vectors) < MIN_FITTED:
        raise UserError(f"a map of {len(vectors)} objects cannot be fitted: show at least {MIN_FITTED} (splits)")
    return pca(vectors) if kind == "pca" else umap(vectors)


def pca(vectors: np.ndarray) -> tuple[Project, str]:
    """The first two principal components of vectors (n, D), by the covariance, whose size does not grow with n."""
    centre = vectors.mean(0, dtype=np.float64)
    offset = vectors - centre
    variances, axes = np.linalg.eigh(offset.T @ offset)  # ascending
    axes = np.column_stack([np.zeros(len(axes)), axes])  # the second axis of vectors of one number
    axes = axes[:, [-1, -2]]
    signs = np.where(axes.sum(0) < 0, -1, 1)  # the sign of an axis is arbitrary
    axes = axes * signs
    share = variances[-2:].sum() / max(variances.sum(), 1e-300)

    def project(some: np.ndarray) -> np.ndarray:
        return ((some - centre) @ axes).astype(np.float32)

    return project, pca_text(share)


def umap(vectors: np.ndarray) -> tuple[Project, str]:
    """UMAP with the settings of the paper, fitted on vectors (n, D)."""
    from astrom3.analyse.projection import neighbours_of
    from astrom3.analyse.sections import UMAP

    settings = UMAP | {"n_neighbors": neighbours_of(UMAP, len(vectors))}
    _, project = umap_maps.fit("explore", "map=umap (map=pca does without)", vectors, settings)
    return project, umap_text(UMAP)
