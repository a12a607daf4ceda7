"""A large map as it was written: what lies in a part of it, under the pointer, far from its class, or near another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.errors import UserError, first_line, shown
from astrom3.explore.large import ABOUT, CELLS, FORMAT, IDS
from astrom3.files import check_regular, read_json
from astrom3.typed import check

ADVICE = "make the map again with overwrite=true, or copy it again"
ROWS = 65_536  # vectors that are compared at a time


@dataclass(frozen=True)
class Shown:
    """What passes the filters. hidden: classes by number, -1 those without a label; splits: numbers of those that are
    left away; wrong: wrong predictions only."""

    hidden: frozenset[int] = frozenset()
    splits: frozenset[int] = frozenset()
    wrong: bool = False


class MapAbout(TypedDict):
    """What is read of the file that describes a map."""

    n: int
    classes: list[str]
    heads: int
    splits: list[str]
    vectors: list[str]
    columns: list[str]
    bounds: tuple[float, float, float]


def kinds_of(about: Mapping[str, Any]) -> dict[str, str]:
    """Name of every column of a map -> kind of its numbers, as numpy's `dtype.kind` has it."""
    kinds = {"xy": "f", "label": "i", "split": "u", "table": "i", "row": "i", "values": "f", "start": "i"}
    if about["heads"]:
        kinds["predicted"] = "i"
        kinds["probabilities"] = "f"
    for name in about["vectors"]:
        kinds[f"vectors-{name}"] = "f"
        kinds[f"present-{name}"] = np.dtype(bool).kind
        kinds[f"own-{name}"] = "f"
        kinds[f"other-{name}"] = "f"
        kinds[f"nearest-{name}"] = "i"
    return kinds


def open_columns(folder: Path, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Name -> column, memory-mapped. UserError where one is missing, damaged or of another length or kind."""
    n = about["n"]
    widths = {"xy": (2,), "values": (len(about["columns"]),), "probabilities": (about["heads"],)}
    columns = {}
    for name, kind in kinds_of(about).items():
        path = folder / f"{name}.npy"
        try:
            check_regular(path)
            column = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, SyntaxError) as error:
            raise UserError(f"{shown(path)} is missing or damaged ({first_line(error)}): {ADVICE}") from None

        length = CELLS * CELLS + 1 if name == "start" else n
        shape = (length, *widths.get(name, column.shape[1:]))
        is_flat = name.startswith("vectors-") and column.ndim != 2
        if column.shape != shape or column.dtype.kind != kind or is_flat:
            raise UserError(f"{shown(path)} is not the column of this map, of shape {shape}: {ADVICE}")
        columns[name] = column

    start = columns["start"]
    if start[0] != 0 or start[-1] != n or (np.diff(start) < 0).any():
        raise UserError(f"{shown(folder / 'start.npy')} does not count the objects of the map: {ADVICE}")
    return columns


def open_ids(path: Path, n: int) -> pa.Array:
    """The ids (n,) of the objects, memory-mapped. UserError where the file is damaged or another map's."""
    try:
        check_regular(path)
        mapped = pa.memory_map(str(path))
        ids = pa.ipc.open_file(mapped).read_all()["id"]
    except (OSError, KeyError, ValueError) as error:  # those of Arrow are ValueErrors
        raise UserError(f"{shown(path)} is missing or damaged ({first_line(error)}): {ADVICE}") from None

    is_text = pa.types.is_large_string(ids.type)
    if len(ids) != n or not is_text or ids.null_count:
        raise UserError(f"{shown(path)} does not hold the ids of this map: {ADVICE}")
    return ids.combine_chunks()


@dataclass
class StoredMap:
    """The folder that `write_map` wrote. Columns are read from the disk where they are needed."""

    folder: Path
    about: dict[str, Any] = field(init=False)
    columns: dict[str, np.ndarray] = field(init=False)
    ids: pa.Array = field(init=False)

    def __post_init__(self) -> None:
        self.about = read_json(self.folder / ABOUT)
        if self.about.get("format") != FORMAT:
            raise UserError(f"{shown(self.folder)} is a map of another version of astrom3: make it again elsewhere")
        check(self.about, MapAbout, self.folder / ABOUT, ADVICE)
        self.columns = open_columns(self.folder, self.about)
        self.ids = open_ids(self.folder / IDS, self.about["n"])
        self._remembered = lru_cache(8)(self._mask)

    def __len__(self) -> int:
        return int(self.about["n"])

    def mask(self, filters: Shown) -> np.ndarray | None:
        """(n,) bool: who passes the filters, None: everybody."""
        return self._remembered(filters)

    def _mask(self, filters: Shown) -> np.ndarray | None:
        if filters == Shown():
            return None
        label = self.columns["label"]
        passes = ~np.isin(label, list(filters.hidden))
        if filters.splits:
            split = self.columns["split"]
            passes &= ~np.isin(split, list(filters.splits))
        if filters.wrong and "predicted" in self.columns:
            predicted = self.columns["predicted"]
            passes &= (label >= 0) & (predicted >= 0) & (predicted != label)
        return passes

    def window(self, left: float, lower: float, right: float, upper: float) -> np.ndarray:
        """Rows of the objects in the cells that a rectangle of the map touches."""
        x0, y0, side = self.about["bounds"]
        nobody = np.empty(0, np.int64)
        first = np.floor((np.array([left, lower]) - [x0, y0]) / side * CELLS)
        last = np.floor((np.array([right, upper]) - [x0, y0]) / side * CELLS)
        if (last < 0).any() or (first >= CELLS).any():
            return nobody

        first_column, first_row = np.maximum(first, 0).astype(int)
        last_column, last_row = np.minimum(last, CELLS - 1).astype(int)

        start = self.columns["start"]
        if first_column == 0 and last_column == CELLS - 1:  # whole rows of cells, which are one stretch
            return np.arange(start[first_row * CELLS], start[(last_row + 1) * CELLS])

        first_cells = np.arange(first_row, last_row + 1) * CELLS
        begins = start[first_cells + first_column]
        ends = start[first_cells + last_column + 1]
        stretches = [np.arange(begin, end) for begin, end in zip(begins, ends, strict=True) if end > begin]
        return np.concatenate(stretches) if stretches else nobody

    def hit(self, x: float, y: float, reach: float, filters: Shown) -> int:
        """Row of the object nearest to a place, within `reach`; -1 where there is none."""
        nearby = self.window(x - reach, y - reach, x + reach, y + reach)
        rows = self.passing(nearby, filters)
        if not len(rows):
            return -1
        offset = self.columns["xy"][rows] - np.array([x, y])
        squared = (offset**2).sum(1)
        best = int(squared.argmin())
        return int(rows[best]) if squared[best] <= reach**2 else -1

    def passing(self, rows: np.ndarray, filters: Shown) -> np.ndarray:
        """Those of the rows (m,) that pass the filters."""
        mask = self.mask(filters)
        return rows if mask is None else rows[mask[rows]]

    def counts(self) -> dict[int, int]:
        """Number of objects of each class, -1 without a label."""
        labels, numbers = np.unique(self.columns["label"], return_counts=True)
        return dict(zip(labels.tolist(), numbers.tolist(), strict=True))

    def row_of(self, name: str) -> int:
        """Row of an id, -1 where there is none."""
        asked = pa.scalar(name, pa.large_string())
        return int(pc.index(self.ids, asked).as_py())

    def search(self, text: str, most: int) -> list[int]:
        """Rows of ids that hold a text, in upper or lower case; those that begin with it first."""
        begins = pc.starts_with(self.ids, text, ignore_case=True)
        begins = begins.to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(begins)[:most].tolist()
        if len(rows) < most:
            holds = pc.match_substring(self.ids, text, ignore_case=True)
            holds = holds.to_numpy(zero_copy_only=False)
            others = np.flatnonzero(holds & ~begins)
            rows += others[: most - len(rows)].tolist()
        return rows

    def outliers(self, name: str, score: str, filters: Shown, most: int) -> tuple[list[int], int]:
        """Rows farthest from their class first ("suspicion": less the distance to the nearest other one), and how many
        have that score."""
        values = np.array(self.columns[f"own-{name}"])
        if score == "suspicion":
            values -= self.columns[f"other-{name}"]
        mask = self.mask(filters)
        if mask is not None:
            values[~mask] = np.nan

        known = np.flatnonzero(np.isfinite(values))
        count = min(most, len(known))
        if not count:
            return [], 0

        farthest = np.argpartition(-values[known], count - 1)[:count]
        rows = known[farthest]
        order = np.argsort(-values[rows], kind="stable")
        return rows[order].tolist(), len(known)

    def near(self, query: int, asked: str, told: str, top: int) -> tuple[np.ndarray, np.ndarray]:
        """The `top` objects whose `told` embeddings have the largest cosine with the `asked` embedding of another one:
        rows, the most similar first, and cosines. None where it lacks that embedding."""
        if not self.columns[f"present-{asked}"][query]:
            return np.empty(0, np.int64), np.empty(0, np.float32)

        direction = np.array(self.columns[f"vectors-{asked}"][query])
        vectors = self.columns[f"vectors-{told}"]
        cosine = np.empty(len(self), np.float32)
        for start in range(0, len(self), ROWS):
            rows = slice(start, start + ROWS)
            cosine[rows] = vectors[rows] @ direction

        cosine[~self.columns[f"present-{told}"]] = -np.inf
        cosine[query] = -np.inf

        best = np.argpartition(-cosine, min(top, len(self) - 1))[:top]
        order = np.argsort(-cosine[best], kind="stable")
        best = best[order]
        best = best[np.isfinite(cosine[best])]
        return best, cosine[best]

    def names(self, rows: Sequence[int]) -> list[str]:
        return self.ids.take(pa.array(rows, pa.int64())).to_pylist()
