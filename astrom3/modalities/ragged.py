"""Sequences of unequal length as flat arrays: object i has the points offsets[i] to offsets[i + 1]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """(n,) lengths -> (n + 1,) int64 offsets."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def joined(parts: Iterable[np.ndarray], kind: Any = np.float64) -> np.ndarray:
    """Arrays (k, ...) one after the other, (total, ...); of no parts, an empty array (0,) of dtype `kind`."""
    listed = list(parts)
    return np.concatenate(listed) if listed else np.empty(0, dtype=kind)


def ragged(columns: Sequence[Sequence[Any]]) -> tuple[np.ndarray, ...]:
    """Offsets (n + 1,) and three flat float64 columns of n objects with three columns each."""
    lengths = [len(first) for first, *_ in columns]
    flat = []
    for number in range(3):
        flat.append(joined(column[number] for column in columns).astype(np.float64, copy=False))
    return offsets_of(lengths), *flat
