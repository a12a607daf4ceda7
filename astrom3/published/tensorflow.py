"""Variables of a TensorFlow checkpoint (a "tensor bundle"), read without TensorFlow.

`NAME.index` is a sorted table in LevelDB's format whose values are protocol buffers; `NAME.data-00000-of-00001` holds
the numbers. The reader trusts nothing: every length is checked against the file, every block and variable against its
CRC-32C, and blocks must follow each other, so that no table can send it in circles.

    bundle = read_index(index_bytes, "weights.index")
    kernel = bundle.read("encoder/kernel", data_bytes)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from astrom3.errors import UserError
from astrom3.published.compression import CorruptError, crc32c, snappy_decompress, unmask

FOOTER = 48  # bytes
MAGIC = 0xDB4775248B80FB57
TRAILER = 5  # bytes after a block: its compression and its checksum
UNCOMPRESSED = 0
SNAPPY = 1
LARGEST_BLOCK = 1 << 24
LARGEST_UNPACKED = 1 << 25  # bytes of all blocks
MOST_ENTRIES = 20_000  # variables, of which the largest models have some hundred
MOST_SHARDS = 10_000
MOST_DIMENSIONS = 8
FLOAT32 = 1
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    7: "string",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}
VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5


class Entry(NamedTuple):
    """Where a variable is: its shard's number, offset and size [byte] there, and the masked checksum of its bytes."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int

    @property
    def kind(self) -> str:
        return DTYPES.get(self.dtype, f"type {self.dtype}")


@dataclass(frozen=True)
class Bundle:
    """A checkpoint's variables by name, and the number of its data files; `source` is for messages."""

    entries: dict[str, Entry]
    shards: int
    source: str

    def data_name(self, prefix: str, shard: int) -> str:
        """Name of a data file of the checkpoint whose files begin with `prefix`."""
        return f"{prefix}.data-{shard:05d}-of-{self.shards:05d}"

    def read(self, name: str, data: bytes) -> np.ndarray:
        """The numbers of a float32 variable from the bytes of its data file. Raises UserError where damaged."""
        entry = self.entries[name]
        if entry.dtype != FLOAT32:
            raise UserError(f"{self.source}: the variable {name} is of {entry.kind}, not float32.")
        if entry.size != 4 * prod(entry.shape):
            raise UserError(f"{self.source}: the variable {name} has {entry.size} bytes for shape {entry.shape}.")
        piece = data[entry.offset : entry.offset + entry.size]
        if len(piece) < entry.size:
            raise UserError(
                f"{self.source}: the data file ends before the variable {name}; fetch the checkpoint again."
            )
        if crc32c(piece) != unmask(entry.checksum):
            raise UserError(f"{self.source}: the checksum of the variable {name} is wrong; fetch the checkpoint again.")
        return np.frombuffer(piece, dtype="<f4").reshape(entry.shape).astype(np.float32)


def read_index(data: bytes, source: str) -> Bundle:
    """The variables listed by an index file. Raises UserError where it is not one or damaged."""
    try:
        return _read_index(data, source)
    except CorruptError as error:
        raise UserError(f"{source} is not a TensorFlow checkpoint's index, or is damaged ({error}).") from None


def _read_index(data: bytes, source: str) -> Bundle:
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise CorruptError("its last bytes are not those of a table")
    footer = memoryview(data)[-FOOTER:]
    position = 0
    handle: list[int] = []
    for _ in range(4):  # two handles: of an unused block and of the block that lists the others
        number, position = varint(footer, position)
        handle.append(number)
    body = memoryview(data)[:-FOOTER]
    entries: dict[str, Entry] = {}
    header = None
    reached = 0
    unpacked = 0
    before: bytes | None = None
    for _, value in block_entries(read_block(body, handle[2], handle[3])):
        offset, position = varint(value, 0)
        size, _ = varint(value, position)
        if offset < reached:
            raise CorruptError("its blocks overlap")
        reached = offset + size + TRAILER
        block = read_block(body, offset, size)
        unpacked += len(block)
        if unpacked > LARGEST_UNPACKED:
            raise CorruptError("its blocks are too large")
        for key, encoded in block_entries(block):
            if before is not None and key <= before:
                raise CorruptError("its names are not in order")
            before = key
            if key == b"":
                header = fields(encoded)
                continue
            entries[decode_name(key)] = decode_entry(encoded)
            if len(entries) > MOST_ENTRIES:
                raise CorruptError("it lists too many variables")
    if header is None:
        raise CorruptError("it has no header")
    return Bundle(entries, check_header(list(header)), source)


def check_header(header: list[tuple[int, int | memoryview]]) -> int:
    """The number of data files, from the header's fields."""
    numbers = {}
    for number, value in header:
        if isinstance(value, int):
            numbers[number] = value
    if numbers.get(2, 0) != 0:
        raise CorruptError("its numbers are big-endian")
    shards = numbers.get(1, 0)
    if not 1 <= shards <= MOST_SHARDS:
        raise CorruptError(f"it claims {shards} data files")
    return shards


def decode_name(key: bytes) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        raise CorruptError("a name in it is not text") from None


def decode_entry(encoded: memoryview) -> Entry:
    """A variable's description from its protocol buffer."""
    numbers: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    for number, value in fields(encoded):
        if number == 7:
            raise CorruptError("a variable in it is cut into slices")
        if number == 2 and not isinstance(value, int):
            shape = decode_shape(value)
        elif isinstance(value, int):
            numbers[number] = value
    shard, offset, size = (numbers.get(number, 0) for number in (3, 4, 5))
    if max(shard, offset, size) >= 1 << 62:
        raise CorruptError("a length in it is absurd")
    return Entry(
        numbers.get(1, 0),
        shape,
        shard,
        offset,
        size,
        numbers.get(6, 0),
    )


def decode_shape(encoded: memoryview) -> tuple[int, ...]:
    sizes = []
    for number, value in fields(encoded):
        if number == 2 and not isinstance(value, int):
            dimension = {}
            for n, v in fields(value):
                if isinstance(v, int):
                    dimension[n] = v
            sizes.append(dimension.get(1, 0))
    if len(sizes) > MOST_DIMENSIONS or any(size >= 1 << 40 for size in sizes):
        raise CorruptError("a shape in it is absurd")
    return tuple(sizes)


# --- tables and protocol buffers ------------------------------------------------------------------------------------


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise CorruptError("a number in it is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise CorruptError("a number in it does not end")


def read_block(body: memoryview, offset: int, size: int) -> memoryview:
    """The content of a block, its checksum verified."""
    if size > LARGEST_BLOCK or offset + size + TRAILER > len(body):
        raise CorruptError("a block reaches beyond its end")
    checked = body[offset : offset + size + 1]
    stored = int.from_bytes(body[offset + size + 1 : offset + size + TRAILER], "little")
    if crc32c(checked) != unmask(stored):
        raise CorruptError("the checksum of a block is wrong")
    content = checked[:size]
    compression = checked[size]
    if compression == UNCOMPRESSED:
        return content
    if compression == SNAPPY:
        return memoryview(snappy_decompress(content, LARGEST_BLOCK))
    raise CorruptError(f"a block has the unknown compression {compression}")


def block_entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a block, whose keys share a beginning with the key before and must rise."""
    if len(block) < 4:
        raise CorruptError("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise CorruptError("a block is shorter than its list of restarts")
    position = 0
    key: bytes | None = None
    while position < end:
        shared, position = varint(block, position)
        unshared, position = varint(block, position)
        length, position = varint(block, position)
        before = key or b""
        if shared > len(before) or position + unshared + length > end:
            raise CorruptError("an entry reaches beyond its block")
        new = before[:shared] + bytes(block[position : position + unshared])
        if key is not None and new <= key:
            raise CorruptError("its names are not in order")
        key = new
        position += unshared + length
        yield key, block[position - length : position]


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of a protocol buffer's fields; texts and messages as bytes."""
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        kind = tag & 7
        if kind == VARINT:
            value, position = varint(message, position)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            size, position = varint(message, position)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise CorruptError(f"a field in it has the unknown kind {kind}")
        piece = message[position : position + size]
        if len(piece) < size:
            raise CorruptError("a field in it is cut off")
        position += size
        yield tag >> 3, piece if kind == BYTES else int.from_bytes(piece, "little")
