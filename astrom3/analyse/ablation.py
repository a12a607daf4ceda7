"""Modality ablation: the shared head of a model of all modalities, given some of them (Rizhko & Bloom 2024).

The head was trained on the mean of the embeddings of all modalities; here it gets the mean of some. An object takes
part in a combination where it has at least one of its modalities.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from astrom3.analyse.section import PUBLISHED, Context, NotPossible, Section, in_paper_order, percent, table
from astrom3.encoders.towers import MultimodalClassifier
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import MODALITIES
from astrom3.plots import save

LETTERS = dict(zip(MODALITIES, "PSM", strict=True))
AGREE = 0.01  # probabilities from stored embeddings may differ by this from the stored ones (devices, precisions)


def through_head(network: MultimodalClassifier, objects: Embeddings, chosen: Sequence[str]) -> np.ndarray:
    """Class probabilities (n, C) from the embeddings of the modalities `chosen`; what the head says of nothing at all
    where an object has none of them."""
    modalities = network.backbone.modalities
    there = {m: torch.from_numpy(objects.present[m] & (m in chosen)) for m in modalities}
    vectors = {m: torch.from_numpy(objects.vectors[m]) * there[m].unsqueeze(1) for m in modalities}
    head = copy.deepcopy(network.head).cpu()
    with torch.inference_mode():
        return torch.softmax(head(network.fuse(vectors, there)), dim=-1).numpy()


def scores(predicted: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, recall of each class that occurs, and their mean; predicted and labels (n,) into `classes`."""
    recall = {}
    for k, c in enumerate(classes):
        if (labels == k).any():
            recall[c] = float((predicted[labels == k] == k).mean())
    return {
        "n": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "recall": recall,
        "macro_recall": float(np.mean(list(recall.values()))),
    }


def ablation(network: MultimodalClassifier, objects: Embeddings) -> dict[str, dict[str, Any]]:
    """ "photometry + spectra" and so on: scores through the head with those modalities only."""
    out = {}
    modalities = network.backbone.modalities
    for size in range(1, len(modalities) + 1):
        for chosen in combinations(modalities, size):
            there = np.logical_or.reduce([objects.present[m] for m in chosen])
            if there.any():
                predicted = through_head(network, objects, chosen).argmax(1)
                out[" + ".join(chosen)] = scores(predicted[there], objects.labels[there], objects.classes)
    return out


def published_column(combination: str) -> int | None:
    """Column of that combination in the paper's table."""
    wanted = {LETTERS.get(m) for m in combination.split(" + ")}
    columns: list[str] = PUBLISHED["ablation"]["columns"]
    return next((i for i, c in enumerate(columns) if set(c.split("+")) == wanted), None)


def section(context: Context) -> Section:
    if context.model is None or not isinstance(context.model.network, MultimodalClassifier):
        raise NotPossible("needs a model of all modalities with a class head (mode=all)")
    network = context.model.network
    test = context.labelled("test")
    check(network, test)
    numbers = ablation(network, test)
    picture(context, numbers)
    classes = in_paper_order(test.classes)
    rows = []
    per_class = []
    for name, found in numbers.items():
        column = published_column(name)
        theirs = PUBLISHED["ablation"]
        published = [theirs[c][column] if column is not None and c in theirs else None for c in ("macro", *classes)]
        found["published_macro_recall"] = None if published[0] is None else published[0] / 100
        rows.append(
            [
                name,
                str(found["n"]),
                percent(found["accuracy"]),
                percent(found["macro_recall"]),
                "-" if published[0] is None else f"{published[0]:.1f}",
            ]
        )
        cells = [(found["recall"].get(c, np.nan), p) for c, p in zip(classes, published[1:], strict=True)]
        per_class.append([name, *(f"{percent(r, 0)} ({'-' if p is None else f'{p:.0f}'})" for r, p in cells)])
    head = ["modalities", "n", "accuracy [%]", "macro recall [%]", "published macro recall [%]"]
    lines = [
        "The head that was trained on all modalities, given some of them, test split. Published: real data, "
        "sub50, seed 42, in percent.",
        "",
        *table(head, rows),
        "",
        "Recall in percent (published):",
        "",
        *table(["modalities", *classes], per_class),
    ]
    return Section("Modality ablation through the shared head", numbers, lines)


def check(network: MultimodalClassifier, test: Embeddings) -> None:
    """Refuse embeddings that another model made: the head must give the probabilities that came with them."""
    if test.probabilities is None:
        raise UserError("the embeddings have no probabilities: they were not made by this model, embed with it again")
    width = network.backbone.hidden_dim
    same = all(test.vectors[m].shape[1] == width for m in test.modalities) and set(test.modalities) == set(
        network.backbone.modalities
    )
    if same:
        found = through_head(network, test, test.modalities)
        same = found.shape == test.probabilities.shape and bool(np.abs(found - test.probabilities).max() < AGREE)
    if not same:
        raise UserError("the embeddings were not made by this model: give its own, or leave embeddings= away")


def picture(context: Context, numbers: dict[str, dict[str, Any]]) -> None:
    figure = Figure(figsize=(7, 3))
    axis = figure.subplots()
    rows = np.arange(len(numbers))[::-1]
    axis.barh(rows, [100 * v["macro_recall"] for v in numbers.values()], color="#4477aa", height=0.6, label="here")
    theirs = [
        (y, PUBLISHED["ablation"]["macro"][column])
        for y, name in zip(rows, numbers, strict=True)
        if (column := published_column(name)) is not None
    ]
    axis.plot([x for _, x in theirs], [y for y, _ in theirs], "k|", ms=12, label="published, real data")
    axis.set_yticks(rows, list(numbers))
    axis.set_xlim(0, 100)
    axis.set_xlabel("macro recall, test split [%]")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, context.out / "ablation.png")
