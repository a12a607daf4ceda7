"""Zero-shot regression from embeddings by nearest neighbours, and the scores of AstroCLIP's tables. Pure numpy."""

from __future__ import annotations

import numpy as np

CHUNK = 2**24  # distances computed at a time


def standardise(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """All arrays (rows, columns) with the mean and the biased deviation of the columns of `train` taken out."""
    mean, deviation = _moments(train)
    standardised = []
    for array in (train, *others):
        scaled = (array - mean) / deviation
        standardised.append(scaled.astype(array.dtype))
    return standardised


def _moments(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased deviation of the columns, 1 for a column that does not vary."""
    mean = array.mean(axis=0, dtype=np.float64)
    deviation = array.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation == 0, 1.0, deviation)


def neighbour_regression(
    train: np.ndarray,
    targets: np.ndarray,
    test: np.ndarray,
    neighbours: int = 64,
) -> np.ndarray:
    """Predict targets (train rows, T) or (train rows,) of test rows (test rows, D) from the nearest training rows.

    Embeddings and targets are standardised first, and predictions scaled back. The distance is Euclidean and a
    neighbour weighs one over its distance. A test row equal to training rows takes their plain mean.
    """
    train, test = standardise(train, test)
    centre, width = _moments(targets)
    scaled = (targets - centre) / width
    scaled = scaled.reshape(len(targets), -1)  # (train rows, T)
    reference = train.astype(np.float64)
    lengths = np.square(reference).sum(axis=1)  # squared
    count = min(neighbours, len(reference))
    numbers_of_a_row = max(len(reference), count * reference.shape[1])
    rows = max(CHUNK // numbers_of_a_row, 1)
    predictions = np.empty((len(test), scaled.shape[1]))
    for start in range(0, len(test), rows):
        part = slice(start, start + rows)
        queries = test[part].astype(np.float64)
        approximate = lengths - 2 * queries @ reference.T  # squared distance, up to a constant in each row
        nearest = np.argpartition(approximate, count - 1, axis=1)[:, :count]
        # Distances anew, so that equal rows are at exactly zero.
        difference = queries[:, None] - reference[nearest]  # (rows, k, D)
        distance = np.linalg.norm(difference, axis=2)
        predictions[part] = _weighted_mean(distance, scaled[nearest])
    predictions = predictions.reshape(len(test), *targets.shape[1:])
    return predictions * width + centre


def _weighted_mean(distance: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of values (rows, k, T) with weights 1 / distance (rows, k); where some are zero, of those alone."""
    exact = distance == 0
    weights = 1 / np.where(exact, 1.0, distance)
    any_exact = exact.any(axis=1, keepdims=True)
    weights = np.where(any_exact, exact, weights)
    total = (values * weights[..., None]).sum(axis=1)
    return total / weights.sum(axis=1, keepdims=True)


def r2(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Coefficient of determination of each column, (T,), or of one column, ()."""
    residual = np.square(truth - predicted).sum(axis=0)
    total = np.square(truth - truth.mean(axis=0)).sum(axis=0)
    return 1 - residual / total


def redshift_scores(truth: np.ndarray, predicted: np.ndarray, outlier: float = 0.15) -> dict[str, float]:
    """R2, bias, scatter (1.4826 times the median absolute deviation) and outlier share of dz / (1 + z)."""
    error = (predicted - truth) / (1 + truth)
    bias = float(np.median(error))
    deviation = np.median(np.abs(error - bias))
    return {
        "r2": float(r2(truth, predicted)),
        "bias": bias,
        "scatter": float(1.4826 * deviation),
        "outliers": float(np.mean(np.abs(error) > outlier)),
    }


def one_hot_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of rows whose one-hot maxima (rows, classes) agree in all classes, as the reference counts it."""
    return float((truth == predicted).all(axis=1).mean())


def weighted_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F1 of each class of one-hot maxima (rows, classes), weighted by how often the class is true."""
    hits = (truth * predicted).sum(axis=0)
    occurrences = truth.sum(axis=0)
    either = occurrences + predicted.sum(axis=0)
    f1 = np.where(either > 0, 2 * hits / np.maximum(either, 1), 0.0)
    weighted = (f1 * occurrences).sum()
    return float(weighted / max(truth.sum(), 1))
