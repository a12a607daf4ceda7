"""Objects far from the others of their class, and labels that look wrong (Rizhko & Bloom 2024, section 4.4).

Objects far from all others (isolation.py) are listed too, and alone where nothing has a label.

Outliers, as in the paper: 1 - cosine to the centroid of the object's own class, per modality. Wrong labels, three
scores, the larger the more suspicious:
  centroid    that distance minus the distance to the nearest centroid of another class
  neighbours  share of the 20 nearest other objects with another label; the score above decides between equals
  head        1 - probability of the object's label, where the model has a class head (it may have learnt the label)
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse import isolation
from astrom3.analyse.fewshot import centroids
from astrom3.analyse.section import Context, Section, having, names_of, percent, table
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.neighbours import Neighbours, unit
from astrom3.modalities.schema import UNLABELLED
from astrom3.plots import save

K = 20  # neighbours asked
SCORES = ("centroid", "neighbours", "head")
TOP = (10, 50, 100)


def distances(objects: Embeddings, name: str) -> dict[str, np.ndarray]:
    """Distances of every object to the centroids of the classes, in the embedding called `name`.

    own, other (n,) float: to the own class and to the nearest other one, NaN without label or modality.
    nearest (n,) int64: that other class.
    """
    vectors = objects.vectors[name]
    known = np.flatnonzero(having(objects, name) & (objects.labels != UNLABELLED))
    classes = np.empty(0, np.int64)
    centres = np.empty((0, vectors.shape[1]))
    if len(known):
        classes, centres = centroids(vectors[known], objects.labels[known])
    return to_centroids(unit(vectors), objects.labels, known, classes, centres)


def to_centroids(
    directions: np.ndarray, labels: np.ndarray, known: np.ndarray, classes: np.ndarray, centres: np.ndarray
) -> dict[str, np.ndarray]:
    """The same from unit vectors (n, D), labels (n,) and centroids that are known already.

    known (m,): rows that have a label and a vector. classes (k,): labels that occur, and centres (k, D) their
    centroids at length 1.
    """
    n = len(labels)
    own = np.full(n, np.nan)
    other = np.full(n, np.nan)
    nearest = np.full(n, UNLABELLED)
    if len(known):
        distance = 1 - directions[known] @ centres.T  # (m, k)
        rows = np.arange(len(known))
        column = np.searchsorted(classes, labels[known])
        own[known] = distance[rows, column]
        if len(classes) > 1:
            distance[rows, column] = np.inf
            other[known] = distance.min(1)
            nearest[known] = classes[distance.argmin(1)]
    return {"own": own, "other": other, "nearest": nearest}


def disagreement(objects: Embeddings, name: str, k: int = K, neighbours: Neighbours | None = None) -> np.ndarray:
    """(n,) share of the k nearest other labelled objects, by cosine, that have another label; NaN as above."""
    shares = np.full(len(objects), np.nan)
    known = np.flatnonzero(having(objects, name) & (objects.labels != UNLABELLED))
    labels = objects.labels[known]
    k = min(k, len(known) - 1)
    if k < 1:
        return shares
    near, _ = (neighbours or Neighbours(objects.vectors)).nearest(name, known, k)  # (m, k)
    is_there = near >= 0
    is_other = is_there & (labels[near] != labels[:, None])
    shares[known] = is_other.sum(1) / np.maximum(is_there.sum(1), 1)
    return shares


def suspicion(objects: Embeddings, name: str, k: int = K) -> dict[str, np.ndarray]:
    """The scores above, (n,) each, NaN where there is none; "head" only where there are probabilities."""
    return scores_of(objects, name, distances(objects, name), disagreement(objects, name, k), k)


def scores_of(
    objects: Embeddings, name: str, found: Mapping[str, np.ndarray], shares: np.ndarray, k: int = K
) -> dict[str, np.ndarray]:
    """The same from what `distances` and `disagreement` gave."""
    margin = found["own"] - found["other"]  # within -2 and 2
    scores = {"centroid": margin, "neighbours": shares + margin / (4 * k)}
    if objects.probabilities is not None:
        known = (objects.labels >= 0) & (objects.labels < objects.probabilities.shape[1])
        head = np.full(len(objects), np.nan)
        head[known] = 1 - objects.probabilities[known, objects.labels[known]]
        scores["head"] = np.where(having(objects, name), head, np.nan)
    return scores


def ranking(scores: np.ndarray) -> np.ndarray:
    """Rows by descending score, without those that have none."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return order[np.isfinite(scores[order])]


def average_precision(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the precision-recall curve of finding `wrong` (n,) bool by descending score; NaN scores come last,
    equal scores together."""
    from sklearn.metrics import average_precision_score

    if not wrong.any():
        return float("nan")
    lowest = np.nanmin(scores, initial=0) - 1
    return float(average_precision_score(wrong, np.nan_to_num(scores, nan=lowest)))


def found_swapped(scores: np.ndarray, swapped: np.ndarray) -> dict[str, float]:
    """How well a score finds labels swapped on purpose, (n,) bool: precision among the first 10, 50, 100 of its list,
    recall (which is also the precision) among as many as were swapped and recall among twice as many, average
    precision; chance is the share that was swapped, the precision of an arbitrary list."""
    hits = swapped[ranking(scores)]
    number = int(swapped.sum())
    return {
        "swapped": number,
        **{f"precision@{t}": float(hits[:t].mean()) for t in TOP if t <= len(hits)},
        "recall@n": float(hits[:number].sum() / number),
        "recall@2n": float(hits[: 2 * number].sum() / number),
        "average_precision": average_precision(scores, swapped),
        "chance": float(swapped.mean()),
    }


def section(context: Context) -> Section:
    """The tables outliers-<embedding>.csv and mislabelled.csv, the picture, and what the report says of them."""
    objects = context.everything
    if (objects.labels == UNLABELLED).all():
        return isolation.section_without_labels(context)
    names = context.names
    measured = {name: distances(objects, name) for name in names}
    neighbours = Neighbours(objects.vectors)
    shares = {name: disagreement(objects, name, neighbours=neighbours) for name in names}
    suspicious = {}
    for name in names:
        suspicious[name] = scores_of(objects, name, measured[name], shares[name])
    numbers: dict[str, Any] = {"embedding": {}, "swapped": {}}
    for name in names:
        if np.isfinite(measured[name]["own"]).any():
            write_outliers(objects, measured[name], context.out / f"outliers-{name}.csv")
            numbers["embedding"][name] = summary(measured[name], shares[name])

    main = names[-1]
    write_mislabelled(objects, measured, suspicious, main, context)
    lines = summary_lines(numbers["embedding"], main)
    if context.swapped:
        lines += swapped_lines(numbers, objects, measured[main], suspicious, context.swapped)

    isolated = isolation.numbers_of(isolation.measure(context, objects, neighbours))
    numbers["isolated"] = isolated
    lines += ["", "Far from all others, whatever their class:", "", *isolation.lines_of(isolated)]
    picture(context, objects, measured, suspicious)
    return Section("Outliers and labels that look wrong", numbers, lines)


def summary(measured: Mapping[str, np.ndarray], shares: np.ndarray) -> dict[str, float]:
    """Numbers of one embedding, from its `distances` and the shares (n,) of its `disagreement`."""
    ranked = np.isfinite(measured["own"])
    own = measured["own"][ranked]
    other = measured["other"][ranked]
    return {
        "ranked": int(ranked.sum()),
        "not_ranked": int((~ranked).sum()),
        "median_own": float(np.median(own)),
        "99th_percentile_own": float(np.percentile(own, 99)),
        "another_class_nearer": float((own > other).mean()),
        "most_neighbours_disagree": float((shares[ranked] > 0.5).mean()),
    }


def summary_lines(numbers: Mapping[str, Mapping[str, float]], main: str) -> list[str]:
    """The table of the embeddings, and what the files hold. main: the embedding that mislabelled.csv goes by."""
    rows = []
    for name, scores in numbers.items():
        cells = [
            name,
            str(scores["ranked"]),
            str(scores["not_ranked"]),
            f"{scores['median_own']:.3f}",
            f"{scores['99th_percentile_own']:.3f}",
            percent(scores["another_class_nearer"]),
            percent(scores["most_neighbours_disagree"]),
        ]
        rows.append(cells)
    head = [
        "embedding",
        "objects",
        "without it or without label",
        "median distance to own class",
        "99th percentile",
        "another class is nearer [%]",
        f"most of {K} neighbours disagree [%]",
    ]
    return [
        *table(head, rows),
        "",
        "All splits together. Farthest from their own class first: outliers-<embedding>.csv. Likeliest wrong labels "
        f"first: mislabelled.csv, by the share of the {K} nearest others ({main} embedding) that have another label; "
        "the distance to the own class minus that to the nearest other decides between equals.",
    ]


def swapped_lines(
    numbers: dict[str, Any],
    objects: Embeddings,
    measured: Mapping[str, np.ndarray],
    suspicious: Mapping[str, Mapping[str, np.ndarray]],
    true: Mapping[str, str],
) -> list[str]:
    """Against the truth of the simulated survey."""
    swapped = np.isin(objects.ids, list(true)) & (objects.labels != UNLABELLED)
    if not swapped.any():
        return ["", "No object whose label was swapped on purpose is among these."]
    rows = []
    for name, scores in suspicious.items():
        numbers["swapped"][name] = {}
        for kind, score in scores.items():
            found = found_swapped(score, swapped)
            numbers["swapped"][name][kind] = found
            cells = [name, kind]
            for count in TOP:
                precision = found.get(f"precision@{count}", np.nan)
                cells.append(percent(precision, 0))
            cells.append(percent(found["recall@n"]))
            cells.append(percent(found["recall@2n"]))
            cells.append(f"{found['average_precision']:.3f}")
            rows.append(cells)

    nearest = np.array([*objects.classes, ""])[measured["nearest"]]
    hits = [nearest[row] == true[str(objects.ids[row])] for row in np.flatnonzero(swapped)]
    right = float(np.mean(hits))
    numbers["swapped"]["nearest_class_is_the_true_one"] = right

    n = int(swapped.sum())
    chance = float(swapped.mean())
    head = [
        "embedding",
        "score",
        *(f"precision at {count} [%]" for count in TOP),
        f"recall at {n} [%]",
        f"recall at {2 * n} [%]",
        "average precision",
    ]
    return [
        "",
        f"{n} of these labels ({percent(chance)} %, also what chance finds) were swapped on purpose:",
        "",
        *table(head, rows),
        "",
        f"For {percent(right, 0)} % of them the nearest other class is the true one.",
    ]


def write_outliers(objects: Embeddings, measured: Mapping[str, np.ndarray], path: Path) -> None:
    """A table of the objects, those farthest from their own class first. measured: what `distances` gave."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["object_id", "label", "split", "distance", "nearest_other", "distance_other"])
        for row in ranking(measured["own"]):
            label = class_name(objects, int(objects.labels[row]))
            distance = f"{measured['own'][row]:.5f}"
            nearest_other = class_name(objects, int(measured["nearest"][row]))
            distance_other = f"{measured['other'][row]:.5f}"
            split = objects.splits[row]
            writer.writerow([objects.ids[row], label, split, distance, nearest_other, distance_other])


def write_mislabelled(
    objects: Embeddings,
    measured: Mapping[str, Mapping[str, np.ndarray]],
    suspicious: Mapping[str, Mapping[str, np.ndarray]],
    main: str,
    context: Context,
) -> None:
    """By the score of neighbours in `main`; the scores of every embedding beside it."""
    columns = {}
    for name, scores in suspicious.items():
        for kind, score in scores.items():
            columns[f"{kind}_{name}"] = score
    order = suspicious[main]["neighbours"]
    nearest = measured[main]["nearest"]
    head = ["object_id", "label", "split", "suspicion", "nearest_other", *columns]
    if context.swapped:
        head.append("true_label")
    with open(context.out / "mislabelled.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in ranking(order):
            name = str(objects.ids[row])
            label = class_name(objects, int(objects.labels[row]))
            cells = [name, label, objects.splits[row], f"{order[row]:.5f}", class_name(objects, int(nearest[row]))]
            for score in columns.values():
                cells.append("" if np.isnan(score[row]) else f"{score[row]:.5f}")
            if context.swapped:
                cells.append(context.swapped.get(name, label))
            writer.writerow(cells)


def class_name(objects: Embeddings, number: int) -> str:
    """Name of a class by its number, "" without a label."""
    return objects.classes[number] if number != UNLABELLED else ""


def picture(
    context: Context,
    objects: Embeddings,
    measured: Mapping[str, Mapping[str, np.ndarray]],
    suspicious: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Histograms of both distances; precision against recall where the truth is known."""
    swapped = np.isin(objects.ids, list(context.swapped))
    panels = len(measured) + bool(swapped.any())
    figure = Figure(figsize=(3.2 * panels, 2.8))
    axes = np.atleast_1d(figure.subplots(1, panels))
    for axis, (name, found) in zip(axes, measured.items(), strict=False):
        for key, label in (("own", "own class"), ("other", "nearest other")):
            known = np.isfinite(found[key])
            axis.hist(found[key][known], 60, histtype="step", label=label)
        axis.set_title(name)
        axis.set_xlabel("1 - cosine to the centroid")
        axis.legend(frameon=False)

    if swapped.any():
        axis = axes[-1]
        main = names_of(objects)[-1]
        for kind, score in suspicious[main].items():
            hits = swapped[ranking(score)].cumsum()
            listed = np.arange(1, len(hits) + 1)
            axis.plot(hits / swapped.sum(), hits / listed, label=kind)
        axis.set_title("labels swapped on purpose")
        axis.set_xlabel("recall")
        axis.set_ylabel("precision")
        axis.legend(frameon=False)
    save(figure, context.out / "outliers.png")
