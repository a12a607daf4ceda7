"""Neighbours across modalities: of the image of a galaxy the spectra of others that lie nearest, and the other way."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from astrom3.inference import neighbours
from astrom3.inference.embeddings import Embeddings

ARROW = " → "


def crossings(objects: Embeddings, top: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """ "images → spectra" and so on: index int32 (n, top) and cosine float32 (n, top), as `nearest` gives them; for
    every pair of modalities in one space."""
    widths = {vectors.shape[1] for vectors in objects.vectors.values()}
    if len(widths) > 1:
        return {}
    found = {}
    for asked, told in permutations(objects.modalities, 2):
        found[f"{asked}{ARROW}{told}"] = nearest_across(
            objects.vectors[asked], objects.vectors[told], objects.present[asked], objects.present[told], top
        )
    return found


def nearest_across(
    queries: np.ndarray, vectors: np.ndarray, asked: np.ndarray, there: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each query (n, D) the `top` rows of `vectors` (n, D) with the largest cosine, without its own row, the most
    similar first, as `neighbours.across` finds them.

    Returns index int32 (n, top) and cosine float32 (n, top), with -1 and NaN where `asked` (n,) bool is false, or where
    there are fewer rows `there` (n,) bool.
    """
    n = len(queries)
    index = np.full((n, top), -1, np.int32)
    cosine = np.full((n, top), np.nan, np.float32)
    rows = np.flatnonzero(there)
    askers = np.flatnonzero(asked)
    if not len(rows) or not len(askers):
        return index, cosine
    place = np.full(n, -1)
    place[rows] = np.arange(len(rows))
    among, similar = neighbours.across(queries[askers], vectors[rows], place[askers], top)
    index[askers] = np.where(among >= 0, rows[among], -1)
    cosine[askers] = similar
    return index, cosine
