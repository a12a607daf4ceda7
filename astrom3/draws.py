"""Draws that are a function of what they are for, so that resume and several ranks are exact.

Nothing here keeps a random state: every draw is a hash of its purpose (SplitMix64, Steele et al. 2014).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Bits = TypeVar("Bits", np.uint64, np.ndarray)
WINDOW = 2  # purpose of the draws that place windows in long curves


def draw(seed: int, epoch: int, purpose: int, items: np.ndarray) -> np.ndarray:
    """Uniform uint64 for each of items (n,) of int64: a hash of (seed, epoch, purpose, item)."""
    with np.errstate(over="ignore"):
        key = np.uint64(0)
        for part in (seed, epoch, purpose):
            key = _mix(np.uint64(part % (1 << 64)) + key + np.uint64(0x9E3779B97F4A7C15))
        return _mix(items.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key)


def _mix(x: Bits) -> Bits:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
