"""Tables with one row per object whose light curve stands in the row itself, as lists of times, magnitudes and errors.

A reference to a light curve is then the number of its row. Parquet alone has such columns. Row groups are read one at a
time, and the last one is kept, so that memory stays bounded and objects in order are read once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrom3.data.readers import ColumnError, LightCurve, ReadError, Spectrum
from astrom3.data.readers.auto import one_or_all
from astrom3.data.readers.surveys import recognise
from astrom3.data.readers.table_files import check_names, suffix
from astrom3.data.readers.tables import USUAL, Columns, LightCurveColumns, SpectrumColumns
from astrom3.data.rows import is_list
from astrom3.errors import UserError
from astrom3.files import check_regular
from astrom3.parquet_files import open_parquet

SPECTRUM_KEYS = ("wavelength", "flux", "ivar", "flux_err")
LIGHT_CURVE_KEYS = ("time", "flux", "flux_err", "mag", "mag_err", "band")


def is_nested(path: Path | str, columns: Mapping[str, Any]) -> bool:
    """Whether the table holds light curves as lists: its column of times, named by `columns` or as usual, is one."""
    path = Path(path)
    if suffix(path) != ".parquet" or not path.is_file() or path.stat().st_size == 0:
        return False
    schema = open_table(path).schema_arrow
    names = (str(columns["time"]),) if columns.get("time") is not None else USUAL["time"]
    found = []
    for name in schema.names:
        if name.lower() in names or name in names:
            found.append(schema.field(name).type)
    return any(is_list(kind) for kind in found)


def open_table(path: Path) -> pq.ParquetFile:
    """A parquet file with its metadata read; ReadError where it is damaged or two columns have one name."""
    try:
        check_regular(path)
        table = open_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise ReadError(f"{path}: cannot be read as a table ({' '.join(str(error).split())[:160]})") from None
    check_names(path, table.schema_arrow.names)
    return table


class RowLists:
    """Lists in the rows of a parquet file, by name. what: they are, for messages."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        if suffix(self.path) != ".parquet":
            raise UserError(f"{self.path}: {what} as lists in a table need a parquet file.")
        table = open_table(self.path)
        sizes = []
        for i in range(table.num_row_groups):
            sizes.append(table.metadata.row_group(i).num_rows)
        self._ends = np.cumsum(sizes)
        self.names = [name for name in table.schema_arrow.names if is_list(table.schema_arrow.field(name).type)]
        self._group = -1
        self._rows: pa.Table | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes read the table themselves."""
        return {**self.__dict__, "_group": -1, "_rows": None}

    def of_row(self, row: int, wanted: Callable[[str], bool]) -> Columns:
        """The lists of a row whose names are wanted; ReadError where they are missing or of unequal length."""
        table, position = self._locate(row)
        names = [name for name in self.names if wanted(name)]
        if not names:
            listed = ", ".join(self.names) or "none"
            raise ColumnError(f"{self.path}: no column of lists is a {self.what}; the columns of lists are {listed}")
        cells = [table[name][position] for name in names]
        if not all(cell.is_valid for cell in cells):
            raise ReadError(f"{self.path}: row {row + 1} has no {self.what}")
        values = [cell.values.to_numpy(zero_copy_only=False) for cell in cells]
        if len(set(map(len, values))) > 1:
            lengths = ", ".join(f"{name} {len(column)}" for name, column in zip(names, values, strict=True))
            raise ReadError(f"{self.path}: lists of unequal length ({lengths}) in row {row + 1}")
        return Columns(self.path, names, values)

    def _locate(self, row: int) -> tuple[pa.Table, int]:
        """The row group of a row, and the row's place in it."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        if group != self._group or self._rows is None:
            try:
                self._rows = open_parquet(self.path).read_row_group(group, columns=self.names)
            except (OSError, pa.ArrowException) as error:
                raise ReadError(f"{self.path}: cannot be read ({' '.join(str(error).split())[:160]})") from None
            self._group = group
        first = int(self._ends[group - 1]) if group else 0
        return self._rows, row - first


class NestedReader:
    """Row number -> LightCurve. `columns` names the lists and says what unit they have; band: the only one to take,
    otherwise all are."""

    def __init__(self, path: Path, columns: LightCurveColumns | None = None, band: str | None = None) -> None:
        self.path = path
        self.columns = columns or LightCurveColumns()
        self.band = band
        self.rows = RowLists(path, "light curve")

    def __call__(self, row: int) -> LightCurve:
        """Time [day], flux and error of one row; ReadError where its lists are missing or of unequal length."""
        curve = self.columns.of(self._lists(row))
        return one_or_all(curve, self.band, f"{self.path}: row {row + 1}", True)

    def taken(self, row: int) -> str:
        """One sentence: what is taken of the lists."""
        return self.columns.taken(self._lists(row))

    def relative(self, row: int) -> bool:
        """Whether the curve is in magnitudes without a zero point; see `LightCurveColumns.relative`."""
        return self.columns.relative(self._lists(row))

    def _lists(self, row: int) -> Columns:
        """The lists of a row that belong to the light curve, by name."""
        return self.rows.of_row(row, self._wanted)

    def _wanted(self, name: str) -> bool:
        """Whether a column belongs to the light curve, by the configuration, a usual name or that of a survey."""
        survey = recognise(self.rows.names)
        if survey is not None and name.lower() in survey.columns():
            return True
        for key in LIGHT_CURVE_KEYS:
            given = getattr(self.columns, key)
            if given is not None and str(given).lower() == name.lower():
                return True
            if given is None and name.lower() in USUAL[key]:
                return True
        return False


class NestedSpectra:
    """Row number -> Spectrum, of lists of flux, wavelength and inverse variance (or error) in the table.

    Without a list of wavelengths the flux is on `grid` (N,) [Angstrom]; without errors all pixels weigh the same.
    """

    def __init__(self, path: Path, columns: SpectrumColumns, grid: np.ndarray) -> None:
        self.columns = columns
        self.grid = grid
        self.rows = RowLists(path, "spectrum")

    def __call__(self, row: int) -> Spectrum:
        """Wavelength [Angstrom, vacuum], flux and inverse variance of one row; ReadError where there is none."""
        found = self.rows.of_row(row, self._wanted)
        flux = found.get("flux", self.columns.flux)
        names = list(found.names)
        values = list(found.values)
        if not found.name("wavelength", self.columns.wavelength):
            if len(flux) != len(self.grid):
                raise ReadError(
                    f"{found.path}: {len(flux)} pixels without wavelengths; only {len(self.grid)} have a known grid"
                )
            names.append(str(self.columns.wavelength or "wavelength"))
            values.append(self.grid)

        errors = []
        for key in ("ivar", "flux_err"):
            errors.append(found.name(key, getattr(self.columns, key)))
        if not any(errors):
            names.append(str(self.columns.ivar or "ivar"))
            values.append(np.ones(len(flux)))
        return self.columns.of(Columns(found.path, names, values))

    def _wanted(self, name: str) -> bool:
        for key in SPECTRUM_KEYS:
            given = getattr(self.columns, key)
            if name.lower() in ((str(given).lower(),) if given is not None else USUAL[key]):
                return True
        return False


def has_spectra(path: Path | str, flux: str | int | None) -> bool:
    """Whether the table holds spectra as lists: its column of fluxes, `flux` or a usual name, is one."""
    path = Path(path)
    if suffix(path) != ".parquet" or not path.is_file() or path.stat().st_size == 0:
        return False
    schema = open_table(path).schema_arrow
    names = (str(flux).lower(),) if flux is not None else USUAL["flux"]
    return any(is_list(schema.field(name).type) for name in schema.names if name.lower() in names)
