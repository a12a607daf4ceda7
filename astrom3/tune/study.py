"""A search for hyper-parameters that can be killed at any moment and shared between processes.

config.yaml   the configuration of the search
journal.log   every trial (Optuna's journal); written only under study.lock
trial-000/    the run folder of a trial, which `train` fills and goes on with
locks/        one lock per trial, held by the process that trains it
trials.csv, tune.png, best.yaml   what came out, rewritten after every trial

What a trial is given is a function of the seed, its number and the trials before it, and it enters the journal in one
record. So a search interrupted and started again has the trials of one never interrupted; with several processes the
draws depend on who finishes when.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from astrom3.cli import wall
from astrom3.errors import UserError
from astrom3.files import MARK, OutputFolder, read_text, write_text
from astrom3.locks import LOCK as LOCK_OF_FOLDER
from astrom3.registry import read_stored
from astrom3.train import train
from astrom3.training.run import CONFIG, LOGS, clear, differences, first_line, run_folder
from astrom3.tune import results
from astrom3.tune.journal import JOURNAL, LOCK, LOCKS, finished, open_study, take
from astrom3.tune.space import Range, Space, as_overrides, trial_config

log = logging.getLogger(__name__)
MAY_CHANGE = ("study", "tune.trials", "tune.failures", "tune.keep")
FILES = (CONFIG, JOURNAL, results.TABLE, results.BEST, results.PICTURE)
REDRAW = 20  # seconds: the picture is drawn again after trials that took longer


class Search:
    def __init__(self, cfg: DictConfig, overrides: Sequence[str], space: Space):
        self.cfg = cfg
        self.overrides = list(overrides)
        self.space = space
        self.folder = Path(cfg.study)
        self.lock = FileLock(self.folder / LOCK)
        self.durations: list[float] = []
        self.failures: list[str] = []  # in a row

    def run(self) -> dict[str, Any]:
        """All trials that are not taken yet; returns best.yaml. Raises UserError where none succeeded."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        begins = not (self.folder / JOURNAL).exists()
        if begins:
            self.check_folder()
            prepare(self.cfg)  # without data and a start, nothing is left in the folder
        with self.open():
            self.study = open_study(self.folder, self.lock, self.space)
            done = len(finished(self.study))
            log.info("%s: %d of %d trials finished", self.folder, done, self.cfg.tune.trials)

        if done < self.cfg.tune.trials and not begins:
            prepare(self.cfg)
        while (claimed := self.claim()) is not None:
            trial, held = claimed
            with held:
                self.finish(trial, *self.train(trial))
            self.check_failures()

        with self.lock:
            return self.conclude()

    # --- the folder ---------------------------------------------------------------------------------------------------

    def check_folder(self) -> None:
        """UserError where the folder is not of a search."""
        self.output = OutputFolder(self.folder, "tune", legacy=written_before, ignored=(*LOGS, LOCK, LOCKS))
        self.output.check(FILES, self.cfg.overwrite, "study")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold the folder's lock once it is this configuration's."""
        self.check_folder()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.lock:
            kept = self.folder / CONFIG
            if self.cfg.overwrite:
                self.clear()
            elif kept.is_file() and (changed := self.differences(read_stored(kept, checked=False))):
                raise UserError(
                    f"{self.folder} holds a search with another configuration ({'; '.join(changed[:3])}"
                    f"{f'; {len(changed) - 3} more' if len(changed) > 3 else ''}): give another study=<folder>, or "
                    "overwrite=true to start afresh"
                )
            self.output.open(FILES, self.cfg.overwrite, "study")
            write_text(kept, OmegaConf.to_yaml(self.cfg))
            (self.folder / LOCKS).mkdir(exist_ok=True)
            yield

    def differences(self, old: DictConfig) -> list[str]:
        found = []
        for d in differences(old, self.cfg):
            if not d.startswith(tuple(f"{k}: " for k in MAY_CHANGE)):
                found.append(d)
        return found

    def clear(self) -> None:
        for path in (self.folder / LOCKS).glob("*"):
            if held := take(path):
                held.release()
            else:
                raise UserError(f"another process is searching in {self.folder}: end it before overwrite=true")

        for path in self.folder.glob("trial-*"):
            if not path.is_symlink() and run_folder(path).is_own:
                clear(path)
                for name in (MARK, LOCK_OF_FOLDER, "train.log"):
                    (path / name).unlink(missing_ok=True)
                with suppress(OSError):  # files of somebody else are in it
                    path.rmdir()

        if self.output.is_own:
            shutil.rmtree(self.folder / LOCKS, ignore_errors=True)
        self.output.remove()

    def trial_folder(self, number: int) -> Path:
        return self.folder / f"trial-{number:03d}"

    # --- one trial ----------------------------------------------------------------------------------------------------

    def claim(self) -> tuple[Trial, FileLock] | None:
        """A trial that a dead process left, or a new one, with its lock; None when all are finished or taken."""
        with self.lock:
            trials = self.study.get_trials(deepcopy=False)
            for left in (t for t in trials if t.state == TrialState.RUNNING):
                if held := take(self.lock_of(left.number)):
                    log.info("trial %d goes on", left.number)
                    return Trial(self.study, left._trial_id), held
            if not self.claimable():
                return None
            number = len(trials)
            self.study.add_trial(draw(self.space, self.cfg.tune.seed, trials))  # one record: drawn whole or not at all
            held = take(self.lock_of(number))
            assert held is not None
            return Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id), held

    def lock_of(self, number: int) -> Path:
        return self.folder / LOCKS / f"{number:03d}"

    def train(self, trial: Trial) -> tuple[dict[str, Any] | None, str]:
        """The best epoch of the trial, or None and the reason why there is none."""
        start = time.monotonic()
        run = self.trial_folder(trial.number)
        try:
            cfg = trial_config(self.overrides, trial.params, run)
            with quiet(), command_line([*self.overrides, *as_overrides(trial.params)]):
                train(cfg)
            return best_epoch(run / "metrics.csv"), ""
        except UserError as error:
            return None, str(error)
        except Exception as error:  # whatever it is, the next trial may do better
            wall.show(error)
            return None, f"{type(error).__name__}: {first_line(error)}"
        finally:
            self.durations.append(time.monotonic() - start)

    def finish(self, trial: Trial, epoch: dict[str, Any] | None, reason: str) -> None:
        self.failures = [*self.failures, reason] if epoch is None else []
        with self.lock:
            if epoch is None:
                trial.set_user_attr("reason", reason)
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                trial.set_user_attr("best_epoch", epoch["epoch"])
                trial.set_user_attr("val_accuracy", epoch["accuracy"])
                self.study.tell(trial, epoch["loss"])
            self.remove_weights()
            self.write(picture=self.durations[-1] > REDRAW)
            log.info(
                "trial %d: %s%s",
                trial.number,
                f"failed: {reason}" if epoch is None else f"{epoch['loss']:.5g}",
                self.outlook(),
            )

    def check_failures(self) -> None:
        """A full disk or a lost GPU fails trial after trial: keep the rest of the study from it."""
        if len(self.failures) == self.cfg.tune.failures and self.claimable():
            raise UserError(
                f"{len(self.failures)} trials in a row failed, the last with: {self.failures[-1]}; the same command "
                "goes on with the next ones (tune.failures=null: whatever happens)"
            )

    def claimable(self) -> bool:
        return len(self.study.get_trials(deepcopy=False)) < self.cfg.tune.trials

    def outlook(self) -> str:
        """`, best so far ..., ... left: about ... min`"""
        best = results.best_trial(self.study)
        trials = self.study.get_trials(deepcopy=False)
        workers = 1 + sum(t.state == TrialState.RUNNING for t in trials)
        left = max(0, self.cfg.tune.trials - len(finished(self.study)))
        seconds = sum(self.durations) / len(self.durations) * left / workers
        time_left = f"{seconds / 60:.0f} min" if seconds > 100 else f"{seconds:.0f} s"
        so_far = f", best so far {best.value:.5g} (trial {best.number})" if best else ""
        return so_far + (f", {left} left: about {time_left}" if left else "")

    def remove_weights(self) -> None:
        """keep=best: those of finished trials that are not the best; their metrics and pictures stay."""
        best = results.best_trial(self.study)
        for trial in finished(self.study) if self.cfg.tune.keep == "best" else []:
            if trial.number != (best and best.number):
                folder = run_folder(self.trial_folder(trial.number))
                folder.remove([n for n in folder.files or () if n.startswith(("checkpoints/", "model/"))])

    # --- the end ------------------------------------------------------------------------------------------------------

    def write(self, picture: bool) -> dict[str, Any] | None:
        trials = self.study.get_trials(deepcopy=False)
        best = results.best_trial(self.study)
        results.write_table(self.folder / results.TABLE, trials, list(self.space))
        if best and picture:
            logged = []
            for k, r in self.space.items():
                if r.kind == "log":
                    logged.append(k)
            results.draw(self.folder / results.PICTURE, trials, list(self.space), logged)
        return results.write_best(self.folder / results.BEST, best, self.overrides) if best else None

    def conclude(self) -> dict[str, Any]:
        self.remove_weights()
        best = self.write(picture=True)
        trials = self.study.get_trials(deepcopy=False)
        running = sum(t.state == TrialState.RUNNING for t in trials)
        if running:
            log.info("%d trials are still being trained by another process", running)
        if best is None:
            reasons = [t.user_attrs["reason"] for t in trials if t.state == TrialState.FAIL]
            if not reasons:
                raise UserError("no trial is finished yet; another process is training")
            raise UserError(
                f"all {len(reasons)} trials failed, the first with: {reasons[0]} (all in "
                f"{self.folder / results.TABLE}; overwrite=true starts afresh)"
            )

        log.info(
            "best of %d finished trials: %d, validation loss %.5g\n%s",
            len(trials) - running,
            best["trial"],
            best["value"],
            best["command"],
        )
        return best


def written_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has written to the folder of a search, None where it is none (see OutputFolder)."""
    if not (folder / CONFIG).is_file() or not (folder / LOCKS).is_dir():
        return None
    return [name for name in FILES if (folder / name).exists()] + [p.name for p in folder.glob("trial-*")]


def draw(space: Space, seed: int, before: Sequence[FrozenTrial]) -> FrozenTrial:
    """The next trial by TPE with Optuna's defaults: ten random trials, then Parzen estimators of good and bad ones.

    The paper's one sampler with seed 42 would have to survive every interruption; here each trial has its own, seeded
    with (seed, number). Trials that other processes are training count as bad ones, so that theirs are not repeated.
    """
    number = int.from_bytes(hashlib.sha256(f"{seed}/{len(before)}".encode()).digest()[:4], "little")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna 4 calls constant_liar experimental
        sampler = optuna.samplers.TPESampler(seed=number, multivariate=False, constant_liar=True)
    memory = optuna.create_study(sampler=sampler)
    memory.add_trials(before)
    distributions = {key: distribution(r) for key, r in space.items()}
    params = memory.ask(fixed_distributions=distributions).params
    return optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)


def distribution(drawn: Range) -> BaseDistribution:
    if drawn.kind == "int":
        return IntDistribution(int(drawn.low), int(drawn.high))
    return FloatDistribution(drawn.low, drawn.high, log=drawn.kind == "log")


def prepare(cfg: DictConfig) -> None:
    """Data and start must be there before the first trial: without them all would fail."""
    from astrom3 import registry

    registry.instantiate(cfg.init.start, cfg.allow).check()
    from astrom3.hardware import quieten
    from astrom3.training.build import build

    quieten()
    build(cfg, cfg.allow)


def best_epoch(table: Path) -> dict[str, Any]:
    """The epoch of the lowest validation loss; what is searched for never looks at the test split."""
    name = f"{table.parent.name}/{table.name}"
    try:
        rows = list(csv.DictReader(read_text(table).splitlines()))
        rows = [r for r in rows if r.get("val/loss") and math.isfinite(float(r["val/loss"]))]
        if not rows:
            raise UserError(f"no finite validation loss in {name}")
        row = min(rows, key=lambda r: float(r["val/loss"]))
        accuracy = float(row["val/accuracy"]) if row.get("val/accuracy") else None
        return {"epoch": int(row["epoch"]), "loss": float(row["val/loss"]), "accuracy": accuracy}
    except (csv.Error, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name} is damaged ({error}): remove its folder, and the trial is made again") from None


@contextmanager
def command_line(overrides: Sequence[str]) -> Iterator[None]:
    """A trial's run.json names the command that trains it."""
    before = sys.argv
    sys.argv = ["train", *results.for_train(overrides)]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def quiet() -> Iterator[None]:
    """One line per trial: the epochs are in each trial's metrics.csv."""
    names = ("astrom3", "lightning", "lightning.pytorch", "lightning.fabric")
    before = [logging.getLogger(n).level for n in names]
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in zip(names, before, strict=True):
            logging.getLogger(name).setLevel(level)
