"""ASTROMER on real light curves with few labels.

    python -m experiments.astromer real=../shared/real weights=<folder or zip of released MACHO weights>

Macro F1 with 20, 100 and 500 labels per class in 3 folds: released and own encoders, frozen, against networks from
scratch and a random forest. Finished runs are skipped. With only=<part of a method's name> the other methods are not
run, so that several processes can share the work; what is finished of them stands in the table.

The word `hour` chooses sizes that take about an hour on two quiet cores (HOUR below). A run that was stopped goes on by
the same command, masked runs in the middle of an epoch; other sizes need another root=.

Writes results.md, results.csv and results.png into out=, by default beside this file. Sizes are keys too: survey,
per_class, unlabelled, epochs, tuning_epochs, steps.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astrom3.errors import UserError
from astrom3.files import read_json, write_json
from experiments.options import Whole, answered
from experiments.options import read_options as options_over

if TYPE_CHECKING:
    from experiments.astromer.methods import Score
    from experiments.astromer.surveys import Fold

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
KEYS: dict[str, Any] = {
    "real": None,
    "weights": None,
    "root": Path("runs/astromer"),
    "out": HERE,
    "survey": ("crts-sss", "asas-acvs"),
    "per_class": Whole(600),
    "test": Whole(100),
    "folds": Whole(3, most=100),
    "unlabelled": Whole(1000),
    "epochs": Whole(25),
    "tuning_epochs": Whole(2),
    "steps": Whole(300),
    "only": "",
}


# CPU seconds on one thread of an AMD EPYC (AVX-512): 0.09 to 0.11 a step of 32 windows for the small encoders, 0.4 for
# the released one. 100 steps an epoch: four own runs take about 35 minutes, tuning 4, the classifiers 20.
HOUR = {
    "unlabelled": Whole(4000),
    "epochs": Whole(80),
    "tuning_epochs": Whole(8),
    "steps": Whole(600),
    "root": Path("runs/astromer-hour"),
}
SETTINGS = "settings.json"
PLACES = ("real", "weights", "root", "out", "only")  # keys that change nothing in the numbers


def main(arguments: list[str]) -> list[dict[str, Any]]:
    """Score every method on every fold; gives the rows of results.csv."""
    from experiments.astromer.classifiers import Recipe
    from experiments.astromer.inputs import read_sample
    from experiments.astromer.methods import Workshop, methods
    from experiments.astromer.pretraining import pretrainings
    from experiments.astromer.results import write
    from experiments.astromer.surveys import Sizes, check_inputs, make_folds, prepare

    options = read_options(arguments)
    root = options["root"]
    check_inputs(Path(options["real"]), Path(options["weights"]))
    keep_settings(root, options)
    sizes = Sizes(options["survey"], options["per_class"], options["test"], options["folds"], options["unlabelled"])
    labelled, unlabelled = prepare(Path(options["real"]), root, sizes)
    sample = read_sample(labelled, root / "cache")
    folds = make_folds(sample.labels, sizes, root / f"folds-{sizes.survey}.json")
    masked = {run.name: run for run in pretrainings(options["epochs"], options["tuning_epochs"])}
    shop = Workshop(sample, root, unlabelled, Path(options["weights"]), masked, Recipe(steps=options["steps"]))
    scored = methods(shop)
    if not any(options["only"] in name for name in scored):
        raise UserError(f"only={options['only']}: no method has that in its name; there are {'; '.join(scored)}.")
    rows = []
    for name, score in scored.items():
        for number, fold in enumerate(folds):
            for shots in fold.train:
                path = root / sizes.survey / "scores" / f"{slug(name)}-{shots}-{number}.json"
                if options["only"] in name and not path.is_file():
                    score_once(path, name, score, fold, number, shots)
                if path.is_file():
                    rows.append(json.loads(path.read_text()))
    write(rows, sample, sizes, options, root, options["out"])
    return rows


def read_options(arguments: list[str]) -> dict[str, Any]:
    """The arguments over the defaults of KEYS, or over those of HOUR where the word is among them, checked."""
    defaults = KEYS | HOUR if "hour" in arguments else KEYS
    options = options_over([argument for argument in arguments if argument != "hour"], defaults)
    for key in ("real", "weights"):
        if not options[key]:
            raise UserError(f"{key}= is missing: python -m experiments.astromer real=<folder> weights=<zip or folder>.")
    return options


def keep_settings(root: Path, options: dict[str, Any]) -> None:
    """Write the sizes of a comparison into its folder; UserError where it was started with others."""
    sizes = {key: value for key, value in options.items() if key not in PLACES}
    path = root / SETTINGS
    if path.is_file():
        before = read_json(path)
        changed = [key for key in sizes if before.get(key) != sizes[key]]
        if changed:
            key = changed[0]
            raise UserError(
                f"{root} was started with {key}={before.get(key)}, this is {key}={sizes[key]}: give another "
                "root=<folder>."
            )
        return
    root.mkdir(parents=True, exist_ok=True)
    write_json(path, sizes)


def slug(name: str) -> str:
    """A method's name as a file name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def score_once(path: Path, name: str, score: Score, fold: Fold, number: int, shots: int) -> None:
    """Score a method and keep the row in its file, whole or not at all."""
    began = time.monotonic()
    row = {"method": name, "shots": shots, "fold": number, **score(fold, shots, number)}
    row["seconds"] = round(time.monotonic() - began, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(row))
    part.replace(path)
    log.info("%s, %d labels, fold %d: macro F1 %.3f (%.0f s)", name, shots, number, row["macro_f1"], row["seconds"])


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    answered("experiments.astromer", lambda: main(sys.argv[1:]))
