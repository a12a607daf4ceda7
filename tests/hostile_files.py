"""Files that are damaged in many ways, and whether a program answers each of them with one sentence."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa

from astrom3.cli import wall

WHOLE = ("", "[]", "null", "{", '"x"', "1", "{}", "\x00", "<html>", "- 1", 2000 * "[", 2000 * '{"a":')
BAD: tuple[Any, ...] = (None, "", "x", -1, 10**30, 1e300, float("nan"), True, [], {}, [1], {"a": 1}, "a\0b")
GONE = object()


def answer(function: Callable[[], Any]) -> str:
    """ "" where `function` returns, else the sentence for its error. AssertionError for anything else."""
    try:
        function()
    except Exception as error:
        sentence, status = wall.answer(error)
        assert status == 2 and len(sentence.splitlines()) == 1 and sentence, f"{status}: {sentence}"
        return sentence
    return ""


def faults(cases: dict[str, Callable[[], Any]], refused: bool = False) -> list[str]:
    """Names of the cases that do not end well. refused: each of them must be refused."""
    found = []
    for name, function in cases.items():
        try:
            sentence = answer(function)
        except AssertionError as error:
            found.append(f"{name}: {error}")
            print(found[-1])
            continue
        if refused and not sentence:
            found.append(f"{name}: accepted")
            print(found[-1])
    return found


# --- text ---------------------------------------------------------------------------------------------------------


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in nested mappings and lists, of lists their first member."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(node, list) and node:
        yield (*path, 0)
        yield from places(node[0], (*path, 0))


def changed(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value in one place, or without it."""
    whole = copy.deepcopy(node)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return whole


def texts(content: Any, every: int = 1, write: Callable[[Any], str] = json.dumps) -> Iterator[tuple[str, str]]:
    """(name, text) of a small file that is damaged as a whole, and with one value replaced. every: of so many, one."""
    for text in WHOLE:
        yield f"whole {text[:9]!r}", text
    number = 0
    for path in places(content):
        for value in (GONE, *BAD):
            number += 1
            if number % every:
                continue
            named = "gone" if value is GONE else repr(value)[:12]
            yield f"{'.'.join(map(str, path))} {named}", write(changed(content, path, value))


def with_text(path: Path, text: str, function: Callable[[], Any]) -> Callable[[], Any]:
    """`function`, called while the file holds this text."""
    return with_bytes(path, text.encode("utf-8", "surrogatepass"), function)


def with_bytes(path: Path, content: bytes, function: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        before = path.read_bytes()
        path.write_bytes(content)
        try:
            return function()
        finally:
            path.write_bytes(before)

    return call


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of a binary file that is cut, garbled or something else."""
    third = len(content) // 3
    yield "empty", b""
    yield "half", content[: len(content) // 2]
    yield "without its end", content[:-20]
    yield (
        "garbled",
        content[:third] + bytes(255 - byte for byte in content[third : third + 200]) + content[third + 200 :],
    )
    yield "other", bytes(range(256)) * 3
    yield "a page", b"<html>404</html>"
    yield "a pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n"


def altered(path: Path, copy: Path, name: str, make: Callable[[Any, np.ndarray], Any]) -> bytes:
    """The bytes of a file of HDF5 with something else in place of one dataset."""
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        old = file[name][...]
        del file[name]
        make(file, old)
    return copy.read_bytes()


def instead(path: Path, function: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """What may stand in place of a file: a folder, a pipe, devices, a circle of links, nothing."""

    def call(make: Callable[[Path], Any]) -> Callable[[], Any]:
        def inner() -> Any:
            aside = path.with_name(f"{path.name}.aside")
            path.rename(aside)
            try:
                make(path)
                return function()
            finally:
                if path.is_dir() and not path.is_symlink():
                    path.rmdir()
                else:
                    path.unlink(missing_ok=True)
                aside.rename(path)

        return inner

    return {
        f"{path.name} as a folder": call(os.mkdir),
        f"{path.name} as a pipe": call(os.mkfifo),
        f"{path.name} as /dev/zero": call(lambda place: place.symlink_to("/dev/zero")),
        f"{path.name} in a circle": call(lambda place: place.symlink_to(place.name)),
        f"{path.name} missing": call(lambda place: None),
    }


# --- tables ---------------------------------------------------------------------------------------------------------


def tables(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """(name, table) with columns missing, twice or of other types, rows twice or none, absurd numbers in structs."""
    count = len(table)
    yield "no rows", table.slice(0, 0)
    yield "rows twice", pa.concat_tables([table, table.slice(0, 2)])
    for place, name in enumerate(table.column_names):
        yield f"{name} gone", table.drop_columns([name])
        yield f"{name} twice", table.append_column(name, table[name])
        yield f"{name} null", table.set_column(place, name, pa.nulls(count, table[name].type))
        for kind, column in others(count).items():
            yield f"{name} {kind}", table.set_column(place, name, column)
        if pa.types.is_struct(table[name].type):
            for label, column in structs(table[name].combine_chunks()):
                yield f"{name}.{label}", table.set_column(place, name, column)


def others(count: int) -> dict[str, pa.Array]:
    """Columns of types that are not wanted."""
    return {
        "of nulls": pa.nulls(count),
        "of whole numbers": pa.array(range(count)),
        "of text": pa.array(["x"] * count),
        "of NaN": pa.array([float("nan")] * count),
        "of bytes": pa.array([b"\xff\xfe"] * count, pa.binary()),
        "of lists": pa.array([[1.0]] * count),
        "of empty lists": pa.array([[]] * count, pa.list_(pa.float64())),
        "of lists of lists": pa.array([[[1.0]]] * count),
        "of structs": pa.array([{"a": 1}] * count),
        "of truths": pa.array([True] * count),
    }


def structs(column: pa.StructArray) -> Iterator[tuple[str, pa.Array]]:
    """(name, column) with one of the first members missing, of another type, or full of absurd numbers."""
    kinds = list(column.type)
    members = column.flatten()
    count = len(column)
    for place, kind in enumerate(kinds[:3]):
        rest = [other for other in range(len(kinds)) if other != place]
        yield f"{kind.name} gone", pa.StructArray.from_arrays([members[i] for i in rest], [kinds[i].name for i in rest])
        for label, values in absurd(kind.type, members[place], count):
            new = list(members)
            new[place] = values
            yield f"{kind.name} {label}", pa.StructArray.from_arrays(new, [field.name for field in kinds])


def absurd(kind: pa.DataType, member: pa.Array, count: int) -> Iterator[tuple[str, pa.Array]]:
    yield "of text", pa.array(["x"] * count)
    if pa.types.is_floating(kind):
        for value in (float("nan"), float("inf"), 1e39, 1e300, -9999.0, 99.99):
            yield f"{value}", pa.array(np.full(count, value), pa.float64())
        return
    flat = member.flatten()
    if not pa.types.is_list(kind) or not pa.types.is_floating(flat.type):
        return
    dtype = flat.to_numpy(zero_copy_only=False).dtype
    for value in (float("nan"), 1e30 if dtype == np.float32 else 1e300, -9999.0, 1.0, 0.0):
        values = pa.array(np.full(len(flat), value, dtype))
        yield f"all {value}", pa.ListArray.from_arrays(offsets(member), values)
    jumps = np.where(np.arange(len(flat)) % 2, 2400000.5, 0.0).astype(dtype)
    yield "jumps", pa.ListArray.from_arrays(offsets(member), pa.array(flat.to_numpy(zero_copy_only=False) + jumps))


def offsets(lists: pa.ListArray) -> pa.Array:
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
