"""Whether probabilities mean what they say: expected calibration error, temperature (Guo et al. 2017,
arXiv:1706.04599), negative log likelihood and Brier score. The numbers come from `astrom3.inference.temperature`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.section import OF_OTHER_CLASSES, Context, NotPossible, Section, percent, table
from astrom3.inference.temperature import BINS, calibration, reliability, temperature, tempered
from astrom3.plots import save


def section(context: Context) -> Section:
    splits = {}
    for split in ("validation", "test"):
        if split in context.splits:
            splits[split] = probable(context, split)

    (test, labels), validation = splits["test"], splits.get("validation")
    if not len(labels):
        raise NotPossible(OF_OTHER_CLASSES)

    kinds = {"as it is": test}
    numbers: dict[str, Any] = {}
    lines = []
    if validation is not None and len(validation[1]):
        t = temperature(*validation)
        kinds["with temperature"] = tempered(test, t)
        probabilities, known = validation
        before = calibration(probabilities, known)["nll"]
        after = calibration(tempered(probabilities, t), known)["nll"]
        numbers |= {
            "temperature": t,
            "validation_nll": before,
            "validation_nll_with_temperature": after,
        }
        lines = [
            "",
            f"Temperature {t:.3f}, fitted on {len(validation[1])} validation objects, whose negative log "
            f"likelihood it takes from {before:.3f} to {after:.3f}. {len(labels)} test objects; {BINS} bins of "
            "equal width.",
        ]
    else:
        lines = [
            "",
            f"{len(labels)} test objects, {BINS} bins of equal width; without labelled validation objects no "
            "temperature is fitted.",
        ]

    rows = []
    for kind, probabilities in kinds.items():
        scores: dict[str, Any] = calibration(probabilities, labels)
        rows.append([kind, *cells(scores)])
        bins = {}
        for column, values in reliability(probabilities, labels).items():
            bins[column] = [None if np.isnan(value) else float(value) for value in values]
        numbers[kind] = scores | {"bins": bins}

    picture(context, kinds, labels)
    head = [
        "probabilities",
        "expected calibration error [%]",
        "neg. log likelihood",
        "Brier score",
        "mean confidence [%]",
        "accuracy [%]",
    ]
    return Section("Calibration, test split", numbers, [*table(head, rows), *lines])


def cells(scores: Mapping[str, float]) -> list[str]:
    """A row of the table."""
    return [
        percent(scores["ece"], 2),
        f"{scores['nll']:.3f}",
        f"{scores['brier']:.3f}",
        percent(scores["confidence"]),
        percent(scores["accuracy"]),
    ]


def probable(context: Context, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of the objects of a split whose class the head knows."""
    objects = context.labelled(split)
    if objects.probabilities is None:
        raise NotPossible("needs a model with a class head")
    known = objects.labels < objects.probabilities.shape[1]
    return objects.probabilities[known].astype(np.float64), objects.labels[known]


def picture(context: Context, kinds: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Reliability diagram, and below it how many objects have which confidence."""
    figure = Figure(figsize=(3.6, 4.4))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="0.7", lw=1)
    edges = np.linspace(0, 1, BINS + 1)
    for kind, probabilities in kinds.items():
        bins = reliability(probabilities, labels)
        full = bins["count"] > 0
        above.plot(bins["confidence"][full], bins["accuracy"][full], marker="o", ms=3, label=kind)
        below.stairs(bins["count"], edges)

    above.set_ylabel("accuracy")
    above.legend(frameon=False)
    below.set_ylabel("objects")
    below.set_xlabel("confidence")
    save(figure, context.out / "calibration.png")
