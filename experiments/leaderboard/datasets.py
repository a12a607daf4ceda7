"""The surveys as data sets of our layout, so that the commands of the suite train on them, and their arrays.

A data set is written once: four features of the converter, splits of the leaderboard. `both` holds the curves of all
surveys for pre-training, their test objects left in the test split. A task between two surveys has a data set too, for
networks that are trained on one and tested on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.modalities.schema import PHOTO_COLS
from experiments.leaderboard.surveys import BOTH, SEEDS, Curve, RawSurvey, catalogue_values, flux_curve, splits
from experiments.leaderboard.tasks import ASAS, CATALINA, STAREMBED_CLASSES, Task

Members = dict[int, dict[str, list[str]]]  # seed -> split -> ids
CLASSES = {"asas-acvs": ASAS, "crts-sss": CATALINA, "starembed": STAREMBED_CLASSES}


def read_curve(reference: tuple[str, Curve]) -> Any:
    """(survey, curve in magnitudes) -> a light curve in mJy."""
    from astrom3.data.readers import LightCurve

    survey, curve = reference
    return LightCurve(*flux_curve(survey, curve))


def no_spectrum(reference: Any) -> Any:
    """These surveys have none."""
    raise ValueError(f"no spectrum is expected, not {reference}")


def full_ids(survey: RawSurvey) -> np.ndarray:
    """Ids that no other survey has."""
    return np.array([f"{survey.name} {name}" for name in survey.ids.tolist()])


def write_data(name: str, surveys: Sequence[RawSurvey], four: Mapping[str, np.ndarray], out: Path) -> Path:
    """Write the data set of one survey, or of several together; nothing is done where it is there already."""
    if (out / "dataset.json").is_file():
        return out
    members = no_members()
    for survey in surveys:
        add_members(members, survey, ("train", "validation", "test"))
    labels = {survey.name: CLASSES[survey.name] for survey in surveys}
    return write_objects(name, surveys, labels, four, members, out)


def write_task(task: Task, surveys: Sequence[RawSurvey], four: Mapping[str, np.ndarray], out: Path) -> Path:
    """Write the data set of a task between two surveys: it trains and validates on objects of the first, and tests on
    those of the second. Classes are those that both share. Nothing is done where it is there already."""
    if (out / "dataset.json").is_file():
        return out
    members = no_members()
    add_members(members, surveys[0], ("train", "validation"))
    add_members(members, surveys[1], ("test",))
    labels = {surveys[0].name: task.classes, surveys[1].name: task.test_classes}
    return write_objects(out.name, surveys, labels, four, members, out)


def no_members() -> Members:
    """Empty splits for every seed."""
    return {seed: {"train": [], "validation": [], "test": []} for seed in SEEDS}


def add_members(members: Members, survey: RawSurvey, names: Sequence[str]) -> None:
    """Add the objects of a survey that are in the named splits."""
    ids = full_ids(survey)
    for seed in SEEDS:
        chosen = splits(survey, seed)
        for split in names:
            members[seed][split] += ids[chosen == split].tolist()


def write_objects(
    name: str,
    surveys: Sequence[RawSurvey],
    classes: Mapping[str, Mapping[str, str]],
    four: Mapping[str, np.ndarray],
    members: Members,
    out: Path,
) -> Path:
    """Write the objects of some surveys that are in a split. classes: survey -> label -> class; objects with another
    label have none. four: survey -> the converter's features (n, 4)."""
    from astrom3.convert.conversion import Recipe, convert_objects
    from astrom3.data.readers.objects import Objects
    from astrom3.data.writer import PublishedSplit

    needed = {full for split in members[SEEDS[0]].values() for full in split}
    ids: list[str] = []
    labels: list[str | None] = []
    curves: list[Any] = []
    features = []
    for survey in surveys:
        own = full_ids(survey)
        rows = np.flatnonzero([full in needed for full in own.tolist()])
        ids += own[rows].tolist()
        labels += [classes[survey.name].get(label) for label in survey.labels[rows].tolist()]
        curves += [(survey.name, survey.curves[row]) for row in rows.tolist()]
        features.append(four[survey.name][rows])
    values = catalogue_values(np.concatenate(features))
    known = tuple(sorted({label for label in labels if label is not None}))
    objects = Objects(ids, labels, values, curves, [None] * len(ids), known)
    published = {("full", seed): PublishedSplit(split) for seed, split in members.items()}
    recipe = Recipe(read_curve, no_spectrum, "none")
    provenance = {"converted": {"surveys": [survey.name for survey in surveys]}}
    convert_objects(objects, recipe, out, name=name, provenance=provenance, published=published, workers=1)
    return out


def everything(data: Path, views: Mapping[str, str], cache: Path) -> tuple[np.ndarray, Any]:
    """Ids (n,) of all usable objects of a data set, and a packed split that fills the views for any of them."""
    from astrom3.data.layouts import open_source
    from astrom3.data.packed import PackedSplit
    from astrom3.data.store import open_store
    from astrom3.modalities.view import get_view

    source = open_source(data, "full", SEEDS[0])
    table = source.table("train")
    whole = replace(source, rows={"train": np.arange(len(table))}, tables={"train": table})
    stores = {get_view(view).store: open_store(table, view, cache) for view in views.values()}
    packed = PackedSplit(whole, "train", stores, dict(views), labelled_only=False, min_modalities=1)
    return packed.ids[packed.positions].astype(str), packed


def four_columns(four: np.ndarray) -> np.ndarray:
    """The four features with the logarithm of the period, 0 where unknown."""
    columns = np.array(four, dtype=np.float64)
    period = PHOTO_COLS.index("period")
    columns[:, period] = np.log10(np.maximum(columns[:, period], 1e-6))
    return np.nan_to_num(columns).astype(np.float32)


def name_of(surveys: Sequence[RawSurvey]) -> str:
    """Name of the data set of some surveys."""
    return surveys[0].name if len(surveys) == 1 else BOTH
