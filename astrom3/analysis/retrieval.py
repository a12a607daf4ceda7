"""Cross-modal retrieval: the spectrum of a light curve among all spectra, and so on in every direction."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from astrom3.analysis.fewshot import unit
from astrom3.inference.embeddings import Embeddings

TOP = (1, 5, 10)


def ranks(queries: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Rank (n,) from 1 of row i of `found` (n, D) among all of them by cosine to row i of `queries`; ties count
    against it."""
    queries, found = unit(queries), unit(found).T
    out = np.empty(queries.shape[0], dtype=np.int64)
    for i in range(0, len(queries), 2048):
        cosine = queries[i : i + 2048] @ found
        own = cosine[np.arange(len(cosine)), np.arange(i, i + len(cosine))]
        out[i : i + 2048] = (cosine >= own[:, None]).sum(1)
    return out


def retrieval(objects: Embeddings) -> dict[str, dict[str, float]]:
    """ "photometry -> spectra" and so on: recall at 1, 5, 10, median rank, number of objects that have both, and what
    chance would give."""
    out = {}
    for a, b in permutations(objects.modalities, 2):
        both = objects.present[a] & objects.present[b]
        n = int(both.sum())
        if n == 0:
            continue
        found = ranks(objects.vectors[a][both], objects.vectors[b][both])
        out[f"{a} -> {b}"] = {
            **{f"recall@{k}": float((found <= k).mean()) for k in TOP},
            "median_rank": float(np.median(found)), "n": n, "chance@10": min(10 / n, 1.0),
        }  # fmt: skip
    return out
