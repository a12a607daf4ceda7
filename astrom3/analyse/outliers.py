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
from astrom3.inference.neighbours import nearest, unit
from astrom3.modalities.schema import UNLABELLED
from astrom3.plots import save

K = 20  # neighbours asked
SCORES = ("centroid", "neighbours", "head")
TOP = (10, 50, 100)


def distances(objects: Embeddings, name: str) -> dict[str, np.ndarray]:
    """own, other (n,) float: distances to the own class and to the nearest other one, NaN without label or modality;
    nearest (n,) int64: that other class."""
    n = len(objects)
    vectors = objects.vectors[name]
    known = having(objects, name) & (objects.labels != UNLABELLED)
    own = np.full(n, np.nan)
    other = np.full(n, np.nan)
    nearest = np.full(n, UNLABELLED)
    if known.any():
        found, centres = centroids(vectors[known], objects.labels[known])
        far = 1 - unit(vectors[known]) @ centres.T  # (n, k)
        at = np.searchsorted(found, objects.labels[known])
        rows = np.arange(len(far))
        own[known] = far[rows, at]
        if len(found) > 1:
            far[rows, at] = np.inf
            other[known], nearest[known] = far.min(1), found[far.argmin(1)]
    return {"own": own, "other": other, "nearest": nearest}


def disagreement(objects: Embeddings, name: str, k: int = K) -> np.ndarray:
    """(n,) share of the k nearest other labelled objects, by cosine, that have another label; NaN as above."""
    known = np.flatnonzero(having(objects, name) & (objects.labels != UNLABELLED))
    labels = objects.labels[known]
    out = np.full(len(objects), np.nan)
    k = min(k, len(known) - 1)
    if k < 1:
        return out
    near, _ = nearest(objects.vectors[name][known], k)
    is_other = (near >= 0) & (labels[near] != labels[:, None])
    out[known] = is_other.sum(1) / np.maximum((near >= 0).sum(1), 1)
    return out


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
    objects = context.everything
    if (objects.labels == UNLABELLED).all():
        return isolation.section_without_labels(context)
    names = context.names
    measured = {name: distances(objects, name) for name in names}
    shares = {name: disagreement(objects, name) for name in names}
    suspicious = {}
    for name in names:
        suspicious[name] = scores_of(objects, name, measured[name], shares[name])
    numbers: dict[str, Any] = {"embedding": {}, "swapped": {}}
    for name in names:
        own = measured[name]["own"]
        other = measured[name]["other"]
        ranked = np.isfinite(own)
        if not ranked.any():
            continue
        write_outliers(objects, measured[name], context.out / f"outliers-{name}.csv")
        numbers["embedding"][name] = {
            "ranked": int(ranked.sum()),
            "not_ranked": int((~ranked).sum()),
            "median_own": float(np.median(own[ranked])),
            "99th_percentile_own": float(np.percentile(own[ranked], 99)),
            "another_class_nearer": float((own[ranked] > other[ranked]).mean()),
            "most_neighbours_disagree": float((shares[name][ranked] > 0.5).mean()),
        }
    main = names[-1]
    write_mislabelled(objects, measured, suspicious, main, context)
    lines = summary_lines(numbers["embedding"], main)
    if context.swapped:
        lines += swapped_lines(numbers, objects, measured[main], suspicious, context.swapped)
    numbers["isolated"] = isolation.numbers_of(isolation.measure(context, objects))
    lines += ["", "Far from all others, whatever their class:", "", *isolation.lines_of(numbers["isolated"])]
    picture(context, objects, measured, suspicious)
    return Section("Outliers and labels that look wrong", numbers, lines)


def summary_lines(numbers: Mapping[str, Mapping[str, float]], main: str) -> list[str]:
    rows = []
    for name, v in numbers.items():
        rows.append(
            [
                name,
                str(v["ranked"]),
                str(v["not_ranked"]),
                f"{v['median_own']:.3f}",
                f"{v['99th_percentile_own']:.3f}",
                percent(v["another_class_nearer"]),
                percent(v["most_neighbours_disagree"]),
            ]
        )
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
        for kind, score in scores.items():
            v = numbers["swapped"].setdefault(name, {})[kind] = found_swapped(score, swapped)
            rows.append(
                [
                    name,
                    kind,
                    *(percent(v.get(f"precision@{t}", np.nan), 0) for t in TOP),
                    percent(v["recall@n"]),
                    percent(v["recall@2n"]),
                    f"{v['average_precision']:.3f}",
                ]
            )
    nearest = np.array([*objects.classes, ""])[measured["nearest"]]
    hits = [nearest[i] == true[str(objects.ids[i])] for i in np.flatnonzero(swapped)]
    right = float(np.mean(hits))
    numbers["swapped"]["nearest_class_is_the_true_one"] = right
    n = int(swapped.sum())
    chance = float(swapped.mean())
    head = [
        "embedding",
        "score",
        *(f"precision at {t} [%]" for t in TOP),
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
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["object_id", "label", "split", "distance", "nearest_other", "distance_other"])
        for i in ranking(measured["own"]):
            writer.writerow(
                [
                    objects.ids[i],
                    objects.classes[objects.labels[i]],
                    objects.splits[i],
                    f"{measured['own'][i]:.5f}",
                    class_name(objects, int(measured["nearest"][i])),
                    f"{measured['other'][i]:.5f}",
                ]
            )


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
    with open(context.out / "mislabelled.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        truth = ["true_label"] if context.swapped else []
        writer.writerow(["object_id", "label", "split", "suspicion", "nearest_other", *columns, *truth])
        for i in ranking(suspicious[main]["neighbours"]):
            label = objects.classes[objects.labels[i]]
            true = [context.swapped.get(str(objects.ids[i]), label)] if context.swapped else []
            writer.writerow(
                [
                    objects.ids[i],
                    label,
                    objects.splits[i],
                    f"{suspicious[main]['neighbours'][i]:.5f}",
                    class_name(objects, int(measured[main]["nearest"][i])),
                    *("" if np.isnan(s[i]) else f"{s[i]:.5f}" for s in columns.values()),
                    *true,
                ]
            )


def class_name(objects: Embeddings, number: int) -> str:
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
            axis.hist(found[key][np.isfinite(found[key])], 60, histtype="step", label=label)
        axis.set_title(name)
        axis.set_xlabel("1 - cosine to the centroid")
        axis.legend(frameon=False)
    if swapped.any():
        for kind, score in suspicious[names_of(objects)[-1]].items():
            hits = swapped[ranking(score)].cumsum()
            axes[-1].plot(hits / swapped.sum(), hits / np.arange(1, len(hits) + 1), label=kind)
        axes[-1].set_title("labels swapped on purpose")
        axes[-1].set_xlabel("recall")
        axes[-1].set_ylabel("precision")
        axes[-1].legend(frameon=False)
    save(figure, context.out / "outliers.png")
