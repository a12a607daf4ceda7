"""Which reader a file needs: chosen by the user, or by what the file is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from astrom3.data.readers import ColumnError, LightCurve, Spectrum, read_text
from astrom3.data.readers.asassn import is_asassn, read_asassn
from astrom3.data.readers.lamost import is_lamost, read_lamost
from astrom3.data.readers.tables import LightCurveColumns, SpectrumColumns, read_columns, suffix
from astrom3.errors import UserError

LIGHT_CURVE_FORMATS = ("auto", "asassn", "columns")
BINARY = (".parquet", ".fits", ".fit", ".vot", ".xml", ".votable", ".ecsv")
SPECTRUM_FORMATS = ("auto", "lamost", "columns")


@dataclass(frozen=True)
class LightCurveReader:
    """path -> LightCurve. auto: an ASAS-SN server file by its header, anything else as plain columns."""

    format: str = "auto"
    band: str | None = None
    columns: LightCurveColumns = field(default_factory=LightCurveColumns)

    def __post_init__(self) -> None:
        if self.format not in LIGHT_CURVE_FORMATS:
            raise UserError(f"light_curves.format={self.format} is none of {', '.join(LIGHT_CURVE_FORMATS)}.")

    def __call__(self, path: Path) -> LightCurve:
        """Reads one file; ReadError where it cannot."""
        kind = self._kind(path)
        if kind == "asassn":
            return read_asassn(path, self.band)
        if self.band is not None:
            raise ColumnError(
                f"{path}: band={self.band} was asked for, but this is no ASAS-SN file with a column Filter"
            )
        return self.columns.read(path)

    def relative(self, path: Path) -> bool:
        """Whether a file is in magnitudes without a zero point, so that its fluxes are relative."""
        return self._kind(path) == "columns" and self.columns.relative(read_columns(path))

    def _kind(self, path: Path) -> str:
        """The format of a file: asassn or columns."""
        if self.format != "auto":
            return self.format
        if suffix(path) in BINARY:
            return "columns"
        lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
        return "asassn" if lines and is_asassn(lines[0]) else "columns"


@dataclass(frozen=True)
class SpectrumReader:
    """path -> Spectrum. auto: a FITS file in one of the LAMOST layouts, anything else as plain columns."""

    format: str = "auto"
    columns: SpectrumColumns = field(default_factory=SpectrumColumns)

    def __post_init__(self) -> None:
        if self.format not in SPECTRUM_FORMATS:
            raise UserError(f"spectra.format={self.format} is none of {', '.join(SPECTRUM_FORMATS)}.")

    def __call__(self, path: Path) -> Spectrum:
        """Reads one file; ReadError where it cannot."""
        if self.format == "lamost" or (self.format == "auto" and is_lamost(path)):
            return read_lamost(path)
        return self.columns.read(path)
