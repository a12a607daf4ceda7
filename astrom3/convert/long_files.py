"""The long tables that `observations=` names: files, folders, patterns, or lists of these."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from astrom3.errors import UserError, shown
from astrom3.places import expanded

MOST_FILES = 100_000  # of a folder; beyond, another folder is meant


def files_of(given: str | Sequence[str]) -> list[Path]:
    """Long tables: a file, a folder, a pattern such as parts/*.parquet, or a list of those."""
    names = [given] if isinstance(given, str) else list(given)
    found: list[Path] = []
    for name in names:
        path = expanded(str(name))
        if path.is_dir():
            found += files_in(path)
        elif path.exists() or not glob.has_magic(str(path)):
            found.append(path)
        else:
            matching = islice(glob.iglob(str(path), recursive=True), MOST_FILES + 1)
            found += check_count(path, list(map(Path, matching)))
    if not found:
        raise UserError(f"observations={given}: there is no such file.")
    return found


def files_in(folder: Path) -> list[Path]:
    """The files of a folder and of the folders in it, but hidden ones. UserError where there are too many."""
    found: list[Path] = []
    for inside, _, names in os.walk(folder):
        for name in names:
            path = Path(inside, name)
            if not name.startswith((".", "_")) and path.is_file():
                found.append(path)
        if len(found) > MOST_FILES:
            break
    return check_count(folder, found)


def check_count(given: Path, found: list[Path]) -> list[Path]:
    """The files in order, unless there are so many that something else was meant."""
    if len(found) > MOST_FILES:
        raise UserError(
            f"observations={shown(given)} holds more than {MOST_FILES:,} files: give the folder of the tables"
        )
    return sorted(found)
