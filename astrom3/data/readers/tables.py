"""Tables: the list of objects, and light curves and spectra in plain columns.

csv and parquet through Arrow, FITS, VOTable, ECSV and other text through astropy; gzipped or not.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy.table import Table

from astrom3.data.readers import (
    GZIP,
    LARGEST_TABLE,
    ColumnError,
    LightCurve,
    ReadError,
    Spectrum,
    read_bytes,
    read_text,
)
from astrom3.data.readers.measured import Measured, measure_magnitudes, measure_survey, text_of
from astrom3.data.readers.surveys import RELATIVE, Survey, describe, recognise
from astrom3.data.readers.systems import RELATIVE_ZERO_FLUX, zero_point
from astrom3.data.rows import check_rows
from astrom3.errors import UserError

Column = str | int | None  # a name, a position counted from 0, or None: the usual names
ASTROPY_FORMATS = {
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".votable": "votable",
    ".ecsv": "ascii.ecsv",
}
USUAL = {
    "time": ("time", "hjd", "bjd", "jd", "mjd", "t"),
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
            return measure_survey(survey, columns, self._zero(), self.time_offset)
        time = columns.get("time", self.time) + self.time_offset
        band = columns.text("band", self.band) if self.band is not None or columns.has("band") else None
        if self._has_flux(columns):
            factor = _flux_factor(self.flux_unit)
            flux = columns.get("flux", self.flux) * factor
            error = columns.get("flux_err", self.flux_err) * factor
            return Measured(time, flux, error, band, np.ones(len(time), dtype=bool), ())
        magnitude = columns.get("mag", self.mag)
        error = columns.get("mag_err", self.mag_err)
        zero = self._zero()
        return measure_magnitudes(time, magnitude, error, RELATIVE_ZERO_FLUX if zero is None else zero, band)

    def survey(self, columns: Columns) -> Survey | None:
        """The survey whose columns these are, where the user names none."""
        named = (self.time, self.flux, self.flux_err, self.mag, self.mag_err)
        if any(name is not None for name in named) or self.flux_unit != "mJy":
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
        return [name for name in found if name]

    def relative(self, columns: Columns) -> bool:
        """Whether these columns are magnitudes for which no zero point is known, so that their fluxes are relative."""
        survey = self.survey(columns)
        if survey is not None:
            return survey.name in RELATIVE
        return self._zero() is None and not self._has_flux(columns)

    def taken(self, columns: Columns) -> str:
        """One sentence: which columns are taken, and in which units."""
        survey = self.survey(columns)
        if survey is not None:
            return describe(survey, columns.names)
        kinds = ("flux", "flux_err") if self._has_flux(columns) else ("mag", "mag_err")
        time, value, error = (columns.name(key, getattr(self, key)) for key in ("time", *kinds))
        unit = self.flux_unit if kinds[0] == "flux" else self.system or "no zero point"
        if self.zero_point is not None and kinds[0] == "mag":
            unit = f"magnitude 0 is {self.zero_point:g} mJy"
        offset = f" + {self.time_offset:g}" if self.time_offset else ""
        text = f"taken as time {time}{offset} [day, zero point as it stands], {value} +- {error} ({unit})"
        band = columns.name("band", self.band)
        return f"{text}, band {band}" if band else text

    def _zero(self) -> float | None:
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

    def read(self, path: Path | str) -> Spectrum:
        """Wavelength [Angstrom, vacuum], flux, inverse variance, (N,) each."""
        path = Path(path)
        columns = read_columns(path)
        wavelength = columns.get("wavelength", self.wavelength) * _factor(
            self.wavelength_unit, u.Angstrom, "spectra.wavelength_unit"
        )
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
            f"{path}: neither an inverse variance nor a flux error: set spectra.columns.ivar or "
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
        return any(name in self._lower for name in USUAL[key])

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
        if column is None:
            return next((self._lower.index(n) for n in USUAL.get(key, ()) if n in self._lower), -1)
        if isinstance(column, int):
            return column if 0 <= column < len(self.names) else -1
        return self._lower.index(column.lower()) if column.lower() in self._lower else -1

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
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    comments = [line for line in lines if line.lstrip().startswith("#")]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    if not lines:
        raise ReadError(f"{path}: no observations in it")
    comma = next((mark for mark in (",", ";", "\t") if mark in lines[0]), None)
    rows = [[cell.strip().strip('"') for cell in line.split(comma)] for line in lines]
    if not all(map(_is_number, rows[0])):
        names, rows = rows[0], rows[1:]
    else:
        names = [str(i) for i in range(len(rows[0]))]
        words = comments[-1].lstrip("# ").replace(",", " ").split() if comments else []
        names = words if len(words) == len(names) else names
    check_names(path, names)
    if not rows:
        raise ReadError(f"{path}: no observations in it")
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if wrong is not None:
        raise ReadError(f"{path}: corrupt or truncated: row {wrong + 1} has {len(rows[wrong])} of {len(names)} columns")
    return Columns(
        path, names, [np.array([c or "nan" for c in column], dtype=object) for column in zip(*rows, strict=True)]
    )


def read_table(path: Path | str, strings: Sequence[str] = ()) -> pa.Table:
    """A table with a header, whole; `strings` are read as text (an id 007 stays 007)."""
    path = Path(path)
    kind = suffix(path)
    if not path.exists():
        raise ReadError(f"{path}: no such file")
    if not path.is_file():
        raise ReadError(f"{path}: no regular file")
    if path.stat().st_size == 0:
        raise ReadError(f"{path}: file is empty")
    try:
        table = _read_table(path, kind, strings)
    except ReadError:
        raise
    except Exception as error:  # astropy's readers raise anything on a corrupt file
        raise ReadError(f"{path}: cannot be read as a table ({' '.join(str(error).split())[:160]})") from None
    check_names(path, table.column_names)
    return table


def _read_table(path: Path, kind: str, strings: Sequence[str]) -> pa.Table:
    if kind == ".parquet":  # light curves as lists are read row group by row group, see nested.py
        check_rows(str(path), pq.read_metadata(path).num_rows)
        flat = [field.name for field in pq.read_schema(path) if not pa.types.is_nested(field.type)]
        table = pq.read_table(path, columns=flat, partitioning=None)
        table.validate(full=True)  # text that is not UTF-8
        return table
    content = read_bytes(path, LARGEST_TABLE) if is_gzip(path) else None
    if kind in ASTROPY_FORMATS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _from_astropy(Table.read(of_astropy(path, kind, content), format=ASTROPY_FORMATS[kind]))
    if kind == ".csv" or "," in _first_line(path):
        types = {name: pa.string() for name in strings}  # in which only an empty cell is null, not an id "nan"
        options = pacsv.ConvertOptions(column_types=types)
        return pacsv.read_csv(pa.BufferReader(content) if content is not None else path, convert_options=options)
    text = read_text(path) if content is not None else path
    return _from_astropy(Table.read(text, format="ascii", converters={name: str for name in strings}))


def of_astropy(path: Path, kind: str, content: bytes | None) -> Any:
    """What astropy reads: the path, or the content of a gzipped file (astropy would unpack it without a limit)."""
    if content is None:
        return path
    return content.decode("utf-8") if ASTROPY_FORMATS[kind].startswith("ascii") else io.BytesIO(content)


def is_gzip(path: Path) -> bool:
    """Whether a file is gzipped, whatever its name says."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def check_names(path: Path, names: Sequence[str]) -> None:
    """ReadError where two columns have one name: which of them is meant, nobody can tell."""
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise ReadError(f"{path}: two columns are called {twice}: give each its own name")


def _from_astropy(table: Table) -> pa.Table:
    """One row per object; columns of arrays (a table of one row) are flattened."""
    columns = {}
    fields = []
    flat = len(table) == 1 and any(table[n].ndim > 1 for n in table.colnames)
    for name in table.colnames:
        column = table[name]
        values = np.ravel(column) if flat else column
        if values.ndim > 1:
            continue  # array columns are none of ours
        mask = np.ma.getmaskarray(np.ma.asarray(values)) if hasattr(values, "mask") else None
        data = np.asarray(values)
        if data.dtype.kind == "S":
            data = np.char.strip(np.char.decode(data, "utf-8", "replace"))
        elif data.dtype.kind in "fiu":
            data = data.astype(data.dtype.newbyteorder("="))
        columns[name] = pa.array(data.tolist() if data.dtype.kind in "OU" else data, mask=mask, from_pandas=True)
        unit = getattr(column, "unit", None)
        fields.append(pa.field(name, columns[name].type, metadata={"unit": str(unit)} if unit is not None else None))
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def suffix(path: Path) -> str:
    """Last suffix in lower case, before any .gz."""
    suffixes = [s.lower() for s in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else suffixes[-1] if suffixes else ""


def _first_line(path: Path) -> str:
    """The first line that is not empty, of the first megabyte."""
    if is_gzip(path):
        text = read_text(path)
    else:
        with path.open("rb") as file:
            text = file.read(1 << 20).decode("utf-8-sig", errors="replace")
    if "\0" in text:
        raise ReadError(f"{path}: not a text file")
    return next((line for line in text.splitlines() if line.strip()), "")


def _is_number(word: str) -> bool:
    try:
        float(word or "nan")
    except ValueError:
        return False
    return True


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
