"""One writer at a time in a folder, and readers that keep what they read.

The operating system holds the locks and gives them back when a process ends, however it ends. A killed process
therefore blocks nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from astrom3.errors import UserError, shown

try:
    import fcntl
except ImportError:  # Windows, where a file in use cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
PATIENCE = 3.0  # seconds: a process that was killed a moment ago still holds its lock


@contextmanager
def sole_writer(folder: Path, verb: str, key: str = "out", patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a folder that is there. UserError where another process holds it.

    verb names what the other process does, and key is the key of the configuration that names the folder.
    """
    with held(folder / LOCK, f"another {verb} is writing to {shown(folder)}", key, patience):
        yield


@contextmanager
def sole_maker(root: Path, verb: str, key: str = "out") -> Iterator[None]:
    """The same for a folder that is written beside its place and then renamed. The lock lies beside it, too."""
    root.parent.mkdir(parents=True, exist_ok=True)
    path = root.parent / f".{root.name}{LOCK}"
    with held(path, f"another {verb} is writing to {shown(root)}", key, PATIENCE):
        try:
            yield
        finally:
            with suppress(OSError):  # while it is held: whoever waits for it finds another file and tries again
                path.unlink()


@contextmanager
def held(path: Path, fact: str, key: str, patience: float) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT))  # where no file can be made there, this says why
        raise UserError(f"{fact}: wait until it has ended, or give another {key}=") from None
    try:
        yield
    finally:
        lock.release()


def reading(path: Path) -> BinaryIO:
    """An open file that says that somebody reads what lies beside it, until it is closed or its process ends.

    Raises OSError where the file is not there, or where it is being removed.
    """
    file = open(path, "rb")  # noqa: SIM115 whoever reads keeps it
    if fcntl is not None:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        except OSError:  # a file system without locks
            pass
    return file


def is_read(path: Path) -> bool:
    """Whether somebody holds `reading` of that file. Where nobody can, the answer is no."""
    if fcntl is None or not path.is_file():
        return False
    with open(path, "rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False
