"""The journal of a search: written by several workers, mended after a killed one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from astrom3.errors import UserError, first_line, shown
from astrom3.files import check_regular

JOURNAL = "journal.log"
LOCK = "study.lock"
LOCKS = "locks"
# What Optuna raises at records that it has not written.
OF_A_JOURNAL = (
    OptunaError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RecursionError,
)


def open_study(folder: Path, lock: FileLock, keys: Iterable[str] = ()) -> optuna.Study:
    """The study in the folder's journal. Hold the lock. UserError where the journal is damaged, or its trials
    were not given all of the keys that are searched."""
    path = folder / JOURNAL
    check_regular(path)
    mend(path)
    try:
        study = study_of(folder, lock)
        check_trials(study, set(keys))
    except OF_A_JOURNAL as error:
        raise UserError(
            f"{shown(path)} is damaged or not of astrom3 ({first_line(error)}): give another study=, or overwrite=true "
            "to start afresh"
        ) from None
    return study


def check_trials(study: optuna.Study, keys: set[str]) -> None:
    """Raise ValueError where trials lack what `tune` has written of each."""
    for place, trial in enumerate(study.get_trials(deepcopy=False)):
        if trial.number != place:
            raise ValueError(f"trial {trial.number} stands at place {place}")
        trial._validate()
        if not keys <= trial.params.keys():
            raise ValueError(f"trial {place} has no {min(keys - trial.params.keys())}")
        reason = trial.user_attrs.get("reason")
        if trial.state == TrialState.FAIL and not isinstance(reason, str):
            raise ValueError(f"trial {place} failed without a reason")
        is_complete = trial.state == TrialState.COMPLETE
        if is_complete and (len(trial.values) != 1 or not math.isfinite(trial.values[0])):
            raise ValueError(f"trial {place} has not one finite result")
        if is_complete and not isinstance(trial.user_attrs.get("best_epoch"), int):
            raise ValueError(f"trial {place} has no best epoch")


def study_of(folder: Path, lock: FileLock) -> optuna.Study:
    """As Optuna reads or begins it."""
    backend = JournalFileBackend(str(folder / JOURNAL), lock_obj=FolderLock(lock))
    storage = JournalStorage(backend)
    if storage.get_all_studies():
        return optuna.load_study(storage=storage, study_name="tune")
    return optuna.create_study(storage=storage, study_name="tune")  # minimises


class FolderLock(JournalFileOpenLock):
    """The kernel takes it back from a process that dies; Optuna's own file stays behind and blocks for 30 s."""

    def __init__(self, lock: FileLock):
        self.lock = lock

    def acquire(self) -> bool:
        self.lock.acquire()
        return True

    def release(self) -> None:
        self.lock.release()


def mend(journal: Path) -> None:
    """Half a last line, left by a machine that stopped while writing, would spoil the next one."""
    content = journal.read_bytes() if journal.exists() else b""
    if content and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def take(path: Path) -> FileLock | None:
    """The lock of a trial, unless a living process holds it (with data.num_workers > 0 until these have ended too)."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def finished(study: optuna.Study) -> list[FrozenTrial]:
    return [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
