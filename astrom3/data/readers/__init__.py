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
from typing import NamedTuple

import numpy as np

from astrom3.errors import UserError


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


def read_text(path: Path) -> str:
    """Text of a file, gzipped or not."""
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ReadError(f"{path}: {_reason(error)}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: corrupt or truncated gzip file ({error})") from None
    except UnicodeDecodeError:
        raise ReadError(f"{path}: not a text file") from None
    if not text.strip():
        raise ReadError(f"{path}: file is empty")
    return text


def _reason(error: OSError) -> str:
    reasons = {FileNotFoundError: "no such file", IsADirectoryError: "is a folder, not a file"}
    return reasons.get(type(error), "cannot be read: permission denied")
