"""Whether probabilities mean what they say: expected calibration error, temperature (Guo et al. 2017,
arXiv:1706.04599), negative log likelihood and Brier score. The numbers come from `astrom3.inference.temperature`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.section import Context, NotPossible, Section, percent, table
from astrom3.inference.temperature import BINS, calibration, reliability, temperature, tempered
from astrom3.plots import save


def section(context: Context) -> Section:
    splits = {}
    for split in ("validation", "test"):
        if split in context.splits:
            splits[split] = probable(context, split)
    (test, labels), validation = splits["test"], splits.get("validation")
    kinds = {"as it is": test}
    numbers: dict[str, Any] = {}
    lines = []
    if validation is not None and len(validation[1]):
        t = temperature(*validation)
        kinds["with temperature"] = tempered(test, t)
        before, after = (calibration(p, validation[1])["nll"] for p in (validation[0], tempered(validation[0], t)))
        numbers |= {"temperature": t, "validation_nll": before, "validation_nll_with_temperature": after}
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
    numbers |= {kind: calibration(p, labels) for kind, p in kinds.items()}
    for kind, p in kinds.items():
        numbers[kind]["bins"] = {
            k: [None if np.isnan(x) else float(x) for x in v] for k, v in reliability(p, labels).items()
        }
    picture(context, kinds, labels)
    rows = [
        [
            kind,
            percent(v["ece"], 2),
            f"{v['nll']:.3f}",
            f"{v['brier']:.3f}",
            percent(v["confidence"]),
            percent(v["accuracy"]),
        ]
        for kind, v in ((k, numbers[k]) for k in kinds)
    ]
    head = [
        "probabilities",
        "expected calibration error [%]",
        "neg. log likelihood",
        "Brier score",
        "mean confidence [%]",
        "accuracy [%]",
    ]
    return Section("Calibration, test split", numbers, [*table(head, rows), *lines])


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
