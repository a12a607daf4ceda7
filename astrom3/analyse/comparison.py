"""Two models on the same objects: the difference of their accuracies, and whether it is more than luck."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.fewshot import by_centroid
from astrom3.analyse.section import (
    Context,
    NotPossible,
    Section,
    having,
    labelled,
    names_of,
    percent,
    table,
)
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import in_paper_order
from astrom3.plots import save

DRAWS = 10_000


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray, draws: int = DRAWS) -> dict[str, float]:
    """How the predictions (n,) of two models differ.

    Gives their accuracies, the difference (second - first) with a 95 % bootstrap interval over objects, how many
    objects only one has right, and p of McNemar's exact test (two-sided binomial, one half).
    """
    from scipy.stats import binomtest

    n = len(labels)
    first_right = first == labels
    second_right = second == labels
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    only_one = only_first + only_second
    p = binomtest(only_second, only_one).pvalue if only_one else 1.0

    # The difference takes three values: drawing objects with replacement is drawing how often each comes.
    shares = [only_first / n, only_second / n, (n - only_first - only_second) / n]
    counts = np.random.default_rng(0).multinomial(n, shares, size=draws)
    differences = (counts[:, 1] - counts[:, 0]) / n
    low, high = np.percentile(differences, [2.5, 97.5])
    return {
        "n": n,
        "first": float(first_right.mean()),
        "second": float(second_right.mean()),
        "difference": (only_second - only_first) / n,
        "low": float(low),
        "high": float(high),
        "only_first": only_first,
        "only_second": only_second,
        "p": float(p),
    }


def holm(p: list[float]) -> list[float]:
    """p values of several tests, adjusted (Holm 1979): any of them below 0.05 holds for all together."""
    adjusted = [0.0] * len(p)
    largest = 0.0
    for place, number in enumerate(np.argsort(p)):
        larger_ones = len(p) - place
        largest = max(largest, min(1.0, p[number] * larger_ones))
        adjusted[number] = largest
    return adjusted


def predicted_names(objects: Embeddings, train: Embeddings) -> np.ndarray:
    """Predicted class names (n,): of the head, or by class centroids of the training embeddings (the mean of all
    modalities) where there is none; "" for an object without any modality."""
    names = np.array([*objects.classes, ""])
    if objects.probabilities is not None:
        return names[objects.predicted]
    name = names_of(objects)[-1]
    train = labelled(train)
    train = train.take(having(train, name))
    if not len(train):
        raise NotPossible(f"needs a class head or labelled training objects of {objects.model}, which has neither")
    found = by_centroid(train.vectors[name], train.labels, objects.vectors[name])
    return np.where(having(objects, name), np.array(train.classes)[found], "")


def section(context: Context) -> Section:
    """The comparison on the labelled test objects that both models have, all together and by class."""
    if context.other is None:
        raise NotPossible("needs a second model: other=<run>")

    test = context.labelled("test")
    other = context.other["test"]
    row_of = {name: row for row, name in enumerate(other.ids)}
    both = np.array([name in row_of for name in test.ids], dtype=bool)
    if not both.any():
        raise UserError("the two models share no test object: give the same data, sub and seed")

    rows = np.array([row_of[name] for name in test.ids[both]])
    labels = np.array(test.classes)[test.labels[both]]
    first = predicted_names(test, context.splits["train"])[both]
    second = predicted_names(other, context.other["train"])[rows]
    numbers: dict[str, Any] = compare(first, second, labels)
    numbers["second_model"] = other.model
    numbers["only_in_one"] = int((~both).sum()) + len(labelled(other)) - len(rows)

    per_class = {}
    for name in in_paper_order(test.classes):
        members = labels == name
        if members.any():
            per_class[name] = compare(first[members], second[members], labels[members])

    adjusted = holm([scores["p"] for scores in per_class.values()])
    for scores, p in zip(per_class.values(), adjusted, strict=True):
        scores["p_holm"] = p
    numbers["per_class"] = per_class
    picture(context, numbers)
    return Section("Comparison of two models", numbers, lines(test.model, other, numbers, test.probabilities is None))


def lines(first: str, other: Embeddings, n: dict[str, Any], by_centroids: bool) -> list[str]:
    """The sentence on all objects and the table of the classes. by_centroids: the first model has no class head."""
    accuracies = f"{percent(n['first'], 2)} % and {percent(n['second'], 2)} %"
    interval = f"{100 * n['low']:+.2f} to {100 * n['high']:+.2f}"
    text = [
        f"First {first}, second {other.model}, on {n['n']} common test objects ({n['only_in_one']} are in one only): "
        f"{accuracies}, difference {100 * n['difference']:+.2f} points "
        f"(95 % of {DRAWS} bootstrap draws {interval}); only the first is right "
        f"for {n['only_first']}, only the second for {n['only_second']}, McNemar's exact p = {n['p']:.3g}."
    ]
    headless = [first] if by_centroids else []
    if other.probabilities is None:
        headless.append(other.model)
    if headless:
        names = ", ".join(headless)
        text.append(f"Without a class head, so by centroids of the training embeddings: {names}.")

    rows = []
    for name, scores in n["per_class"].items():
        cells = [
            name,
            str(scores["n"]),
            percent(scores["first"]),
            percent(scores["second"]),
            f"{100 * scores['difference']:+.1f}",
            f"{100 * scores['low']:+.1f} to {100 * scores['high']:+.1f}",
            f"{scores['only_first']} / {scores['only_second']}",
            f"{scores['p']:.2g}",
            f"{scores['p_holm']:.2g}",
        ]
        rows.append(cells)

    head = ["class", "n", "first [%]", "second [%]", "difference", "95 %", "only first / second right", "p", "p (Holm)"]
    return [*text, "", *table(head, rows), "", "p (Holm): adjusted for the number of classes."]


def picture(context: Context, numbers: dict[str, Any]) -> None:
    """The difference of all objects and of every class, with its 95 % interval."""
    figure = Figure(figsize=(7, 2.8))
    axis = figure.subplots()
    shown = {"all": numbers, **numbers["per_class"]}
    places = range(len(shown))
    keys = ("difference", "low", "high")
    middle, *bounds = np.array([[100 * scores[key] for scores in shown.values()] for key in keys])
    errors = np.abs(np.stack(bounds) - middle)
    axis.errorbar(places, middle, yerr=errors, fmt="o", ms=4, capsize=3)
    axis.axhline(0, color="0.6", lw=0.8)
    axis.set_xticks(places, list(shown))
    axis.set_ylabel("second - first, recall [points]")
    save(figure, context.out / "compare.png")
