"""Objects far from all others, which needs no labels.

The score is the mean cosine distance to the K nearest others in an embedding. Its mean over a region is small where
objects are dense, and a lone object has a large one (distance to the nearest neighbours, Ramaswamy et al. 2000).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from astrom3.analyse.section import Context, NotPossible, Section, having, names_of, table
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.neighbours import Neighbours
from astrom3.modalities.schema import UNLABELLED
from astrom3.plots import save

K = 20  # neighbours


def isolation(
    objects: Embeddings, name: str, k: int = K, neighbours: Neighbours | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine distance (n,) float to the k nearest others, NaN without that embedding or without others, and the
    row (n,) int64 of the nearest one, -1 where there is none."""
    distance = np.full(len(objects), np.nan)
    closest = np.full(len(objects), -1, dtype=np.int64)
    rows = np.flatnonzero(having(objects, name))
    if len(rows) < 2:
        return distance, closest
    near, cosine = (neighbours or Neighbours(objects.vectors)).nearest(name, rows, min(k, len(rows) - 1))
    distance[rows] = 1 - np.nanmean(cosine, axis=1)
    closest[rows] = rows[near[:, 0]]
    return distance, closest


def measure(context: Context, objects: Embeddings, neighbours: Neighbours | None = None) -> dict[str, np.ndarray]:
    """Embedding -> distances (n,) of all objects, each written to isolated-<embedding>.csv."""
    measured = {}
    for name in names_of(objects):
        distance, closest = isolation(objects, name, neighbours=neighbours)
        if np.isfinite(distance).any():
            measured[name] = distance
            write_isolated(objects, distance, closest, context.out / f"isolated-{name}.csv")
    return measured


def numbers_of(measured: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """What analysis.json says of the distances."""
    numbers = {}
    for name, distance in measured.items():
        known = distance[np.isfinite(distance)]
        numbers[name] = {
            "ranked": len(known),
            "not_ranked": len(distance) - len(known),
            "median": float(np.median(known)),
            "99th_percentile": float(np.percentile(known, 99)),
            "largest": float(known.max()),
        }
    return numbers


def lines_of(numbers: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The table of the report, and how it is read."""
    rows = []
    for name, values in numbers.items():
        distances = [f"{values[key]:.4f}" for key in ("median", "99th_percentile", "largest")]
        rows.append([name, str(values["ranked"]), str(values["not_ranked"]), *distances])
    head = ["embedding", "objects", "without it", "median distance", "99th percentile", "largest"]
    return [
        *table(head, rows),
        "",
        f"The distance is the mean of 1 - cosine to the {K} nearest others, over all splits, and needs no labels. "
        "isolated-<embedding>.csv lists the objects, the loneliest first.",
    ]


def section_without_labels(context: Context) -> Section:
    """What can be said of outliers where no object has a label."""
    objects = context.everything
    measured = measure(context, objects)
    if not measured:
        raise NotPossible("needs two objects with an embedding")
    numbers = numbers_of(measured)
    figure = Figure(figsize=(3.2 * len(measured), 2.8))
    axes = np.atleast_1d(figure.subplots(1, len(measured)))
    for axis, (name, distance) in zip(axes, measured.items(), strict=True):
        histogram(axis, name, distance)
    save(figure, context.out / "outliers.png")
    about: dict[str, Any] = {"isolated": numbers}
    return Section("Outliers: objects far from all others", about, lines_of(numbers))


def histogram(axis: Axes, name: str, distance: np.ndarray) -> None:
    """Of the distances (n,) of one embedding, on a logarithmic axis of counts since the tail matters."""
    axis.hist(distance[np.isfinite(distance)], 60, histtype="step", log=True)
    axis.set_title(name)
    axis.set_xlabel(f"mean of 1 - cosine to the {K} nearest")
    axis.set_ylabel("objects")


def write_isolated(objects: Embeddings, distance: np.ndarray, closest: np.ndarray, path: Path) -> None:
    """One row per object, the loneliest first; those without the embedding are left out."""
    names = np.array([*objects.classes, ""])
    order = np.argsort(-np.nan_to_num(distance, nan=-np.inf), kind="stable")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["object_id", "label", "split", "distance", "nearest"])
        for row in order[np.isfinite(distance[order])]:
            label = names[objects.labels[row]] if objects.labels[row] != UNLABELLED else ""
            neighbour = objects.ids[closest[row]]
            writer.writerow([objects.ids[row], label, objects.splits[row], f"{distance[row]:.6f}", neighbour])
