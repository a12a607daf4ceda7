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

from astrom3.analyse.section import Context, Section, having, names_of, table
from astrom3.errors import UserError
from astrom3.extras import need
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import in_paper_order
from astrom3.plots import save

UMAP = {
    "n_neighbors": 45,
    "min_dist": 0.7,
    "metric": "cosine",
    "random_state": 42,
}  # of the paper, section 4.2
PROJECTED = "projected"


def fit(
    splits: Mapping[str, Embeddings],
    name: str,
    settings: Mapping[str, Any] = UMAP,
    unseen: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Coordinates float32 (n, 2) of every split: fitted on "train" without the classes `unseen`, the rest projected.
    Rows without that embedding are NaN. A small survey takes fewer neighbours."""
    umap = need("umap", "analyse", "the map")
    train = splits["train"]
    used = having(train, name) & ~np.isin(label_names(train), list(unseen))
    if used.sum() < 4:
        raise UserError(f"a map needs some training objects, there are {used.sum()}: leave map out of what=")
    neighbours = min(int(settings["n_neighbors"]), int(used.sum()) - 1)
    reducer = umap.UMAP(**(dict(settings) | {"n_neighbors": neighbours}), n_jobs=1)
    fitted = reducer.fit_transform(train.vectors[name][used])
    coordinates = {}
    for split, objects in splits.items():
        xy = np.full((len(objects), 2), np.nan, dtype=np.float32)
        rest = having(objects, name)
        if split == "train":
            xy[used], rest = fitted, rest & ~used
        if rest.any():
            xy[rest] = reducer.transform(objects.vectors[name][rest])
        coordinates[split] = xy
    return coordinates


def label_names(objects: Embeddings) -> np.ndarray:
    """Class names (n,), "" without a label."""
    return np.array([*objects.classes, ""])[objects.labels]


def section(context: Context) -> Section:
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
        rows.append([split, str(len(xy)), str(int(np.isfinite(xy).all(1).sum()))])
    fitted = int((having(splits["train"], name) & ~np.isin(label_names(splits["train"]), list(context.unseen))).sum())
    numbers = {
        "settings": UMAP | {"n_neighbors": min(int(str(UMAP["n_neighbors"])), fitted - 1)},
        "embedding": name,
        "fitted_on": fitted,
        "unseen": list(context.unseen),
        "objects": {s: int(n) for s, n, _ in rows},
    }
    settings = ", ".join(f"{k} {v}" for k, v in numbers["settings"].items())  # type: ignore[attr-defined]
    text = f"UMAP of the {name} embedding ({settings}), fitted on {fitted} training objects"
    text += f" without the classes {', '.join(context.unseen)}" if context.unseen else ""
    text += "; all others are projected into it. Coordinates: map.parquet."
    return Section("Map", numbers, [text, "", *table(["split", "objects", "with coordinates"], rows)])


def write(
    splits: Mapping[str, Embeddings], coordinates: Mapping[str, np.ndarray], unseen: Sequence[str], path: Path
) -> None:
    """One row per object: object_id, label, split, x, y (null without that embedding), fitted (it took part)."""
    tables = []
    for split, xy in coordinates.items():
        objects = splits[split]
        there = np.isfinite(coordinates[split]).all(1)
        labels = label_names(objects)
        fitted = there & (split == "train") & ~np.isin(labels, list(unseen))
        tables.append(
            pa.table(
                {
                    "object_id": pa.array(objects.ids, pa.string()),
                    "label": pa.array([x or None for x in labels.tolist()], pa.string()),
                    "split": pa.array([split] * len(objects), pa.string()),
                    "x": pa.array(xy[:, 0], mask=~there),
                    "y": pa.array(xy[:, 1], mask=~there),
                    "fitted": pa.array(fitted),
                }
            )
        )
    pq.write_table(pa.concat_tables(tables), path, compression="zstd")


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
    for i, label in enumerate(["", *classes]):
        colour = colormaps["tab20"]((i - 1) % 20) if label else "0.7"
        text: str | None = (label or "no label") + (" (unseen)" if label in unseen else "")
        for split, size in (("train", 2), ("test", 9), (PROJECTED, 16)):
            rows = names[split] == label if split in names else np.empty(0, bool)
            if rows.any():
                xy = coordinates[split][rows]
                marker = "x" if label in unseen or split == PROJECTED else "o"
                axis.scatter(
                    xy[:, 0],
                    xy[:, 1],
                    s=size * (2 if marker == "x" else 1),
                    color=colour,
                    label=text,
                    marker=marker,
                    linewidths=0.6 if marker == "x" else 0,
                )
                text = None
    axis.set_xticks([])
    axis.set_yticks([])
    axis.legend(frameon=False, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)
