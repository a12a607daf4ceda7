"""Whether a folder that was killed over and rerun holds what one that was never killed holds, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from experiments.kills.cases import Case

# Files that a lock or a journal leaves, or that say when and where something was made.
UNLIKE = (
    ".lock",
    "train.log",
    "tune.log",
    "run.json",
    "journal.log",
    "study.lock",
    "locks",
    "config.yaml",
    "dataset.json",
)
TENSORS = ("state_dict", "optimizer_states")


def differences(case: Case, whole: Path, broken: Path) -> list[str]:
    """What differs, in words. The list is empty where nothing does."""
    found = [*unlike_names(case, whole, broken), *unlike_bytes(case, whole, broken)]
    found += unlike_modes(broken)
    if case.checkpoints:
        found += unlike_checkpoints(whole, broken)
    if case.table:
        found += unlike_tables(whole, broken)
    return found


def names(folder: Path) -> set[str]:
    paths = folder.rglob("*")
    return {str(path.relative_to(folder)) for path in paths if not set(path.parts) & set(UNLIKE)}


def unlike_names(case: Case, whole: Path, broken: Path) -> Iterator[str]:
    """Files that are missing, and files that a killed process has left behind."""
    if case.table:  # the names in an index are drawn
        return
    ours = names(broken)
    wanted = names(whole)
    for name in sorted(wanted - ours):
        yield f"{name} is missing"
    for name in sorted(ours - wanted):
        yield f"{name} is left over"


def unlike_bytes(case: Case, whole: Path, broken: Path) -> Iterator[str]:
    for pattern in case.files:
        for path in sorted(whole.glob(pattern)):
            name = str(path.relative_to(whole))
            other = broken / name
            if path.is_file() and not set(path.parts) & set(UNLIKE) and other.is_file() and differs(path, other):
                yield f"{name} differs"


def differs(one: Path, other: Path) -> bool:
    if one.name != "trials.csv":
        return one.read_bytes() != other.read_bytes()
    return without_seconds(one) != without_seconds(other)


def without_seconds(table: Path) -> list[list[str]]:
    """The rows of a table of trials without the column that says how long each took."""
    import csv

    rows = list(csv.DictReader(table.open(newline="", encoding="utf-8")))
    return [[value for key, value in row.items() if "second" not in key and "duration" not in key] for row in rows]


def unlike_modes(broken: Path) -> Iterator[str]:
    """Files that others may read less, or write more, than the umask says."""
    mask = os.umask(0)
    os.umask(mask)
    for path in sorted(broken.rglob("*")):
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        if not path.is_symlink() and path.stat().st_mode & 0o777 != wanted:
            yield f"{path.relative_to(broken)} has the mode {path.stat().st_mode & 0o777:o}"


def unlike_checkpoints(whole: Path, broken: Path) -> Iterator[str]:
    for path in sorted(whole.glob("*/checkpoints/*.ckpt")):
        name = str(path.relative_to(whole))
        if path.name == "previous.ckpt" or not (broken / name).is_file():
            continue
        one = torch.load(path, weights_only=True)
        other = torch.load(broken / name, weights_only=True)
        for key in TENSORS:
            if not equal(one.get(key), other.get(key)):
                yield f"{name}: {key} differs"


def equal(one: Any, other: Any) -> bool:
    """Whether two trees of tensors and plain values are the same, with NaN equal to NaN."""
    if isinstance(one, torch.Tensor):
        alike = isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape
        return alike and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(equal(a, b) for a, b in pairs)
    return one == other


def unlike_tables(whole: Path, broken: Path) -> Iterator[str]:
    """Rows of the two indexes, and what lies beside the database that is in use."""
    from astrom3.search.index import Index

    rows = []
    for folder in (whole, broken):
        index = Index.open(folder / "index")
        rows.append(index.table.to_arrow().sort_by("object_id"))
    if not rows[0].equals(rows[1]):
        yield "the rows of the index differ"
    databases = list((broken / "index").glob("objects-*"))
    if len(databases) != 1:
        yield f"{len(databases)} databases lie in the index"
