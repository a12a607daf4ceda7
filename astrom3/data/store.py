"""Prepared light curves and spectra, packed into memory-mapped arrays, made once per content.

One folder per (content of the table, view, PREPROCESSING_VERSION): {cache}/{view}-{key}-v{version}/ with .npy
files, rejected.csv and manifest.json (shapes, sizes, CRC-32). It is written in a temporary folder and renamed, under a
lock that dies with its process: several jobs may ask for the same store at once, one builds it, the others wait.
When a store is opened its sizes are compared, and the checksums too where any file was touched since they were last
verified (size, inode, mtime, ctime); a store that fails is built again with a warning.

One folder belongs to one view (modalities/view.py). Ragged views: values (total, ...), offsets (n + 1,) and the
columns of the view by object. Others: values (m, ...) of the m objects that have one, the view's columns (m, ...), and
slot (n,) int64, -1 = none.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import secrets
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from astrom3.data.fingerprint import stamp, write_atomically
from astrom3.data.layouts.table import Group, Piece, Table
from astrom3.errors import UserError, shown
from astrom3.modalities.quality import Decision, write_decisions
from astrom3.modalities.schema import PREPROCESSING_VERSION
from astrom3.modalities.view import Column, StoredView, stored_view
from astrom3.places import cache_root

log = logging.getLogger(__name__)
Progress = Callable[[int], None]  # called with the number of objects done
SMALL_GROUP = 1024  # row groups up to this many objects are prepared side by side, one per thread


@dataclass(frozen=True)
class Store:
    """One view of one table, opened: arrays by name (memory-mapped), and the decisions of its preparation."""

    folder: Path
    view: StoredView
    arrays: dict[str, np.ndarray]

    @property
    def present(self) -> np.ndarray:
        """(n,) bool: the object has a usable observation."""
        return self.view.present(self.arrays)

    def decisions(self) -> list[Decision]:
        """What was repaired or rejected when the store was made."""
        with open(self.folder / "rejected.csv", newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            return [Decision(*row) for row in rows]


def open_store(
    table: Table,
    view: str | StoredView,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Store:
    """Open the store of a table's observations in a view; build it where there is none, or a damaged one."""
    stored = stored_view(view)
    root = cache_root(cache)
    try:
        root.mkdir(parents=True, exist_ok=True)
        key = table.fingerprint(root) + table.store_salt(stored)
        folder = root / f"{stored.store}-{key}-v{PREPROCESSING_VERSION}"
        store = _open(folder, stored, len(table))
        if store is None:
            with FileLock(root / f"{folder.name}.lock"):
                store = _open(folder, stored, len(table))  # another process may have built it meanwhile
                if store is None:
                    _build(table, stored, folder, progress, threads)
                    store = _open(folder, stored, len(table))
    except OSError as error:
        raise UserError(
            f"The prepared data cannot be written to {root} ({error.strerror or error}); make room there, or choose "
            "another folder with data.cache=<folder>."
        ) from error

    if store is None:
        raise UserError(f"The prepared data in {folder} were damaged while being written; check the disk of {root}.")
    return store


def _open(folder: Path, view: StoredView, n: int) -> Store | None:
    """The store, or None where there is none or a damaged one (which is said)."""
    if not folder.is_dir():
        return None

    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if (
            manifest["modality"] != view.store
            or manifest["objects"] != n
            or manifest["version"] != PREPROCESSING_VERSION
        ):
            raise ValueError("manifest of another store")
        _verify(folder, manifest)
        arrays = {}
        for name, about in manifest["arrays"].items():
            shape = tuple(about["shape"])
            # A memory map cannot be empty.
            array = np.load(folder / f"{name}.npy", mmap_mode="r" if 0 not in shape else None, allow_pickle=False)
            if array.shape != shape or array.dtype.str != about["dtype"]:
                raise ValueError(f"{name}.npy is not what the manifest says")
            arrays[name] = array
        return Store(folder, view, arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("The prepared data in %s are damaged (%s): preparing them again.", folder, error)
        return None


def _verify(folder: Path, manifest: dict) -> None:
    """Raise ValueError where a file is not the one that was written."""
    stamps = {name: stamp(folder / name) for name in manifest["files"]}
    for name, about in manifest["files"].items():
        if (folder / name).stat().st_size != about["size"]:
            raise ValueError(f"{name} has a wrong size")
    try:
        if json.loads((folder / "verified.json").read_text()) == stamps:
            return
    except (OSError, ValueError):
        pass  # never verified on this disk, or not writable: read everything
    for name, about in manifest["files"].items():
        if _crc(folder / name) != about["crc32"]:
            raise ValueError(f"{name} has a wrong checksum")
    write_atomically(folder / "verified.json", json.dumps(stamps))


def _crc(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _build(table: Table, view: StoredView, folder: Path, progress: Progress | None, threads: int | None) -> None:
    for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # of a killed builder: we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir(parents=True)
    log.info("Preparing the %s of %d objects into %s", view.store, len(table), shown(folder))
    try:
        writer = _Ragged(temporary, view) if view.ragged else _Fixed(temporary, view)
        decisions: list[Decision] = []
        done = 0
        ids = table.catalogue().ids
        for piece in prepared_pieces(table, view, threads):
            if piece.rows[0] != done:
                raise ValueError(f"pieces of {view.store} out of order: row {piece.rows[0]} after {done}")
            writer.write(piece)
            decisions += piece.decisions(ids)
            done += len(piece.rows)
            if progress:
                progress(len(piece.rows))
        if done != len(table):
            raise UserError(f"{len(table)} objects were announced, {done} were read: a file is damaged.")
        arrays = writer.close()
        write_decisions(temporary / "rejected.csv", decisions)
        manifest: dict[str, Any] = {
            "modality": view.store,
            "objects": len(table),
            "version": PREPROCESSING_VERSION,
            "arrays": {},
            "files": {"rejected.csv": _size_and_sum(temporary / "rejected.csv")},
        }
        for name, (shape, dtype) in arrays.items():
            manifest["arrays"][name] = {"shape": shape, "dtype": dtype}
            manifest["files"][f"{name}.npy"] = _size_and_sum(temporary / f"{name}.npy")
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
        if folder.exists():  # damaged
            damaged = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
            os.replace(folder, damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _size_and_sum(path: Path) -> dict[str, Any]:
    """What shows that a file of the store is as it was written."""
    return {"size": path.stat().st_size, "crc32": _crc(path)}


def prepared_pieces(table: Table, view: str | StoredView, threads: int | None = None) -> Iterator[Piece]:
    """All pieces of a table in order, row groups prepared side by side by `threads`.

    The default is the cores we may use, at most 4: each holds about 100 MB.
    """
    stored = stored_view(view)
    threads = threads or min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 4)
    groups = list(table.groups)
    if threads < 2 or len(groups) < 2 or max(group.rows for group in groups) > SMALL_GROUP:
        for group in groups:
            yield from table.pieces(group, stored)
        return

    def prepare(group: Group) -> list[Piece]:
        return list(table.pieces(group, stored))

    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[list[Piece]]] = []
        try:
            for group in groups:
                waiting.append(pool.submit(prepare, group))
                if len(waiting) > threads:
                    yield from waiting.pop(0).result()
            while waiting:
                yield from waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


class _Column:
    """A .npy file that grows along its first axis; the header is filled in at the end."""

    HEADER = 128

    def __init__(self, folder: Path, name: str, dtype: type, tail: tuple[int, ...] = ()) -> None:
        self.name = name
        self.dtype = np.dtype(dtype)
        self.tail = tail
        self.length = 0
        self.file = open(folder / f"{name}.npy", "wb")  # noqa: SIM115 closed in close()
        self.file.write(b" " * self.HEADER)

    def write(self, rows: np.ndarray) -> None:
        array = np.ascontiguousarray(rows, dtype=self.dtype)
        assert array.shape[1:] == self.tail
        self.file.write(array.data if array.size else b"")
        self.length += len(array)

    def close(self) -> tuple[tuple[int, ...], str]:
        """Write the header; (shape, dtype) for the manifest."""
        shape = (self.length, *self.tail)
        text = repr({"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        header = np.lib.format.magic(1, 0) + (self.HEADER - 10).to_bytes(2, "little")
        self.file.seek(0)
        self.file.write(header + text.encode().ljust(self.HEADER - 11) + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return shape, self.dtype.str


class _Writer(ABC):
    """Columns of one store."""

    def __init__(self, folder: Path, view: StoredView) -> None:
        self.folder = folder
        self.view = view
        self.values = self.column("values", view.values)
        self.extras: dict[str, _Column] = {}

    def column(self, name: str, form: Column) -> _Column:
        dtype, tail = form
        return _Column(self.folder, name, dtype, tail)

    @abstractmethod
    def write(self, piece: Piece) -> None: ...

    def write_extras(self, data: Any, rows: np.ndarray | slice) -> None:
        """The view's columns of the chosen objects; a column that the layout does not have is left out."""
        for name, form in self.view.extras.items():
            values = getattr(data, name)
            if values is None:
                continue
            if name not in self.extras:
                self.extras[name] = self.column(name, form)
            guard(values)
            self.extras[name].write(values[rows])

    @property
    @abstractmethod
    def places(self) -> _Column:
        """Where the objects are in the values."""

    def close(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {column.name: column.close() for column in (self.values, self.places, *self.extras.values())}


class _Ragged(_Writer):
    """Objects of unequal lengths, one behind the other."""

    def __init__(self, folder: Path, view: StoredView) -> None:
        super().__init__(folder, view)
        self.offsets = self.column("offsets", (np.int64, ()))
        self.offsets.write(np.zeros(1, np.int64))

    @property
    def places(self) -> _Column:
        return self.offsets

    def write(self, piece: Piece) -> None:
        data = piece.data
        guard(data.values)
        self.offsets.write(self.values.length + data.offsets[1:])
        self.values.write(data.values)
        self.write_extras(data, slice(None))


class _Fixed(_Writer):
    """Objects of one size; those without an observation take no room."""

    def __init__(self, folder: Path, view: StoredView) -> None:
        super().__init__(folder, view)
        self.slot = self.column("slot", (np.int64, ()))

    @property
    def places(self) -> _Column:
        return self.slot

    def write(self, piece: Piece) -> None:
        data = piece.data
        there = data.present
        self.slot.write(np.where(there, self.values.length + np.cumsum(there) - 1, -1))
        values = data.values if there.all() else data.values[there]
        guard(values)
        self.values.write(values)
        self.write_extras(data, there)


def guard(*arrays: np.ndarray) -> None:
    """The last check before a store or a batch: prepared numbers are finite."""
    for array in arrays:
        if not np.isfinite(array).all():
            raise ValueError("a prepared number is not finite: a case that quality.py does not reject yet")
