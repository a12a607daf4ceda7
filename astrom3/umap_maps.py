"""UMAP (McInnes et al. 2018, arXiv:1802.03426) by the package umap-learn, compiled once for all processes.

The package lets numba compile its loops in every process again, 14 s of processor time before a map of 300 objects.
Here what is compiled is kept on disk, as with our own loops, so that the next process has its map in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from astrom3.extras import need


def package(verb: str, what: str) -> Any:
    """The package `umap`. UserError where it is not installed; `what` of the verb needs it."""
    with compiled_once():
        return need("umap", verb, what)


def fit(
    verb: str, what: str, vectors: np.ndarray, settings: Mapping[str, Any]
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Coordinates float32 (n, 2) of vectors (n, D), and what places further vectors (m, D) in the same map."""
    umap = package(verb, what)
    with compiled_once():
        reducer = umap.UMAP(**settings, n_jobs=1)
        fitted = reducer.fit_transform(vectors)

    def place(others: np.ndarray) -> np.ndarray:
        with compiled_once():
            return np.asarray(reducer.transform(others), dtype=np.float32)

    return np.asarray(fitted, dtype=np.float32), place


@contextmanager
def compiled_once() -> Iterator[None]:
    """Within, numba.njit keeps what it compiles on disk, unless it is told otherwise."""
    import numba

    njit = numba.njit

    def kept(*arguments: Any, **options: Any) -> Any:
        return njit(*arguments, **({"cache": True} | options))

    numba.njit = kept
    try:
        yield
    finally:
        numba.njit = njit
