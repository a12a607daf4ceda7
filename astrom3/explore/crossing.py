"""Neighbours across modalities: of the image of a galaxy the spectra of others that lie nearest, and the other way."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from astrom3.analyse.fewshot import unit
from astrom3.inference.embeddings import Embeddings

CHUNK = 1024  # queries at a time
ARROW = " → "


def crossings(objects: Embeddings, top: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """ "images → spectra" and so on: index int32 (n, top) and cosine float32 (n, top), as `nearest` gives them; for
    every pair of modalities in one space."""
    widths = {vectors.shape[1] for vectors in objects.vectors.values()}
    if len(widths) > 1:
        return {}
    return {
        f"{asked}{ARROW}{told}": nearest_across(
            objects.vectors[asked], objects.vectors[told], objects.present[asked], objects.present[told], top
        )
        for asked, told in permutations(objects.modalities, 2)
    }


def nearest_across(
    queries: np.ndarray, vectors: np.ndarray, asked: np.ndarray, there: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each query (n, D) the `top` rows of `vectors` (n, D) with the largest cosine, without its own row, the most
    similar first: index int32 (n, top) and cosine float32 (n, top). -1 and NaN: `asked` (n,) bool is false, or there
    are fewer rows `there` (n,) bool."""
    n = len(queries)
    index = np.full((n, top), -1, np.int32)
    cosine = np.full((n, top), np.nan, np.float32)
    rows = np.flatnonzero(there)
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    base = unit(vectors[rows].astype(np.float64)).astype(np.float32)
    askers = np.flatnonzero(asked)
    for start in range(0, len(askers), CHUNK):
        some = askers[start : start + CHUNK]
        similar = unit(queries[some].astype(np.float64)).astype(np.float32) @ base.T
        own = np.flatnonzero(place[some] >= 0)
        similar[own, place[some[own]]] = -np.inf
        count = min(top, len(rows))
        if not count:
            break
        best = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similar, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        found = np.take_along_axis(similar, best, axis=1)
        good = np.isfinite(found)
        index[some, :count] = np.where(good, rows[best], -1)
        cosine[some, :count] = np.where(good, found, np.nan)
    return index, cosine
