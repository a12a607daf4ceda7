"""What is killed: trainings of every mode, family and task at tiny size, and the other verbs that write.

In the arguments, {out} is the folder that the case writes and {shared} a folder that was prepared without any kill.
"""

from __future__ import annotations

from dataclasses import dataclass

TINY = ("size=tiny", "data=simulated", "trainer=cpu", "trainer.enable_progress_bar=false", "root={out}")
STARS = (*TINY, "data.objects=240", "early_stopping.patience=99")
GALAXIES = (*TINY, "data.objects=60", "data.batch_size=16", "early_stopping.patience=99")
SURVEY = ("data=local", "data.path={shared}/survey")

GALAXY_SURVEY = ("data=local", "data.path={shared}/galaxies")
GALAXY_RUN = "runs/astroclip-clip-full-scratch-42"

ALL_FILES = ("**/*",)
RUN_FILES = (
    "*/metrics.csv",
    "*/metrics.json",
    "*/rejected.csv",
    "*/model/*",
)
TUNE_FILES = ("tune/*/trials.csv", "tune/*/trial-*/metrics.csv")


@dataclass(frozen=True)
class Case:
    """One command line.

    files are glob patterns below {out}. What they match must have the same bytes after the kills as without them.
    checkpoints says whether the last and the best checkpoint of every run must hold the same tensors. table says
    whether {out} is an index of `search`, whose rows are compared. workers says whether the verb starts processes of
    its own, which must end with it.
    """

    name: str
    verb: str
    arguments: tuple[str, ...]
    files: tuple[str, ...] = ALL_FILES
    checkpoints: bool = False
    table: bool = False
    workers: bool = False


def training(name: str, *arguments: str) -> Case:
    return Case(f"train {name}", "train", arguments, RUN_FILES, checkpoints=True)


TRAININGS = (
    training("clip", *STARS, "mode=clip", "epochs=6"),
    training("photo", *STARS, "mode=photo", "epochs=6"),
    training("spectra", *STARS, "mode=spectra", "epochs=8"),
    training("meta", *STARS, "mode=meta", "epochs=12"),
    training("all", *STARS, "mode=all", "epochs=6"),
    training("clip, streamed", *STARS, "mode=clip", "epochs=4", "data.streaming=true"),
    training("astromer1 masked", *STARS, "model=astromer1", "mode=masked", "epochs=4", "data.batch_size=64"),
    training("astromer2 masked", *STARS, "model=astromer2", "mode=masked", "epochs=4", "data.batch_size=64"),
    training("astromer2 photo", *STARS, "model=astromer2", "mode=photo", "epochs=3", "data.batch_size=64"),
    training("astroclip masked", *GALAXIES, "model=astroclip", "mode=masked", "epochs=6"),
    training("astroclip distil", *GALAXIES, "model=astroclip", "mode=distil", "epochs=6"),
    training("astroclip clip", *GALAXIES, "model=astroclip", "mode=clip", "epochs=6"),
    training("curves clip", *STARS, "model=curves", "mode=clip", "epochs=4", "data.batch_size=64"),
    training("curves photo", *STARS, "model=curves", "mode=photo", "epochs=4", "data.batch_size=64"),
    training("survey recipe", *STARS, "mode=photo", "recipe=survey", "epochs=4"),
    training("regression of stars", *STARS, "mode=meta", "target=amplitude", "epochs=12"),
    training("regression of galaxies", *GALAXIES, "model=astroclip", "mode=spectra", "target=redshift", "epochs=6"),
)
VERBS = (
    Case("simulate stars", "simulate", ("out={out}/survey", "objects=700", "workers=2"), workers=True),
    Case(
        "simulate galaxies",
        "simulate",
        ("out={out}/survey", "survey=galaxies", "objects=300", "workers=2"),
        workers=True,
    ),
    Case(
        "simulate light curves",
        "simulate",
        ("out={out}/survey", "survey=macho", "objects=2000", "workers=2"),
        workers=True,
    ),
    Case(
        "convert",
        "convert",
        (
            "table={shared}/tables/stars.csv",
            "out={out}/survey",
            "id=name",
            "label=class",
            "light_curve=file",
            "workers=2",
        ),
        workers=True,
    ),
    Case(
        "embed",
        "embed",
        ("model={shared}/runs/all-full-scratch-42", *SURVEY, "out={out}/embeddings", "part=16", "batch=16"),
    ),
    Case(
        "embed galaxies",
        "embed",
        (f"model={{shared}}/{GALAXY_RUN}", *GALAXY_SURVEY, "out={out}/embeddings", "part=8", "batch=8"),
    ),
    Case("export galaxies", "export", (f"model={{shared}}/{GALAXY_RUN}", "out={out}/model", "onnx=false")),
    Case(
        "search",
        "search",
        ("index={out}/index", "embeddings={shared}/embeddings", "approximate=true"),
        files=("index/about.txt",),
        table=True,
    ),
    Case("export", "export", ("model={shared}/runs/all-full-scratch-42", "out={out}/model")),
    Case(
        "tune",
        "tune",
        (*STARS, "mode=meta", "epochs=3", "tune.trials=4"),
        TUNE_FILES,
    ),
    Case(
        "sweep",
        "train",
        ("-m", *STARS, "mode=meta,photo", "seed=0,12", "epochs=3"),
        RUN_FILES,
        checkpoints=True,
    ),
)
CASES = (*TRAININGS, *VERBS)
