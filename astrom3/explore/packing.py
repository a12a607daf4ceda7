"""Arrays as text in an HTML page: quantised, laid out in bytes, deflated, base64. packing.js reads them back."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
LEVEL = 6  # of zlib; 9 gains 1 % of the file and takes three times as long


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Little-endian: uint32 length of a JSON list of {name, type, offset, length}, the list, zeros up to a multiple of
    8, then the arrays, flat, each at an offset (from there) that is a multiple of 8.

    An array of 2 or 4 byte integers is stored as planes, all first bytes, then all second ones: high bytes compress.
    """
    about = []
    parts = []
    offset = 0
    for name, array in arrays.items():
        if array.dtype.name not in TYPES:
            raise ValueError(f"{name} is {array.dtype}: a page knows {', '.join(TYPES)}")
        flat = np.ascontiguousarray(array.ravel(), dtype=array.dtype.newbyteorder("<"))
        planes = flat.dtype.kind in "ui" and flat.dtype.itemsize > 1
        data = flat.view(np.uint8).reshape(-1, flat.dtype.itemsize).T.tobytes() if planes else flat.tobytes()
        about.append(
            {
                "name": name,
                "type": array.dtype.name,
                "offset": offset,
                "length": flat.size,
            }
        )
        parts.append(data + bytes(-len(data) % 8))
        offset += len(parts[-1])

    head = json.dumps(about).encode()
    head += b" " * (-(len(head) + 4) % 8)
    return len(head).to_bytes(4, "little") + head + b"".join(parts)


def armour(data: bytes) -> str:
    """zlib stream in base64: letters, digits, + / = only, so nothing in it can end an HTML element."""
    return base64.b64encode(zlib.compress(data, LEVEL)).decode("ascii")


class Codes(NamedTuple):
    """value = low + step * code"""

    codes: np.ndarray  # uint8 or uint16
    low: float
    step: float


def linear(values: np.ndarray, bits: int) -> Codes:
    """Finite values (N,) in 2^bits equal steps between the smallest and the largest: error at most step / 2."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    top = (1 << bits) - 1
    step = (high - low) / top or 1.0
    kind = np.uint8 if bits == 8 else np.uint16
    codes = np.rint((values - low) / step)
    codes = np.clip(codes, 0, top).astype(kind)
    return Codes(codes, low, step)


class Stretched(NamedTuple):
    """value = centre + scale * sinh(low + step * code)"""

    codes: np.ndarray
    centre: float
    scale: float
    low: float
    step: float

    def decode(self) -> np.ndarray:
        return self.centre + self.scale * np.sinh(self.low + self.step * self.codes.astype(np.float64))


def stretched(values: np.ndarray, bits: int) -> Stretched:
    """Finite values (N,) quantised after asinh((value - median) / scale), scale = half the range of the middle 90 %:
    nearly equal steps there, and a cosmic ray a hundred times higher does not use up all codes."""
    centre = float(np.median(values))
    low, high = np.percentile(values, [5, 95])
    scale = float(high - low) / 2
    if scale <= 0:
        scale = float(np.abs(values - centre).max()) or 1.0
    found = linear(np.arcsinh((values - centre) / scale), bits)
    return Stretched(found.codes, centre, scale, found.low, found.step)
