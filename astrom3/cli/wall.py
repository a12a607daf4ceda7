"""The last wall: whatever comes out of a verb becomes one sentence and an exit status.

2: something the user can put right; 1: a fault of astrom3, with the place where it happened (the whole traceback is
shown where ASTROM3_TRACEBACK=1).
"""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

from astrom3.errors import UserError, first_line, shown

SHOW = "ASTROM3_TRACEBACK"
ADVICE = {
    errno.ENOSPC: "the disk is full: make room there, or give another folder",
    errno.EDQUOT: "your quota is used up: make room there, or give another folder",
    errno.EACCES: "permission is denied: give a folder that you may write to and files that you may read",
    errno.EPERM: "that is not permitted: give a folder that you may write to and files that you may read",
    errno.EROFS: "the file system is read-only: give another folder",
    errno.ENAMETOOLONG: "the name is too long: give a shorter one",
    errno.ELOOP: "its symbolic links lead in a circle: give the real path",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.EEXIST: "there is something of that name already, and it is not a folder",
    errno.ENOENT: "there is no such file or folder, and it cannot be made there",
    errno.EIO: "it cannot be read or written (input/output error): copy or fetch it again, or give another",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
}
# Exceptions of libraries that speak of what they were given, by the package and name of the class.
OF_INPUT = {
    ("lightning", "MisconfigurationException"),
    ("lightning_fabric", "MisconfigurationException"),
    ("pyarrow", "ArrowInvalid"),
    ("pyarrow", "ArrowTypeError"),
    ("pyarrow", "ArrowKeyError"),
    ("pyarrow", "ArrowNotImplementedError"),
    ("pyarrow", "ArrowIndexError"),
    ("pyarrow", "ArrowCapacityError"),
    ("pyarrow", "ArrowSerializationError"),
    ("safetensors_rust", "SafetensorError"),
    ("safetensors", "SafetensorError"),
    ("yaml", "YAMLError"),
    ("zipfile", "BadZipFile"),
    ("gzip", "BadGzipFile"),
}


def answer(error: BaseException) -> tuple[str, int]:
    """Sentence and exit status of what ended a verb."""
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, MemoryError) or is_of_memory(error):
        return "out of memory: make the model, the batch or the data set smaller", 2
    if isinstance(error, OSError) and error.errno is not None:
        return of_system(error), 2
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[error.start :][:20]!r} in a name or a value is no UTF-8: give it another name", 2
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # of Path.resolve before Python 3.13
        return first_line(error).removeprefix("Symlink loop from ") + f": {ADVICE[errno.ELOOP]}", 2
    if isinstance(error, ValueError) and str(error).startswith("embedded null"):
        return "the name of a file holds a NUL, which none can: give another name", 2
    if type(error).__module__.partition(".")[0] == "wandb":
        return f"logger=wandb: {first_line(error)} (logger=wandb_offline needs no account and no network)", 2
    if is_of_input(error):
        return first_line(error), 2
    return f"a fault of astrom3, please report it: {place(error)} ({SHOW}=1 shows all of it)", 1


def of_system(error: OSError) -> str:
    """What the operating system refused, with the file and what to do."""
    named = error.filename2 or error.filename
    where = f"{shown(os.fsdecode(named))}: " if isinstance(named, str | bytes) else ""
    advice = ADVICE.get(error.errno or 0, f"{error.strerror or error}")
    return where + advice


def is_of_input(error: BaseException) -> bool:
    for kind in type(error).__mro__:
        package = kind.__module__.partition(".")[0]
        if (package, kind.__name__) in OF_INPUT:
            return True
        if package in ("hydra", "omegaconf") and kind.__name__ in ("HydraException", "OmegaConfBaseException"):
            return True
    return False


def is_of_memory(error: BaseException) -> bool:
    """Whether torch could not have the memory that it wanted, on a device or of this machine."""
    if type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def place(error: BaseException) -> str:
    """`KeyError: 'x' in astrom3/data/store.py, line 12`, the last line of our own that was reached."""
    frames = traceback.extract_tb(error.__traceback__)
    own = []
    for frame in frames:
        if "astrom3" in Path(frame.filename).parts:
            own.append(frame)
    found = [*frames[-1:], *own[-1:]]  # ours, else the last
    last = found[-1] if found else None
    where = "" if last is None else f" in {'/'.join(Path(last.filename).parts[-3:])}, line {last.lineno}"
    return f"{type(error).__name__}: {first_line(error)[:300]}{where}"


def show(error: BaseException) -> None:
    """The traceback, where it was asked for."""
    if os.environ.get(SHOW):
        traceback.print_exception(error)
