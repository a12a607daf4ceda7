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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.analyse.section import having
from astrom3.data.layouts.table import Source
from astrom3.data.observed import is_of_galaxies, locate, units
from astrom3.errors import UserError
from astrom3.explore.content import ABSENT
from astrom3.explore.positions import MIN_FITTED
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
    """Write the folder and return the number of objects. count: of the objects, about; kind, fit: of the map."""
    census = take_census(parts, count, fit)
    log.info("Making the map of %d objects (%s, fitted on %d)", census.n, kind, len(census.sample))
    project, how = fitted(census.sample, kind)
    xy = np.concatenate([project(part.vectors[MEAN]) for part in parts()])
    if not np.isfinite(xy).all():
        raise UserError(f"the {kind} map of {census.model or 'the embeddings'} is not finite: check the model")
    bounds = bounds_of(xy)
    cell = cells_of(xy, bounds)
    order = np.argsort(cell, kind="stable")
    names = columns_of(census, source)
    folder = OutputFolder(out, "explore")
    files = [ABOUT, IDS, OVERVIEW, *(f"{name}.npy" for name in names)]
    with folder.staged(files, made_of=made_of) as stage:
        write_columns(parts, source, census, order, stage)
        np.save(stage / "xy.npy", xy[order])
        np.save(stage / "start.npy", np.searchsorted(cell[order], np.arange(CELLS * CELLS + 1)))
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
        write_json(stage / ABOUT, about)
        from astrom3.explore.raster import overview
        from astrom3.explore.stored_map import StoredMap

        (stage / OVERVIEW).write_bytes(overview(StoredMap(stage)))
    return census.n


def take_census(parts: Parts, count: int, fit: str | None) -> Census:
    """The first reading."""
    if fit not in (None, "train", "all"):
        raise UserError(f"fit={fit} does not exist: it is train, all, or null (train where there is a train split)")
    draws = np.random.default_rng(0)
    sample: dict[bool, list[np.ndarray]] = {True: [], False: []}
    sums: dict[str, np.ndarray] = {}
    splits: set[str] = set()
    first: Embeddings | None = None
    n = 0
    for part in parts():
        first = part if first is None else first
        splits |= set(part.splits.tolist())
        chosen = draws.random(len(part)) * count < SAMPLE
        train = part.splits == "train"
        for is_train in sample:
            sample[is_train].append(part.vectors[MEAN][chosen & (train == is_train)])
        for name, vectors in part.vectors.items():
            known = having(part, name) & (part.labels != UNLABELLED)
            total = sums.setdefault(name, np.zeros((len(part.classes), vectors.shape[1])))
            np.add.at(total, part.labels[known], unit(vectors[known].astype(np.float64)))
        n += len(part)
    if first is None or not n:
        raise UserError("there are no objects to show")
    trained = np.concatenate(sample[True])
    of_train = len(trained) > 0 and fit != "all"
    if fit == "train" and len(trained) < MIN_FITTED:
        raise UserError("fit=train, but no object of the train split is shown: use fit=all")
    centres = {}
    for name, total in sums.items():
        found = np.flatnonzero((total != 0).any(axis=1))
        centres[name] = (found, unit(total[found]))
    return Census(
        n,
        sorted(splits),
        list(first.vectors),
        first.classes,
        0 if first.probabilities is None else first.probabilities.shape[1],
        first.model,
        trained if of_train else np.concatenate([trained, *sample[False]]),
        of_train,
        centres,
    )


def catalogue_columns(source: Source) -> tuple[str, ...]:
    if is_of_galaxies(source):
        return tuple(next(iter(source.tables.values())).target_names)
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
        columns[f"vectors-{name}"] = (np.float32, (census.centres[name][1].shape[1],))
        columns[f"present-{name}"] = (np.bool_, ())
        for score in ("own", "other"):
            columns[f"{score}-{name}"] = (np.float32, ())
        columns[f"nearest-{name}"] = (np.int16, ())
    return columns


def write_columns(parts: Parts, source: Source, census: Census, order: np.ndarray, stage: Path) -> None:
    """The last reading: every column in the order of the map."""
    columns = columns_of(census, source)
    files: dict[str, np.ndarray] = {}
    for name, (kind, shape) in columns.items():
        if name not in ("xy", "start"):
            path = stage / f"{name}.npy"
            files[name] = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(census.n, *shape))
    tables, where = locate(source)
    place = np.empty(census.n, np.int64)
    place[order] = np.arange(census.n)
    ids = []
    absent = 0
    at = 0
    for part in parts():
        rows = place[at : at + len(part)]
        at += len(part)
        ids.append(pa.array(part.ids, pa.large_string()))
        found = [where.get(name, (ABSENT, ABSENT)) for name in part.ids.tolist()]
        table = np.array([number for number, _ in found], np.int64)
        row = np.array([number for _, number in found], np.int64)
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
    sorted_ids = everybody.take(pa.array(order)).combine_chunks()
    with pa.OSFile(str(stage / IDS), "wb") as file, pa.ipc.new_file(file, pa.schema([("id", pa.large_string())])) as to:
        to.write_table(pa.table({"id": sorted_ids}))
    for column in files.values():
        column.flush()  # type: ignore[attr-defined]


def values_of(tables: list[Any], table: np.ndarray, row: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Catalogue values (m, C) of objects by the number of their table and their row in it, NaN unknown."""
    values = np.full((len(table), len(columns)), np.nan)
    for number in np.unique(table[table != ABSENT]):
        one = tables[number]
        mine = table == number
        if columns == ALL_COLS:
            values[mine] = one.catalogue().values[row[mine]]
        elif columns:
            values[mine] = one.targets(columns)[row[mine]]
    return values


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
        own, other, nearest = scores(directions, part.labels, there, *census.centres[name])
        files[f"own-{name}"][rows] = own
        files[f"other-{name}"][rows] = other
        files[f"nearest-{name}"][rows] = nearest


def scores(
    directions: np.ndarray, labels: np.ndarray, there: np.ndarray, found: np.ndarray, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """own, other and nearest as analyse/outliers.py has them, with centroids that are known already."""
    n = len(labels)
    own = np.full(n, np.nan)
    other = np.full(n, np.nan)
    nearest = np.full(n, UNLABELLED)
    known = np.flatnonzero(there & (labels != UNLABELLED))
    if len(known):
        far = 1 - directions[known] @ centres.T  # (m, k)
        at = np.searchsorted(found, labels[known])
        rows = np.arange(len(known))
        own[known] = far[rows, at]
        if len(found) > 1:
            far[rows, at] = np.inf
            other[known] = far.min(1)
            nearest[known] = found[far.argmin(1)]
    return own, other, nearest


def bounds_of(xy: np.ndarray) -> tuple[float, float, float]:
    """Left and lower edge and side of the square that holds the map, with a margin."""
    low = xy.min(0).astype(np.float64)
    high = xy.max(0).astype(np.float64)
    side = float(max((high - low).max(), 1e-6)) * 1.04
    centre = (low + high) / 2
    return float(centre[0] - side / 2), float(centre[1] - side / 2), side


def cells_of(xy: np.ndarray, bounds: tuple[float, float, float]) -> np.ndarray:
    """Number of the cell of each place (n, 2), int64: row * CELLS + column."""
    left, lower, side = bounds
    column = np.clip(((xy[:, 0] - left) / side * CELLS).astype(np.int64), 0, CELLS - 1)
    row = np.clip(((xy[:, 1] - lower) / side * CELLS).astype(np.int64), 0, CELLS - 1)
    return row * CELLS + column
