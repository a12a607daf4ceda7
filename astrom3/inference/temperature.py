"""One number that makes probabilities mean what they say: the temperature (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np

LEAST = 0.05
LARGEST = 20.0
FLOOR = 1e-12  # of a probability
BINS = 15


def tempered(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """The probabilities (n, C) that logits divided by the temperature give, float64. One temperature, or (n, 1)."""
    logits = np.log(np.clip(np.asarray(probabilities, dtype=np.float64), FLOOR, 1)) / temperature
    logits -= logits.max(1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of the labels (n,)."""
    own = np.clip(probabilities[np.arange(len(labels)), labels], FLOOR, 1)
    return float(-np.log(own).mean())


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 0.05 and 20 with the lowest negative log likelihood; 1 without objects.

    It is to be fitted on objects that were not trained on. probabilities (n, C), labels (n,).
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 1.0

    def loss(log_t: float) -> float:
        return log_loss(tempered(probabilities, float(np.exp(log_t))), labels)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(LEAST), np.log(LARGEST)), method="bounded").x))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict[str, np.ndarray]:
    """Per bin of confidence (equal widths): count, mean confidence and accuracy (NaN where empty)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(which, confidence, bins) / count
        accuracy = np.bincount(which, right, bins) / count
    return {"count": count, "confidence": mean, "accuracy": accuracy}


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """probabilities (n, C), labels (n,): expected calibration error (15 bins), mean negative log likelihood of the
    label, Brier score (sum over classes, 0 to 2), accuracy and mean confidence."""
    bins = reliability(probabilities, labels)
    gap = np.nan_to_num(np.abs(bins["accuracy"] - bins["confidence"]))
    target = np.eye(probabilities.shape[1])[labels]
    return {
        "n": len(labels),
        "ece": float((gap * bins["count"]).sum() / len(labels)),
        "nll": log_loss(probabilities, labels),
        "brier": float(((probabilities - target) ** 2).sum(1).mean()),
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "confidence": float(probabilities.max(1).mean()),
    }
