"""What a search leaves to read: trials.csv, best.yaml and tune.png."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shlex
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState

from astrom3.files import write_text
from astrom3.tune.space import as_overrides

TABLE = "trials.csv"
BEST = "best.yaml"
PICTURE = "tune.png"
NOT_OF_TRAIN = ("tune.", "study=", "space=", "overwrite=", "root=", "run=")
NOTES = ("best_epoch", "val_accuracy", "reason")  # of a trial


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The completed trial with the lowest value, the first of equal ones; None where none is complete."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(done, key=lambda trial: (trial.value, trial.number), default=None)


def write_table(path: Path, trials: Sequence[FrozenTrial], keys: Sequence[str]) -> None:
    """A row for each trial: its number, state and value, the values of the keys, and what was noted of it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["number", "state", "value", *keys, *NOTES])
    for trial in trials:
        state = trial.state.name.lower()
        chosen = [trial.params[key] for key in keys]
        notes = [trial.user_attrs.get(note) for note in NOTES]
        writer.writerow([trial.number, state, trial.value, *chosen, *notes])
    write_text(path, text.getvalue())


def write_best(path: Path, trial: FrozenTrial, given: Sequence[str]) -> dict[str, Any]:
    """Write the best trial, with the command that trains it. given: overrides that the search was called with."""
    overrides = as_overrides(trial.params)
    best = {
        "trial": trial.number,
        "value": trial.value,
        "best_epoch": trial.user_attrs.get("best_epoch"),
        "val_accuracy": trial.user_attrs.get("val_accuracy"),
        "overrides": overrides,
    }
    words = ["python -m astrom3.train"]
    words += map(shlex.quote, for_train([*given, *overrides]))
    command = " ".join(words)
    text = OmegaConf.to_yaml(OmegaConf.create(best))
    write_text(path, f"{text}command: {json.dumps(command)}\n")
    return best | {"command": command}


def for_train(overrides: Sequence[str]) -> list[str]:
    """As for `train`, without what belongs to the search and without folders of this machine."""
    kept = []
    for override in overrides:
        if override.lstrip("+~").startswith(NOT_OF_TRAIN):
            continue
        text = re.sub(r'="(\d+)"$', r"=\1", override)
        key, _, value = text.partition("=")
        is_folder = os.path.isabs(value.strip("'\""))
        kept.append(f"{key}=<folder>" if is_folder else text)
    return kept


def draw(path: Path, trials: Sequence[FrozenTrial], keys: Sequence[str], logged: Sequence[str]) -> None:
    """The picture of a search: value against trial number with the best so far, and against each parameter.

    keys: the parameters. logged: those whose axis is logarithmic.
    """
    from matplotlib.figure import Figure

    from astrom3.plots import save

    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    failed = [trial.number for trial in trials if trial.state == TrialState.FAIL]
    numbers = [trial.number for trial in done]
    values = [float(trial.value or 0.0) for trial in done]
    columns = 3
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(10, 3 + 2.4 * rows))
    grid = figure.add_gridspec(1 + rows, columns, hspace=0.5, wspace=0.3)

    axis = figure.add_subplot(grid[0, :])
    axis.plot(numbers, values, "o", color="#4477aa", markersize=4, label="trial")
    axis.step(numbers, list(accumulate(values, min)), where="post", color="#cc3311", label="best")
    for place, number in enumerate(failed):
        axis.axvline(number, color="0.8", zorder=0, label=None if place else "failed")
    axis.set_xlabel("trial")
    axis.set_ylabel("validation loss")
    axis.legend(frameon=False)

    for place, key in enumerate(keys):
        row, column = divmod(place, columns)
        axis = figure.add_subplot(grid[1 + row, column])
        draw_parameter(axis, [trial.params[key] for trial in done], values, key in logged)
        axis.set_xlabel(key)
        if column == 0:
            axis.set_ylabel("validation loss")

    save(figure, path)


def draw_parameter(axis: Any, chosen: Sequence[Any], values: Sequence[float], is_logged: bool) -> None:
    """Points of the value against what was chosen of one parameter in each trial, the best one as a star."""
    from matplotlib.ticker import NullFormatter

    best = values.index(min(values))
    axis.plot(chosen, values, ".", color="#4477aa")
    axis.plot(chosen[best], values[best], "*", color="#cc3311", markersize=11)
    if is_logged:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:.0e}")
        axis.xaxis.set_minor_formatter(NullFormatter())
