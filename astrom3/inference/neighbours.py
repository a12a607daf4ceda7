"""Nearest neighbours by cosine among many embeddings, in bounded memory and in time that grows with their number.

Up to EXACT_TO objects all pairs are compared, and the result is exact. Beyond, objects are sorted into cells around
centroids (an inverted file, Sivic & Zisserman 2003; k-means by Lloyd on a sample), and each is compared with those in
the PROBED cells that are nearest to its own. What that misses is measured on a sample and logged. Similarities are
always those of float64.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
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
    count = len(vectors)
    index = np.full((count, top), -1, np.int32)
    cosine = np.full((count, top), np.nan, np.float32)
    if count < 2:
        return index, cosine
    directions = unit(vectors.astype(np.float32))
    is_exact = count <= exact_to
    for rows, candidates in everything(count) if is_exact else by_cells(directions):
        best, values = best_of(vectors, directions, rows, candidates, top)
        index[rows, : best.shape[1]] = best
        cosine[rows, : best.shape[1]] = values
    if not is_exact:
        log.info(
            "%s objects: %.1f %% of the exact neighbours are found",
            f"{count:,}",
            100 * share_found(vectors, directions, index),
        )
    return index, cosine


def everything(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Queries, ROWS at a time, each with all objects as candidates."""
    everybody = np.arange(count)
    for start in range(0, count, ROWS):
        yield everybody[start : start + ROWS], everybody


def by_cells(directions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Queries of one cell at a time, with the members of the nearest cells, in order, as candidates."""
    centres = centroids(directions)
    cell = assigned(directions, centres)
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], np.arange(len(centres) + 1))
    members = [order[start:stop] for start, stop in pairwise(first)]
    for number, centre in enumerate(centres):
        near = np.argsort(-(centres @ centre), kind="stable")[:PROBED]
        candidates = np.sort(np.concatenate([members[i] for i in {number, *near.tolist()}]))
        for start in range(0, len(members[number]), ROWS):
            yield members[number][start : start + ROWS], candidates


def centroids(directions: np.ndarray) -> np.ndarray:
    """Directions (cells, D) of about one cell for every CELL objects, by k-means on a sample."""
    count = -(-len(directions) // CELL)
    draws = np.random.default_rng(0)
    chosen = np.sort(draws.choice(len(directions), min(PER_CELL * count, len(directions)), replace=False))
    sample = directions[chosen]
    centres = sample[np.sort(draws.choice(len(sample), count, replace=False))]
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
    vectors: np.ndarray, directions: np.ndarray, rows: np.ndarray, candidates: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `top` of the candidates (c,) in increasing order for each query: indices and float64 cosines (rows, <= top).

    Queries may be among the candidates. They are not their own neighbours.
    """
    similar = directions[rows] @ directions[candidates].T  # (rows, c)
    place = np.searchsorted(candidates, rows)
    is_among = candidates[np.minimum(place, len(candidates) - 1)] == rows
    similar[np.flatnonzero(is_among), place[is_among]] = -np.inf
    others = len(candidates) - int(is_among.any())
    kept = min(top + SPARE, others)
    if kept < 1:
        return np.empty((len(rows), 0), np.int64), np.empty((len(rows), 0))
    some = np.sort(np.argpartition(-similar, kept - 1, axis=1)[:, :kept], axis=1)
    names = candidates[some]
    exact = unit(vectors[names].reshape(-1, vectors.shape[1]).astype(np.float64)).reshape(*names.shape, -1)
    again = np.einsum("qcd,qd->qc", exact, unit(vectors[rows].astype(np.float64)))
    order = np.argsort(-again, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(names, order, axis=1), np.take_along_axis(again, order, axis=1)


def share_found(vectors: np.ndarray, directions: np.ndarray, index: np.ndarray) -> float:
    """Share of the exact neighbours that are in `index` (n, top), of CHECKED objects drawn at random."""
    asked = np.sort(np.random.default_rng(0).choice(len(vectors), CHECKED, replace=False))
    best, _ = best_of(vectors, directions, asked, np.arange(len(vectors)), index.shape[1])
    hits = [len(np.intersect1d(index[row], exact)) for row, exact in zip(asked, best, strict=True)]
    return sum(hits) / best.size
