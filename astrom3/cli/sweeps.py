"""A sweep on the command line: what its runs are, and whether its launcher can carry them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from astrom3.cli.config import chosen_option, parse_overrides
from astrom3.errors import UserError

PROCESSES = ("trainer.devices", "trainer.num_nodes")
CLUSTERS = ("slurm", "local")
LAUNCHERS = (*CLUSTERS, "packed")
KEEPERS = ("train", "tune")  # verbs with a root of runs, in which Hydra's files of a sweep lie too
NAMING = ("suffix", "run", "hydra.sweep.subdir")  # who gives one of them names the runs
LONGEST = 40  # letters of a value in the name of a run


def check_sweep(choices: Sequence[DictConfig], launcher: str | None, runs: int) -> None:
    """Whether this launcher can do these runs. launcher: option of the group hydra/launcher, None for Hydra's own.

    choices: configurations in which every value of the sweep stands once.
    """
    found = {key: [OmegaConf.select(c, key, default=1) for c in choices] for key in PROCESSES}
    devices, nodes = (values[0] for values in found.values())
    several = [f"{key}={v}" for key, values in found.items() for v in values if v not in (1, "1")]
    if several and launcher not in CLUSTERS:
        raise UserError(
            f"a sweep (-m) with {several[0]} cannot work in one process: each of its processes would "
            "start the sweep again; use one device per run, or let a launcher start the processes: "
            "hydra/launcher=slurm, or hydra/launcher=local without a cluster"
        )
    if launcher not in CLUSTERS:
        return
    if not isinstance(devices, int):
        raise UserError(
            f"trainer.devices={devices}: a launcher starts one process per device, so it needs their number"
        )
    for key, values in found.items():
        if any(v != values[0] for v in values):
            raise UserError(
                f"{key} differs between the runs ({', '.join(dict.fromkeys(map(str, values)))}), but all jobs of a "
                f"sweep with hydra/launcher={launcher} get the same number of processes: make it several sweeps"
            )
    if launcher == "local" and nodes != 1:
        raise UserError(f"trainer.num_nodes={nodes}: hydra/launcher=local starts processes of this machine only")
    if launcher == "local" and runs > 1 and runs * devices > (cores := os.cpu_count() or 1):
        raise UserError(
            f"hydra/launcher=local starts all {runs} runs at once, {runs * devices} processes on {cores} cores: use "
            f"hydra/launcher=packed hydra.launcher.n_jobs={cores}, or no launcher"
        )


@contextmanager
def folder_of_hydra(verb: str, launcher: str | None, overrides: Sequence[str]) -> Iterator[list[str]]:
    """The override with which Hydra's own files of a sweep go to a folder that is removed in the end.

    Empty for a verb that keeps them beside its runs, and on a cluster, whose jobs read them later.
    """
    given = any(override.startswith("hydra.sweep.dir=") for override in overrides)
    if verb in KEEPERS or given or launcher in CLUSTERS:
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="astrom3-sweep-") as folder:
        yield [f"hydra.sweep.dir='{folder}'"]


def sweep_runs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every run of a sweep, in Hydra's order."""
    return BasicSweeper.split_arguments(parse_overrides(overrides), None)[0]


def suffixes(runs: Sequence[Sequence[str]], folder_of: Callable[[Sequence[str]], str]) -> list[str]:
    """What has to end the name of each run of a sweep, so that no two are trained in one folder: the values of the
    swept keys that the name does not hold. folder_of: the folder of a run with these overrides."""
    first = runs[0]
    if any(override.lstrip("+").partition("=")[0] in NAMING for override in first):
        return [""] * len(runs)
    found = [""] * len(runs)
    folder = None
    for place, column in enumerate(zip(*runs, strict=True)):
        values = list(dict.fromkeys(column))
        if len(values) < 2:
            continue
        folder = folder or folder_of(first)
        other = [values[1] if here == place else override for here, override in enumerate(first)]
        if folder_of(other) == folder:
            texts = dict(zip(values, suffixes_of(values), strict=True))
            found = [before + texts[override] for before, override in zip(found, column, strict=True)]
    return found


def suffixes_of(overrides: Sequence[str]) -> list[str]:
    """Of the values of one key, such as -lr-0.001 for optim.lr=0.001; numbered where that would not tell them apart."""
    key = re.split(r"[./@]", overrides[0].lstrip("+").partition("=")[0])[-1]
    texts = [re.sub(r"[^\w.+-]+", "_", override.partition("=")[2]).strip("_")[:LONGEST] for override in overrides]
    if len(set(texts)) < len(texts):
        texts = [str(number) for number in range(1, len(texts) + 1)]
    return [f"-{key}-{text}" for text in texts]


@contextmanager
def named_apart(endings: Sequence[str]) -> Iterator[None]:
    """Hydra's sweeper gives each run its ending as an override, which any launcher hands on. It has no hook for that,
    so the sweeper that Hydra makes meanwhile gets a list of runs with endings."""
    plugins = Plugins.instance()
    plain = plugins.instantiate_sweeper

    def sweeper_with_endings(**settings: Any) -> Any:
        sweeper: Any = plain(**settings)
        split = sweeper.split_arguments
        sweeper.split_arguments = lambda *about: with_endings(split(*about), endings)
        return sweeper

    plugins.instantiate_sweeper = sweeper_with_endings  # type: ignore[method-assign]
    try:
        yield
    finally:
        plugins.instantiate_sweeper = plain  # type: ignore[method-assign]


def with_endings(batches: Sequence[Sequence[list[str]]], endings: Sequence[str]) -> list[list[list[str]]]:
    """The overrides of all runs, in batches, each with the end of its name."""
    rest = iter(endings)
    found = []
    for batch in batches:
        runs = []
        for run in batch:
            ending = next(rest)
            runs.append([*run, f"suffix='{ending}'"] if ending else run)
        found.append(runs)
    return found


def launcher_of(overrides: Sequence[str]) -> str | None:
    """The option of hydra/launcher on the command line."""
    launcher = chosen_option("hydra/launcher", overrides)
    if launcher not in (None, "basic", *LAUNCHERS):
        raise UserError(f"hydra/launcher={launcher} does not exist: it is one of {', '.join(LAUNCHERS)}")
    return launcher


def sweep_choices(overrides: Sequence[str]) -> list[list[str]]:
    """Lists of overrides in which every value of every sweep stands once, beside the first of the others."""
    parsed = parse_overrides(overrides)
    options: list[list[str]] = []
    for override, text in zip(parsed, overrides, strict=True):
        value = override.value()
        if isinstance(value, ChoiceSweep):
            options.append([f"{override.get_key_element()}={_text(v)}" for v in value.list])
        elif override.is_sweep_override():
            options.append([])  # a range or glob: Hydra itself checks it
        else:
            options.append([text])
    first = []
    for o in options:
        if o:
            first.append(o[0])
    lists = [first]
    for choices in options:
        lists += [[c if f in choices else f for f in first] for c in choices[1:]]
    return lists


def _text(value: Any) -> str:
    if isinstance(value, QuotedString):
        mark = "'" if value.quote == Quote.single else '"'
        return f"{mark}{value.text}{mark}"
    return str(value)
