"""What every verb's command line shares: `run_verb("train", train)` is all its `main` does.

Overrides are checked before anything heavy is imported; a UserError becomes one sentence on standard error and exit
status 2; Ctrl-C becomes status 130. `-m` sweeps, `--help` and `--cfg job` are Hydra's own.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from astrom3 import config
from astrom3.errors import UserError

Verb = Callable[[DictConfig], Any]
log = logging.getLogger(__name__)


def run_verb(name: str, function: Verb, argv: Sequence[str] | None = None) -> None:
    """Compose conf/<name>.yaml with the command line's overrides, check it, and call `function` with it."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        run(name, function, arguments)
    except UserError as error:
        print(f"astrom3 {name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"astrom3 {name}: interrupted", file=sys.stderr)
        sys.exit(130)


def run(name: str, function: Verb, arguments: list[str]) -> None:
    """The same with exceptions in place of exit statuses; a sweep raises UserError at its end where a run failed."""
    flags = [a for a in arguments if a.startswith("-")]
    overrides = config.quote_groups([a for a in arguments if not a.startswith("-")])
    sweep = "-m" in flags or "--multirun" in flags
    if {"--help", "-h", "--hydra-help", "--info", "--version", "--cfg", "-c"} & set(flags):
        sweep = False
    elif sweep:
        runs, launcher = config.sweep_runs(overrides), config.launcher_of(overrides)
        for choice in config.sweep_choices(overrides):
            cfg = config.compose(choice, name)
            config.check_sweep(cfg, launcher, len(runs))
        outcomes = Outcomes(Path(cfg.get("root", tempfile.gettempdir())), len(runs))
    else:
        config.compose(overrides, name)
    failures: list[UserError] = []

    def task(cfg: DictConfig) -> Any:
        from hydra.core.hydra_config import HydraConfig

        if sweep:
            return run_of_sweep(function, cfg, HydraConfig.get().job.num, HydraConfig.get().overrides.task, outcomes)
        try:
            return function(config.finish(cfg))
        except UserError as error:  # Hydra would print a traceback of its own
            failures.append(error)
            return None

    task.__module__ = function.__module__
    main = hydra.main(version_base="1.3", config_path=str(config.CONFIG_DIR), config_name=name)(task)
    before = sys.argv
    sys.argv = [before[0], *config.quote_groups(arguments)]
    try:
        main()
    finally:
        sys.argv = before
        failed = outcomes.collect() if sweep else []
    if failed:
        raise UserError(f"{len(failed)} of {len(runs)} runs failed:\n  " + "\n  ".join(failed))
    if failures:
        raise failures[0]


@dataclass
class Outcomes:
    """How the runs of a sweep ended, one line of JSON each, written by whichever process a launcher gave them to."""

    root: Path
    runs: int
    id: str = field(default_factory=lambda: f"{int(time.time())}-{secrets.token_hex(4)}")
    started: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        return self.root.absolute() / f".sweep-{self.id}.jsonl"

    def add(self, run: str, reason: str | None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:  # one small write to the end of the file
            file.write(json.dumps({"run": run, "reason": reason}) + "\n")

    def collect(self) -> list[str]:
        """`run: reason` of every failed run; the file is removed."""
        found = [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        self.path.unlink(missing_ok=True)
        return [f"{o['run']}: {o['reason']}" for o in found if o["reason"] is not None]


def run_of_sweep(function: Verb, cfg: DictConfig, number: int, given: Sequence[str], outcomes: Outcomes) -> Any:
    """One run; whatever goes wrong is noted, and the sweep goes on with the next."""
    name, reason, result = str(cfg.get("run") or " ".join(given)), None, None
    minutes = (time.monotonic() - outcomes.started) / 60
    left = f", about {minutes / number * (outcomes.runs - number):.0f} min left" if number and minutes > 0 else ""
    log.info("run %d of %d%s: %s", number + 1, outcomes.runs, left, " ".join(given))
    try:
        result = function(config.finish(cfg))
    except UserError as error:
        reason = str(error)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    if reason is not None:
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if int(os.environ.get("RANK", 0)) == 0:
        outcomes.add(name, reason)
    return result
