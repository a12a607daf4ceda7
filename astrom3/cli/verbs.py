"""What every verb's command line shares: `run_verb("train", train)` is all its `main` does.

Overrides are checked before anything heavy is imported; a UserError becomes one sentence on standard error and exit
status 2; Ctrl-C becomes status 130. `-m` sweeps, `--help` and `--cfg job` are Hydra's own.
"""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from astrom3.cli import composing, config, sweeps, wall
from astrom3.errors import UserError, first_line, printable
from astrom3.files import left_by_the_dead, maker

Verb = Callable[[DictConfig], Any]
log = logging.getLogger(__name__)
FOLDERS = ("run", "study", "out", "index")  # keys of folders that Hydra or a verb makes before it has anything to keep
OF_LAUNCHERS = (RuntimeError, TimeoutError, multiprocessing.TimeoutError)
UNENDED = "it has not ended: its process was killed, its job goes on, or the launcher gave up"
SPINS = "20000"  # of an idle OpenMP thread (GNU's default 300,000) before it sleeps
TELLING = {"--help", "-h", "--hydra-help", "--info", "--version", "--cfg", "-c"}  # flags with which nothing is run


def run_verb(name: str, function: Verb, argv: Sequence[str] | None = None) -> None:
    """Compose conf/<name>.yaml with the command line's overrides, check it, and call `function` with it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    calm_threads()
    write_any_name()
    try:
        arguments = config.with_own_folders(arguments)
        run(name, function, arguments)
    except (Exception, KeyboardInterrupt) as error:
        sentence, status = wall.answer(error)
        wall.show(error)
        print(f"astrom3 {name}: {printable(sentence)}", file=sys.stderr)
        sys.exit(status)


def write_any_name() -> None:
    """Names of files that are no UTF-8 can be logged: their bytes are written out, as on standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def calm_threads() -> None:
    """Before torch is imported: its idle threads soon sleep, so that our own (models/threads.py) and those of runs side
    by side find a free core: inference of the light-curve encoder in bfloat16 is 10 % faster on two cores."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


class SweepError(UserError):
    """failed: run -> reason, of a sweep that came to its end all the same."""

    def __init__(self, failed: Mapping[str, str], runs: int):
        listed = "".join(f"\n  {run}: {reason}" for run, reason in failed.items())
        super().__init__(f"{len(failed)} of {runs} runs failed:{listed}", lines=True)
        self.failed = dict(failed)


def run(name: str, function: Verb, arguments: list[str]) -> None:
    """The same with exceptions in place of exit statuses; a sweep raises SweepError at its end where a run failed."""
    check_flags(arguments)
    flags = {a for a in arguments if a.startswith("-")}
    overrides = config.quote_groups([a for a in arguments if not a.startswith("-")], name)
    if flags & TELLING:
        through_hydra(name, function, function, arguments)
    elif flags & {"-m", "--multirun"}:
        run_sweep(name, function, arguments, overrides)
    else:
        run_one(name, function, arguments, overrides)


def check_flags(arguments: Sequence[str]) -> None:
    """UserError where Hydra does not take a flag, or where it would run something else than this verb."""
    parser = get_args_parser()
    parser.error = refuse_flags  # type: ignore[method-assign,assignment]
    given = parser.parse_args([a for a in arguments if a != "--version"])
    for flag in ("experimental_rerun", "config_path", "config_name"):
        if getattr(given, flag) is not None:
            raise UserError(f"--{flag.replace('_', '-')} is not taken: give key=value, and --config-dir for own files")
    if given.resolve and given.cfg is None and not given.help:
        raise UserError("--resolve goes with --cfg job: add it")


def refuse_flags(complaint: str) -> NoReturn:
    raise UserError(f"{config.keys.shortened(complaint, 300)} (settings are key=value; --help shows them)")


def run_one(name: str, function: Verb, arguments: list[str], overrides: list[str]) -> None:
    composed = config.compose_unresolved(overrides, name)
    finished = config.finish(composed)
    made = absent_folders(finished)
    # With flags or settings of Hydra's own, its main composes again and decides what to do.
    composed_once = len(arguments) == len(overrides) and not any("hydra" in o.partition("=")[0] for o in overrides)
    failures: list[BaseException] = []

    def task(cfg: DictConfig) -> Any:
        try:
            return function(finished if composed_once else config.finish(cfg))
        except (Exception, KeyboardInterrupt) as error:  # Hydra would print a traceback of its own
            failures.append(error)
            return None

    try:
        if composed_once:
            composing.run(composed, task)
        else:
            through_hydra(name, function, task, arguments)
        if failures:
            raise failures[0]
    except BaseException:
        remove_empty(made)
        raise


def absent_folders(cfg: DictConfig) -> list[Path]:
    """Folders that Hydra will make before the verb begins, for a log, or the verb itself, the innermost first."""
    found = []
    for key in FOLDERS:
        if cfg.get(key) is not None:
            folder = Path(str(cfg[key])).absolute()
            found += [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    return found


def remove_empty(folders: Sequence[Path]) -> None:
    """Those in which nothing was written."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def run_sweep(name: str, function: Verb, arguments: list[str], overrides: list[str]) -> None:
    runs = sweeps.sweep_runs(overrides)
    launcher = sweeps.launcher_of(overrides)
    choices = [config.compose(choice, name) for choice in sweeps.sweep_choices(overrides)]
    sweeps.check_sweep(choices, launcher, len(runs))
    endings = [""] * len(runs)
    if "run" in choices[0]:
        endings = sweeps.suffixes(runs, lambda overrides: config.compose(overrides, name).run)
    outcomes = Outcomes(Path(choices[0].get("root", tempfile.gettempdir())).absolute(), len(runs))
    outcomes.remove_leftovers()

    def task(cfg: DictConfig) -> Any:
        from hydra.core.hydra_config import HydraConfig

        job = HydraConfig.get()
        workers = {None: 1, "basic": 1, "packed": job.launcher.get("n_jobs", 1)}.get(launcher, 0)
        return run_of_sweep(function, cfg, job.job.num, job.overrides.task, outcomes, workers)

    broken: BaseException | None = None
    try:
        with sweeps.folder_of_hydra(name, launcher, overrides) as elsewhere, sweeps.named_apart(endings):
            through_hydra(name, function, task, [*arguments, *elsewhere])
    except (SystemExit, BrokenProcessPool) as end:  # a launcher that lost a process
        broken = end
    finally:
        ended = outcomes.collect()
    if broken is not None and len(ended) == len(runs):
        raise broken
    failed: dict[str, str] = {}
    for o in ended.values():
        if o["reason"] is not None:
            failed[another(o["run"], failed)] = o["reason"]
    for number in sorted(set(range(len(runs))) - set(ended)):
        silent = str(config.compose(runs[number], name).get("run") or " ".join(runs[number])) + endings[number]
        failed[another(silent, failed)] = UNENDED
    if failed:
        raise SweepError(failed, len(runs))


def another(name: str, known: Collection[str]) -> str:
    """The name of a run, numbered where one of the same name is known already."""
    number = 2
    found = name
    while found in known:
        found = f"{name} ({number})"
        number += 1
    return found


def through_hydra(name: str, function: Verb, task: Verb, arguments: list[str]) -> None:
    task.__module__ = function.__module__
    main = hydra.main(version_base="1.3", config_path=str(config.CONFIG_DIR), config_name=name)(task)
    before = sys.argv
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors as they are, for our own wall
    sys.argv = [before[0], *config.quote_groups(arguments, name)]
    try:
        composing.check_own_files(arguments)
        main()
    except composing.UNREADABLE as error:
        raise UserError(composing.of_files(error)) from None
    except BrokenProcessPool:  # which `run_sweep` knows
        raise
    except (*config.OF_HYDRA, *OF_LAUNCHERS) as error:  # a verb's own never come here
        raise UserError(f"Hydra cannot use its settings (hydra.*): {first_line(error)}") from error
    finally:
        sys.argv = before


@dataclass
class Outcomes:
    """How the runs of a sweep ended, one line of JSON each, written by whichever process a launcher gave them to."""

    root: Path
    runs: int
    id: str = field(default_factory=maker)

    @property
    def path(self) -> Path:
        return self.root / f".sweep.{self.id}.part"

    def remove_leftovers(self) -> None:
        """What killed sweeps of this machine have left in the folder."""
        for left, _ in left_by_the_dead(self.root / "sweep"):
            left.unlink(missing_ok=True)

    def add(self, number: int, run: str, reason: str | None, seconds: float) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:  # one small write to the end of the file
            file.write(json.dumps({"number": number, "run": run, "reason": reason, "seconds": seconds}) + "\n")

    def read(self) -> dict[int, dict[str, Any]]:
        """Number of the run -> its outcome."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return {outcome["number"]: outcome for outcome in map(json.loads, lines)}

    def collect(self) -> dict[int, dict[str, Any]]:
        """The same, at the end: the file is removed."""
        ended = self.read()
        self.path.unlink(missing_ok=True)
        return ended

    def minutes_left(self, number: int, workers: int) -> str:
        """From the runs that took their time: finished ones are skipped in no time."""
        seconds = []
        for o in self.read().values():
            if o["seconds"] > 0.5:
                seconds.append(o["seconds"])
        if not seconds or workers < 1:
            return ""
        return f", about {sum(seconds) / len(seconds) * (self.runs - number) / workers / 60:.1f} min left"


def run_of_sweep(
    function: Verb, cfg: DictConfig, number: int, given: Sequence[str], outcomes: Outcomes, workers: int
) -> Any:
    """One run; whatever goes wrong is noted, and the sweep goes on with the next."""
    from astrom3.hardware import first_process

    name = str(cfg.get("run") or " ".join(given))
    start = time.monotonic()
    reason = None
    result = None
    log.info("run %d of %d%s: %s", number + 1, outcomes.runs, outcomes.minutes_left(number, workers), name)
    try:
        result = function(config.finish(cfg))
    except UserError as error:
        reason = str(error)
    except Exception as error:
        wall.show(error)
        reason = wall.answer(error)[0]
    if reason is not None:
        log.error("failed: %s: %s", name, reason)
    if first_process():
        outcomes.add(number, name, reason, time.monotonic() - start)
    return result
