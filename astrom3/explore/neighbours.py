"""Nearest objects by cosine among those that have an embedding."""

from __future__ import annotations

import numpy as np

from astrom3.inference import neighbours


def nearest(vectors: np.ndarray, there: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The `top` others with the largest cosine of each of n vectors (n, D), as `neighbours.nearest` finds them.

    `there` (n,) bool says which objects have the embedding. Returns indices int32 (n, top) and cosines float32, with
    -1 and NaN where there is no other.
    """
    index = np.full((len(vectors), top), -1, np.int32)
    cosine = np.full((len(vectors), top), np.nan, np.float32)
    rows = np.flatnonzero(there)
    if not len(rows):
        return index, cosine
    among, similar = neighbours.nearest(vectors[rows], top)
    index[rows] = np.where(among >= 0, rows[among], -1)
    cosine[rows] = similar
    return index, cosine
