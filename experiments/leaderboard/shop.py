"""Everything that the rows are made of, made when first asked and kept under the working folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.modalities.schema import PHOTO_COLS
from experiments.leaderboard import datasets, starembed
from experiments.leaderboard.surveys import BOTH, RawSurvey, four_features, kept, rank_in_class, read_raw, save
from experiments.leaderboard.tasks import STAREMBED, TASKS, Task

log = logging.getLogger(__name__)
BATCH = 512


@dataclass(frozen=True)
class Options:
    """real and blind: folders of raw surveys. work: where everything is kept. per_class: at most so many curves of each
    label. weights: folder of released Astromer weights. epochs: of the pre-training. starembed: folder of the StarEmbed
    data, which are a third survey."""

    real: Path
    work: Path
    blind: Path | None = None
    per_class: int = 0
    weights: Path | None = None
    epochs: int = 30
    workers: int = 2
    starembed: Path | None = None


class Shop:
    """Raw surveys, the converter's features, data sets of our layout, and inputs by survey."""

    def __init__(self, options: Options) -> None:
        self.options = options
        size = str(options.per_class or "all") + ("-blind" if options.blind else "")
        size += "-starembed" if options.starembed else ""
        self.folder = options.work / size
        self.store = options.work / "store"

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is classified with these options."""
        return (*TASKS, STAREMBED) if self.options.starembed else TASKS

    @property
    def names(self) -> list[str]:
        """Names of the surveys, in the order of the tasks."""
        return list(dict.fromkeys(task.train for task in self.tasks))

    def part(self, chosen: Mapping[str, np.ndarray]) -> Shop:
        """A shop of some curves of each survey, by mask (n,), with its own data sets and inputs. A survey without
        any is left out. Features by curve are shared with the whole shop."""
        part = Shop(self.options)
        surveys = {name: part_of(survey, chosen[name]) for name, survey in self.surveys.items() if chosen[name].any()}
        part.__dict__["surveys"] = surveys
        names = np.concatenate([datasets.full_ids(survey) for survey in surveys.values()]).tolist()
        digest = hashlib.blake2b("\n".join(names).encode(), digest_size=8).hexdigest()
        part.folder = self.folder / "parts" / digest
        return part

    def read(self, name: str) -> RawSurvey:
        """A whole survey."""
        if name == starembed.NAME and self.options.starembed:
            return starembed.read_starembed(self.options.starembed)
        return read_raw(self.options.real, name, self.options.blind)

    @cached_property
    def surveys(self) -> dict[str, RawSurvey]:
        """The raw surveys, cut down to `per_class` curves of each label."""
        found = {}
        for name in self.names:
            survey = self.read(name)
            if self.options.per_class:
                survey = part_of(survey, rank_in_class(survey) < self.options.per_class)
            found[name] = survey
        return found

    @cached_property
    def four(self) -> dict[str, np.ndarray]:
        """The converter's four features (n, 4) of each survey."""
        found = {}
        for name, survey in self.surveys.items():
            jobs = [(name, curve) for curve in survey.curves]
            folder = self.options.work / "features" / f"{name}-four"
            found[name] = kept(survey.ids, jobs, four_features, folder, self.options.workers)
        return found

    def data(self, name: str) -> Path:
        """The data set of a survey, or of both."""
        surveys = list(self.surveys.values()) if name == BOTH else [self.surveys[name]]
        return datasets.write_data(name, surveys, self.four, self.folder / "data" / name)

    def task_data(self, task: Task) -> Path:
        """The data set that a network is trained and tested on for a task."""
        if task.train == task.test:
            return self.data(task.train)
        surveys = [self.surveys[task.train], self.surveys[task.test]]
        return datasets.write_task(task, surveys, self.four, self.folder / "data" / task.name.replace(" ", "-"))

    def curves(self, name: str) -> Path:
        """The data set of a survey without any features, for encoders that read the curve alone."""
        survey = self.surveys[name]
        nothing = {name: np.full((len(survey.ids), len(PHOTO_COLS)), np.nan)}
        return datasets.write_data(f"{name}-curves", [survey], nothing, self.folder / "data" / f"{name}-curves")

    def inputs(self, key: str, make: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
        """`make(survey)` of every survey, (n, D) float32, kept under the key."""
        found = {}
        for name in self.surveys:
            path = self.folder / "inputs" / f"{key}-{name}.npy"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                save(path, make(name).astype(np.float32))
            found[name] = np.load(path)
        return found

    def encoded(self, name: str, views: dict[str, str], encode: Callable[[dict[str, Any]], np.ndarray]) -> np.ndarray:
        """What `encode` makes of the batches of a survey, in the order of its ids; 0 where an object cannot be used."""
        ids, packed = datasets.everything(self.data(name), views, self.store)
        rows = []
        for start in range(0, len(ids), BATCH):
            rows.append(encode(packed.batch(np.arange(start, min(start + BATCH, len(ids))))))
        return self.in_order(name, ids, np.concatenate(rows))

    def in_order(self, name: str, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Rows of some ids in the order of the survey, 0 for the others."""
        place = {full: i for i, full in enumerate(datasets.full_ids(self.surveys[name]).tolist())}
        out = np.zeros((len(place), rows.shape[1]), dtype=np.float32)
        out[[place[full] for full in ids.tolist()]] = rows
        return out


def part_of(survey: RawSurvey, chosen: np.ndarray) -> RawSurvey:
    """Some curves of a survey, by mask."""
    rows = np.flatnonzero(chosen)
    return replace(
        survey,
        ids=survey.ids[rows],
        labels=survey.labels[rows],
        curves=[survey.curves[i] for i in rows.tolist()],
        held_out=survey.held_out[rows],
    )
