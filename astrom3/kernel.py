"""How the compiled loops of the data path are made: numba, cached on disk, without the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba

F = TypeVar("F", bound=Callable)


def kernel(function: F) -> F:
    """numba.njit(cache=True, nogil=True) that keeps the signature for the type checker."""
    return numba.njit(cache=True, nogil=True)(function)  # type: ignore[return-value]


def summing_kernel(function: F) -> F:
    """The same where the order of a sum may change, so that it is vectorised."""
    return numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(function)  # type: ignore[return-value]
