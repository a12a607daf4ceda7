"""Nearest objects by cosine, exactly: all pairs in float32, the best of them again in float64."""

from __future__ import annotations

import numpy as np

from astrom3.analyse.fewshot import unit

CHUNK = 1024  # queries at a time
SPARE = 32  # more candidates than asked for: float32 confuses similarities closer than about 1e-7


def nearest(vectors: np.ndarray, there: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of n vectors (n, D) the `top` others with the largest cosine, the most similar first, the earlier one of
    equals: indices int32 (n, top) and cosines float32. -1 and NaN: `there` (n,) bool is false, or there are fewer."""
    n = len(vectors)
    index, cosine = np.full((n, top), -1, np.int32), np.full((n, top), np.nan, np.float32)
    rows = np.flatnonzero(there)
    exact = unit(vectors[rows].astype(np.float64))
    fast = exact.astype(np.float32)
    k = min(top, len(rows) - 1)
    if k < 1:
        return index, cosine
    for start in range(0, len(rows), CHUNK):
        mine = np.arange(start, min(start + CHUNK, len(rows)))
        similar = fast[mine] @ fast.T
        similar[np.arange(len(mine)), mine] = -np.inf  # not itself
        some = min(k + SPARE, len(rows) - 1)
        candidates = np.sort(np.argpartition(-similar, some - 1, axis=1)[:, :some], axis=1)
        again = np.einsum("qcd,qd->qc", exact[candidates], exact[mine])
        order = np.argsort(-again, axis=1, kind="stable")[:, :k]
        index[rows[mine], :k] = rows[np.take_along_axis(candidates, order, axis=1)]
        cosine[rows[mine], :k] = np.take_along_axis(again, order, axis=1)
    return index, cosine
