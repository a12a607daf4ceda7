"""What the killed commands read, made once without any kill: a survey, a table of light curves, a model, embeddings."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq

from experiments.kills import processes
from experiments.kills.cases import GALAXY_SURVEY, SURVEY, TINY, Case
from experiments.kills.trial import Place

COMMANDS = (
    Case("shared survey", "simulate", ("out={shared}/survey", "objects=240", "workers=1")),
    Case("shared model", "train", (*TINY[:1], *TINY[2:4], *SURVEY, "root={shared}/runs", "mode=all", "epochs=2")),
    Case("shared galaxies", "simulate", ("out={shared}/galaxies", "survey=galaxies", "objects=60", "workers=1")),
    Case(
        "shared model of galaxies",
        "train",
        (
            *(TINY[0], *TINY[2:4], *GALAXY_SURVEY, "root={shared}/runs"),
            *("model=astroclip", "mode=clip", "epochs=1", "data.batch_size=16"),
        ),
    ),
    Case(
        "shared embeddings",
        "embed",
        ("model={shared}/runs/all-full-scratch-42", *SURVEY, "out={shared}/embeddings"),
    ),
)


def prepare(place: Place) -> None:
    """Nothing is done where everything is there."""
    done = place.shared / "done"
    if done.is_file():
        return
    for case in COMMANDS:
        status = processes.ended(place.start(case, place.shared))
        if status:
            raise RuntimeError(f"{case.name} cannot be made, with status {status}: see {place.log(case)}")
    write_tables(place.shared / "survey", place.shared / "tables")
    done.touch()


def write_tables(survey: Path, folder: Path) -> None:
    """stars.csv with one row per object, and the light curve of each as a file of columns."""
    (folder / "curves").mkdir(parents=True, exist_ok=True)
    objects = pq.read_table(survey / "objects", columns=["object_id", "label", "light_curve"]).to_pylist()
    with open(folder / "stars.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["name", "class", "file"])
        for row in objects:
            name = f"curves/{row['object_id']}.csv"
            table.writerow([row["object_id"], row["label"], name])
            write_curve(folder / name, row["light_curve"])


def write_curve(path: Path, curve: dict[str, list[float]]) -> None:
    columns = [curve["time"], curve["flux"], curve["flux_err"]]
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["time", "flux", "flux_err"])
        table.writerows(zip(*columns, strict=True))
