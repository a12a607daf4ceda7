"""The folder of a large map: columns that are mapped into memory, the first picture, and the page that is served.

Objects lie in the order of the cells of a grid over the map, so those of a part of it are a few stretches of every
column. The parts of the embeddings are read three times, one at a time, so memory does not grow with the width of the
embeddings: for a sample that the map is fitted on, for the places, and for everything that is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.analyse.outliers import to_centroids
from astrom3.analyse.section import having
from astrom3.data.layouts.table import Source
from astrom3.data.observed import is_of_galaxies, locate, units
from astrom3.errors import UserError
from astrom3.explore.content import ABSENT, values_of
from astrom3.explore.positions import MIN_FITTED, check_finite, check_fit
from astrom3.explore.projecting import SAMPLE, fitted
from astrom3.files import OutputFolder, write_json
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.inference.neighbours import unit
from astrom3.inference.results import shown_name
from astrom3.modalities.schema import ALL_COLS, UNLABELLED

log = logging.getLogger(__name__)
CELLS = 1024  # of the grid along a side
FORMAT = 1
ABOUT = "map.json"
IDS = "ids.arrow"
OVERVIEW = "overview.png"
Parts = Callable[[], Iterator[Embeddings]]


@dataclass(frozen=True)
class Census:
    """What a first reading of n objects gives. sample (m, D): mean embeddings to fit the map on, drawn at random.
    centres: vectors -> classes that occur (k,) and the directions (k, D) of their centroids."""

    n: int
    splits: list[str]
    names: list[str]
    classes: tuple[str, ...]
    heads: int  # probabilities of an object, 0: none
    model: str
    sample: np.ndarray
    of_train: bool
    centres: dict[str, tuple[np.ndarray, np.ndarray]]


def write_map(
    parts: Parts, count: int, source: Source, out: Path, *, title: str, kind: str, fit: str | None, made_of: str
) -> int:
    """Write the folder and return the number of objects.

    count: of the objects, about. kind, fit: of the map, as `positions` has them. made_of: the embeddings, for the
    manifest. UserError where the map cannot be made.
    """
    census = take_census(parts, count, fit)
    log.info("Making the map of %d objects (%s, fitted on %d)", census.n, kind, len(census.sample))
    project, how = fitted(census.sample, kind)
    xy = np.concatenate([project(part.vectors[MEAN]) for part in parts()])
    check_finite(xy, kind, census.model)

    bounds = bounds_of(xy)
    cell = cells_of(xy, bounds)
    order = np.argsort(cell, kind="stable")
    first_of_cell = np.searchsorted(cell[order], np.arange(CELLS * CELLS + 1))
    drawn = "training objects" if census.of_train else "objects"
    about = {
        "format": FORMAT,
        "n": census.n,
        "title": title,
        "model": shown_name(census.model),
        "classes": list(census.classes),
        "heads": census.heads,
        "splits": census.splits,
        "vectors": census.names,
        "columns": list(catalogue_columns(source)),
        "bounds": list(bounds),
        "how": f"{how}, fitted on {len(census.sample):,} {drawn}, all projected",
        "data": f"{source.root.name}, {source.sub}_{source.seed}, layout {source.layout}",
        "kind": "galaxies" if is_of_galaxies(source) else "stars",
        "normalised": units(source).catalogue == "z-scores",
    }

    names = columns_of(census, source)
    files = [ABOUT, IDS, OVERVIEW, *(f"{name}.npy" for name in names)]
    folder = OutputFolder(out, "explore")
    with folder.staged(files, made_of=made_of) as stage:
        write_columns(parts, source, census, order, stage)
        np.save(stage / "xy.npy", xy[order])
        np.save(stage / "start.npy", first_of_cell)
        write_json(stage / ABOUT, about)
        from astrom3.explore.raster import overview
        from astrom3.explore.stored_map import StoredMap

        picture = overview(StoredMap(stage))
        (stage / OVERVIEW).write_bytes(picture)

    return census.n


def take_census(parts: Parts, count: int, fit: str | None) -> Census:
    """The first reading of all parts. count: of the objects, about, which says what share of them is drawn."""
    check_fit(fit)
    draws = np.random.default_rng(0)
    of_train: list[np.ndarray] = []
    of_others: list[np.ndarray] = []
    sums: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}
    splits: set[str] = set()
    first: Embeddings | None = None
    n = 0
    for part in parts():
        first = part if first is None else first
        splits |= set(part.splits.tolist())
        chosen = draws.random(len(part)) * count < SAMPLE
        is_train = part.splits == "train"
        of_train.append(part.vectors[MEAN][chosen & is_train])
        of_others.append(part.vectors[MEAN][chosen & ~is_train])
        add_directions(part, sums, numbers)
        n += len(part)

    if first is None or not n:
        raise UserError("none of the embedded objects is of the splits that are shown: name others, splits=[...]")

    sample = np.concatenate(of_train)
    if fit == "train" and len(sample) < MIN_FITTED:
        raise UserError(f"fit=train, but {len(sample)} objects of the train split are shown: use fit=all")

    only_train = len(sample) > 0 and fit != "all"
    if not only_train:
        sample = np.concatenate([sample, *of_others])
    centres = {}
    for name, total in sums.items():
        classes = np.flatnonzero(numbers[name])
        centres[name] = (classes, unit(total[classes]))
    return Census(
        n=n,
        splits=sorted(splits),
        names=list(first.vectors),
        classes=first.classes,
        heads=0 if first.probabilities is None else first.probabilities.shape[1],
        model=first.model,
        sample=sample,
        of_train=only_train,
        centres=centres,
    )


def add_directions(part: Embeddings, sums: dict[str, np.ndarray], numbers: dict[str, np.ndarray]) -> None:
    """Add the unit vectors of a part to the sums (C, D) of the classes, and its objects to their numbers (C,), both by
    the name of the vectors."""
    for name, vectors in part.vectors.items():
        known = having(part, name) & (part.labels != UNLABELLED)
        nothing = np.zeros((len(part.classes), vectors.shape[1]))
        total = sums.setdefault(name, nothing)
        directions = unit(vectors[known].astype(np.float64))
        np.add.at(total, part.labels[known], directions)
        counts = numbers.setdefault(name, np.zeros(len(part.classes), np.int64))
        counts += np.bincount(part.labels[known], minlength=len(part.classes))


def catalogue_columns(source: Source) -> tuple[str, ...]:
    """Names of the catalogue values that the page shows."""
    if is_of_galaxies(source):
        table = next(iter(source.tables.values()))
        return tuple(table.target_names)
    return ALL_COLS


def columns_of(census: Census, source: Source) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Name -> type and shape of what is written of each object."""
    columns: dict[str, tuple[type, tuple[int, ...]]] = {
        "xy": (np.float32, (2,)),
        "start": (np.int64, ()),
        "label": (np.int16, ()),
        "split": (np.uint8, ()),
        "table": (np.int32, ()),
        "row": (np.int64, ()),
        "values": (np.float32, (len(catalogue_columns(source)),)),
    }
    if census.heads:
        columns["predicted"] = (np.int16, ())
        columns["probabilities"] = (np.float32, (census.heads,))
    for name in census.names:
        _, centres = census.centres[name]
        columns[f"vectors-{name}"] = (np.float32, (centres.shape[1],))
        columns[f"present-{name}"] = (np.bool_, ())
        columns[f"own-{name}"] = (np.float32, ())
        columns[f"other-{name}"] = (np.float32, ())
        columns[f"nearest-{name}"] = (np.int16, ())

    return columns


def write_columns(parts: Parts, source: Source, census: Census, order: np.ndarray, stage: Path) -> None:
    """The last reading: every column in the order of the map. order (n,): rows as they are read, in that order."""
    files: dict[str, np.ndarray] = {}
    for name, (kind, shape) in columns_of(census, source).items():
        if name not in ("xy", "start"):
            path = stage / f"{name}.npy"
            files[name] = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(census.n, *shape))

    tables, where = locate(source)
    place = np.empty(census.n, np.int64)
    place[order] = np.arange(census.n)
    ids = []
    absent = 0
    read = 0
    for part in parts():
        rows = place[read : read + len(part)]
        read += len(part)
        ids.append(pa.array(part.ids, pa.large_string()))
        found = [where.get(name, (ABSENT, ABSENT)) for name in part.ids.tolist()]
        table, row = np.array(found, np.int64).reshape(-1, 2).T
        absent += int((table == ABSENT).sum())
        files["table"][rows] = table
        files["row"][rows] = row
        files["values"][rows] = values_of(tables, table, row, catalogue_columns(source))
        write_part(files, rows, part, census)

    everybody = pa.chunked_array(ids)
    if pc.count_distinct(everybody).as_py() < census.n:
        raise UserError("an object_id occurs twice among the embeddings: embed each object once")
    if absent == census.n:
        raise UserError(
            f"none of the {census.n:,} embedded objects is in {source.root.name}, {source.sub}_{source.seed}: give the "
            "data set, sub and seed that they were made from"
        )
    if absent:
        log.warning("%d of %d embedded objects are not in the data set: shown without observations", absent, census.n)
    sorted_ids = everybody.take(pa.array(order))
    write_ids(sorted_ids.combine_chunks(), stage / IDS)
    for column in files.values():
        column.flush()  # type: ignore[attr-defined]


def write_ids(ids: pa.Array, path: Path) -> None:
    """The ids (n,) as an Arrow file of one column, which can be mapped into memory."""
    table = pa.table({"id": ids})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def write_part(files: dict[str, np.ndarray], rows: np.ndarray, part: Embeddings, census: Census) -> None:
    """What a part of the embeddings says of its objects, to their rows."""
    files["label"][rows] = part.labels
    files["split"][rows] = np.searchsorted(census.splits, part.splits)
    if part.probabilities is not None:
        files["predicted"][rows] = part.predicted
        files["probabilities"][rows] = part.probabilities
    for name, vectors in part.vectors.items():
        there = having(part, name)
        directions = unit(vectors)
        files[f"vectors-{name}"][rows] = directions
        files[f"present-{name}"][rows] = there
        known = np.flatnonzero(there & (part.labels != UNLABELLED))
        classes, centres = census.centres[name]
        distances = to_centroids(directions, part.labels, known, classes, centres)
        for score, values in distances.items():  # own, other and nearest
            files[f"{score}-{name}"][rows] = values


def bounds_of(xy: np.ndarray) -> tuple[float, float, float]:
    """Left and lower edge and side of the square that holds the map, with a margin."""
    low = xy.min(0).astype(np.float64)
    high = xy.max(0).astype(np.float64)
    extent = (high - low).max()
    side = float(max(extent, 1e-6)) * 1.04
    left, lower = (low + high) / 2 - side / 2
    return float(left), float(lower), side


def cells_of(xy: np.ndarray, bounds: tuple[float, float, float]) -> np.ndarray:
    """Number of the cell of each place (n, 2), int64: row * CELLS + column."""
    left, lower, side = bounds
    column = ((xy[:, 0] - left) / side * CELLS).astype(np.int64)
    row = ((xy[:, 1] - lower) / side * CELLS).astype(np.int64)
    column = np.clip(column, 0, CELLS - 1)
    row = np.clip(row, 0, CELLS - 1)
    return row * CELLS + column
