"""Tables: the list of objects, and light curves and spectra in plain columns.

csv and parquet through Arrow, FITS, VOTable, ECSV and other text through astropy; gzipped or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np

from astrom3.data.readers import (
    ColumnError,
    LightCurve,
    ReadError,
    Spectrum,
    read_text,
)
from astrom3.data.readers.measured import Measured, measure_magnitudes, measure_survey, text_of
from astrom3.data.readers.surveys import RELATIVE, Survey, describe, recognise
from astrom3.data.readers.systems import RELATIVE_ZERO_FLUX, zero_point
from astrom3.data.readers.table_files import ASTROPY_FORMATS, _is_number, check_names, read_table, suffix
from astrom3.errors import UserError

Column = str | int | None  # a name, a position counted from 0, or None: the usual names
USUAL = {
    "time": ("time", "hjd", "bjd", "jd", "mjd", "hmjd", "t"),
    "flux": ("flux", "flux(mjy)", "flux_mjy"),
    "flux_err": ("flux_err", "flux_error", "e_flux", "fluxerr", "flux_sigma"),
    "mag": ("mag", "magnitude", "vmag"),
    "mag_err": ("mag_err", "mag_error", "e_mag", "magerr", "error", "err"),
    "band": ("band", "filter", "passband", "filtercode", "phot_filter", "filt", "fid"),
    "wavelength": ("wavelength", "lambda", "wave", "wl"),
    "ivar": ("ivar", "inverse_variance", "inv_var"),
}


@dataclass(frozen=True)
class LightCurveColumns:
    """How to read a light curve in plain columns: a flux, or a magnitude with zero point (mJy) or named system.

    Where no column is named, those of the big surveys are recognised (surveys.py), then the usual names. Magnitudes
    with neither zero point nor system become relative fluxes, 10^(-0.4 (m - 15)).
    """

    time: Column = None
    flux: Column = None
    flux_err: Column = None
    mag: Column = None
    mag_err: Column = None
    band: Column = None
    time_offset: float = 0.0  # day, added
    flux_unit: str = "mJy"
    zero_point: float | None = None
    system: str | None = None

    def __post_init__(self) -> None:
        _flux_factor(self.flux_unit)

    def read(self, path: Path | str) -> LightCurve:
        """Time [day], flux and error [mJy, or relative], (N,) each, of a file."""
        return self.of(read_columns(Path(path)))

    def of(self, columns: Columns) -> LightCurve:
        """The same of columns that were read."""
        return self.measure(columns).curve()

    def measure(self, columns: Columns) -> Measured:
        """The same of all rows, with those that are no observations marked."""
        survey = self.survey(columns)
        if survey is not None:
            return measure_survey(survey, columns, self.zero(), self.time_offset)

        time = columns.get("time", self.time) + self.time_offset
        band = columns.text("band", self.band) if self.band is not None or columns.has("band") else None
        if self._has_flux(columns):
            factor = _flux_factor(self.flux_unit)
            flux = columns.get("flux", self.flux) * factor
            error = columns.get("flux_err", self.flux_err) * factor
            return Measured(time, flux, error, band, np.ones(len(time), dtype=bool), ())

        magnitude = columns.get("mag", self.mag)
        error = columns.get("mag_err", self.mag_err)
        zero = self.zero()
        return measure_magnitudes(time, magnitude, error, RELATIVE_ZERO_FLUX if zero is None else zero, band)

    def survey(self, columns: Columns) -> Survey | None:
        """The survey whose columns these are, where the user names none."""
        named = (self.time, self.flux, self.flux_err, self.mag, self.mag_err)
        if set(named) != {None} or self.flux_unit != "mJy":
            return None
        return recognise(columns.names, str(columns.path))

    def needed(self, columns: Columns) -> list[str]:
        """Names of the columns that `measure` reads, of those there are."""
        survey = self.survey(columns)
        if survey is not None:
            return [name for name in columns.names if name.lower() in survey.columns()]
        kinds = ("flux", "flux_err") if self._has_flux(columns) else ("mag", "mag_err")
        for key in ("time", *kinds):
            columns.require(key, getattr(self, key))
        found = [columns.name(key, getattr(self, key)) for key in ("time", *kinds, "band")]
        return list(filter(None, found))

    def relative(self, columns: Columns) -> bool:
        """Whether these columns are magnitudes for which no zero point is known, so that their fluxes are relative."""
        survey = self.survey(columns)
        if survey is not None:
            return survey.name in RELATIVE
        return self.zero() is None and not self._has_flux(columns)

    def taken(self, columns: Columns) -> str:
        """One sentence: which columns are taken, and in which units."""
        survey = self.survey(columns)
        if survey is not None:
            return describe(survey, columns.names)
        kinds = ("flux", "flux_err") if self._has_flux(columns) else ("mag", "mag_err")
        time = columns.name("time", self.time)
        value, error = (columns.name(key, getattr(self, key)) for key in kinds)
        unit = self.flux_unit if kinds[0] == "flux" else self.system or "no zero point"
        if self.zero_point is not None and kinds[0] == "mag":
            unit = f"magnitude 0 is {self.zero_point:g} mJy"
        offset = f" + {self.time_offset:g}" if self.time_offset else ""
        text = f"taken as time {time}{offset} [day, zero point as it stands], {value} +- {error} ({unit})"
        band = columns.name("band", self.band)
        return f"{text}, band {band}" if band else text

    def zero(self) -> float | None:
        """Flux [mJy] of magnitude 0 as the user gives it."""
        if self.zero_point is not None:
            return self.zero_point
        return zero_point(self.system) if self.system is not None else None

    def _has_flux(self, columns: Columns) -> bool:
        return self.mag is None and (self.flux is not None or columns.has("flux"))


@dataclass(frozen=True)
class SpectrumColumns:
    """How to read a spectrum in plain columns; the third one is the inverse variance or the flux error."""

    wavelength: Column = None
    flux: Column = None
    ivar: Column = None
    flux_err: Column = None
    wavelength_unit: str = "Angstrom"
    air: bool = False  # wavelengths in air: converted to vacuum

    def __post_init__(self) -> None:
        self._to_angstrom()

    def _to_angstrom(self) -> float:
        return _factor(self.wavelength_unit, u.Angstrom, "spectra.wavelength_unit")

    def read(self, path: Path | str) -> Spectrum:
        """Wavelength [Angstrom, vacuum], flux, inverse variance, (N,) each, of a file."""
        return self.of(read_columns(Path(path)))

    def of(self, columns: Columns) -> Spectrum:
        """The same of columns that were read."""
        wavelength = columns.get("wavelength", self.wavelength) * self._to_angstrom()
        if self.air:
            wavelength = vacuum_wavelength(wavelength)
        flux = columns.get("flux", self.flux)
        if self.ivar is not None or columns.has("ivar"):
            return Spectrum(wavelength, flux, columns.get("ivar", self.ivar))
        if self.flux_err is not None or columns.has("flux_err"):
            error = columns.get("flux_err", self.flux_err)
            with np.errstate(divide="ignore"):
                ivar = np.where(error > 0, error**-2.0, np.where(np.isfinite(error), 0.0, np.nan))
            return Spectrum(wavelength, flux, ivar)

        raise ColumnError(
            f"{columns.path}: neither an inverse variance nor a flux error: set spectra.columns.ivar or "
            f"spectra.columns.flux_err to one of {columns.listing()}"
        )


class Columns:
    """Columns of one file by name (any case) or position."""

    def __init__(self, path: Path, names: Sequence[str], values: Sequence[np.ndarray]) -> None:
        self.path = path
        self.names = list(names)
        self.values = list(values)
        self._lower = [name.lower() for name in self.names]

    def listing(self) -> str:
        """The columns there are, for messages."""
        return ", ".join(self.names) or "(none)"

    def __len__(self) -> int:
        return len(self.values[0]) if self.values else 0

    def has(self, key: str) -> bool:
        """Whether one of the usual names of `key` is there."""
        return not set(USUAL[key]).isdisjoint(self._lower)

    def name(self, key: str, column: Column) -> str:
        """Name of the column that `get` would take, empty where there is none."""
        index = self._find(key, column)
        return self.names[index] if index >= 0 else ""

    def text(self, key: str, column: Column) -> np.ndarray:
        """A column as text, (N,) of str; missing values are empty."""
        index = self.require(key, column)
        return text_of(np.asarray(self.values[index]), f"{self.path}: column {self.names[index]}")

    def _find(self, key: str, column: Column) -> int:
        """Place of a column, -1 where there is none."""
        if isinstance(column, int):
            return column if 0 <= column < len(self.names) else -1
        names = USUAL.get(key, ()) if column is None else (column.lower(),)
        for name in names:
            if name in self._lower:
                return self._lower.index(name)
        return -1

    def require(self, key: str, column: Column) -> int:
        """The same; ColumnError where there is none, which lists the columns."""
        index = self._find(key, column)
        if index < 0:
            asked = f"no column {column}" if column is not None else f"no column known as {key}"
            raise ColumnError(f"{self.path}: {asked}; set columns.{key} to one of {self.listing()}")
        return index

    def get(self, key: str, column: Column) -> np.ndarray:
        """A column as float64 (N,); missing values NaN. Without `column` the usual names of `key` are tried."""
        index = self.require(key, column)
        try:
            return np.array(self.values[index], dtype=np.float64)
        except (ValueError, TypeError):
            raise ReadError(f"{self.path}: corrupt: column {self.names[index]} is not all numbers") from None


def read_columns(path: Path) -> Columns:
    """All columns of a table of numbers; a text file may lack a header, then names are positions 0, 1, 2 ..."""
    kind = suffix(path)
    if kind in ASTROPY_FORMATS or kind == ".parquet":
        table = read_table(path)
        return Columns(path, table.column_names, [table[name].to_numpy() for name in table.column_names])

    comment = ""  # the last one may name the columns
    lines = []
    for line in read_text(path).splitlines():
        if line.lstrip().startswith("#"):
            comment = line
        elif line.strip():
            lines.append(line)

    if not lines:
        raise ReadError(f"{path}: no observations in it")

    rows = cells_of(lines)
    if not all(map(_is_number, rows[0])):
        names = rows.pop(0)
    else:
        names = comment.lstrip("# ").replace(",", " ").split()
        if len(names) != len(rows[0]):
            names = list(map(str, range(len(rows[0]))))

    check_names(path, names)
    if not rows:
        raise ReadError(f"{path}: no observations in it")

    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ReadError(f"{path}: corrupt or truncated: row {number} has {len(row)} of {len(names)} columns")

    columns = []
    for cells in zip(*rows, strict=True):
        columns.append(np.array([cell or "nan" for cell in cells], dtype=object))
    return Columns(path, names, columns)


def cells_of(lines: Sequence[str]) -> list[list[str]]:
    """Rows of text without quotes. The first line says what stands between cells: , ; a tab, or else white space."""
    mark = None
    for candidate in reversed((",", ";", "\t")):
        if candidate in lines[0]:
            mark = candidate
    rows = []
    for line in lines:
        rows.append([cell.strip().strip('"') for cell in line.split(mark)])
    return rows


def _flux_factor(unit: str) -> float:
    return 1.0 if unit == "mJy" else _factor(unit, u.mJy, "light_curves.flux_unit")


def _factor(unit: str, target: u.UnitBase, key: str) -> float:
    try:
        return float(u.Unit(unit).to(target))
    except (ValueError, u.UnitConversionError):
        raise UserError(f"{key}={unit} is no unit that can be converted to {target}.") from None


def vacuum_wavelength(air: np.ndarray) -> np.ndarray:
    """Wavelengths [Angstrom] in air -> vacuum, Ciddor 1996 (Applied Optics 35, 1566) at the measured wavelength."""
    wavenumber2 = (1e4 / air) ** 2  # 1/micron^2
    index = 1 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2)
    return np.where(air > 2000, air * index, air)
