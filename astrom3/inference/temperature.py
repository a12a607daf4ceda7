"""One number that makes probabilities mean what they say: the temperature (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np

LEAST = 0.05
LARGEST = 20.0
FLOOR = 1e-12  # of a probability
BINS = 15


def tempered(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """The probabilities (n, C) that logits divided by the temperature give, float64. One temperature, or (n, 1)."""
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), FLOOR, 1)
    logits = np.log(clipped) / temperature
    logits -= logits.max(1, keepdims=True)
    odds = np.exp(logits)
    return odds / odds.sum(1, keepdims=True)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of the labels (n,) by the probabilities (n, C)."""
    of_label = probabilities[np.arange(len(labels)), labels]
    likelihood = np.clip(of_label, FLOOR, 1)
    return float(-np.log(likelihood).mean())


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 0.05 and 20 with the lowest negative log likelihood; 1 without objects.

    It is to be fitted on objects that were not trained on. probabilities (n, C), labels (n,).
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 1.0

    def loss(log_t: float) -> float:
        return log_loss(tempered(probabilities, float(np.exp(log_t))), labels)

    bounds = (np.log(LEAST), np.log(LARGEST))
    lowest = minimize_scalar(loss, bounds=bounds, method="bounded")
    return float(np.exp(lowest.x))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict[str, np.ndarray]:
    """Per bin of confidence (equal widths): count, mean confidence and accuracy (NaN where empty).

    probabilities (n, C), labels (n,). All three are arrays (bins,).
    """
    confidence = probabilities.max(1)
    is_right = probabilities.argmax(1) == labels
    number = (confidence * bins).astype(int)
    number = np.minimum(number, bins - 1)  # a confidence of 1 belongs to the last bin
    count = np.bincount(number, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(number, confidence, bins) / count
        accuracy = np.bincount(number, is_right, bins) / count
    return {"count": count, "confidence": mean, "accuracy": accuracy}


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """probabilities (n, C), labels (n,): expected calibration error (15 bins), mean negative log likelihood of the
    label, Brier score (sum over classes, 0 to 2), accuracy and mean confidence."""
    bins = reliability(probabilities, labels)
    gap = np.abs(bins["accuracy"] - bins["confidence"])
    weighted = np.nan_to_num(gap) * bins["count"]
    expected_error = weighted.sum() / len(labels)

    target = np.eye(probabilities.shape[1])[labels]
    squared = (probabilities - target) ** 2
    is_right = probabilities.argmax(1) == labels
    return {
        "n": len(labels),
        "ece": float(expected_error),
        "nll": log_loss(probabilities, labels),
        "brier": float(squared.sum(1).mean()),
        "accuracy": float(is_right.mean()),
        "confidence": float(probabilities.max(1).mean()),
    }
