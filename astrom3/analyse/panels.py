"""The embeddings of each modality side by side: principal components above, UMAP below, one colour scale for all.

It is the picture of the README of AstroCLIP. Points are test objects, coloured by redshift where the data know it, else
by class. UMAP is left out where its package is missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from astrom3.analyse.projection import fit as fit_umap
from astrom3.analyse.projection import label_names
from astrom3.analyse.properties import REDSHIFT, values_of
from astrom3.analyse.section import Context, NotPossible, Section, having
from astrom3.errors import UserError
from astrom3.extras import need
from astrom3.inference.embeddings import Embeddings
from astrom3.plots import save

SIZE = 3.0  # inches of a panel


def section(context: Context) -> Section:
    modalities = context.splits["test"].modalities
    if len(modalities) < 2:
        raise NotPossible("needs a model of several modalities")
    objects = {split: context.splits[split] for split in ("train", "test")}
    maps: dict[str, dict[str, np.ndarray]] = {"PCA": {}}
    shares = {}
    for name in modalities:
        rows = {split: having(found, name) for split, found in objects.items()}
        if min(int(there.sum()) for there in rows.values()) < 4:
            raise NotPossible(f"needs four training and four test objects with {name}")
        maps["PCA"][name], shares[name] = components(objects, name)
    if has_umap():
        maps["UMAP"] = {name: fit_umap(objects, name)["test"] for name in modalities}
    colour, words = colours(context, objects["test"])
    picture(context, maps, colour, words)
    numbers: dict[str, Any] = {"maps": list(maps), "coloured_by": words, "pca_share": shares}
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    text = (
        f"Test objects in the embedding of each modality, fitted on the training objects, coloured by {words}. The "
        f"first two principal components hold this share of the variance: {told}."
    )
    return Section("The embeddings side by side", numbers, [text])


def has_umap() -> bool:
    """Whether the package of UMAP is there."""
    try:
        need("umap", "analyse", "the map")
    except UserError:
        return False
    return True


def components(objects: dict[str, Embeddings], name: str) -> tuple[np.ndarray, float]:
    """First two principal components (n, 2) of the test objects, NaN where absent, and their share of the variance."""
    train = objects["train"].vectors[name][having(objects["train"], name)].astype(np.float64)
    centre = train.mean(0)
    _, sizes, axes = np.linalg.svd(train - centre, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(1, keepdims=True) < 0, -1, 1)  # the sign of an axis is arbitrary
    test = objects["test"]
    xy = np.full((len(test), 2), np.nan)
    there = having(test, name)
    xy[there] = (test.vectors[name][there] - centre) @ axes.T
    variance = sizes**2
    return xy, float(variance[:2].sum() / max(variance.sum(), 1e-30))


def colours(context: Context, test: Embeddings) -> tuple[np.ndarray, str]:
    """What colours the test objects (n,), numbers or names of classes, and how that is called."""
    if context.data is not None and REDSHIFT in context.data.source.table("test").target_names:
        return values_of(context, "test", test, [REDSHIFT])[:, 0], REDSHIFT
    return label_names(test), "class"


def picture(context: Context, maps: dict[str, dict[str, np.ndarray]], colour: np.ndarray, words: str) -> None:
    """One row of panels for each map, one column for each modality."""
    names = list(maps["PCA"])
    figure = Figure(figsize=(SIZE * len(names) + 1.2, SIZE * len(maps)))
    axes = figure.subplots(len(maps), len(names), squeeze=False)
    drawn: Any = None
    for row, (kind, by_name) in enumerate(maps.items()):
        for column, name in enumerate(names):
            axis = axes[row, column]
            drawn = scatter(axis, by_name[name], colour)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{kind}, {name}")
    if colour.dtype.kind == "f":
        figure.colorbar(drawn, ax=axes.ravel().tolist(), label=words, fraction=0.04)
    else:
        axes[0, -1].legend(frameon=False, fontsize=7, markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, context.out / "panels.png")


def scatter(axis: Any, xy: np.ndarray, colour: np.ndarray) -> PathCollection | None:
    """Points coloured by a number, grey where it is unknown, or by class."""
    if colour.dtype.kind == "f":
        unknown = ~np.isfinite(colour)
        axis.scatter(*xy[unknown].T, s=4, color="0.7", linewidths=0)
        known = colour[~unknown]
        low, high = np.percentile(known, [2, 98]) if len(known) else (0.0, 1.0)
        return axis.scatter(*xy[~unknown].T, s=5, c=known, cmap="viridis", vmin=low, vmax=high, linewidths=0)
    for number, label in enumerate(sorted(set(colour.tolist()))):
        rows = colour == label
        shade = colormaps["tab20"](number % 20) if label else "0.7"
        axis.scatter(*xy[rows].T, s=5, color=shade, linewidths=0, label=label or "no label")
    return None
