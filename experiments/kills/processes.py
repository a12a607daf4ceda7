"""Real processes that start at once: forked from a server that has imported the heavy packages already."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = [
    "lightning",
    "torch.distributed",
    "optuna",
    "hydra",
    "astrom3.train",
    "astrom3.cli.verbs",
    "astrom3.tasks.contrastive",
    "astrom3.tasks.masked",
    "astrom3.training.build",
    "astrom3.training.evaluation",
    "astrom3.data.datamodule",
    "experiments.kills.processes",
]
CONTEXT.set_forkserver_preload(PRELOADED)
MODULES = {name: f"astrom3.{name}.__main__" for name in ("simulate", "convert", "embed", "search", "export", "tune")}
MODULES["train"] = "astrom3.train"
LONGEST = 900.0  # seconds of one command
GRACE = 15.0  # seconds in which the processes of a killed command must end


def start(verb: str, arguments: Iterable[str], output: Path, environment: Mapping[str, str]) -> ForkServerProcess:
    """The command in a process group of its own. Its output is added to the file `output`."""
    process = CONTEXT.Process(target=command, args=(verb, list(arguments), str(output), dict(environment)))
    process.start()
    return process


def command(verb: str, arguments: list[str], output: str, environment: Mapping[str, str]) -> None:
    """What the process does: the main function of a verb, as `python -m astrom3.<verb>` calls it."""
    os.setsid()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(output, "a", buffering=1, encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        import torch

        torch.set_num_threads(1)
        sys.argv = [f"astrom3-{verb}", *arguments]
        importlib.import_module(MODULES[verb]).main()


def ended(process: ForkServerProcess, seconds: float = LONGEST) -> int:
    """Exit status of a process that must end by itself."""
    process.join(seconds)
    if process.exitcode is None:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        raise TimeoutError(f"the command did not end in {seconds:.0f} s")
    return process.exitcode


def left_over(group: int) -> list[int]:
    """Processes of a group that are still there after the time of grace. They are ended then."""
    limit = time.monotonic() + GRACE
    members = of_group(group)
    while members and time.monotonic() < limit:
        time.sleep(0.1)
        members = of_group(group)
    for member in members:
        os.kill(member, signal.SIGKILL)
    return members


def of_group(group: int) -> list[int]:
    """Living processes of a process group, from /proc. The list is empty where there is no /proc."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:  # it has ended meanwhile
            continue
        fields = text.rpartition(")")[2].split()
        state = fields[0]
        if int(fields[2]) == group and state != "Z":
            members.append(int(folder.name))
    return members
