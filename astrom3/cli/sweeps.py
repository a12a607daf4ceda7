"""A sweep on the command line: what its runs are, and whether its launcher can carry them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from astrom3.cli.config import chosen_option, parse_overrides
from astrom3.errors import UserError

PROCESSES = ("trainer.devices", "trainer.num_nodes")
CLUSTERS = ("slurm", "local")
LAUNCHERS = (*CLUSTERS, "packed")
KEEPERS = ("train", "tune")  # verbs with a root of runs, in which Hydra's files of a sweep lie too


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
