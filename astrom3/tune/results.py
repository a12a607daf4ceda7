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


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The lowest value; the first of equal ones."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min(done, key=lambda t: (t.value, t.number), default=None)


def write_table(path: Path, trials: Sequence[FrozenTrial], keys: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["number", "state", "value", *keys, "best_epoch", "val_accuracy", "reason"])
    for t in trials:
        notes = [t.user_attrs.get(n) for n in ("best_epoch", "val_accuracy", "reason")]
        writer.writerow([t.number, t.state.name.lower(), t.value, *(t.params[k] for k in keys), *notes])
    write_text(path, text.getvalue())


def write_best(path: Path, trial: FrozenTrial, given: Sequence[str]) -> dict[str, Any]:
    overrides = as_overrides(trial.params)
    best = {
        "trial": trial.number,
        "value": trial.value,
        **{k: trial.user_attrs.get(k) for k in ("best_epoch", "val_accuracy")},
        "overrides": overrides,
    }
    words = " ".join(["python -m astrom3.train", *map(shlex.quote, for_train([*given, *overrides]))])
    write_text(path, OmegaConf.to_yaml(OmegaConf.create(best)) + f"command: {json.dumps(words)}\n")
    return best | {"command": words}


def for_train(overrides: Sequence[str]) -> list[str]:
    """As for `train`, without what belongs to the search and without folders of this machine."""
    kept = []
    for o in overrides:
        if not o.lstrip("+~").startswith(NOT_OF_TRAIN):
            kept.append(re.sub(r'="(\d+)"$', r"=\1", o))
    split = [(text, *text.partition("=")[::2]) for text in kept]
    return [f"{key}=<folder>" if os.path.isabs(value.strip("'\"")) else text for text, key, value in split]


def draw(path: Path, trials: Sequence[FrozenTrial], keys: Sequence[str], logged: Sequence[str]) -> None:
    """Value against trial number with the best so far, and against each parameter."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    from astrom3.plots import save

    done = [t for t in trials if t.state == TrialState.COMPLETE]
    numbers = [t.number for t in done]
    values = [float(t.value or 0.0) for t in done]
    best = min(range(len(done)), key=lambda i: values[i])
    columns = 3
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(10, 3 + 2.4 * rows))
    grid = figure.add_gridspec(1 + rows, columns, hspace=0.5, wspace=0.3)
    axis = figure.add_subplot(grid[0, :])
    axis.plot(numbers, values, "o", color="#4477aa", markersize=4, label="trial")
    axis.step(numbers, [min(values[: i + 1]) for i in range(len(values))], where="post", color="#cc3311", label="best")
    for i, t in enumerate(t for t in trials if t.state == TrialState.FAIL):
        axis.axvline(t.number, color="0.8", zorder=0, label=None if i else "failed")
    axis.set_xlabel("trial")
    axis.set_ylabel("validation loss")
    axis.legend(frameon=False)
    for i, key in enumerate(keys):
        axis = figure.add_subplot(grid[1 + i // columns, i % columns])
        drawn = [t.params[key] for t in done]
        axis.plot(drawn, values, ".", color="#4477aa")
        axis.plot(drawn[best], values[best], "*", color="#cc3311", markersize=11)
        if key in logged:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:.0e}")
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(key)
        if i % columns == 0:
            axis.set_ylabel("validation loss")
    save(figure, path)
