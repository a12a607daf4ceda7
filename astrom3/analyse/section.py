"""What the sections of an analysis share: what they are given, what they give, and how a table is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.schema import UNLABELLED

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent / "published.json").read_text())
OF_OTHER_CLASSES = "needs labelled test objects of the classes that the model knows"
ASKED = 5_000  # test objects that are compared with all others; of more, so many are drawn
COMPARED = 2**24  # similarities in memory at a time


class NotPossible(Exception):
    """Why an analysis is left out: what it needs."""


@dataclass
class Context:
    """splits: name -> embeddings of the objects with labels and without; out: folder; model: None where only embeddings
    were given, as are embed, which embeds the test split again with `model` as it now is, and data, the data module;
    other: split -> embeddings of a second model; swapped: object id -> true label of labels swapped on purpose; unseen:
    classes kept out of the fit of the map; project: more objects for the map; coverage: of prediction sets; early: the
    cuts of early classification (conf/analyse.yaml)."""

    splits: dict[str, Embeddings]
    out: Path
    model: TrainedModel | None = None
    embed: Callable[[], Embeddings] | None = None
    data: Any = None
    other: dict[str, Embeddings] | None = None
    swapped: Mapping[str, str] = field(default_factory=dict)
    unseen: Sequence[str] = ()
    project: Embeddings | None = None
    coverage: float = 0.9
    early: Mapping[str, Any] = field(default_factory=dict)

    def labelled(self, split: str) -> Embeddings:
        return labelled(self.splits[split])

    @property
    def has_labels(self) -> bool:
        """Whether the train and the test split have labelled objects."""
        return len(self.labelled("train")) > 0 and len(self.labelled("test")) > 0

    def count_labels(self) -> str:
        """How many objects have a label, and how to get some."""
        counts = {split: int((objects.labels != UNLABELLED).sum()) for split, objects in self.splits.items()}
        if not any(counts.values()):
            return "no object has one: convert with label=<column of the table>, a few objects per class are enough"
        return ", ".join(f"{split} has {count}" for split, count in counts.items())

    def labelled_classes(self) -> list[str]:
        """Classes that a train or test object has."""
        labels = np.concatenate([self.splits[split].labels for split in ("train", "test")])
        return [self.splits["test"].classes[k] for k in np.unique(labels[labels != UNLABELLED])]

    @property
    def everything(self) -> Embeddings:
        """All splits, one after the other."""
        return Embeddings.concatenate(list(self.splits.values()))

    @property
    def names(self) -> list[str]:
        return names_of(self.splits["test"])


@dataclass
class Section:
    """title, numbers for analysis.json, lines of markdown; a picture <name of the section>.png beside them."""

    title: str
    numbers: dict[str, Any]
    lines: list[str]


def labelled(objects: Embeddings) -> Embeddings:
    return objects.take(objects.labels != UNLABELLED)


def names_of(objects: Embeddings) -> list[str]:
    """Modalities and, where there are several, their mean."""
    return [*objects.modalities, MEAN] if len(objects.modalities) > 1 else list(objects.modalities)


def having(objects: Embeddings, name: str) -> np.ndarray:
    """Which objects have that embedding, (n,) bool; the mean exists where any modality does."""
    anything: np.ndarray = np.logical_or.reduce(list(objects.present.values()))
    return objects.present.get(name, anything)


def drawn_rows(count: int) -> np.ndarray:
    """Rows, ascending, of the objects out of `count` that are compared with all others, so that time grows with their
    number and not with its square: all up to ASKED, else a draw of so many, always the same."""
    if count <= ASKED:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, ASKED, replace=False))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown, first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]]


def percent(value: float, digits: int = 1) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.{digits}f}"
