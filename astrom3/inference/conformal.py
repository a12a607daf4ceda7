"""Sets of classes that hold the true one with a chosen probability, class by class.

Split conformal prediction with a threshold for each class (Mondrian; Vovk 2012, arXiv:1209.2673), and one minus the
probability of the class as the score (Sadinle, Lei & Wasserman 2019, JASA 114, 223). Where new objects of a class are
drawn as its validation objects were, its mean coverage over draws of both is at least the one that was asked for.
Cumulative scores (APS, RAPS) gave larger sets on both real surveys, see experiments/LOG.md.

    limits = [class_limit(scores, 0.9) for scores in validation_scores]
    sets = prediction_sets(probabilities, limits)             # (n, C) bool
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from astrom3.errors import UserError

SLACK = 1e-9  # of a rank: 0.9 times 10 is 9 and not a little more


def check_coverage(coverage: float) -> float:
    """The coverage itself; UserError where it is no number between 0 and 1."""
    if isinstance(coverage, bool) or not isinstance(coverage, int | float | np.integer | np.floating):
        raise UserError(f"coverage={coverage!r} is no number: give one between 0 and 1, such as coverage=0.9")
    if not 0 < coverage < 1:
        raise UserError(f"coverage={coverage} must lie between 0 and 1, such as coverage=0.9")
    return float(coverage)


def rank(n: int, coverage: float) -> int:
    """Place, from 1 on, of the limit among n ordered validation scores; n + 1 where n objects are too few."""
    return math.ceil((n + 1) * coverage - SLACK)


def needed(coverage: float) -> int:
    """Validation objects of a class below which no limit vouches for the coverage: 9 for 0.9."""
    n = 1
    while rank(n, coverage) > n:
        n += 1
    return n


def class_limit(scores: np.ndarray, coverage: float) -> float:
    """The largest score with which an object still gets the class. scores (n,): of its validation objects, ascending.

    With too few of them it is their largest score, which vouches for n / (n + 1). Without any it is infinite, so that
    the class is in every set.
    """
    if not len(scores):
        return math.inf
    return float(scores[min(rank(len(scores), coverage), len(scores)) - 1])


def vouched(n: int, coverage: float) -> float:
    """The coverage that n validation objects vouch for: the one asked for or, where they are too few, n / (n + 1)."""
    if n == 0:
        return 1.0
    return min(coverage, n / (n + 1))


def spread(n: int, coverage: float) -> float:
    """Standard deviation of a class's coverage over draws of its n validation objects (Beta distribution)."""
    k = min(rank(n, coverage), n)
    if n == 0:
        return 0.0
    return math.sqrt(k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2)))


def strangeness(probabilities: np.ndarray) -> np.ndarray:
    """Scores (n, C) of all classes of objects with these probabilities (n, C): the larger, the less they fit."""
    return 1 - np.asarray(probabilities, dtype=np.float64)


def class_scores(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Scores of each class's own objects, ascending, float64; labels (n,) are ids of the C classes."""
    scores = strangeness(probabilities)
    return tuple(np.sort(scores[labels == k, k]) for k in range(scores.shape[1]))


def prediction_sets(probabilities: np.ndarray, limits: Sequence[float] | np.ndarray) -> np.ndarray:
    """Which classes are in the set of each object, (n, C) bool. An empty set says that the object fits no class."""
    return strangeness(probabilities) <= np.asarray(limits)


def measure_sets(sets: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """How the sets (n, C) did on objects with labels (n,).

    coverage: share of the sets that hold the true class, per class with its binomial standard error. size: mean number
    of classes in a set. single, empty: shares of the sets with one class and with none.
    """
    size = sets.sum(axis=1)
    hit = sets[np.arange(len(labels)), labels]
    per_class = {}
    for k, name in enumerate(classes):
        own = hit[labels == k]
        if len(own):
            share = float(own.mean())
            error = math.sqrt(share * (1 - share) / len(own))
            per_class[name] = {"n": len(own), "coverage": share, "error": error}

    return {
        "n": len(labels),
        "coverage": float(hit.mean()),
        "per_class": per_class,
        "size": float(size.mean()),
        "single": float((size == 1).mean()),
        "empty": float((size == 0).mean()),
    }
