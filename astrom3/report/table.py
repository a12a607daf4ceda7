"""From run folders to the numbers of the paper's table: means over seeds, gains from CLIP, what is missing.

Standard deviations of ours are over seeds with n - 1 (ddof 1). The published ones have ddof 0 and are taken as they
are: difference = (our mean - published mean) / published standard deviation, "in units of their scatter".
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf.errors import OmegaConfBaseException
from scipy import stats

from astrom3 import stored
from astrom3.errors import UserError, first_line, written_out
from astrom3.files import listed, read_text
from astrom3.registry import flat, read_stored
from astrom3.typed import check

PUBLISHED = json.loads((Path(__file__).parent / "published_results.json").read_text())["accuracy"]
STATES = ("finished", "failed", "unfinished", "damaged")
FRACTIONS = {
    "sub10": 10,
    "sub25": 25,
    "sub50": 50,
    "full": 100,
}  # percent of the labels
STARTS = ("scratch", "clip")
Cell = tuple[str, str, str]  # mode, share of the labels, start
FOLD = re.compile(r"-fold(\d+)of(\d+)$")  # ends the protocol of a run of one fold
# What may differ between the runs of one table: it follows from (mode, sub, init, seed), or is where things are.
FREE = (
    "mode",
    "task_name",
    "target",
    "sub",
    "fold",
    "folds",
    "protocol",
    "pretrained",
    "seed",
    "init",
    "optim",
    "schedule.factor",
    "encoders",
    "epochs",
    "module",
    "model",
    "modalities",
    "min_modalities",
    "labelled_only",
    "run",
    "root",
    "overwrite",
    "accept_changes",
    "logger",
    "trainer",
    "datamodule",
    "data.cache",
    "data.num_workers",
    "data.statistics",
)


@dataclass(frozen=True)
class Run:
    """One run folder. accuracy and macro_f1 in percent; scores: metrics.json; config: what must agree in a table;
    prefix, suffix: of its name, for another family of models and for what a sweep changed; fold: of those in sub."""

    folder: str
    mode: str
    sub: str
    init: str
    seed: int
    state: str
    reason: str = ""
    accuracy: float | None = None
    macro_f1: float | None = None
    prefix: str = ""
    suffix: str = ""
    fold: int = 0  # 0: none
    scores: dict[str, Any] = field(default_factory=dict, repr=False)
    config: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """Its mode in the table."""
        return f"{self.prefix}{self.mode}{self.suffix}"

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        del found["scores"]
        del found["config"]
        return found


@dataclass(frozen=True)
class Grid:
    """The runs a table expects."""

    modes: tuple[str, ...]
    subs: tuple[str, ...]
    inits: tuple[str, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One cell of the table: means and deviations in percent; gain: of CLIP over scratch, on the rows of "clip"."""

    mode: str
    sub: str
    init: str
    n: int
    accuracy: float | None
    accuracy_std: float | None
    macro_f1: float | None
    macro_f1_std: float | None
    published: float | None
    published_std: float | None
    difference: float | None
    pairs: int = 0
    gain: float | None = None
    gain_error: float | None = None
    p: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Summary:
    """rows of every cell that has a run; runs as collected; warnings in sentences."""

    rows: list[Row]
    runs: list[Run]
    grid: Grid
    warnings: list[str]

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], Row]:
        return {(r.mode, r.sub, r.init): r for r in self.rows}

    @property
    def simulated(self) -> bool:
        return any(run.config.get("data.origin._target_", "").endswith("Simulated") for run in self.runs)

    @property
    def pretrained(self) -> list[Run]:
        return [run for run in self.runs if run.mode == "clip" and run.state == "finished"]

    def missing(self) -> Iterator[tuple[str, str, str, list[int]]]:
        """(mode, sub, init, seeds) without any folder."""
        there = {(run.label, run.sub, run.init, run.seed) for run in self.runs}
        for mode, sub, init in product(self.grid.modes, self.grid.subs, self.grid.inits):
            seeds = [seed for seed in self.grid.seeds if (mode, sub, init, seed) not in there]
            if seeds:
                yield mode, sub, init, seeds


def collect(root: Path) -> list[Run]:
    """Every direct child of `root` that is a run folder."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: name the folder that holds the runs")
    return [read(p.parent) for p in sorted(root.glob("*/config.yaml"))]


def read(folder: Path) -> Run:
    """A run folder in whatever state; what cannot be read makes it "damaged"."""
    name = written_out(folder.name)
    names = name.rsplit("-", 3)
    try:
        cfg = read_stored(folder / "config.yaml", checked=False)
        check(cfg, stored.RunNames, folder / "config.yaml")
        protocol = str(cfg.get("protocol", cfg.sub))
        fold = FOLD.search(protocol)
        who: dict[str, Any] = {
            "folder": name,
            "mode": written_out(f"{cfg.mode}{cfg.get('task_name', '')}"),
            "prefix": written_out(str(cfg.get("prefix", ""))),
            "suffix": written_out(str(cfg.get("suffix", ""))),
            "sub": written_out(FOLD.sub(r"-\2folds", protocol)),
            "fold": int(fold[1]) if fold else 0,
            "init": written_out(str(cfg.init.name)),
            "seed": cfg.seed,
        }
        config = {key: value for key, value in flat(cfg) if not _free(key)}
    except (OSError, UserError, OmegaConfBaseException, AttributeError, TypeError, ValueError):
        if len(names) != 4 or not names[3].isdecimal():
            names = [name, "", "", "-1"]
        mode, sub, init, seed = names
        return Run(name, mode, sub, init, int(seed), "damaged", "config.yaml cannot be read")

    try:
        if (folder / "metrics.json").is_file():
            scores = stored.read(folder / "metrics.json", stored.Scores)
            percent = {k: 100 * scores[k] for k in ("accuracy", "macro_f1") if k in scores}
            return Run(**who, **percent, state="finished", scores=scores, config=config)
        if (folder / "failure.json").is_file():
            reason = stored.read(folder / "failure.json", stored.Failure)["reason"]
            return Run(**who, state="failed", reason=written_out(" ".join(reason.splitlines())), config=config)
    except (OSError, UserError) as error:
        return Run(**who, state="damaged", reason=first_line(error))

    return Run(**who, state="unfinished", reason=f"{epochs(folder)} epochs done", config=config)


def epochs(folder: Path) -> int:
    table = folder / "metrics.csv"
    try:
        return len(list(csv.DictReader(read_text(table).splitlines()))) if table.is_file() else 0
    except (UserError, csv.Error):
        return 0


def _free(key: str) -> bool:
    return key in FREE or key.startswith(tuple(k + "." for k in FREE))


def summarise(runs: Sequence[Run], grid: Grid) -> Summary:
    """Means over the seeds and folds of every cell, with its published number and, for "clip", the gain."""
    finished: dict[Cell, dict[tuple[int, int], Run]] = {}  # by seed and fold
    for run in runs:
        if run.state == "finished":
            finished.setdefault((run.label, run.sub, run.init), {})[run.seed, run.fold] = run

    rows = []
    for mode, sub, init in in_order(runs, grid):
        by_seed = finished.get((mode, sub, init))
        if not by_seed:
            continue
        accuracy, accuracy_std = mean_and_deviation(
            [run.accuracy for run in by_seed.values() if run.accuracy is not None]
        )
        f1 = mean_and_deviation([run.macro_f1 for run in by_seed.values() if run.macro_f1 is not None])
        paper = PUBLISHED.get(mode, {}).get(sub, {}).get(init, {})
        published = paper.get("mean")
        scatter = paper.get("std")
        off = (accuracy - published) / scatter if accuracy is not None and scatter else None
        row = Row(mode, sub, init, len(by_seed), accuracy, accuracy_std, *f1, published, scatter, off)

        if init == "clip":
            from_scratch = finished.get((mode, sub, "scratch"), {})
            gains = []
            for seed, run in by_seed.items():
                before = from_scratch[seed].accuracy if seed in from_scratch else None
                if before is not None and run.accuracy is not None:
                    gains.append(run.accuracy - before)
            mean, error, p = gain(gains)
            row = replace(row, pairs=len(gains), gain=mean, gain_error=error, p=p)
        rows.append(row)

    return Summary(rows, list(runs), grid, [*repeated(runs, grid), *disagreements(runs)])


def repeated(runs: Sequence[Run], grid: Grid) -> list[str]:
    """What is said of finished runs of one cell, seed and fold, of which the table counts the last alone."""
    cells = set(in_order(runs, grid))
    folders: dict[tuple[Cell, int, int], list[str]] = {}
    for run in runs:
        cell = run.label, run.sub, run.init
        if run.state == "finished" and cell in cells:
            folders.setdefault((cell, run.seed, run.fold), []).append(run.folder)

    out = []
    for (cell, seed, _), names in folders.items():
        if len(names) > 1:
            out.append(
                f"{len(names)} runs are of {' '.join(cell)} seed {seed} ({listed(names)}), of which the table "
                f"counts {names[-1]} alone: keep the others in another folder"
            )
    return out


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (ddof 1); None where there are too few."""
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def gain(differences: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean of the paired differences, its standard error, and p of the paired t-test (two-sided)."""
    if not differences:
        return None, None, None
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return mean, None, None
    error = float(np.std(differences, ddof=1) / np.sqrt(len(differences)))
    if error < 1e-12:  # every pair differs by the same
        return mean, 0.0, 1.0 if abs(mean) < 1e-12 else 0.0
    return mean, error, float(stats.ttest_1samp(differences, 0.0).pvalue)


def disagreements(runs: Sequence[Run]) -> list[str]:
    """Keys in which runs differ though nothing says they should: such runs must not be averaged unnoticed. Runs of
    another family or of other values of a sweep are in no average with the rest."""
    values: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for run in runs:
        for key, value in run.config.items():
            found = values.setdefault((key, run.prefix, run.suffix), {})
            found.setdefault(json.dumps(value), []).append(run.folder)
    out = []
    for (key, _, _), found in values.items():
        if len(found) < 2:
            continue
        parts = []
        for value, folders in found.items():
            parts.append(f"{value} in {len(folders)} runs (such as {folders[0]})")
        out.append(f"the runs differ in {key}: {'; '.join(parts)}")
    return out


def in_order(runs: Sequence[Run], grid: Grid) -> list[Cell]:
    """The cells that the table expects. Behind them those of the same modes that the paper does not have: other
    families, values of a sweep, labels per class, folds and starts."""
    expected = list(product(grid.modes, grid.subs, grid.inits))
    others = set()
    for run in runs:
        is_papers = run.label == run.mode and run.sub in FRACTIONS and run.init in STARTS
        if run.mode in grid.modes and run.accuracy is not None and not is_papers:
            others.add((run.label, run.sub, run.init))
    return expected + sorted(others - set(expected))


def by_mode(summary: Summary) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = {mode: [] for mode in summary.grid.modes}
    for row in summary.rows:
        found.setdefault(row.mode, []).append(row)
    return found
