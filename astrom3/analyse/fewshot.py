"""Frozen embeddings, few labels: class centroids, nearest neighbours, a linear probe (Rizhko & Bloom 2024, section 4).

Each takes training vectors (n, D) with labels (n,) and gives labels for queries (m, D). Zero-shot: the labels are known
in one modality only, whose centroids classify another through the common space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.section import (
    ASKED,
    COMPARED,
    PUBLISHED,
    Context,
    NotPossible,
    Section,
    drawn_rows,
    having,
    percent,
    table,
)
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.inference.neighbours import unit
from astrom3.modalities.kinds import modality
from astrom3.modalities.schema import UNLABELLED
from astrom3.plots import save

Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
SHOTS = (1, 5, 20, 100, None)  # labels per class, None: all
DRAWS = 5


def centroids(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels that occur (k,), and the direction (k, D) of the mean of the unit vectors of each."""
    found = np.unique(labels)
    directions = unit(vectors)
    means = [directions[labels == label].mean(0) for label in found]
    return found, unit(np.stack(means))


def by_centroid(vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Class of the nearest centroid by cosine."""
    found, centres = centroids(vectors, labels)
    return found[(unit(queries) @ centres.T).argmax(1)]


def by_neighbours(vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int = 5) -> np.ndarray:
    """Majority of the k nearest by cosine; the nearest decides a tie."""
    k = min(k, len(vectors))
    near = np.empty((len(queries), k), dtype=np.int64)  # labels, those of the most similar first
    base = unit(vectors).T
    step = max(COMPARED // len(vectors), 1)
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        cosine = unit(queries[part]) @ base
        top = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        order = np.take_along_axis(cosine, top, 1).argsort(1)[:, ::-1]
        rows = np.take_along_axis(top, order, 1)
        near[part] = labels[rows]

    classes = int(labels.max()) + 1
    votes = np.zeros((len(queries), classes))
    every_query = np.arange(len(queries))
    for rank in range(k):
        votes[every_query, near[:, rank]] += 1 + (k - rank) * 1e-3  # earlier ranks decide ties
    return votes.argmax(1)


def by_probe(vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Multinomial logistic regression (L2, C = 1) on standardised vectors."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) == 1:
        return np.full(len(queries), labels[0])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    probe.fit(vectors, labels)
    return probe.predict(queries)


def by_nearest(vectors: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Class of the nearest by cosine, as in the paper."""
    return by_neighbours(vectors, labels, queries, k=1)


METHODS: dict[str, Predict] = {
    "centroid": by_centroid,
    "nearest": by_nearest,
    "5 neighbours": by_neighbours,
    "linear probe": by_probe,
}


def few_shot(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    shots: int | None,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Accuracy and macro recall of every method with `shots` labels per class (None: all, one draw), over draws.

    A class with fewer training objects gives all it has. Unlabelled objects take no part.
    """
    keep = train_labels != UNLABELLED
    train = train[keep]
    train_labels = train_labels[keep]
    keep = test_labels != UNLABELLED
    test = test[keep]
    test_labels = test_labels[keep]

    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
    for draw in range(1 if shots is None else draws):
        rows = np.arange(len(train)) if shots is None else drawn(train_labels, shots, seed + draw)
        for name, predict in METHODS.items():
            predicted = predict(train[rows], train_labels[rows], test)
            scores[name].append(accuracy(test_labels, predicted))

    return {name: summary(np.array(values)) for name, values in scores.items()}


def drawn(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows of up to `shots` objects of every class."""
    draws = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen.append(draws.permutation(rows)[:shots])
    return np.concatenate(chosen)


def accuracy(true: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Accuracy and the mean over classes of the recall."""
    is_right = true == predicted
    recalls = [is_right[true == label].mean() for label in np.unique(true)]
    return float(is_right.mean()), float(np.mean(recalls))


def summary(values: np.ndarray) -> dict[str, float]:
    """Mean and deviation over draws of accuracy and macro recall (draws, 2)."""
    mean = values.mean(0)
    deviation = values.std(0, ddof=1) if len(values) > 1 else np.zeros(2)
    return {
        "accuracy": float(mean[0]),
        "accuracy_sd": float(deviation[0]),
        "macro_recall": float(mean[1]),
        "macro_recall_sd": float(deviation[1]),
    }


def zero_shot(train: Embeddings, test: Embeddings) -> dict[str, dict[str, dict[str, float]]]:
    """Modality with the labels -> modality to classify -> scores of the centroids of the first, over labelled objects
    that have it."""
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for known in train.modalities:
        labelled = train.take(train.present[known] & (train.labels != UNLABELLED))
        for asked in test.modalities:
            queries = test.take(test.present[asked] & (test.labels != UNLABELLED))
            if not len(labelled) or not len(queries):
                continue
            predicted = by_centroid(labelled.vectors[known], labelled.labels, queries.vectors[asked])
            right, recall = accuracy(queries.labels, predicted)
            by_asked = scores.setdefault(known, {})
            by_asked[asked] = {"accuracy": right, "macro_recall": recall, "n": len(queries)}
    return scores


def section(context: Context) -> Section:
    """Every method with every number of labels, and between modalities, on the labelled test objects."""
    train = context.labelled("train")
    test = context.labelled("test")
    few: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for name in context.names:
        known = train.take(having(train, name))
        asked = test.take(having(test, name))
        asked = asked.take(drawn_rows(len(asked)))
        if not len(known) or not len(asked):
            continue
        few[name] = {}
        for shots in SHOTS:
            scores = few_shot(known.vectors[name], known.labels, asked.vectors[name], asked.labels, shots)
            few[name][str(shots or "all")] = scores

    if not few:
        raise NotPossible("needs labelled training and test objects with the same modality")

    numbers: dict[str, Any] = {"few": few}
    lines = [
        f"Test objects, {DRAWS} draws of the training labels, mean and deviation. Cosine distances; the probe is a "
        "logistic regression on standardised embeddings. A class with fewer labels gives all it has. Published: real "
        "data, all labels, pre-trained on them.",
        "",
        "Accuracy in percent:",
        "",
        *score_table(few, "accuracy", True),
        "",
        "Macro recall in percent:",
        "",
        *score_table(few, "macro_recall", False),
    ]
    if len(test) > ASKED:
        lines += ["", f"Of more than {ASKED:,} test objects, so many are drawn."]
    if test.probabilities is not None:
        lines += ["", "This model was fine-tuned: its embeddings have seen the labels of its own training."]
    if len(test.modalities) > 1:
        numbers["zero"] = zero_shot(train, test)
        lines += zero_shot_lines(numbers["zero"], test.modalities)
    picture(context, few)
    return Section("Few labels on frozen embeddings", numbers, lines)


def zero_shot_lines(zero: dict[str, dict[str, dict[str, float]]], modalities: Sequence[str]) -> list[str]:
    """The table of accuracies: a row for each modality whose labels are known, a column for each that is asked."""
    rows = []
    for known, by_asked in zero.items():
        cells = [known]
        for name in modalities:
            cells.append(percent(by_asked[name]["accuracy"]) if name in by_asked else "-")
        rows.append(cells)
    head = ["labels known in", *(f"{name} asked" for name in modalities)]
    return [
        "",
        "Zero-shot: class centroids of one modality classify another; test accuracy in percent:",
        "",
        *table(head, rows),
    ]


def score_table(few: dict[str, Any], score: str, published: bool) -> list[str]:
    """A score in percent by embedding, method and number of labels. published: with a column of the paper's numbers."""
    rows = []
    for name, by_shots in few.items():
        for method in METHODS:
            cells = [name, method]
            for shots, by_method in by_shots.items():
                scores = by_method[method]
                text = percent(scores[score])
                if shots != "all":
                    deviation = percent(scores[f"{score}_sd"])
                    text += f" +- {deviation}"
                cells.append(text)
            if published:
                by_embedding = PUBLISHED["frozen"].get(method, {})
                theirs = by_embedding.get("all" if name == MEAN else modality(name).short)
                cells.append("-" if theirs is None else f"{theirs:.1f}")
            rows.append(cells)

    head = ["embedding", "method"]
    head += [f"{shots} per class" if shots else "all" for shots in SHOTS]
    if published:
        head.append("published")
    return table(head, rows)


def picture(context: Context, few: dict[str, Any]) -> None:
    """Accuracy against the number of labels, a panel for each embedding, a curve for each method."""
    figure = Figure(figsize=(3.2 * len(few), 3))
    axes = np.atleast_1d(figure.subplots(1, len(few), sharey=True))
    for axis, (name, by_shots) in zip(axes, few.items(), strict=True):
        for method in METHODS:
            accuracies = []
            deviations = []
            for by_method in by_shots.values():
                accuracies.append(100 * by_method[method]["accuracy"])
                deviations.append(100 * by_method[method]["accuracy_sd"])
            places = range(len(accuracies))
            axis.errorbar(places, accuracies, deviations, marker=".", capsize=2, label=method)
        axis.set_xticks(range(len(by_shots)), list(by_shots))
        axis.set_title(name)
        axis.set_xlabel("labels per class")

    axes[0].set_ylabel("test accuracy [%]")
    axes[0].legend(frameon=False)
    save(figure, context.out / "fewshot.png")
