"""Where objects lie on the map: UMAP with the settings of the paper, or the first two principal components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from astrom3.errors import UserError
from astrom3.inference.embeddings import MEAN, Embeddings

MIN_FITTED = 10


def check_fit(fit: str | None) -> None:
    """UserError where `fit` is none of its choices."""
    if fit not in (None, "train", "all"):
        raise UserError(f"fit={fit} does not exist: it is train, all, or null (train where there is a train split)")


def check_finite(xy: np.ndarray, kind: str, model: str) -> None:
    """UserError where a place (n, 2) of the map is not finite. model: that made the embeddings, "" unknown."""
    if not np.isfinite(xy).all():
        raise UserError(f"the {kind} map of {model or 'the embeddings'} is not finite: check the model")


def fitted_rows(objects: Embeddings, fit: str | None) -> np.ndarray:
    """(n,) bool: who the map is fitted on: "train", "all", or None: train where there are training objects."""
    check_fit(fit)
    train = objects.splits == "train"
    if fit == "train" and not train.any():
        raise UserError("fit=train, but no object of the train split is shown: use fit=all")

    everybody = np.ones(len(objects), bool)
    rows = train if fit != "all" and train.any() else everybody
    if rows.sum() < MIN_FITTED:
        raise UserError(f"a map of {rows.sum()} objects cannot be fitted: show at least {MIN_FITTED} (splits, limit)")
    return rows


def positions(objects: Embeddings, kind: str, fit: str | None) -> tuple[np.ndarray, str]:
    """Coordinates float32 (n, 2) of the mean embeddings, and a sentence that says how they were made.

    kind: umap or pca. fit: train, all, or None, see `fitted_rows`. UserError where the map cannot be made.
    """
    rows = fitted_rows(objects, fit)
    xy, text = pca(objects, rows) if kind == "pca" else umap(objects, rows)
    check_finite(xy, kind, objects.model)

    count = int(rows.sum())
    if rows.all():
        return xy, f"{text}, fitted on {count:,} objects"
    others = len(objects) - count
    return xy, f"{text}, fitted on {count:,} training objects, the other {others:,} projected into it"


def pca(objects: Embeddings, rows: np.ndarray) -> tuple[np.ndarray, str]:
    """Principal components float32 (n, 2), fitted on `rows` (n,) bool, and what the page says of them."""
    from astrom3.analyse.projection import principal_axes

    vectors = objects.vectors[MEAN].astype(np.float64)
    centre, axes, variances = principal_axes(vectors[rows])
    share = variances[:2].sum() / max(variances.sum(), 1e-300)  # 0 where all are the same
    xy = np.empty((len(objects), 2), np.float32)
    xy[:] = (vectors - centre) @ axes.T
    return xy, pca_text(share)


def umap(objects: Embeddings, rows: np.ndarray) -> tuple[np.ndarray, str]:
    """UMAP float32 (n, 2), fitted on `rows` (n,) bool, and what the page says of it."""
    from astrom3.analyse.projection import fit
    from astrom3.analyse.sections import UMAP

    groups = {"train": rows}
    if not rows.all():
        groups["others"] = ~rows
    parts = {name: objects.take(mask) for name, mask in groups.items()}
    coordinates = fit(parts, MEAN, UMAP)
    xy = np.empty((len(objects), 2), np.float32)
    for name, mask in groups.items():
        xy[mask] = coordinates[name]
    return xy, umap_text(UMAP)


def pca_text(share: float) -> str:
    """What the page says of a map by principal components. share: of the variance that they hold."""
    return f"first two principal components of the mean embedding ({share:.0%} of its variance)"


def umap_text(settings: Mapping[str, Any]) -> str:
    """What the page says of a map by UMAP."""
    listed = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"UMAP of the mean embedding ({listed})"
