"""The real surveys of the experiment: a labelled sample of one, unlabelled curves of both, and the folds.

The tables hold one light curve a row, as lists, in magnitudes. Both are converted with `python -m astrom3.convert`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from astrom3.cli.verbs import run
from astrom3.convert.__main__ import convert
from astrom3.errors import UserError

TABLE = "light_curves.parquet"
CLASSES = {
    "crts-sss": {"RRab": "RRAB", "RRc": "RRC", "EW/EB": "EW", "EA": "EA", "ROT": "ROT", "LPV": "M"},
    "asas-acvs": {"mira": "M", "k": "EW", "d": "EA", "rr-ab": "RRAB", "rr-c": "RRC"},
}
SHOTS = (20, 100, 500)
VALIDATION_SHARE = 0.2  # of the labels
COLUMNS = ("id", "label", "period", "time", "mag", "mag_err")


@dataclass(frozen=True)
class Sizes:
    """per_class: most labelled curves of a class that are used. test: of them, in the test set of each fold."""

    survey: str = "crts-sss"
    per_class: int = 600
    test: int = 100
    folds: int = 3
    unlabelled: int = 1000  # curves for pre-training, half of each survey


@dataclass(frozen=True)
class Fold:
    """Places of objects in the sample: train and validation by number of labels per class, and the common test set."""

    train: dict[int, np.ndarray]
    validation: dict[int, np.ndarray]
    test: np.ndarray


def check_inputs(real: Path, weights: Path) -> None:
    """UserError where curves or weights are not there, before anything is written."""
    for name in CLASSES:
        if not (real / name / TABLE).is_file():
            raise UserError(f"{real / name / TABLE} is missing: give real=<folder with {' and '.join(CLASSES)}>.")
    if not weights.exists():
        raise UserError(f"there is no {weights}: give weights=<folder or zip of released MACHO weights>.")


def read_survey(real: Path, name: str) -> pa.Table:
    """The light curves of one survey, with labels as classes of AstroM3 (null where there is none)."""
    table = pq.read_table(real / name / TABLE, columns=list(COLUMNS))
    labels = [CLASSES[name].get(label) for label in table["label"].to_pylist()]
    ids = [f"{name} {object_id}" for object_id in table["id"].to_pylist()]
    table = table.set_column(0, "id", pa.array(ids, pa.string()))
    return table.set_column(1, "label", pa.array(labels, pa.string()))


def labelled_sample(table: pa.Table, per_class: int, seed: int = 0) -> pa.Table:
    """At most `per_class` curves of each class, drawn at random."""
    labels = np.array(table["label"].to_pylist(), dtype=object)
    rng = np.random.default_rng(seed)
    rows = []
    for name in sorted(set(labels) - {None}):
        rows.append(rng.permutation(np.flatnonzero(labels == name))[:per_class])
    return table.take(np.sort(np.concatenate(rows)))


def unlabelled_sample(tables: list[pa.Table], total: int, seed: int = 0) -> pa.Table:
    """Curves of all surveys in equal parts, drawn at random, without their labels."""
    rng = np.random.default_rng([seed, 1])
    parts = []
    for table in tables:
        rows = rng.permutation(len(table))[: total // len(tables)]
        parts.append(table.take(np.sort(rows)))
    joined = pa.concat_tables(parts)
    return joined.set_column(1, "label", pa.nulls(len(joined), pa.string()))


def converted(table: pa.Table, folder: Path, features: str) -> Path:
    """A table in our layout; what stands there already is kept."""
    data = folder / "data"
    if not (data / "dataset.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "table.parquet", row_group_size=1024)
        run(
            "convert",
            convert,
            [
                f"table={folder / 'table.parquet'}",
                f"out={data}",
                "id=id",
                "label=label",
                "workers=1",
                f"features={features}",
            ],
        )
    return data


def prepare(real: Path, root: Path, sizes: Sizes) -> tuple[Path, Path]:
    """Folders of the labelled sample, with features by the catalogue's periods, and of the unlabelled curves."""
    tables = {name: read_survey(real, name) for name in CLASSES}
    sample = labelled_sample(tables[sizes.survey], sizes.per_class)
    labelled = converted(sample, root / sizes.survey, "missing")
    curves = unlabelled_sample(list(tables.values()), sizes.unlabelled)
    curves = curves.set_column(2, "period", pc.cast(pa.nulls(len(curves)), pa.float64()))
    return labelled, converted(curves, root / "unlabelled", "none")


def make_folds(labels: np.ndarray, sizes: Sizes, path: Path) -> list[Fold]:
    """Folds of objects with `labels` (n,), drawn once and kept in folds.json."""
    if not path.is_file():
        drawn = [draw_fold(labels, sizes, fold) for fold in range(sizes.folds)]
        path.write_text(json.dumps(drawn))
    folds = []
    for content in json.loads(path.read_text()):
        train = {int(n): np.array(rows) for n, rows in content["train"].items()}
        validation = {int(n): np.array(rows) for n, rows in content["validation"].items()}
        folds.append(Fold(train, validation, np.array(content["test"])))
    return folds


def draw_fold(labels: np.ndarray, sizes: Sizes, fold: int) -> dict:
    """One fold: a test set of equal classes, and nested sets of n labels per class, a fifth of them for validation.

    A class with fewer objects than n gives what it has.
    """
    rng = np.random.default_rng([fold, 2])
    train: dict[int, list[int]] = {shots: [] for shots in SHOTS}
    validation: dict[int, list[int]] = {shots: [] for shots in SHOTS}
    test: list[int] = []
    for name in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == name))
        held_out = min(sizes.test, len(order) // 3)
        test += order[:held_out].tolist()
        for shots in SHOTS:
            chosen = order[held_out : held_out + shots]
            split = round(len(chosen) * VALIDATION_SHARE)
            validation[shots] += chosen[:split].tolist()
            train[shots] += chosen[split:].tolist()
    return {"train": train, "validation": validation, "test": test}
