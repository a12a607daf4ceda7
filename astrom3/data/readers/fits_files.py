"""FITS files of spectra, opened so that damage is an error: whole files, gzipped or not."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from astrom3.data.readers import GZIP, ReadError, read_bytes

T = TypeVar("T")
DAMAGE = (AstropyWarning, OSError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError)
START = b"SIMPLE  ="
LARGEST_SPECTRUM = 256 << 20  # bytes, unpacked


def read_fits(path: Path, read: Callable[[Path, fits.HDUList], T]) -> T:
    """What `read` makes of the opened file; ReadError where it is missing, truncated or no FITS file."""
    data = read_bytes(path, LARGEST_SPECTRUM)
    if not data:
        raise ReadError(f"{path}: file is empty")
    if not data.startswith(START):
        raise ReadError(f"{path}: not a FITS file")

    try:
        with warnings.catch_warnings():
            # A truncated file is a warning to astropy, and zeros where the pixels should be: to us it is an error.
            warnings.simplefilter("error", AstropyWarning)
            warnings.filterwarnings("ignore", category=fits.verify.VerifyWarning)
            with fits.open(io.BytesIO(data), memmap=False) as hdus:
                return read(path, hdus)
    except ReadError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise ReadError(f"{path}: corrupt or truncated FITS file ({reason[:120]})") from None


def table_with(hdus: fits.HDUList, columns: set[str]) -> fits.BinTableHDU | None:
    """The first table that has these columns (upper case); None where none has."""
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU) and columns <= {name.upper() for name in hdu.columns.names}:
            return hdu
    return None


def flat_column(table: fits.BinTableHDU, name: str) -> np.ndarray:
    """A column as (N,) float64, whether it has one pixel a row or all in one."""
    return np.ravel(table.data[name]).astype(np.float64)


def peek(path: Path, ask: Callable[[fits.HDUList], bool]) -> bool:
    """Answer a question about the headers of a file; False where it is no readable FITS file. Never raises."""
    try:
        if not starts_as_fits(path):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False) as hdus:
                return ask(hdus)
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, zlib.error):
        return False


def starts_as_fits(path: Path) -> bool:
    """Whether a regular file, gzipped or not, begins as FITS files do. A device would be read for ever."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        start = file.read(len(START))
    if start.startswith(GZIP):
        with gzip.open(path) as archive:
            start = archive.read(len(START))
    return start == START
