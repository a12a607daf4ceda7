"""Folders written by `datasets.save_to_disk`: Arrow streams, mapped into memory and read where they lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from astrom3.errors import UserError

ALL = "train"  # name of the only split of a folder of one Dataset
DICT = "dataset_dict.json"
STATE = "state.json"


def saved_splits(root: Path) -> dict[str, list[Path]]:
    """Split -> files in order, of a saved DatasetDict or Dataset; empty where `root` is neither."""
    if (root / DICT).is_file():
        names = read_json(root / DICT).get("splits") or []
        return {str(name): saved_files(root / str(name)) for name in names}
    if (root / STATE).is_file():
        return {ALL: saved_files(root)}
    return {}


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of one saved Dataset, in order, as its state names them."""
    state = read_json(folder / STATE)
    files = [entry.get("filename") for entry in state.get("_data_files") or [] if isinstance(entry, dict)]
    if not files or not all(isinstance(name, str) and Path(name).name == name for name in files):
        raise UserError(f"{folder / STATE} names no data files; save the data set again with save_to_disk.")
    return [folder / str(name) for name in files]


def arrow_table(files: Sequence[Path]) -> pa.Table:
    """Arrow streams one after the other as one table whose columns stay on the disk until they are used."""
    parts = []
    for path in files:
        try:
            with pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
                parts.append(reader.read_all())
        except FileNotFoundError:
            raise UserError(f"{path} is missing; copy or save the data set again.") from None
        except (pa.ArrowException, OSError) as error:
            what = str(error).splitlines()[0][:200]
            raise UserError(f"{path} is no Arrow stream or damaged ({what}); save the data set again.") from error
    try:
        return pa.concat_tables(parts)
    except pa.ArrowException:
        raise UserError(f"the files of {files[0].parent} have different columns; save the data set again.") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of `datasets`; UserError where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); save the data set again with save_to_disk.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no object of JSON; save the data set again with save_to_disk.")
    return content
