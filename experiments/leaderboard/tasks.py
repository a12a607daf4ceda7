"""What is classified: surveys with their classes, and the classes that two surveys share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.leaderboard.surveys import RawSurvey

ASAS = {"mira": "M", "k": "EW", "d": "EA", "rr-ab": "RRAB", "rr-c": "RRC", "sd": "EB", "ds": "DSCT"}
CATALINA = {"EW/EB": "EW", "EA": "EA", "RRab": "RRAB", "RRc": "RRC", "ROT": "ROT", "LPV": "LPV", "DSCT": "DSCT"}
MORE_TYPES = {"RRd": "RRD", "Blazhko": "BLAZHKO", "ACEP": "ACEP", "CEP-II": "CEP-II"}
SHARED_ASAS = {"mira": "LPV", "k": "EW", "sd": "EW", "d": "EA", "rr-ab": "RRAB", "rr-c": "RRC"}
SHARED_CATALINA = {"EW/EB": "EW", "EA": "EA", "RRab": "RRAB", "RRc": "RRC", "LPV": "LPV"}


@dataclass(frozen=True)
class Task:
    """train, test: surveys. classes and test_classes: label of the survey -> class. left_out: classes that are left
    out of training in turn, to see whether they are noticed."""

    name: str
    train: str
    test: str
    classes: Mapping[str, str]
    test_classes: Mapping[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Classes in the order of their numbers."""
        return sorted(set(self.classes.values()))


TASKS = (
    Task("asas-acvs", "asas-acvs", "asas-acvs", ASAS, ASAS, ("M", "EA", "RRAB", "DSCT")),
    Task("crts-sss", "crts-sss", "crts-sss", CATALINA, CATALINA, ("LPV", "EA", "RRAB", "ROT")),
    Task("crts-sss, 11 types", "crts-sss", "crts-sss", CATALINA | MORE_TYPES, CATALINA | MORE_TYPES),
    Task("asas-acvs to crts-sss", "asas-acvs", "crts-sss", SHARED_ASAS, SHARED_CATALINA),
    Task("crts-sss to asas-acvs", "crts-sss", "asas-acvs", SHARED_CATALINA, SHARED_ASAS),
)


STAREMBED_CLASSES = {
    "EW": "EW",
    "EA": "EA",
    "RRab": "RRAB",
    "RRc": "RRC",
    "RRd": "RRD",
    "RS CVn": "ROT",
    "LPV": "LPV",
}
STAREMBED = Task("starembed", "starembed", "starembed", STAREMBED_CLASSES, STAREMBED_CLASSES, ("LPV", "EA", "RRAB"))


def numbers_of(survey: RawSurvey, classes: Mapping[str, str], names: list[str]) -> np.ndarray:
    """(n,) int64: the number of each object's class, -1 where its label is none of the task."""
    number = {label: names.index(name) for label, name in classes.items()}
    return np.array([number.get(label, -1) for label in survey.labels.tolist()], dtype=np.int64)


def own_surveys(tasks: Sequence[Task]) -> list[Task]:
    """The tasks of one survey with all of its usable classes, which are looked at in full."""
    return [task for task in tasks if task.train == task.test and "," not in task.name]


def across_surveys(tasks: Sequence[Task]) -> list[Task]:
    """The tasks that train on one survey and test on another."""
    return [task for task in tasks if task.train != task.test]
