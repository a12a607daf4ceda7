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
    """Predictions (n,) of two models. Accuracies, difference (second - first) with a 95 % bootstrap interval over
    objects, how many only one has right, and p of McNemar's exact test (two-sided binomial, one half)."""
    from scipy.stats import binomtest

    a = first == labels
    b = second == labels
    rng = np.random.default_rng(0)
    n = len(labels)
    only_a = int((a & ~b).sum())
    only_b = int((b & ~a).sum())
    # The difference takes three values: drawing objects with replacement is drawing how often each comes.
    counts = rng.multinomial(n, [only_a / n, only_b / n, (n - only_a - only_b) / n], size=draws)
    low, high = np.percentile((counts[:, 1] - counts[:, 0]) / n, [2.5, 97.5])
    p = binomtest(only_b, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {
        "n": n,
        "first": float(a.mean()),
        "second": float(b.mean()),
        "difference": (only_b - only_a) / n,
        "low": float(low),
        "high": float(high),
        "only_first": only_a,
        "only_second": only_b,
        "p": float(p),
    }


def holm(p: list[float]) -> list[float]:
    """p values of several tests, adjusted (Holm 1979): any of them below 0.05 holds for all together."""
    order = np.argsort(p)
    out = [0.0] * len(p)
    largest = 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(p) - place)))
        out[i] = largest
    return out


def predicted_names(objects: Embeddings, train: Embeddings) -> np.ndarray:
    """Predicted class names (n,): of the head, or by class centroids of the training embeddings (the mean of all
    modalities) where there is none; "" for an object without any modality."""
    names = np.array([*objects.classes, ""])
    if objects.probabilities is not None:
        return names[objects.predicted]
    name = names_of(objects)[-1]
    train = labelled(train)
    train = train.take(having(train, name))
    found = by_centroid(train.vectors[name], train.labels, objects.vectors[name])
    return np.where(having(objects, name), np.array(train.classes)[found], "")


def section(context: Context) -> Section:
    if context.other is None:
        raise NotPossible("needs a second model: other=<run>")
    test = context.labelled("test")
    other = context.other["test"]
    at = {name: i for i, name in enumerate(other.ids)}
    both = np.array([name in at for name in test.ids], dtype=bool)
    if not both.any():
        raise UserError("the two models share no test object: give the same data, sub and seed")
    rows = np.array([at[name] for name in test.ids[both]])
    labels = np.array(test.classes)[test.labels[both]]
    first = predicted_names(test, context.splits["train"])[both]
    second = predicted_names(other, context.other["train"])[rows]
    numbers: dict[str, Any] = compare(first, second, labels)
    numbers |= {"second_model": other.model, "only_in_one": int((~both).sum()) + len(labelled(other)) - len(rows)}
    classes = [c for c in in_paper_order(test.classes) if (labels == c).any()]
    per_class = {}
    for name in classes:
        own = labels == name
        per_class[name] = compare(first[own], second[own], labels[own])
    for c, p in zip(classes, holm([per_class[c]["p"] for c in classes]), strict=True):
        per_class[c]["p_holm"] = p
    numbers["per_class"] = per_class
    picture(context, numbers)
    return Section("Comparison of two models", numbers, lines(test.model, other, numbers, test.probabilities is None))


def lines(first: str, other: Embeddings, n: dict[str, Any], by_centroids: bool) -> list[str]:
    how = []
    for name, so in ((first, by_centroids), (other.model, other.probabilities is None)):
        if so:
            how.append(name)
    rows = []
    for c, v in n["per_class"].items():
        rows.append(
            [
                c,
                str(v["n"]),
                percent(v["first"]),
                percent(v["second"]),
                f"{100 * v['difference']:+.1f}",
                f"{100 * v['low']:+.1f} to {100 * v['high']:+.1f}",
                f"{v['only_first']} / {v['only_second']}",
                f"{v['p']:.2g}",
                f"{v['p_holm']:.2g}",
            ]
        )
    head = ["class", "n", "first [%]", "second [%]", "difference", "95 %", "only first / second right", "p", "p (Holm)"]
    return [
        f"First {first}, second {other.model}, on {n['n']} common test objects ({n['only_in_one']} are in one only): "
        f"{percent(n['first'], 2)} % and {percent(n['second'], 2)} %, difference {100 * n['difference']:+.2f} points "
        f"(95 % of {DRAWS} bootstrap draws {100 * n['low']:+.2f} to {100 * n['high']:+.2f}); only the first is right "
        f"for {n['only_first']}, only the second for {n['only_second']}, McNemar's exact p = {n['p']:.3g}.",
        *([f"Without a class head, so by centroids of the training embeddings: {', '.join(how)}."] if how else []),
        "",
        *table(head, rows),
        "",
        "p (Holm): adjusted for the number of classes.",
    ]


def picture(context: Context, numbers: dict[str, Any]) -> None:
    figure = Figure(figsize=(7, 2.8))
    axis = figure.subplots()
    found = {"all": numbers, **numbers["per_class"]}
    middle = np.array([100 * v["difference"] for v in found.values()])
    low = [100 * scores["low"] for scores in found.values()]
    high = [100 * scores["high"] for scores in found.values()]
    bounds = np.array([low, high])
    axis.errorbar(range(len(found)), middle, yerr=np.maximum(np.abs(bounds - middle), 0), fmt="o", ms=4, capsize=3)
    axis.axhline(0, color="0.6", lw=0.8)
    axis.set_xticks(range(len(found)), list(found))
    axis.set_ylabel("second - first, recall [points]")
    save(figure, context.out / "compare.png")
