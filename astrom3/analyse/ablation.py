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

from astrom3.analyse.section import PUBLISHED, Context, NotPossible, Section, percent, table
from astrom3.encoders.towers import MultimodalClassifier
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import MODALITIES, in_paper_order
from astrom3.plots import save

LETTERS = dict(zip(MODALITIES, "PSM", strict=True))
AGREE = 0.01  # probabilities from stored embeddings may differ by this from the stored ones (devices, precisions)


def through_head(network: MultimodalClassifier, objects: Embeddings, chosen: Sequence[str]) -> np.ndarray:
    """Class probabilities (n, C) from the embeddings of the modalities `chosen`; what the head says of nothing at all
    where an object has none of them."""
    modalities = network.backbone.modalities
    there = {}
    vectors = {}
    for modality in modalities:
        there[modality] = torch.from_numpy(objects.present[modality] & (modality in chosen))
        vectors[modality] = torch.from_numpy(objects.vectors[modality]) * there[modality].unsqueeze(1)
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
    numbers = {}
    modalities = network.backbone.modalities
    for size in range(1, len(modalities) + 1):
        for chosen in combinations(modalities, size):
            there = np.logical_or.reduce([objects.present[modality] for modality in chosen])
            if not there.any():
                continue
            predicted = through_head(network, objects, chosen).argmax(1)
            numbers[" + ".join(chosen)] = scores(predicted[there], objects.labels[there], objects.classes)
    return numbers


def published_column(combination: str) -> int | None:
    """Column of that combination in the paper's table."""
    wanted = {LETTERS.get(m) for m in combination.split(" + ")}
    columns: list[str] = PUBLISHED["ablation"]["columns"]
    for number, column in enumerate(columns):
        if set(column.split("+")) == wanted:
            return number
    return None


def published_recall(combination: str, name: str) -> float | None:
    """Recall in percent, "macro" or of a class, that the paper has for a combination; None where it has none."""
    column = published_column(combination)
    recalls = PUBLISHED["ablation"].get(name)
    return None if column is None or recalls is None else recalls[column]


def section(context: Context) -> Section:
    """The tables and the picture of every choice of modalities. NotPossible without a head for all of them."""
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
        macro = published_recall(name, "macro")
        found["published_macro_recall"] = None if macro is None else macro / 100
        theirs = "-" if macro is None else f"{macro:.1f}"
        rows.append([name, str(found["n"]), percent(found["accuracy"]), percent(found["macro_recall"]), theirs])
        cells = [name]
        for label in classes:
            published = published_recall(name, label)
            theirs = "-" if published is None else f"{published:.0f}"
            ours = percent(found["recall"].get(label, np.nan), 0)
            cells.append(f"{ours} ({theirs})")
        per_class.append(cells)

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
    widths = {test.vectors[modality].shape[1] for modality in test.modalities}
    same = widths == {width} and set(test.modalities) == set(network.backbone.modalities)
    if same:
        found = through_head(network, test, test.modalities)
        same = found.shape == test.probabilities.shape and bool(np.abs(found - test.probabilities).max() < AGREE)
    if not same:
        raise UserError("the embeddings were not made by this model: give its own, or leave embeddings= away")


def picture(context: Context, numbers: dict[str, dict[str, Any]]) -> None:
    figure = Figure(figsize=(7, 3))
    axis = figure.subplots()
    rows = np.arange(len(numbers))[::-1]
    recalls = [100 * found["macro_recall"] for found in numbers.values()]
    axis.barh(rows, recalls, color="#4477aa", height=0.6, label="here")
    published = np.array([published_recall(name, "macro") for name in numbers], dtype=float)  # None: NaN, not drawn
    axis.plot(published, rows, "k|", ms=12, label="published, real data")
    axis.set_yticks(rows, list(numbers))
    axis.set_xlim(0, 100)
    axis.set_xlabel("macro recall, test split [%]")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, context.out / "ablation.png")
