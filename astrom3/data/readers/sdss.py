"""SDSS, BOSS and eBOSS spectra, as SAS and the SkyServer hand them out, gzipped or not.

- `spec-PLATE-MJD-FIBER.fits` (DR8 and after): binary table COADD, one row a pixel, with the columns flux
  [1e-17 erg/s/cm2/Angstrom], loglam [log10 Angstrom, vacuum], ivar, and_mask, or_mask, wdisp, sky, model.
- `spSpec-MJD-PLATE-FIBER.fit` (DR7 and before): primary image (5, N) with the rows flux, continuum-subtracted flux,
  standard deviation, mask, sky, and 10 ** (COEFF0 + COEFF1 i) as wavelength.

Pixels without information (inverse variance 0) are left out; they are sky residuals and cosmic rays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from astrom3.data.readers import ColumnError, Spectrum
from astrom3.data.readers.fits_files import flat_column, peek, read_fits, table_with

NEEDED = {"FLUX", "LOGLAM", "IVAR"}


def is_sdss(path: Path | str) -> bool:
    """Whether a file looks like a spectrum of SDSS. Never raises."""
    return peek(Path(path), lambda hdus: table_with(hdus, NEEDED) is not None or _is_old(hdus[0]))


def read_sdss(path: Path | str) -> Spectrum:
    """Wavelength [Angstrom, vacuum], flux and inverse variance of an SDSS file, (N,) float64 each."""
    return read_fits(Path(path), _read)


def without_blind_pixels(wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray) -> Spectrum:
    """A spectrum without the pixels whose inverse variance is 0, and a note of how many they were."""
    seen = ~(ivar <= 0)
    notes = () if seen.all() else (f"{int((~seen).sum())} pixels without information left out",)
    return Spectrum(wavelength[seen], flux[seen], ivar[seen], notes)


def _read(path: Path, hdus: fits.HDUList) -> Spectrum:
    table = table_with(hdus, NEEDED)
    if table is not None:
        wavelength = 10 ** flat_column(table, "LOGLAM")
        return without_blind_pixels(wavelength, flat_column(table, "FLUX"), flat_column(table, "IVAR"))
    if _is_old(hdus[0]):
        image = np.array(hdus[0].data, dtype=np.float64)
        header = hdus[0].header
        wavelength = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(image.shape[1]))
        deviation = image[2]
        known = deviation > 0  # 0 marks a pixel that was not measured
        ivar = np.where(known, 1 / np.where(known, deviation, 1.0) ** 2, 0.0)
        return without_blind_pixels(wavelength, image[0], ivar)
    raise ColumnError(f"{path}: no SDSS spectrum in it; expected a table with flux, loglam and ivar")


def _is_old(hdu: fits.PrimaryHDU) -> bool:
    """Whether a primary image is that of DR7 and before; LAMOST's has a wavelength in its third row."""
    header = hdu.header
    rows = header.get("NAXIS2", 0)
    return "SDSS" in str(header.get("TELESCOP", "")) and header.get("NAXIS") == 2 and rows >= 3 and "COEFF0" in header
