"""The surveys of the leaderboard: raw curves, classes, the four features of the converter, and data sets of our layout.

The test fold is fixed: a fifth of each class, drawn from the object ids alone. The other objects are shared out between
training (7 of 8) and validation by seed. So one pre-training, which sees no test object, serves all seeds.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.errors import UserError
from astrom3.modalities.schema import ALL_COLS, PHOTO_COLS
from astrom3.progress import progress

log = logging.getLogger(__name__)
SEEDS = (42, 0, 66)
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.125  # of what is no test object
ZERO_POINTS = {"crts-sss": "Johnson-V", "asas-acvs": "asas-sn-V", "starembed": "AB"}
PART = 256  # curves whose features are kept together
BOTH = "both"  # the curves of all surveys without labels, for pre-training

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # time [day], and magnitude or flux with its error


@dataclass(frozen=True)
class RawSurvey:
    """n curves: ids (n,), labels (n,) in the survey's words, and time [day], magnitude and error of each."""

    name: str
    ids: np.ndarray
    labels: np.ndarray
    curves: list[Curve]
    held_out: np.ndarray  # (n,) bool: of the folder of blind curves, so only to be tested


def read_raw(folder: Path, name: str, blind: Path | None = None) -> RawSurvey:
    """The curves of <folder>/<name>/light_curves.parquet, and those of `blind` if given."""
    tables = [read_table(folder / name / "light_curves.parquet")]
    lengths = [tables[0].num_rows]
    if blind is not None:
        tables.append(read_table(blind / name / "light_curves.parquet"))
        lengths.append(tables[1].num_rows)
    ids: list[str] = []
    labels: list[str] = []
    curves = []
    for table in tables:
        ids += [str(i) for i in table["id"].to_pylist()]
        labels += table["label"].to_pylist()
        columns = [table[column].to_pylist() for column in ("time", "mag", "mag_err")]
        for time, magnitude, error in zip(*columns, strict=True):
            curves.append(sorted_curve(np.array(time), np.array(magnitude), np.array(error)))
    held_out = np.arange(len(ids)) >= lengths[0]
    return RawSurvey(name, np.array(ids), np.array(labels), curves, held_out)


def read_table(path: Path) -> Any:
    """A parquet file of curves; UserError where it is missing."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"there is no {path}: give the folder of real observations as real=<folder>.")
    return pq.read_table(path, columns=["id", "label", "time", "mag", "mag_err"])


def sorted_curve(
    time: np.ndarray, magnitude: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The finite points of a curve in order of time, float64."""
    columns = [np.asarray(column, dtype=np.float64) for column in (time, magnitude, error)]
    good = np.isfinite(columns[0]) & np.isfinite(columns[1]) & np.isfinite(columns[2])
    order = np.argsort(columns[0][good], kind="stable")
    return columns[0][good][order], columns[1][good][order], columns[2][good][order]


def flux_curve(survey: str, curve: Curve) -> Curve:
    """Time [day], flux and its error [mJy] of a curve in magnitudes."""
    from astrom3.data.readers.systems import flux_of_magnitude, zero_point

    time, magnitude, error = curve
    flux, flux_err = flux_of_magnitude(magnitude, error, zero_point(ZERO_POINTS[survey]))
    return time, flux, flux_err


def four_features(job: tuple[str, Curve]) -> np.ndarray:
    """The converter's four features of one curve, in the order of PHOTO_COLS, NaN where they cannot be computed."""
    from astrom3.modalities.features import light_curve_features

    survey, curve = job
    time, flux, error = flux_curve(survey, curve)
    found = light_curve_features(time, flux, error)
    return np.array([found[name] for name in PHOTO_COLS])


def kept(ids: np.ndarray, jobs: list[Any], compute: Callable[[Any], np.ndarray], folder: Path, workers: int) -> Any:
    """`compute` of every job, one row for each id (n, F). What was computed is kept by id in files under `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as part:
            rows |= dict(zip(part["ids"].tolist(), part["rows"], strict=True))
    missing = [i for i, name in enumerate(ids.tolist()) if name not in rows]
    if missing:
        title = f"{folder.name}, {len(missing)} curves"
        pool_of = multiprocessing.get_context("fork").Pool
        with pool_of(workers) as pool, progress(title, len(missing), "curves") as advance:
            for start in range(0, len(missing), PART):
                chosen = missing[start : start + PART]
                found = np.array(pool.map(compute, [jobs[i] for i in chosen], chunksize=8))
                save_part(folder / f"{len(rows):06d}.npz", ids[chosen], found)
                rows |= dict(zip(ids[chosen].tolist(), found, strict=True))
                advance(len(chosen))
    return np.array([rows[name] for name in ids.tolist()])


def save(path: Path, array: np.ndarray) -> None:
    """Write an array whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)


def save_part(path: Path, ids: np.ndarray, rows: np.ndarray) -> None:
    """Write a part whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, ids=ids, rows=rows)
    part.replace(path)


def rank_in_class(survey: RawSurvey) -> np.ndarray:
    """(n,) int64: the place of each object among those of its class, in an order that the ids alone give."""
    keys = share(survey.ids, "rank")
    ranks = np.zeros(len(keys), dtype=np.int64)
    for label in np.unique(survey.labels):
        rows = np.flatnonzero(survey.labels == label)
        ranks[rows[np.argsort(keys[rows], kind="stable")]] = np.arange(len(rows))
    return ranks


def share(ids: Iterable[str], purpose: str) -> np.ndarray:
    """A number in [0, 1) for each id, the same in every run."""
    numbers = []
    for name in ids:
        digest = hashlib.blake2b(f"{purpose} {name}".encode(), digest_size=8).digest()
        numbers.append(int.from_bytes(digest, "big") / 2.0**64)
    return np.array(numbers)


def first_of_class(labels: np.ndarray, keys: np.ndarray, fraction: float) -> np.ndarray:
    """(n,) bool: of each class the given share of the objects with the lowest keys."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = round(fraction * len(rows))
        chosen[rows[np.argsort(keys[rows], kind="stable")[:count]]] = True
    return chosen


def splits(survey: RawSurvey, seed: int) -> np.ndarray:
    """The split of each object, (n,) str: the same test objects for every seed."""
    test = survey.held_out
    if not test.any():
        test = first_of_class(survey.labels, share(survey.ids, "test"), TEST_SHARE)
    names = np.where(test, "test", "train").astype("<U10")
    rest = np.flatnonzero(~test)
    keys = share(survey.ids[rest], f"validation {seed}")
    names[rest[first_of_class(survey.labels[rest], keys, VALIDATION_SHARE)]] = "validation"
    return names


def catalogue_values(features: np.ndarray) -> np.ndarray:
    """Rows of the catalogue (n, 38) with the four features and nothing else."""
    values = np.full((len(features), len(ALL_COLS)), np.nan)
    values[:, : len(PHOTO_COLS)] = features
    return values
