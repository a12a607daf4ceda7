"""LAMOST low-resolution spectra, both layouts, gzipped or not.

- DR7 and before: primary image (5, N) with the rows flux, inverse variance, wavelength, two masks. Some older files
  have no wavelength row: the header's COEFF0 and COEFF1 give it, 10 ** (COEFF0 + COEFF1 i).
- DR8 and after: binary table COADD, one row, columns FLUX, IVAR, WAVELENGTH, ANDMASK, ORMASK.

Wavelengths are in vacuum (header VACUUM), Angstrom. Masks are not used, as in the published data set.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from astrom3.data.readers import ColumnError, ReadError, Spectrum, read_bytes
from astrom3.data.readers.fits_files import LARGEST_SPECTRUM, flat_column, read_fits, table_with

NEEDED = {"FLUX", "IVAR", "WAVELENGTH"}


def is_lamost(path: Path) -> bool:
    """Whether a file looks like a LAMOST spectrum: FITS, with an image or a table that has IVAR. Never raises."""
    try:
        data = read_bytes(path, LARGEST_SPECTRUM)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(data), memmap=False) as hdus:
                return hdus[0].header.get("NAXIS") == 2 or table_with(hdus, NEEDED) is not None
    except (ReadError, OSError, ValueError, TypeError, KeyError, IndexError, EOFError, AttributeError):
        return ".fits" in Path(path).suffixes  # corrupt: read_lamost says how


def read_lamost(path: Path | str) -> Spectrum:
    """Wavelength, flux, inverse variance of a LAMOST file, (N,) float64 each."""
    return read_fits(Path(path), _read)


def _read(path: Path, hdus: fits.HDUList) -> Spectrum:
    table = table_with(hdus, NEEDED)
    if table is not None:  # one row of arrays (LAMOST) or one pixel per row
        return Spectrum(flat_column(table, "WAVELENGTH"), flat_column(table, "FLUX"), flat_column(table, "IVAR"))

    image = hdus[0].data
    header = hdus[0].header
    if isinstance(image, np.ndarray) and image.ndim == 2 and image.shape[0] >= 2:
        if image.shape[0] >= 3:
            wavelength = np.array(image[2], dtype=np.float64)
        elif "COEFF0" in header and "COEFF1" in header:
            wavelength = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(image.shape[1]))
        else:
            raise ColumnError(f"{path}: the image has no wavelength row and the header no COEFF0 and COEFF1")
        return Spectrum(wavelength, np.array(image[0], dtype=np.float64), np.array(image[1], dtype=np.float64))

    found = []
    for hdu in hdus:
        content = hdu.shape if hdu.is_image else hdu.columns.names
        found.append(f"{hdu.name or 'unnamed'} {content}")

    raise ColumnError(
        f"{path}: no LAMOST spectrum in it; expected an image of 5 rows or a table with FLUX, IVAR and WAVELENGTH, "
        f"found {', '.join(found)}"
    )
