"""The Galaxy Zoo decision tree (Walmsley et al. 2022, MNRAS 509, 3966): what volunteers would say of each galaxy.

Of a simulated survey the answers are the truth it was drawn from, unanimous, and one more is asked, `clumpy` (Willett
et al. 2017, MNRAS 464, 4176). Of real ones they are the debiased vote fractions in columns of the table,
<question>_<answer>_debiased, where enough volunteers were asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from astrom3.simulate.galaxies.populations import CLUMPY

FEWEST_VOTES = 34  # a question of the test split counts with more of them
FIRST = "smooth-or-featured_total-votes"
FEWEST_OF_ALL = 3  # votes that a galaxy needs on the first question
FEATURED = ("spiral", "barred_spiral", "edge_on", "irregular", "merger")
DISCS = ("spiral", "barred_spiral", "irregular", "merger")  # seen from above
BULGES = (
    (0.02, "none"),
    (0.15, "small"),
    (0.35, "moderate"),
    (0.6, "large"),
    (1.01, "dominant"),
)  # upper bounds of the share
ROUND = 0.8  # ratio of axes
CIGAR = 0.5
WINDINGS = ((15.0, "tight"), (23.0, "medium"), (90.0, "loose"))  # upper bounds of the pitch angle [degree]
ARMS = ("1", "2", "3", "4", "more-than-4")


@dataclass(frozen=True)
class Question:
    """name, its answers, and for every galaxy the share of each answer (n, answers), NaN where it is not asked."""

    name: str
    answers: tuple[str, ...]
    fractions: np.ndarray

    @property
    def asked(self) -> np.ndarray:
        """(n,) bool."""
        return np.isfinite(self.fractions).all(axis=1)


TREE = {
    "smooth": ("smooth", "featured"),
    "disk-edge-on": ("yes", "no"),
    "spiral-arms": ("yes", "no"),
    "bar": ("yes", "no"),
    "spiral-winding": tuple(name for _, name in WINDINGS),
    "spiral-arm-count": ARMS,
    "bulge-size": tuple(name for _, name in BULGES),
    "how-rounded": ("round", "in-between", "cigar"),
    "edge-on-bulge": ("none", "rounded"),
    "merging": ("yes", "no"),
    "clumpy": ("yes", "no"),
}


def questions(data: Any, split: str, ids: Sequence[str]) -> list[Question]:
    """The questions that the data answer, for the galaxies of a split that `ids` names."""
    table = data.source.table(split)
    voted = [name for name in table.target_names if name.endswith("_debiased")]
    if voted:
        rows = data.source.rows[split][data.splits[split].positions]
        return of_votes(table, voted, rows, FEWEST_VOTES if split == "test" else 0)
    if not all(name.startswith("GAL-") for name in ids):
        return []
    return of_truth(ids)


def of_truth(ids: Sequence[str]) -> list[Question]:
    """From the drawn properties of simulated galaxies; an id is GAL-<seed>-<number>."""
    from astrom3.simulate.galaxies.survey import truth

    said = []
    for name in ids:
        _, seed, number = name.split("-")
        said.append(answers(truth(int(seed), int(number))))
    found = []
    for question, choices in TREE.items():
        fractions = np.full((len(ids), len(choices)), np.nan)
        for row, answer in enumerate(said):
            if question in answer:
                fractions[row] = np.array(choices) == answer[question]
        found.append(Question(question, choices, fractions))
    return found


def answers(galaxy: Any) -> dict[str, str]:
    """Question -> answer, of the questions that the tree asks about a galaxy. galaxy: its `Properties`."""
    kind = galaxy.morphology
    said = {"smooth": "featured" if kind in FEATURED else "smooth", "merging": yes(kind == "merger")}
    if kind not in FEATURED:
        ratio = galaxy.inclination
        said["how-rounded"] = "round" if ratio > ROUND else "in-between" if ratio > CIGAR else "cigar"
        return said
    said["disk-edge-on"] = yes(kind == "edge_on")
    if kind == "edge_on":
        said["edge-on-bulge"] = "rounded" if galaxy.bulge_share > BULGES[1][0] else "none"
    if kind in DISCS:
        said["spiral-arms"] = yes(galaxy.arms > 0)
        said["bar"] = yes(kind == "barred_spiral")
        said["bulge-size"] = within(BULGES, galaxy.bulge_share)
        said["clumpy"] = yes(galaxy.clumps < CLUMPY)
        if galaxy.arms:
            said["spiral-winding"] = within(WINDINGS, galaxy.pitch)
            said["spiral-arm-count"] = ARMS[min(galaxy.arms, len(ARMS)) - 1]
    return said


def within(bounds: Sequence[tuple[float, str]], value: float) -> str:
    """The name of the first upper bound that a value does not exceed."""
    return next(name for bound, name in bounds if value <= bound)


def yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def of_votes(table: Any, voted: Sequence[str], rows: np.ndarray, fewest: int) -> list[Question]:
    """From the debiased fractions of Galaxy Zoo in the columns `voted`. A question needs more than `fewest` votes on a
    galaxy, and the galaxy FEWEST_OF_ALL votes on the first question."""
    by_question: dict[str, list[str]] = {}
    for name in voted:
        if "mask" not in name:
            by_question.setdefault(name.split("_")[0], []).append(name)
    seen = np.ones(len(rows), dtype=bool)
    if FIRST in table.target_names:
        seen = table.targets([FIRST])[rows, 0] >= FEWEST_OF_ALL
    found = []
    for question, columns in by_question.items():
        fractions = np.where(seen[:, None], table.targets(columns)[rows], np.nan)
        total = f"{question}_total-votes"
        if total in table.target_names:
            enough = table.targets([total])[rows, 0] > fewest
            fractions = np.where(enough[:, None], fractions, np.nan)
        short = tuple(column.split("_")[1] for column in columns)
        found.append(Question(question, short, fractions))
    return found
