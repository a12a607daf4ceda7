"""Nearest neighbours by cosine among many embeddings, in bounded memory and in time that grows with their number.

Up to EXACT_TO objects all pairs are compared, and the result is exact. Beyond, objects are sorted into cells around
centroids (an inverted file, Sivic & Zisserman 2003; k-means by Lloyd on a sample), and each is compared with those in
the PROBED cells that are nearest to its own. What that misses is measured on a sample and logged. Similarities are
always those of float64.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

log = logging.getLogger(__name__)
EXACT_TO = 20_000  # objects
CELL = 128  # objects in a cell, on average
PROBED = 32  # cells that are looked at
PER_CELL = 24  # objects of the sample for each centroid
ROUNDS = 5  # of Lloyd's algorithm
ROWS = 512  # queries at a time
SPARE = 32  # more candidates than asked for: float32 confuses similarities closer than about 1e-7
CHECKED = 200  # objects whose exact neighbours are looked up, to say what share is found


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1. Rows of zeros stay as they are."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def nearest(vectors: np.ndarray, top: int, exact_to: int = EXACT_TO) -> tuple[np.ndarray, np.ndarray]:
    """The `top` nearest others of each of n vectors (n, D), most similar first, the earlier one of equals first.

    Returns indices int32 (n, top) and cosines float32 (n, top); -1 and NaN where there are fewer others.
    """
    return across(vectors, vectors, np.arange(len(vectors)), top, exact_to)


class Neighbours:
    """The nearest others in several embeddings of the same objects, looked up once for all who ask the same."""

    def __init__(self, vectors: Mapping[str, np.ndarray]) -> None:
        self.vectors = vectors
        self._found: dict[tuple[str, bytes, int], tuple[np.ndarray, np.ndarray]] = {}

    def nearest(self, name: str, rows: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """`nearest` among the rows (n,) of the embedding called `name`; the indices are places in `rows`."""
        key = name, rows.tobytes(), top
        if key not in self._found:
            self._found[key] = nearest(self.vectors[name][rows], top)
        return self._found[key]


def across(
    queries: np.ndarray, vectors: np.ndarray, own: np.ndarray, top: int, exact_to: int = EXACT_TO
) -> tuple[np.ndarray, np.ndarray]:
    """The same of queries (m, D) among vectors (n, D), such as images among spectra.

    own (m,): the row of `vectors` that is the query's own object and no neighbour of it, -1 where there is none.
    """
    count = len(queries)
    index = np.full((count, top), -1, np.int32)
    cosine = np.full((count, top), np.nan, np.float32)
    if not count or not len(vectors):
        return index, cosine

    directions = unit(vectors.astype(np.float32))
    asked = directions if queries is vectors else unit(queries.astype(np.float32))

    is_exact = len(vectors) <= exact_to
    blocks = everything(count, len(vectors)) if is_exact else by_cells(asked, directions)
    for rows, candidates in blocks:
        best, values = best_of(queries[rows], asked[rows], own[rows], vectors, directions, candidates, top)
        width = best.shape[1]
        index[rows, :width] = best
        cosine[rows, :width] = values

    if not is_exact:
        draws = np.random.default_rng(0)
        checked = draws.choice(count, min(CHECKED, count), replace=False)
        checked.sort()
        everybody = np.arange(len(vectors))
        exact, _ = best_of(queries[checked], asked[checked], own[checked], vectors, directions, everybody, top)
        share = share_found(index[checked], exact)
        log.info("%s objects: %.1f %% of the exact neighbours are found", f"{count:,}", 100 * share)

    return index, cosine


def everything(count: int, among: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Queries, ROWS at a time, each with all objects as candidates."""
    everybody = np.arange(among)
    for start in range(0, count, ROWS):
        yield np.arange(start, min(start + ROWS, count)), everybody


def by_cells(asked: np.ndarray, directions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Queries of one cell at a time, with the members of the nearest cells, in order, as candidates."""
    centres = centroids(directions)
    members = members_of(assigned(directions, centres), len(centres))
    askers = members
    if asked is not directions:
        askers = members_of(assigned(asked, centres), len(centres))

    for number, centre in enumerate(centres):
        rows = askers[number]
        if not len(rows):
            continue
        similarity = centres @ centre
        probed = np.argsort(-similarity, kind="stable")[:PROBED]
        cells = {number, *probed.tolist()}
        candidates = np.sort(np.concatenate([members[cell] for cell in cells]))
        for start in range(0, len(rows), ROWS):
            yield rows[start : start + ROWS], candidates


def members_of(cell: np.ndarray, count: int) -> list[np.ndarray]:
    """Rows in each of `count` cells, by the cell (n,) of every row."""
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], np.arange(count + 1))
    return [order[start:stop] for start, stop in pairwise(first)]


def centroids(directions: np.ndarray) -> np.ndarray:
    """Directions (cells, D) of about one cell for every CELL objects, by k-means on a sample."""
    count = math.ceil(len(directions) / CELL)
    size = min(PER_CELL * count, len(directions))
    draws = np.random.default_rng(0)
    chosen = draws.choice(len(directions), size, replace=False)
    sample = directions[np.sort(chosen)]
    seeds = draws.choice(len(sample), count, replace=False)
    centres = sample[np.sort(seeds)]

    for _ in range(ROUNDS):
        cell = assigned(sample, centres)
        order = np.argsort(cell, kind="stable")
        filled, first = np.unique(cell[order], return_index=True)
        centres = centres.copy()
        centres[filled] = unit(np.add.reduceat(sample[order], first, axis=0))

    return centres


def assigned(directions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Number (n,) of the nearest centroid of each direction."""
    cell = np.empty(len(directions), np.int64)
    for start in range(0, len(directions), ROWS):
        rows = slice(start, start + ROWS)
        cell[rows] = (directions[rows] @ centres.T).argmax(1)
    return cell


def best_of(
    queries: np.ndarray,
    asked: np.ndarray,
    own: np.ndarray,
    vectors: np.ndarray,
    directions: np.ndarray,
    candidates: np.ndarray,
    top: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The `top` of the candidates (c,) in increasing order for each query: indices and float64 cosines (m, <= top).

    asked and directions are the queries and the vectors at length 1 in float32. A query is no neighbour of its own;
    where fewer than `top` are left, -1 and NaN stand at the end.
    """
    # float32 chooses a few more candidates than are asked for
    similar = asked @ directions[candidates].T  # (m, c)
    place = np.searchsorted(candidates, own)
    place = np.minimum(place, len(candidates) - 1)
    is_among = candidates[place] == own
    similar[np.flatnonzero(is_among), place[is_among]] = -np.inf
    kept = min(top + SPARE, len(candidates))
    likely = np.argpartition(-similar, kept - 1, axis=1)[:, :kept]
    rows = candidates[np.sort(likely, axis=1)]  # (m, kept)

    # float64 puts them in order
    exact = vectors[rows].reshape(-1, vectors.shape[1]).astype(np.float64)
    exact = unit(exact).reshape(*rows.shape, -1)  # (m, kept, D)
    cosine = np.einsum("qcd,qd->qc", exact, unit(queries.astype(np.float64)))
    cosine[rows == own[:, None]] = -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :top]
    best = np.take_along_axis(rows, order, axis=1)
    values = np.take_along_axis(cosine, order, axis=1)
    is_other = np.isfinite(values)
    return np.where(is_other, best, -1), np.where(is_other, values, np.nan)


def share_found(index: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact neighbours (m, top) that are in `index` (m, top)."""
    hits = 0
    for found, right in zip(index, exact, strict=True):
        hits += len(np.intersect1d(found, right[right >= 0]))
    asked = int((exact >= 0).sum())
    return hits / max(asked, 1)
