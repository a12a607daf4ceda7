"""Two models on the same objects: the difference of their accuracies, and whether it is more than luck."""

from __future__ import annotations

import numpy as np


def compare(first: np.ndarray, second: np.ndarray, labels: np.ndarray, draws: int = 10_000) -> dict[str, float]:
    """Predictions (n,) of two models. Accuracies, difference with a 95 % bootstrap interval over objects, how many only
    one has right, and p of McNemar's exact test."""
    from scipy.stats import binomtest

    a, b = first == labels, second == labels
    rng, gap = np.random.default_rng(0), b.astype(float) - a
    n = len(labels)
    # The difference takes three values: drawing objects with replacement is drawing their counts.
    shares = np.array([(gap == v).mean() for v in (-1.0, 1.0)])
    counts = rng.multinomial(n, [*shares, max(0.0, 1 - shares.sum())], size=draws)
    low, high = np.percentile((counts[:, 1] - counts[:, 0]) / n, [2.5, 97.5])
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = binomtest(only_b, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {
        "n": n, "first": float(a.mean()), "second": float(b.mean()), "difference": float(gap.mean()),
        "low": float(low), "high": float(high), "only_first": only_a, "only_second": only_b, "p": float(p),
    }  # fmt: skip
