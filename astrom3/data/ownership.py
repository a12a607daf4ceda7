"""Which files of a data set's folder are ours: what `overwrite=true` may replace, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from astrom3.errors import UserError
from astrom3.files import OutputFolder, carry_over, read_json

LAYOUT = "astrom3"
KIND = "data set"
WRITTEN = re.compile(
    r"(dataset|summary)\.json|(rejected|swapped)\.csv|objects/objects-\d+\.parquet|splits/\w+_\d+\.(parquet|json)"
)


def output_folder(root: Path) -> OutputFolder:
    """The folder of a data set, as the verbs that write one own it."""
    return OutputFolder(root, KIND, legacy=written_before)


def publish(temporary: Path, root: Path, overwrite: bool = True) -> None:
    """Give a finished folder its name. An older data set there is moved away first and then removed; what else lies in
    its folder stays. UserError where one has come there in the meantime, unless `overwrite`."""
    old = temporary.with_suffix(".old")
    name_written(temporary)
    if root.is_dir() and any(root.iterdir()):
        if not overwrite:
            raise UserError(f"{root} was written by somebody else in the meantime; give another folder.")
        carry_over(root, temporary, output_folder(root).files or ())
        os.replace(root, old)
    os.replace(temporary, root)  # an empty folder at root is replaced by this, too
    shutil.rmtree(old, ignore_errors=True)


def name_written(folder: Path) -> None:
    """Give a finished folder the manifest that names all that is in it."""
    written = []
    for path in folder.rglob("*"):
        if path.is_file():
            written.append(str(path.relative_to(folder)))
    OutputFolder(folder, KIND).open(written, overwrite=True)


def written_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has written to the folder of a data set, None where it is none (see OutputFolder)."""
    if not (folder / "dataset.json").is_file() or read_json(folder / "dataset.json").get("layout") != LAYOUT:
        return None
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [name for name in found if WRITTEN.fullmatch(name)]
