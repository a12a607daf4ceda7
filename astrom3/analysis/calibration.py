"""Whether probabilities mean what they say: expected calibration error (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np

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
    """probabilities (n, C), labels (n,): expected calibration error (15 bins), negative log likelihood, Brier score."""
    found = reliability(probabilities, labels)
    gap = np.nan_to_num(np.abs(found["accuracy"] - found["confidence"]))
    own = np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, 1)
    target = np.eye(probabilities.shape[1])[labels]
    return {
        "ece": float((gap * found["count"]).sum() / len(labels)), "nll": float(-np.log(own).mean()),
        "brier": float(((probabilities - target) ** 2).sum(1).mean()),
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
    }  # fmt: skip


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities that logits divided by the temperature give."""
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    logits -= logits.max(1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest negative log likelihood (to be fitted on the validation split)."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return calibration(tempered(probabilities, float(np.exp(log_t))), labels)["nll"]

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))
