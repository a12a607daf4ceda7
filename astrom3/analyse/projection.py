"""A map of the embeddings: UMAP (McInnes et al. 2018, arXiv:1802.03426) with the paper's settings, fitted on the
training objects; all others, also of classes that took no part in the fit, are projected into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib import colormaps
from matplotlib.figure import Figure

from astrom3 import umap_maps
from astrom3.analyse.section import Context, Section, having, names_of, table
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import in_paper_order
from astrom3.plots import save

UMAP: dict[str, Any] = {
    "n_neighbors": 45,
    "min_dist": 0.7,
    "metric": "cosine",
    "random_state": 42,
}  # of the paper, section 4.2
PROJECTED = "projected"
SIZES = {"train": 2, "test": 9, PROJECTED: 16}  # of a point, by split


def fit(
    splits: Mapping[str, Embeddings],
    name: str,
    settings: Mapping[str, Any] = UMAP,
    unseen: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Coordinates float32 (n, 2) of every split: fitted on "train" without the classes `unseen`, the rest projected.
    Rows without that embedding are NaN. A small survey takes fewer neighbours."""
    train = splits["train"]
    used = fitted_on(train, name, unseen)
    count = int(used.sum())
    if count < 4:
        raise UserError(f"a map needs some training objects, there are {count}: leave map out of what=")

    arguments = dict(settings) | {"n_neighbors": neighbours_of(settings, count)}
    fitted, place = umap_maps.fit("analyse", "the map", train.vectors[name][used], arguments)

    coordinates = {}
    for split, objects in splits.items():
        xy = np.full((len(objects), 2), np.nan, dtype=np.float32)
        rest = having(objects, name)
        if split == "train":
            xy[used] = fitted
            rest = rest & ~used
        if rest.any():
            xy[rest] = place(objects.vectors[name][rest])
        coordinates[split] = xy

    return coordinates


def fitted_on(train: Embeddings, name: str, unseen: Sequence[str]) -> np.ndarray:
    """(n,) bool: the training objects that the map is fitted on, which have that embedding and no class of `unseen`."""
    is_unseen = np.isin(label_names(train), list(unseen))
    return having(train, name) & ~is_unseen


def neighbours_of(settings: Mapping[str, Any], count: int) -> int:
    """Neighbours that UMAP looks at: those of the settings, or all others of a small survey of `count` objects."""
    return min(int(settings["n_neighbors"]), count - 1)


def label_names(objects: Embeddings) -> np.ndarray:
    """Class names (n,), "" without a label."""
    return np.array([*objects.classes, ""])[objects.labels]


def principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first two principal axes of vectors (n, D): their mean (D,), the axes (2, D), all variances times n (k,).

    The second axis of vectors of one number is zero.
    """
    centre = vectors.mean(0)
    _, sizes, axes = np.linalg.svd(vectors - centre, full_matrices=False)
    axes = np.concatenate([axes, np.zeros_like(axes[:1])])[:2]
    signs = np.where(axes.sum(1, keepdims=True) < 0, -1, 1)  # the sign of an axis is arbitrary
    return centre, axes * signs, sizes**2


def section(context: Context) -> Section:
    """The map of the last embedding: map.parquet, map.png and what the report says of them."""
    name = context.names[-1]
    splits = dict(context.splits)
    if context.project is not None:
        width = splits["train"].vectors[name].shape[1]
        if name not in names_of(context.project) or context.project.vectors[name].shape[1] != width:
            raise UserError(f"the objects to project have no {name} embeddings like these: embed them with this model")
        splits[PROJECTED] = context.project

    coordinates = fit(splits, name, UMAP, context.unseen)
    write(splits, coordinates, context.unseen, context.out / "map.parquet")
    picture(splits, coordinates, context.unseen, context.out / "map.png")

    rows = []
    for split, xy in coordinates.items():
        placed = int(np.isfinite(xy).all(1).sum())
        rows.append([split, str(len(xy)), str(placed)])

    fitted = int(fitted_on(splits["train"], name, context.unseen).sum())
    settings = UMAP | {"n_neighbors": neighbours_of(UMAP, fitted)}
    numbers = {
        "settings": settings,
        "embedding": name,
        "fitted_on": fitted,
        "unseen": list(context.unseen),
        "objects": {split: len(xy) for split, xy in coordinates.items()},
    }

    listed = ", ".join(f"{key} {value}" for key, value in settings.items())
    text = f"UMAP of the {name} embedding ({listed}), fitted on {fitted} training objects"
    if context.unseen:
        text += f" without the classes {', '.join(context.unseen)}"
    text += "; all others are projected into it. Coordinates: map.parquet."
    return Section("Map", numbers, [text, "", *table(["split", "objects", "with coordinates"], rows)])


def write(
    splits: Mapping[str, Embeddings], coordinates: Mapping[str, np.ndarray], unseen: Sequence[str], path: Path
) -> None:
    """One row per object: object_id, label, split, x, y (null without that embedding), fitted (it took part)."""
    tables = []
    for split, xy in coordinates.items():
        objects = splits[split]
        absent = ~np.isfinite(xy).all(1)
        labels = label_names(objects)
        fitted = ~absent & (split == "train") & ~np.isin(labels, list(unseen))
        columns = {
            "object_id": pa.array(objects.ids, pa.string()),
            "label": pa.array([label or None for label in labels.tolist()], pa.string()),
            "split": pa.array([split] * len(objects), pa.string()),
            "x": pa.array(xy[:, 0], mask=absent),
            "y": pa.array(xy[:, 1], mask=absent),
            "fitted": pa.array(fitted),
        }
        tables.append(pa.table(columns))

    pq.write_table(pa.concat_tables(tables), path.absolute(), compression="zstd")


def picture(
    splits: Mapping[str, Embeddings], coordinates: Mapping[str, np.ndarray], unseen: Sequence[str], path: Path
) -> None:
    """Training objects as small points, the others larger, one colour per class, grey without a label, crosses for
    classes that took no part in the fit."""
    figure = Figure(figsize=(6.5, 5))
    axis = figure.subplots()
    names = {split: label_names(objects) for split, objects in splits.items()}
    known = np.unique(np.concatenate([labels.astype(str) for labels in names.values()]))
    classes = in_paper_order(list(filter(None, known.tolist())))
    for number, label in enumerate(["", *classes]):
        colour = colormaps["tab20"]((number - 1) % 20) if label else "0.7"
        text: str | None = label or "no label"
        if label in unseen:
            text = f"{text} (unseen)"
        for split, size in SIZES.items():
            rows = names[split] == label if split in names else np.empty(0, bool)
            if not rows.any():
                continue
            x, y = coordinates[split][rows].T
            if label in unseen or split == PROJECTED:
                axis.scatter(x, y, s=2 * size, color=colour, label=text, marker="x", linewidths=0.6)
            else:
                axis.scatter(x, y, s=size, color=colour, label=text, marker="o", linewidths=0)
            text = None  # a class is named once in the legend

    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)
