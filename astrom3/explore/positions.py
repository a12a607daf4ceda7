"""Where objects lie on the map: UMAP with the settings of the paper, or the first two principal components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from astrom3.errors import UserError
from astrom3.inference.embeddings import MEAN, Embeddings

MIN_FITTED = 10


def fitted_rows(objects: Embeddings, fit: str | None) -> np.ndarray:
    """(n,) bool: who the map is fitted on: "train", "all", or None: train where there are training objects."""
    if fit not in (None, "train", "all"):
        raise UserError(f"fit={fit} does not exist: it is train, all, or null (train where there is a train split)")
    train = objects.splits == "train"
    if fit == "train" and not train.any():
        raise UserError("fit=train, but no object of the train split is shown: use fit=all")
    rows = train if fit != "all" and train.any() else np.ones(len(objects), bool)
    if rows.sum() < MIN_FITTED:
        raise UserError(f"a map of {rows.sum()} objects cannot be fitted: show at least {MIN_FITTED} (splits, limit)")
    return rows


def positions(objects: Embeddings, kind: str, fit: str | None) -> tuple[np.ndarray, str]:
    """Coordinates float32 (n, 2) of the mean embeddings, and a sentence that says how they were made."""
    rows = fitted_rows(objects, fit)
    xy = np.empty((len(objects), 2), np.float32)
    if kind == "pca":
        vectors = objects.vectors[MEAN].astype(np.float64)
        centre = vectors[rows].mean(0)
        _, size, axes = np.linalg.svd(vectors[rows] - centre, full_matrices=False)
        axes = axes[:2] * np.where(axes[:2].sum(1, keepdims=True) < 0, -1, 1)  # the sign of an axis is arbitrary
        xy[:] = (vectors - centre) @ axes.T
        share = (size[:2] ** 2).sum() / (size**2).sum()
        text = f"first two principal components of the mean embedding ({share:.0%} of its variance)"
    else:
        from astrom3.analyse.projection import fit as fit_umap
        from astrom3.analyse.sections import UMAP

        groups = {"train": rows, "others": ~rows} if not rows.all() else {"train": rows}
        parts = {name: objects.take(mask) for name, mask in groups.items()}
        found = fit_umap(parts, MEAN, UMAP)
        for name, mask in groups.items():
            xy[mask] = found[name]
        text = umap_text(UMAP)
    if not np.isfinite(xy).all():
        raise UserError(f"the {kind} map of {objects.model or 'the embeddings'} is not finite: check the model")
    n = int(rows.sum())
    text += f", fitted on {n:,} {'training objects' if not rows.all() else 'objects'}"
    return xy, text + ("" if rows.all() else f", the other {len(objects) - n:,} projected into it")


def umap_text(settings: Mapping[str, Any]) -> str:
    """What the page says of the map."""
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"UMAP of the mean embedding ({listed})"
