"""Training of the classifiers with few labels, all by one recipe, and a random forest.

Adam 1e-3, cross-entropy on windows, early stopping on the validation loss, best weights restored (Donoso-Oliva et al.
2023, section 3.5). Scores are macro F1 per object, with the probabilities of its windows averaged, and per window.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.tasks.metrics import classification_scores
from astrom3.tasks.windows import object_logits
from experiments.astromer.inputs import Rows, Sample
from experiments.astromer.surveys import Fold

TREES = 300
EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """rate: of Adam. batch: windows. epochs and steps: at most. patience: epochs without a lower validation loss."""

    rate: float = 1e-3
    batch: int = 64
    epochs: int = 200
    steps: int = 300
    patience: int = 20


def train_network(
    make: Callable[[], nn.Module], rows: Rows, sample: Sample, fold: Fold, shots: int, seed: int, recipe: Recipe
) -> dict[str, Any]:
    """Train `make()` on the windows of the fold's labelled objects and score it on the test set."""
    torch.manual_seed(seed)
    model = make()
    train = np.flatnonzero(np.isin(rows.curves, fold.train[shots]))
    validation = np.flatnonzero(np.isin(rows.curves, fold.validation[shots]))
    labels = torch.from_numpy(sample.labels[rows.curves])
    optimizer = torch.optim.Adam(model.parameters(), recipe.rate)
    generator = np.random.default_rng(seed)
    best = float("inf")
    state = copy.deepcopy(model.state_dict())
    waited = 0
    steps = 0
    for _ in range(recipe.epochs):
        model.train()
        order = generator.permutation(train)
        for start in range(0, len(order), recipe.batch):
            at = torch.from_numpy(order[start : start + recipe.batch])
            optimizer.zero_grad()
            F.cross_entropy(model(*(array[at] for array in rows.arrays)), labels[at]).backward()
            optimizer.step()
            steps += 1
        loss = float(F.cross_entropy(predicted(model, rows, validation), labels[validation]))
        waited += 1
        if loss < best:
            best = loss
            waited = 0
            state = copy.deepcopy(model.state_dict())
        if waited >= recipe.patience or steps >= recipe.steps:
            break
    model.load_state_dict(state)
    return scores(model, rows, sample, fold.test) | {"steps": steps}


def predicted(model: nn.Module, rows: Rows, at: np.ndarray) -> Tensor:
    """Logits (len(at), C) of some rows."""
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(at), EVALUATION_BATCH):
            chosen = torch.from_numpy(at[start : start + EVALUATION_BATCH])
            parts.append(model(*(array[chosen] for array in rows.arrays)))
    return torch.cat(parts)


def scores(model: nn.Module, rows: Rows, sample: Sample, test: np.ndarray) -> dict[str, Any]:
    """Macro F1 of the test objects, per object and per window."""
    at = np.flatnonzero(np.isin(rows.curves, test))
    logits = predicted(model, rows, at)
    curves = torch.from_numpy(rows.curves[at])
    labels = torch.from_numpy(sample.labels)
    means, first = object_logits(logits, curves)
    return {
        "macro_f1": macro_f1(means.argmax(-1), labels[curves[first]], sample.classes),
        "macro_f1_per_window": macro_f1(logits.argmax(-1), labels[curves], sample.classes),
    }


def macro_f1(predicted: Tensor, labels: Tensor, classes: Sequence[str]) -> float:
    """Mean F1 of the classes that occur."""
    n = len(classes)
    confusion = torch.bincount(labels * n + predicted, minlength=n * n).reshape(n, n)
    return classification_scores(confusion, classes)["macro_f1"]


def train_forest(sample: Sample, fold: Fold, shots: int, seed: int) -> dict[str, Any]:
    """A random forest on amplitude, period, string length and R2 of the folded curve; -1 where one is unknown."""
    from sklearn.ensemble import RandomForestClassifier

    features = np.nan_to_num(sample.features, nan=-1.0)
    rows = np.concatenate([fold.train[shots], fold.validation[shots]])
    forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed)
    forest.fit(features[rows], sample.labels[rows])
    found = torch.from_numpy(forest.predict(features[fold.test]))
    score = macro_f1(found, torch.from_numpy(sample.labels[fold.test]), sample.classes)
    return {"macro_f1": score, "macro_f1_per_window": None, "steps": 0}
