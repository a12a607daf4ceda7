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

from astrom3 import umap_maps
from astrom3.analyse.projection import fit as fit_umap
from astrom3.analyse.projection import label_names, principal_axes
from astrom3.analyse.properties import REDSHIFT, values_of
from astrom3.analyse.section import Context, NotPossible, Section, having
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.plots import save

SIZE = 3.0  # inches of a panel


def section(context: Context) -> Section:
    """The picture panels.png and what the report says of it. NotPossible without two modalities."""
    train = context.splits["train"]
    test = context.splits["test"]
    modalities = test.modalities
    if len(modalities) < 2:
        raise NotPossible("needs a model of several modalities")

    maps: dict[str, dict[str, np.ndarray]] = {"PCA": {}}
    shares = {}
    for name in modalities:
        fewest = min(having(train, name).sum(), having(test, name).sum())
        if fewest < 4:
            raise NotPossible(f"needs four training and four test objects with {name}")
        maps["PCA"][name], shares[name] = components(train, test, name)

    if has_umap():
        splits = {"train": train, "test": test}
        maps["UMAP"] = {name: fit_umap(splits, name)["test"] for name in modalities}

    colour, words = colours(context, test)
    picture(context, maps, colour, words)
    numbers: dict[str, Any] = {"maps": list(maps), "coloured_by": words, "pca_share": shares}
    listed = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    text = (
        f"Test objects in the embedding of each modality, fitted on the training objects, coloured by {words}. The "
        f"first two principal components hold this share of the variance: {listed}."
    )
    return Section("The embeddings side by side", numbers, [text])


def has_umap() -> bool:
    """Whether the package of UMAP is there."""
    try:
        umap_maps.package("analyse", "the map")
    except UserError:
        return False
    return True


def components(train: Embeddings, test: Embeddings, name: str) -> tuple[np.ndarray, float]:
    """First two principal components (n, 2) of the test objects, NaN where absent, and their share of the variance."""
    fitted = train.vectors[name][having(train, name)]
    centre, axes, variances = principal_axes(fitted.astype(np.float64))
    share = variances[:2].sum() / max(variances.sum(), 1e-30)

    xy = np.full((len(test), 2), np.nan)
    there = having(test, name)
    xy[there] = (test.vectors[name][there] - centre) @ axes.T
    return xy, float(share)


def colours(context: Context, test: Embeddings) -> tuple[np.ndarray, str]:
    """What colours the test objects (n,), numbers or names of classes, and how that is called."""
    if context.data is not None and REDSHIFT in context.data.source.table("test").target_names:
        return values_of(context, "test", test, [REDSHIFT])[:, 0], REDSHIFT
    return label_names(test), "class"


def picture(context: Context, maps: dict[str, dict[str, np.ndarray]], colour: np.ndarray, words: str) -> None:
    """One row of panels for each map, one column for each modality."""
    modalities = list(maps["PCA"])
    width = SIZE * len(modalities) + 1.2
    figure = Figure(figsize=(width, SIZE * len(maps)))
    axes = figure.subplots(len(maps), len(modalities), squeeze=False)
    is_number = colour.dtype.kind == "f"
    points: PathCollection | None = None
    for row, (kind, by_modality) in enumerate(maps.items()):
        for column, name in enumerate(modalities):
            axis = axes[row, column]
            if is_number:
                points = by_number(axis, by_modality[name], colour)
            else:
                by_class(axis, by_modality[name], colour)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{kind}, {name}")

    if points is not None:
        figure.colorbar(points, ax=axes.ravel().tolist(), label=words, fraction=0.04)
    else:
        axes[0, -1].legend(frameon=False, fontsize=7, markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))

    save(figure, context.out / "panels.png")


def by_number(axis: Any, xy: np.ndarray, numbers: np.ndarray) -> PathCollection:
    """Points (n, 2) coloured by numbers (n,) between their 2nd and 98th percentile, grey where unknown."""
    known = np.isfinite(numbers)
    axis.scatter(*xy[~known].T, s=4, color="0.7", linewidths=0)
    shown = numbers[known]
    low, high = np.percentile(shown, [2, 98]) if len(shown) else (0.0, 1.0)
    return axis.scatter(*xy[known].T, s=5, c=shown, cmap="viridis", vmin=low, vmax=high, linewidths=0)


def by_class(axis: Any, xy: np.ndarray, labels: np.ndarray) -> None:
    """Points (n, 2) in one colour for each name of a class (n,), grey without a label."""
    for number, label in enumerate(sorted(set(labels.tolist()))):
        rows = labels == label
        shade = colormaps["tab20"](number % 20) if label else "0.7"
        axis.scatter(*xy[rows].T, s=5, color=shade, linewidths=0, label=label or "no label")
