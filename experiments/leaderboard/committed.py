"""Cells that were computed before: JSON files of the working folder, and lines of a committed leaderboard.csv.

Every cell carries a stamp, a hash of what decides its score beside its inputs: the objects and labels of the surveys,
the folds, the classes of its task, and the candidates of its classifier or the command that trains its network. A cell
whose stamp is not that of the present code is not taken. Inputs have no hash. `origin` names the commit that computed a
cell, and `inputs` the package or the file of weights that they came from.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from astrom3.data.splits import SHOTS_PER_VALIDATION
from astrom3.errors import UserError
from experiments.leaderboard import classifiers, rows, surveys, tuned
from experiments.leaderboard.protocol import Cell
from experiments.leaderboard.shop import Shop

log = logging.getLogger(__name__)
KEYS = ("task", "row", "kind", "shots", "seed")
SCORES = ("accuracy", "macro_f1", "nmi", "ari", "probability", "distance", "validation_macro_f1")
SOURCES = ("inputs", "origin", "protocol")
COLUMNS = KEYS + SCORES + SOURCES
DIGITS = 4  # of a score that is kept


class Stamps:
    """The stamps of cells under the present code and options."""

    def __init__(self, shop: Shop) -> None:
        self.epochs = shop.options.epochs
        self.tasks = {task.name: task for task in shop.tasks}
        self.surveys = {name: fingerprint(survey) for name, survey in shop.surveys.items()}

    def of(self, cell: Cell) -> str | None:
        """Eight hexadecimal digits; None where the task of the cell is not among those of these options."""
        task = self.tasks.get(cell.task)
        if task is None:
            return None
        decisive: dict[str, Any] = {
            "surveys": [self.surveys[task.train], self.surveys[task.test]],
            "folds": [surveys.TEST_SHARE, surveys.VALIDATION_SHARE, SHOTS_PER_VALIDATION],
            "classes": [dict(task.classes), dict(task.test_classes), task.left_out],
        }
        if cell.kind == tuned.KIND:
            decisive["training"] = tuned.settings(cell)
        else:
            decisive["classifier"] = classifiers.described(cell.kind)
        if tuned.starts_from_ours(cell) or (cell.row.startswith("ours") and cell.kind != tuned.KIND):
            decisive["pre-training"] = rows.MASKED_EPOCHS if "masked" in cell.row else self.epochs
        return digest(json.dumps(decisive, sort_keys=True).encode())


def digest(content: bytes) -> str:
    """Eight hexadecimal digits of a hash."""
    return hashlib.blake2b(content, digest_size=4).hexdigest()


def fingerprint(survey: surveys.RawSurvey) -> str:
    """A hash of ids, labels and numbers of points, and of which curves may only be tested, in any order."""
    lines = []
    for name, label, curve, held_out in zip(survey.ids, survey.labels, survey.curves, survey.held_out, strict=True):
        lines.append(f"{name} {label} {len(curve[0])} {bool(held_out)}")
    return digest("\n".join(sorted(lines)).encode())


def cell_of(content: Mapping[str, Any]) -> Cell:
    """The cell that a kept content belongs to."""
    return Cell(**{key: content[key] for key in Cell.__dataclass_fields__})


def known(folder: Path, path: Path | None, stamps: Stamps) -> dict[Cell, dict[str, Any]]:
    """Cells of the working folder, and of a leaderboard.csv those that are not there, whose stamps agree."""
    contents = []
    if path is not None:
        contents += read_csv(path)
    contents += [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    found = {}
    others = 0
    for content in contents:
        cell = cell_of(content)
        if content.get("protocol") == stamps.of(cell):
            found[cell] = content
        else:
            others += 1
    if others:
        log.info("%d cells of another protocol are left out", others)
    return found


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The cells of a leaderboard.csv. UserError where it is missing or lacks a column."""
    if not path.is_file():
        raise UserError(f"there is no {path}: give a leaderboard.csv of before as cells=, or leave cells= out.")
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if lines and (missing := [column for column in COLUMNS if column not in lines[0]]):
        raise UserError(f"{path} has no column {missing[0]}: it was written before cells carried their origin.")
    contents = []
    for line in lines:
        content: dict[str, Any] = {key: line[key] for key in KEYS + SOURCES}
        content["shots"] = int(line["shots"])
        content["seed"] = int(line["seed"])
        content["scores"] = {key: float(line[key]) for key in SCORES if line[key]}
        contents.append(content)
    return contents


def as_lines(contents: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """The lines of a leaderboard.csv, without its head."""
    lines = []
    for content in contents:
        line = [str(content[key]) for key in KEYS]
        for key in SCORES:
            value = content["scores"].get(key)
            line.append("" if value is None else f"{value:.{DIGITS}f}")
        lines.append([*line, *(str(content.get(key, "")) for key in SOURCES)])
    return lines


def rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """A content with its scores as a csv keeps them, so that tables from either are the same."""
    scores = {}
    for key in SCORES:
        if key in content["scores"]:
            scores[key] = float(f"{content['scores'][key]:.{DIGITS}f}")
    return dict(content) | {"scores": scores}
