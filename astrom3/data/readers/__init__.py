"""Readers of users' files: one file of one object in, arrays out.

Light curves come as time [day], flux [mJy], flux_err [mJy]; spectra as wavelength [Angstrom, vacuum], flux, ivar; all
float64, (N,), as they stand in the file: `astrom3.modalities.quality` decides on bad numbers. A file that cannot be
read is a ReadError, a column that is not there a ColumnError; both are UserErrors of one sentence that starts with the
path.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from astrom3.errors import UserError, shown
from astrom3.files import check_regular

GZIP = b"\x1f\x8b"
LARGEST = 64 << 20  # bytes of the observations of one object
LARGEST_TABLE = 4 << 30  # of a gzipped table of objects, unpacked
PIECE = 1 << 20  # bytes unpacked at a time
LARGEST_RATIO = 250  # of a gzipped file: text shrinks to a tenth, a spectrum to a half
UNSUSPICIOUS = 32 << 20  # bytes: below it no ratio is suspicious


class ReadError(UserError):
    """A file is missing, empty, truncated, or not what it should be."""


class ColumnError(ReadError):
    """A file is fine but lacks a column: most likely the configuration names the wrong one."""


class LightCurve(NamedTuple):
    """One light curve; `notes` say what the reader left out (non-detections), for rejected.csv.

    band: name of each point's band, (N,) of str, where the file says it.
    """

    time: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    notes: tuple[str, ...] = ()
    band: np.ndarray | None = None

    def of_band(self, name: str) -> LightCurve:
        """The points of one band."""
        assert self.band is not None
        chosen = self.band == name
        return LightCurve(self.time[chosen], self.flux[chosen], self.flux_err[chosen], self.notes)


class Spectrum(NamedTuple):
    """One spectrum; `notes` as for light curves."""

    wavelength: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    notes: tuple[str, ...] = ()


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """Content of a file, unpacked where it is gzipped, of at most `largest` bytes.

    ReadError for what is no regular file (a pipe would block, a device never ends), is larger, or swells when unpacked.
    """
    path = Path(path)
    try:
        check_regular(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            data = unpacked(path, file, size, largest) if packed else file.read(largest + 1)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ReadError(f"{path}: {_reason(error)}") from None
    except ReadError:
        raise
    except UserError as error:
        raise ReadError(str(error)) from None
    except ValueError:  # a NUL in it
        raise ReadError(f"{shown(path)}: no name of a file") from None
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of gzip
            raise ReadError(f"{path}: cannot be read ({error.strerror})") from None
        raise ReadError(f"{path}: corrupt or truncated gzip file ({error})") from None

    if len(data) > largest:
        raise ReadError(f"{path}: larger than the {largest >> 20} MB that such a file can have")
    return data


def unpacked(path: Path, file: BinaryIO, size: int, largest: int) -> bytes:
    """What a gzipped file of `size` bytes holds, `largest` + 1 bytes at most."""
    parts: list[bytes] = []
    total = 0
    with gzip.GzipFile(fileobj=file) as archive:
        while total <= largest:
            parts.append(archive.read(PIECE))
            total += len(parts[-1])
            if not parts[-1]:
                break
            if total > max(LARGEST_RATIO * size, UNSUSPICIOUS):
                raise ReadError(f"{path}: unpacks to more than {LARGEST_RATIO} times its size, as no observation does")
    return b"".join(parts)


def read_text(path: Path) -> str:
    """Text of a file, gzipped or not."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ReadError(f"{path}: not a text file") from None
    if not text.strip():
        raise ReadError(f"{path}: file is empty")
    if "\0" in text:
        raise ReadError(f"{path}: not a text file")
    return text


def _reason(error: OSError) -> str:
    reasons = {FileNotFoundError: "no such file", IsADirectoryError: "is a folder, not a file"}
    return reasons.get(type(error), "cannot be read: permission denied")
