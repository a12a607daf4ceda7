"""Which reader a file needs: chosen by the user, or by what the file is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from astrom3.data.readers import ColumnError, LightCurve, Spectrum
from astrom3.data.readers.asassn import choose_band, is_asassn, lines_of_content, read_asassn
from astrom3.data.readers.desi import file_and_target, is_desi, read_desi
from astrom3.data.readers.lamost import is_lamost, read_lamost
from astrom3.data.readers.sdss import is_sdss, read_sdss
from astrom3.data.readers.table_files import suffix
from astrom3.data.readers.tables import LightCurveColumns, SpectrumColumns, read_columns
from astrom3.errors import UserError
from astrom3.modalities.resampling import COARSER, resample, width_ratio

LIGHT_CURVE_FORMATS = ("auto", "asassn", "columns")
BINARY = (".parquet", ".fits", ".fit", ".vot", ".xml", ".votable", ".ecsv")
SPECTRUM_FORMATS = ("auto", "lamost", "sdss", "desi", "columns")
FITS = (".fits", ".fit")
LOG_STEP = 1e-4  # of LAMOST's and SDSS's pixels, in log10(Angstrom)
READERS: dict[str, Callable[[Path], Spectrum]] = {"lamost": read_lamost, "sdss": read_sdss, "desi": read_desi}


@dataclass(frozen=True)
class LightCurveReader:
    """path -> LightCurve. auto: an ASAS-SN server file by its header, anything else as plain columns.

    band: the only one to take. keep_bands: a file of several bands gives them all; otherwise it is refused.
    """

    format: str = "auto"
    band: str | None = None
    columns: LightCurveColumns = field(default_factory=LightCurveColumns)
    keep_bands: bool = False

    def __post_init__(self) -> None:
        if self.format not in LIGHT_CURVE_FORMATS:
            raise UserError(f"light_curves.format={self.format} is none of {', '.join(LIGHT_CURVE_FORMATS)}.")

    def __call__(self, path: Path) -> LightCurve:
        """Reads one file; ReadError where it cannot."""
        curve, _ = self.read(path)
        return curve

    def read(self, path: Path) -> tuple[LightCurve, bool]:
        """Reads one file, and says whether it is in magnitudes without a zero point, so that fluxes are relative."""
        if self._kind(path) == "asassn":
            return read_asassn(path, self.band, self.keep_bands), False
        columns = read_columns(path)
        curve = one_or_all(self.columns.of(columns), self.band, str(path), self.keep_bands)
        return curve, self.columns.relative(columns)

    def relative(self, path: Path) -> bool:
        """Whether a file is in magnitudes without a zero point, so that its fluxes are relative."""
        return self._kind(path) == "columns" and self.columns.relative(read_columns(path))

    def taken(self, path: Path) -> str:
        """One sentence: what is taken of a file."""
        if self._kind(path) == "asassn":
            return "taken as files of the ASAS-SN servers: HJD, flux [mJy] and its error, band Filter"
        return self.columns.taken(read_columns(path))

    def _kind(self, path: Path) -> str:
        """The format of a file: asassn or columns."""
        if self.format != "auto":
            return self.format
        if suffix(path) in BINARY:
            return "columns"
        lines = lines_of_content(path)
        return "asassn" if lines and is_asassn(lines[0]) else "columns"


def one_or_all(curve: LightCurve, band: str | None, where: str, keep_bands: bool) -> LightCurve:
    """A light curve in the band that was asked for, or in the only one; with `keep_bands` in all of them."""
    if curve.band is None:
        if band is not None:
            raise ColumnError(
                f"{where}: band={band} was asked for, but this is no ASAS-SN file with a column Filter, nor has it "
                "another column of bands (light_curves.columns.band)"
            )
        return curve
    if band is None and keep_bands:
        return curve
    return curve.of_band(choose_band(where, curve.band.tolist(), band))._replace(notes=curve.notes)


@dataclass(frozen=True)
class SpectrumReader:
    """path -> Spectrum. auto: a FITS file of SDSS, DESI or one of the LAMOST layouts, anything else as plain columns.

    resample: DESI's pixels are averaged to the sampling of LAMOST and SDSS, see `to_common_sampling`.
    """

    format: str = "auto"
    columns: SpectrumColumns = field(default_factory=SpectrumColumns)
    resample: bool = False

    def __post_init__(self) -> None:
        if self.format not in SPECTRUM_FORMATS:
            raise UserError(f"spectra.format={self.format} is none of {', '.join(SPECTRUM_FORMATS)}.")

    def __call__(self, path: Path) -> Spectrum:
        """Reads one file; ReadError where it cannot."""
        kind = self._kind(path)
        if kind == "columns":
            return self.columns.read(path)
        found = READERS[kind](path)
        return to_common_sampling(found) if self.resample and kind != "lamost" else found

    def _kind(self, path: Path) -> str:
        """The format of a file."""
        if self.format != "auto":
            return self.format
        file, _ = file_and_target(path)
        if suffix(file) not in FITS:
            return "columns"
        if is_desi(path):
            return "desi"
        if is_sdss(file):
            return "sdss"
        return "lamost" if is_lamost(file) else "columns"


def to_common_sampling(spectrum: Spectrum) -> Spectrum:
    """A spectrum with finer pixels than LAMOST's and SDSS's (1e-4 in log10 of the wavelength) averaged to theirs, with
    flux conserved and errors propagated; others as they are."""
    wavelength = spectrum.wavelength
    if len(wavelength) < 2:
        return spectrum
    first = np.ceil(np.log10(wavelength.min()) / LOG_STEP)
    last = np.floor(np.log10(wavelength.max()) / LOG_STEP)
    grid = 10 ** (LOG_STEP * np.arange(first, last + 1))
    if len(grid) < 2 or width_ratio(np.unique(wavelength), grid) <= COARSER:
        return spectrum
    found = resample(wavelength, spectrum.flux, spectrum.ivar, grid, "conserving")
    kept = found.covered
    return Spectrum(grid[kept], found.flux[kept], found.ivar[kept], spectrum.notes)
