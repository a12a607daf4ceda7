"""One cell of the leaderboard: a row, a task, a classifier, a number of labels per class and a seed -> scores.

Each cell is one JSON file with its configuration, written whole or not at all, and never computed twice. The time that
it took stands in times.csv beside them, so that another run of the same work writes the same bytes.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.data.splits import SHOTS_PER_VALIDATION, shot_members
from experiments.leaderboard.classifiers import Fold, clustering, noticed, score
from experiments.leaderboard.datasets import full_ids
from experiments.leaderboard.shop import Shop
from experiments.leaderboard.surveys import SEEDS, splits
from experiments.leaderboard.tasks import Task, numbers_of

log = logging.getLogger(__name__)
SHOTS = (20, 100, 500, 0)  # labels per class; 0: all
WIDE = {"logistic regression": SHOTS, "random forest": SHOTS, "nearest neighbours": SHOTS, "perceptron": (100, 0)}
NARROW = (100, 0)  # of tasks beyond the first two


@dataclass(frozen=True)
class Cell:
    """What is scored. kind: a classifier, "clustering" or "left out"."""

    row: str
    task: str
    kind: str
    shots: int
    seed: int

    @property
    def file(self) -> str:
        """Name of its JSON file."""
        text = f"{self.row}--{self.task}--{self.kind}--{self.shots or 'all'}--{self.seed}"
        return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in text) + ".json"


def cells(row: str, task: Task, full: bool) -> list[Cell]:
    """The cells of a row on a task; full: a task of its own survey with every classifier and size."""
    found = []
    for kind, sizes in WIDE.items():
        for shots in sizes:
            if not full and (shots not in NARROW or kind == "perceptron"):
                continue
            found += [Cell(row, task.name, kind, shots, seed) for seed in SEEDS]
    if full:
        found += [Cell(row, task.name, "clustering", 0, seed) for seed in SEEDS]
        found += [Cell(row, task.name, "left out", 0, seed) for seed in SEEDS]
    return found


def fold_of(shop: Shop, task: Task, inputs: dict[str, np.ndarray], shots: int, seed: int) -> Fold:
    """Inputs and classes of the labelled objects of a task. A quarter as many labels validate as train."""
    parts = {}
    for split in ("train", "validation"):
        parts[split] = labelled(shop, task.train, task.classes, task, inputs, split, seed)
    if shots:
        for split, count in (("train", shots), ("validation", max(shots // SHOTS_PER_VALIDATION, 1))):
            values, labels, ids = parts[split]
            chosen = shot_members(labels, ids, count, seed)
            parts[split] = values[chosen], labels[chosen], ids[chosen]
    parts["test"] = labelled(shop, task.test, task.test_classes, task, inputs, "test", seed)
    return Fold(parts["train"][:2], parts["validation"][:2], parts["test"][:2])


def needed(shop: Shop, jobs: Sequence[tuple[Cell, Task]]) -> dict[str, np.ndarray]:
    """(n,) bool for each survey: the curves that some cells look at."""
    numbers = {name: np.arange(len(survey.ids))[:, None] for name, survey in shop.surveys.items()}
    masks = {name: np.zeros(len(survey.ids), dtype=bool) for name, survey in shop.surveys.items()}
    tasks = {task.name: task for _, task in jobs}
    for name, shots, seed in sorted({(task.name, cell.shots, cell.seed) for cell, task in jobs}):
        task = tasks[name]
        fold = fold_of(shop, task, numbers, shots, seed)
        masks[task.train][fold.train[0]] = True
        masks[task.train][fold.validation[0]] = True
        masks[task.test][fold.test[0]] = True
    return masks


def labelled(
    shop: Shop, survey: str, classes: Any, task: Task, inputs: dict[str, np.ndarray], split: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, classes and ids of the objects of one split that have a class of the task."""
    raw = shop.surveys[survey]
    labels = numbers_of(raw, classes, task.names)
    rows = np.flatnonzero((splits(raw, seed) == split) & (labels >= 0))
    return inputs[survey][rows], labels[rows], full_ids(raw)[rows]


def compute(cell: Cell, shop: Shop, task: Task, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """The scores of a cell."""
    fold = fold_of(shop, task, inputs, cell.shots, cell.seed)
    if cell.kind == "clustering":
        return clustering(fold, cell.seed)
    if cell.kind == "left out":
        names = task.names
        found = [noticed(fold, names.index(name), cell.seed) for name in task.left_out]
        return {key: float(np.mean([scores[key] for scores in found])) for key in found[0]}
    return score(cell.kind, fold, cell.seed)


def once(folder: Path, cell: Cell, make: Callable[[], dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """Compute a cell and keep it with what is said about it; gives what was kept."""
    path = folder / cell.file
    began = time.monotonic()
    scores = make()
    content = asdict(cell) | {"scores": scores} | about
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "times.csv").open("a") as file:
        file.write(f"{cell.file},{time.monotonic() - began:.1f}\n")
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
    log.info("%s, %s, %s, %s labels, seed %d: %s", *asdict(cell).values(), scores)
    return content


CHANCE = ("random", "majority")


def chance_cells(task: Task) -> list[Cell]:
    """The rows that look at nothing."""
    found = []
    for row in CHANCE:
        found += [Cell(row, task.name, "none", 0, seed) for seed in SEEDS]
    return found


def by_chance(cell: Cell, shop: Shop, task: Task) -> dict[str, Any]:
    """Scores of the most frequent class of training, or of classes drawn as often as training has them."""
    from experiments.leaderboard.classifiers import macro_f1

    nothing = {name: np.zeros((len(survey.ids), 1), dtype=np.float32) for name, survey in shop.surveys.items()}
    fold = fold_of(shop, task, nothing, 0, cell.seed)
    labels = fold.train[1]
    if cell.row == "majority":
        predicted = np.full(len(fold.test[1]), np.bincount(labels).argmax())
    else:
        predicted = np.random.default_rng(cell.seed).choice(labels, len(fold.test[1]))
    return {
        "accuracy": float((predicted == fold.test[1]).mean()),
        "macro_f1": macro_f1(fold.test[1], predicted),
    }
