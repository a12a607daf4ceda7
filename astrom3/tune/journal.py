"""The journal of a search: written by several workers, mended after a killed one."""

from __future__ import annotations

from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial

JOURNAL = "journal.log"
LOCK = "study.lock"
LOCKS = "locks"


def open_study(folder: Path, lock: FileLock) -> optuna.Study:
    """The study in the folder's journal. Hold the lock."""
    mend(folder / JOURNAL)
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
