"""Weights that Keras saved in one HDF5 file (`weights.h5`), read with h5py.

Only plain arrays in groups are taken: links to other places and arrays kept in other files are refused, and shapes are
known before any number is read.
"""

from __future__ import annotations

import io
from math import prod
from typing import Any

import h5py
import numpy as np

from astrom3.errors import UserError
from astrom3.hdf5_files import lies_in_file, read_from_elsewhere

MOST_ARRAYS = 100_000
DEEPEST = 16
LARGEST = 1 << 30  # bytes of all arrays


class KerasWeights:
    """The arrays of a file by their paths: `shapes` without reading, `read` one of them."""

    def __init__(self, data: bytes, source: str):
        self.source = source
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.visited = 0
        try:
            self.file = h5py.File(io.BytesIO(data), "r")
            self._list(self.file, "", 0)
        except UserError:
            raise
        except Exception as error:  # h5py gives KeyError, OSError, RuntimeError and ValueError for damaged files
            raise UserError(f"{source} is not an HDF5 file, or is damaged ({type(error).__name__}).") from None
        if 4 * sum(prod(shape) for shape in self.shapes.values()) > LARGEST:
            raise UserError(f"{source} claims more numbers than such a model can have.")

    def read(self, path: str) -> np.ndarray:
        """The array at a path as float32."""
        try:
            found = self.file[path]
            if found.size and not found.id.get_storage_size():
                raise ValueError("it was never written")
            return np.asarray(found[()], dtype=np.float32)
        except Exception as error:
            raise UserError(f"{self.source}: the array {path} is damaged ({type(error).__name__}).") from None

    def _list(self, group: Any, path: str, depth: int) -> None:
        self.visited += 1  # groups that hold themselves would be visited for ever
        if depth > DEEPEST or max(self.visited, len(self.shapes)) > MOST_ARRAYS:
            raise UserError(f"{self.source} has more groups than such a file can have.")
        for name in group:
            place = f"{path}/{name}" if path else name
            if not lies_in_file(group, name):
                raise UserError(f"{self.source}: {place} is a link to another place, which is not followed.")
            item = group[name]
            if isinstance(item, h5py.Group):
                self._list(item, place, depth + 1)
                continue
            if item.shape is None or read_from_elsewhere(item) or item.dtype.kind != "f":
                raise UserError(f"{self.source}: {place} is not an array of numbers kept in this file.")
            self.shapes[place] = item.shape
