"""Keys of content: the same bytes give the same key wherever the files lie, other bytes give another key.

Every file is hashed as a whole (BLAKE2b), once: the hash is kept beside the stores under (real path, device, inode,
size, mtime, ctime) and taken again as long as none of these changed. The ctime cannot be set by a program, so an edit
that restores the modification time is seen as well. Not seen: bits that rot on the disk without any write.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from astrom3.errors import UserError
from astrom3.files import check_regular, write_text

LAST = 1 << 20  # bytes


def fingerprint(files: Sequence[Path], cache: Path, salt: str = "") -> str:
    """Key of the contents of some files in order (32 hexadecimal digits); `cache` keeps the hashes of files."""
    key = hashlib.blake2b(salt.encode(), digest_size=16)
    for path in files:
        key.update(file_hash(path, cache).encode())
    return key.hexdigest()


def quick_fingerprint(files: Sequence[Path], salt: str = "") -> str:
    """Key of files that are too large to be hashed as a whole: their names, sizes and last megabytes, where parquet and
    many HDF5 files have their directory."""
    key = hashlib.blake2b(salt.encode(), digest_size=16)
    for path in files:
        try:
            size = path.stat().st_size
            with open(path, "rb") as file:
                file.seek(max(size - LAST, 0))
                tail = file.read()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); download or write it again.") from error
        key.update(f"{path.name} {size}".encode())
        key.update(tail)
    return key.hexdigest()


def stamp(path: Path) -> list[int]:
    """What changes when a file is written or replaced."""
    info = os.stat(path)
    return [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def file_hash(path: Path, cache: Path) -> str:
    """BLAKE2b of a file, from `cache` where the file has not been touched since."""
    check_regular(path)
    try:
        real = path.resolve(strict=True)
        now = stamp(real)
        name = hashlib.blake2b(str(real).encode(), digest_size=16).hexdigest()
        record = cache / "hashes" / f"{name}.json"
        try:
            known = json.loads(record.read_text())
            if known["stamp"] == now:
                return str(known["hash"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # not hashed yet, or the record is damaged: hash the file
        with open(real, "rb") as file:
            value = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); download or write it again.") from error

    write_atomically(record, json.dumps({"path": str(real), "stamp": now, "hash": value}))
    return value


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new text; a read-only folder is left alone."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
