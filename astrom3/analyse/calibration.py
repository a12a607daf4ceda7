"""Whether probabilities mean what they say: expected calibration error, temperature (Guo et al. 2017,
arXiv:1706.04599), negative log likelihood and Brier score."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.section import Context, NotPossible, Section, percent, table
from astrom3.plots import save

BINS = 15


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict[str, np.ndarray]:
    """Per bin of confidence (equal widths): count, mean confidence and accuracy (NaN where empty)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(which, confidence, bins) / count
        accuracy = np.bincount(which, right, bins) / count
    return {"count": count, "confidence": mean, "accuracy": accuracy}


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """probabilities (n, C), labels (n,): expected calibration error (15 bins), mean negative log likelihood of the
    label, Brier score (sum over classes, 0 to 2), accuracy and mean confidence."""
    found = reliability(probabilities, labels)
    gap = np.nan_to_num(np.abs(found["accuracy"] - found["confidence"]))
    own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1)
    target = np.eye(probabilities.shape[1])[labels]
    return {
        "n": len(labels), "ece": float((gap * found["count"]).sum() / len(labels)), "nll": float(-np.log(own).mean()),
        "brier": float(((probabilities - target) ** 2).sum(1).mean()),
        "accuracy": float((probabilities.argmax(1) == labels).mean()), "confidence": float(probabilities.max(1).mean()),
    }  # fmt: skip


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities that logits divided by the temperature give."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    logits -= logits.max(1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 0.05 and 20 with the lowest negative log likelihood (to be fitted on the validation
    split)."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return calibration(tempered(probabilities, float(np.exp(log_t))), labels)["nll"]

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def section(context: Context) -> Section:
    splits = {split: probable(context, split) for split in ("validation", "test") if split in context.splits}
    (test, labels), validation = splits["test"], splits.get("validation")
    kinds = {"as it is": test}
    numbers: dict[str, Any] = {}
    lines = []
    if validation is not None and len(validation[1]):
        t = temperature(*validation)
        kinds["with temperature"] = tempered(test, t)
        before, after = (calibration(p, validation[1])["nll"] for p in (validation[0], tempered(validation[0], t)))
        numbers |= {"temperature": t, "validation_nll": before, "validation_nll_with_temperature": after}
        lines = ["", f"Temperature {t:.3f}, fitted on {len(validation[1])} validation objects, whose negative log "
                 f"likelihood it takes from {before:.3f} to {after:.3f}. {len(labels)} test objects; {BINS} bins of "
                 "equal width."]  # fmt: skip
    else:
        lines = ["", f"{len(labels)} test objects, {BINS} bins of equal width; without labelled validation objects no "
                 "temperature is fitted."]  # fmt: skip
    numbers |= {kind: calibration(p, labels) for kind, p in kinds.items()}
    for kind, p in kinds.items():
        numbers[kind]["bins"] = {k: [None if np.isnan(x) else float(x) for x in v]
                                 for k, v in reliability(p, labels).items()}  # fmt: skip
    picture(context, kinds, labels)
    rows = [
        [kind, percent(v["ece"], 2), f"{v['nll']:.3f}", f"{v['brier']:.3f}", percent(v["confidence"]),
         percent(v["accuracy"])] for kind, v in ((k, numbers[k]) for k in kinds)
    ]  # fmt: skip
    head = ["probabilities", "expected calibration error [%]", "neg. log likelihood", "Brier score",
            "mean confidence [%]", "accuracy [%]"]  # fmt: skip
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
