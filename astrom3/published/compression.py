"""CRC-32C and Snappy, as LevelDB's tables use them."""

from __future__ import annotations

from functools import cache

import numpy as np

from astrom3.kernel import kernel

POLYNOMIAL = 0x82F63B78  # Castagnoli's, reversed
MASK_DELTA = 0xA282EAD8


class CorruptError(ValueError):
    """What is being read is damaged; the message says how, in words that follow "is damaged because"."""


@cache
def crc_table() -> np.ndarray:
    """The remainder of every byte, (256,) uint32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C (RFC 3720, appendix B.4) of bytes."""
    return int(_crc(np.frombuffer(data, dtype=np.uint8), crc_table()))


@kernel
def _crc(data: np.ndarray, table: np.ndarray) -> np.uint32:
    crc = np.uint32(0xFFFFFFFF)
    for byte in data:
        crc = table[(crc ^ byte) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def unmask(stored: int) -> int:
    """The checksum from its stored form: rotated by 15 bits with a constant added, so that a checksum of data that hold
    a checksum is no special case."""
    rotated = (stored - MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def snappy_decompress(data: memoryview, limit: int) -> bytes:
    """The content of a Snappy block of at most `limit` bytes. Raises CorruptError where it is damaged."""
    size, position = _length(data)
    if size > limit:
        raise CorruptError("a compressed block is too large")
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        kind = tag & 3
        if kind == 0:
            position = _literal(
                data,
                position,
                tag >> 2,
                out,
            )
        else:
            position = _copy(data, position, tag, out)
        if len(out) > size:
            raise CorruptError("a compressed block is longer than it says")
    if len(out) != size:
        raise CorruptError("a compressed block is shorter than it says")
    return bytes(out)


def _length(data: memoryview) -> tuple[int, int]:
    size = 0
    for i in range(min(len(data), 5)):
        size |= (data[i] & 0x7F) << (7 * i)
        if data[i] < 0x80:
            return size, i + 1
    raise CorruptError("a compressed block has no length")


def _number(data: memoryview, position: int, size: int) -> int:
    piece = data[position : position + size]
    if len(piece) < size:
        raise CorruptError("a compressed block is cut off")
    return int.from_bytes(piece, "little")


def _literal(
    data: memoryview,
    position: int,
    code: int,
    out: bytearray,
) -> int:
    """Bytes that stand as they are: codes 0..59 are their number less one, 60..63 say how many bytes hold it."""
    length = code + 1
    if code >= 60:
        extra = code - 59
        length = _number(data, position, extra) + 1
        position += extra
    piece = data[position : position + length]
    if len(piece) < length:
        raise CorruptError("a compressed block is cut off")
    out += piece
    return position + length


def _copy(
    data: memoryview,
    position: int,
    tag: int,
    out: bytearray,
) -> int:
    """A repetition of bytes that were written before, which may reach into itself."""
    kind = tag & 3
    if kind == 1:
        length = ((tag >> 2) & 7) + 4
        distance = ((tag >> 5) << 8) | _number(data, position, 1)
        position += 1
    else:
        width = 2 if kind == 2 else 4
        length = (tag >> 2) + 1
        distance = _number(data, position, width)
        position += width
    if not 0 < distance <= len(out):
        raise CorruptError("a compressed block refers to before its start")
    start = len(out) - distance
    piece = out[start : start + length]
    while len(piece) < length:  # it repeats what it has just written
        piece += piece[: length - len(piece)]
    out += piece
    return position
