"""The classifiers of the StarEmbed protocol on frozen inputs, and what tells how good their answers are.

Hyper-parameters are chosen by the macro-F1 of the validation objects; the first of equals is taken. Logistic regression
and nearest neighbours read inputs standardised by the training objects and cut at five deviations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

TREES = 200
CUT = 5.0
COSTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
NEIGHBOURS = (1, 5, 15)
WEIGHTS = (None, "balanced")
LEAVES = (1,)
HIDDEN = 128
DECAYS = (1e-3, 1e-1)


@dataclass(frozen=True)
class Fold:
    """Inputs (n, D) float32 and classes (n,) int64 of training, validation and test objects."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


Candidate = tuple[dict[str, Any], Any]


def standardised(fold: Fold) -> Fold:
    """Every column with mean 0 and deviation 1 over the training objects, cut at five deviations."""
    mean = fold.train[0].mean(axis=0)
    deviation = fold.train[0].std(axis=0)
    deviation[deviation < 1e-6] = 1.0

    def apply(part: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.clip((part[0] - mean) / deviation, -CUT, CUT).astype(np.float32), part[1]

    return Fold(apply(fold.train), apply(fold.validation), apply(fold.test))


def logistic(seed: int) -> list[Candidate]:
    """Multinomial logistic regression with an L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    candidates = []
    for weight in WEIGHTS:
        for cost in COSTS:
            model = LogisticRegression(C=cost, class_weight=weight, max_iter=200, tol=1e-3)
            candidates.append(({"C": cost, "class_weight": weight}, model))
    return candidates


def nearest(seed: int) -> list[Candidate]:
    """k nearest neighbours."""
    from sklearn.neighbors import KNeighborsClassifier

    return [({"k": k}, KNeighborsClassifier(k, weights="distance")) for k in NEIGHBOURS]


def forest(seed: int) -> list[Candidate]:
    """A random forest."""
    from sklearn.ensemble import RandomForestClassifier

    candidates = []
    for weight in WEIGHTS:
        for leaf in LEAVES:
            model = RandomForestClassifier(TREES, min_samples_leaf=leaf, class_weight=weight, random_state=seed)
            candidates.append(({"min_samples_leaf": leaf, "class_weight": weight}, model))
    return candidates


def perceptron(seed: int) -> list[Candidate]:
    """A perceptron with one hidden layer."""
    from sklearn.neural_network import MLPClassifier

    candidates = []
    for decay in DECAYS:
        model = MLPClassifier((HIDDEN,), alpha=decay, max_iter=60, random_state=seed, learning_rate_init=2e-3)
        candidates.append(({"alpha": decay}, model))
    return candidates


CLASSIFIERS: dict[str, Callable[[int], list[Candidate]]] = {
    "logistic regression": logistic,
    "random forest": forest,
    "nearest neighbours": nearest,
    "perceptron": perceptron,
}
RAW = ("random forest",)  # need no standardised inputs


def described(kind: str) -> list[Any]:
    """What decides the answers of a kind of score: the constants of this file that it reads."""
    constants: dict[str, list[Any]] = {
        "logistic regression": [CUT, COSTS, WEIGHTS],
        "random forest": [TREES, WEIGHTS, LEAVES],
        "nearest neighbours": [CUT, NEIGHBOURS],
        "perceptron": [CUT, HIDDEN, DECAYS],
    }
    return [kind, *constants.get(kind, [CUT])]


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the classes that the labels have."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0))


def score(kind: str, fold: Fold, seed: int) -> dict[str, Any]:
    """Test accuracy and macro-F1 of the candidate that is best on the validation objects, and its settings."""
    used = fold if kind in RAW else standardised(fold)
    best: tuple[float, dict[str, Any], Any] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for settings, model in CLASSIFIERS[kind](seed):
            model.fit(*used.train)
            reached = macro_f1(used.validation[1], model.predict(used.validation[0]))
            if best is None or reached > best[0]:
                best = reached, settings, model
    assert best is not None
    predicted = best[2].predict(used.test[0])
    return {
        "accuracy": float((predicted == used.test[1]).mean()),
        "macro_f1": macro_f1(used.test[1], predicted),
        "validation_macro_f1": best[0],
        "settings": best[1],
    }


def clustering(fold: Fold, seed: int) -> dict[str, float]:
    """Agreement of as many k-means clusters as there are classes with the classes, on the test objects."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    used = standardised(fold)
    inputs, labels = used.test
    found = KMeans(len(np.unique(labels)), n_init=5, random_state=seed).fit_predict(inputs)
    return {
        "nmi": float(normalized_mutual_info_score(labels, found)),
        "ari": float(adjusted_rand_score(labels, found)),
    }


def noticed(fold: Fold, left_out: int, seed: int) -> dict[str, float]:
    """AUROC of test objects of a class that training did not have, by two scores: one minus the highest probability of
    a logistic regression, and the distance to the tenth neighbour."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import NearestNeighbors

    inputs, labels = fold.train
    known = labels != left_out
    used = standardised(Fold((inputs[known], labels[known]), fold.validation, fold.test))
    strange = used.test[1] == left_out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=0.1, max_iter=200, tol=1e-3).fit(*used.train)
    doubt = 1 - model.predict_proba(used.test[0]).max(axis=1)
    distance = NearestNeighbors(n_neighbors=10).fit(used.train[0]).kneighbors(used.test[0])[0][:, -1]
    return {"probability": float(roc_auc_score(strange, doubt)), "distance": float(roc_auc_score(strange, distance))}
