"""A map of the embeddings: UMAP (McInnes et al. 2018, arXiv:1802.03426) fitted on the training objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from astrom3.data.schema import UNLABELLED
from astrom3.extras import need
from astrom3.inference.embeddings import Embeddings
from astrom3.training.plots import save


def fit(splits: Mapping[str, Embeddings], name: str, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Coordinates (n, 2) of every split. Unlabelled objects and classes not seen in training are projected too."""
    umap = need("umap", "analyse", "the map")
    train = splits["train"].vectors[name]
    options = dict(settings) | {"n_neighbors": min(int(settings["n_neighbors"]), len(train) - 1)}
    reducer = umap.UMAP(**options, n_jobs=1)
    coordinates = {"train": np.asarray(reducer.fit_transform(train))}
    for split, objects in splits.items():
        if split != "train":
            coordinates[split] = np.asarray(reducer.transform(objects.vectors[name]))
    return coordinates


def picture(splits: Mapping[str, Embeddings], coordinates: Mapping[str, np.ndarray], path: Path) -> None:
    """Training objects as small points, the test objects larger, one colour per class, grey without a label."""
    figure = Figure(figsize=(6.5, 5))
    axis = figure.subplots()
    classes = splits["train"].classes
    for split, size in (("train", 2), ("test", 9)):
        if split not in coordinates:
            continue
        xy, labels = coordinates[split], splits[split].labels
        for k in (UNLABELLED, *range(len(classes))):
            rows = labels == k
            if rows.any():
                label = (classes[k] if k >= 0 else "no label") if split == "train" else None
                colour = colormaps["tab20"](k % 20) if k >= 0 else "0.7"
                axis.scatter(xy[rows, 0], xy[rows, 1], s=size, color=colour, label=label, linewidths=0)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(frameon=False, markerscale=4, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)
