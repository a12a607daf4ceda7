"""Outputs of frozen encoders, computed once and kept on the disk, so that an epoch costs only what still learns.

A folder {cache}/frozen/{key} belongs to the weights of one encoder and the used objects of one split. It holds pieces
of PIECE objects, number.npy, each written whole or not at all: a run that was killed goes on where it was, and several
processes share the work. Pieces are memory-mapped, so what fits into memory stays there. The folder can be removed at
any time; where the disk is short of room, the folders that were not used for a day are, the oldest first.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from astrom3.data.fingerprint import write_atomically
from astrom3.modalities.view import Reader

PIECE = 64  # objects; 150 MB of SpecFormer's tokens at the published size
FOLDER = "frozen"
ABOUT = "about.json"
UNUSED = 24 * 3600  # seconds after which another run may remove a folder
# numpy has no bfloat16, so its bits are kept.
BITS = {torch.bfloat16: torch.int16}
KINDS = {str(kind): kind for kind in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}


def weights_key(state: Mapping[str, Tensor], *about: Any) -> str:
    """Key (32 hexadecimal digits) of tensors by name and of whatever else decides an output."""
    key = hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode(), digest_size=16)
    for name, tensor in sorted(state.items()):
        key.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        key.update(plain.numpy().data)
    return key.hexdigest()


class KeptOutputs:
    """Outputs of n objects, each of the same shape and dtype, in a folder of pieces."""

    def __init__(self, folder: Path, n: int, example: Tensor) -> None:
        """example: the output of one object (...)."""
        self.folder = folder
        self.n = n
        self.shape = tuple(example.shape)
        self.dtype = example.dtype
        self.bits = BITS.get(example.dtype, example.dtype)
        self.opened: dict[int, np.ndarray] = {}

    @property
    def pieces(self) -> int:
        return -(-self.n // PIECE)

    @property
    def bytes_per_object(self) -> int:
        return int(np.prod(self.shape)) * torch.empty(0, dtype=self.dtype).element_size()

    def members(self, number: int) -> np.ndarray:
        """Objects of a piece."""
        return np.arange(number * PIECE, min((number + 1) * PIECE, self.n))

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"

    def missing(self) -> list[int]:
        """Numbers of the pieces that are not there, or are damaged."""
        return [number for number in range(self.pieces) if not self.is_sound(number)]

    def is_sound(self, number: int) -> bool:
        try:
            self.open(number)
        except (OSError, ValueError, EOFError):
            return False
        return True

    def open(self, number: int) -> np.ndarray:
        """A piece (members, ...), memory-mapped. ValueError where it is not what was written."""
        if number not in self.opened:
            array = np.load(self.path(number), mmap_mode="r", allow_pickle=False)
            expected = (len(self.members(number)), *self.shape)
            if array.shape != expected or array.dtype != self.empty(0).numpy().dtype:
                raise ValueError(f"{self.path(number)} is of another shape")
            self.opened[number] = array
        return self.opened[number]

    def empty(self, rows: int) -> Tensor:
        """Uninitialised outputs of some objects, as the bits that are kept."""
        return torch.empty((rows, *self.shape), dtype=self.bits)

    def write(self, number: int, outputs: Tensor) -> None:
        """Keep a piece (members, ...)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{number:06d}.{os.getpid()}.npy"
        try:
            with open(part, "wb") as file:
                np.save(file, outputs.cpu().contiguous().view(self.bits).numpy())
            os.replace(part, self.path(number))
        finally:
            part.unlink(missing_ok=True)

    def describe(self, about: Mapping[str, Any]) -> None:
        """Leave a note in the folder on what its outputs are of."""
        size = {"objects": self.n, "shape": list(self.shape), "dtype": str(self.dtype)}
        write_atomically(self.folder / ABOUT, json.dumps(dict(about) | size, indent=1, default=str) + "\n")

    def touch(self) -> None:
        """Say that the folder is in use."""
        with suppress(OSError):
            os.utime(self.folder / ABOUT)

    def rows(self, at: np.ndarray) -> Tensor:
        """Outputs (B, ...) of the objects `at` (B,)."""
        out = self.empty(len(at))
        filled = out.numpy()
        numbers = at // PIECE
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            filled[here] = self.open(number)[at[here] - number * PIECE]
        return out.view(self.dtype)


class KeptReader(Reader):
    """Fills a batch with kept outputs in place of what the encoder reads."""

    def __init__(self, key: str, kept: KeptOutputs) -> None:
        self.key = key
        self.kept = kept

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        return {self.key: self.kept.rows(at)}


def compute(kept: KeptOutputs, numbers: list[int], outputs: Callable[[np.ndarray], Tensor]) -> Iterator[int]:
    """Compute and write some pieces; yields the objects done. `outputs` gives those of some members (B,)."""
    for number in numbers:
        members = kept.members(number)
        kept.write(number, outputs(members))
        yield len(members)


def last_use(folder: Path) -> float:
    """When a run last read or wrote a folder of outputs [s since 1970]: each writes the note in it anew."""
    times = []
    for path in (folder, folder / ABOUT):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue  # no note yet, or removed meanwhile
    return max(times, default=0.0)


def total_size(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where it is missing."""
    sizes = []
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size if path.is_file() else 0)
        except OSError:
            continue  # removed meanwhile
    return sum(sizes)


def remove_unused(root: Path, needed: int, spared: Path) -> Iterator[tuple[Path, int]]:
    """Remove folders below `root` that no run has used for a day, the oldest first, until `needed` bytes are free;
    yields each with its size. `spared` stays."""
    folders = [path for path in root.iterdir() if path.is_dir() and path != spared] if root.is_dir() else []
    for folder in sorted(folders, key=last_use):
        if needed <= 0 or time.time() - last_use(folder) < UNUSED:
            return
        size = total_size(folder)
        shutil.rmtree(folder, ignore_errors=True)
        needed -= size
        yield folder, size
