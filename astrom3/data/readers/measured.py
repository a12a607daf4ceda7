"""Rows of a table to observations: a survey's units, bands, flags and non-detections, for all rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from astrom3.data.readers import LightCurve, ReadError
from astrom3.data.readers.surveys import ANY, Flag, Survey
from astrom3.data.readers.systems import RELATIVE_ZERO_FLUX, flux_of_magnitude

if TYPE_CHECKING:
    from astrom3.data.readers.tables import Columns

NON_DETECTION = 90.0  # magnitudes from here on (99.999 and the like) are non-detections
TRUE = ("true", "1", "t", "yes")


class Measured(NamedTuple):
    """N rows: time [day], flux and error [mJy, or relative] float64, band (N,) of str or None, seen (N,) bool: whether
    the row is an observation; notes say why others are not."""

    time: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    band: np.ndarray | None
    seen: np.ndarray
    notes: tuple[str, ...]

    def curve(self) -> LightCurve:
        """The observations, as one light curve."""
        seen = self.seen
        band = None if self.band is None else self.band[seen]
        return LightCurve(self.time[seen], self.flux[seen], self.flux_err[seen], self.notes, band)


def measure_magnitudes(
    time: np.ndarray, magnitude: np.ndarray, error: np.ndarray, zero: np.ndarray | float, band: np.ndarray | None
) -> Measured:
    """Rows in magnitudes; zero: flux [mJy] of magnitude 0, of all rows or of each."""
    seen = ~(magnitude >= NON_DETECTION)
    flux = np.full(len(time), np.nan)
    flux_err = np.full(len(time), np.nan)
    zeros = np.broadcast_to(zero, len(time))
    flux[seen], flux_err[seen] = flux_of_magnitude(magnitude[seen], error[seen], zeros[seen])
    lost = int((~seen).sum())
    notes = (f"{lost} non-detections left out",) if lost else ()
    return Measured(time, flux, flux_err, band, seen, notes)


def measure_survey(survey: Survey, columns: Columns, zero: float | None, time_offset: float) -> Measured:
    """Rows of a survey's table without its flagged points.

    zero: flux of magnitude 0 [mJy] that the user gives instead of the survey's. time_offset: added to the times [day].
    """
    lower = {name.lower() for name in columns.names}
    time_name = next(name for name in survey.time if name in lower)
    time = columns.get("time", time_name) + time_offset
    band = bands_of(survey, columns)
    if survey.in_magnitudes:
        magnitude = columns.get("mag", survey.mag)
        error = magnitude_errors(survey, columns)
        magnitude = np.where(np.isfinite(magnitude), magnitude, 99.0)  # null: not detected
        zeros = zeros_of(survey, band) if zero is None else zero
        measured = measure_magnitudes(time, magnitude, error, zeros, band)
    else:
        flux = columns.get("flux", survey.flux) * survey.flux_factor
        error = columns.get("flux_err", survey.flux_err) * survey.flux_factor
        everything = np.ones(len(time), dtype=bool)
        measured = Measured(time, flux, error, band, everything, ())

    flagged = np.zeros(len(time), dtype=bool)
    for flag in survey.flags:
        if flag.column in lower:
            flagged |= is_flagged(flag, columns)

    lost = int((flagged & measured.seen).sum())
    notes = measured.notes
    if lost:
        notes = (*notes, f"{lost} flagged points left out")
    return measured._replace(seen=measured.seen & ~flagged, notes=notes)


def magnitude_errors(survey: Survey, columns: Columns) -> np.ndarray:
    """Errors [mag] of the magnitudes of every row, from the flux where the survey publishes its error, as Gaia does."""
    if survey.mag_err is not None:
        return columns.get("mag_err", survey.mag_err)
    flux = columns.get("flux", survey.flux)
    flux_err = columns.get("flux_err", survey.flux_err)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2.5 / np.log(10) * flux_err / flux


def bands_of(survey: Survey, columns: Columns) -> np.ndarray:
    """Band of each row, (N,) of str."""
    if survey.band is None:
        only = survey.only_band or ""
        folder = columns.path.parent.name  # OGLE keeps a folder for each band
        if survey.name == "OGLE" and folder in survey.zero_points:
            only = folder
        return np.full(len(columns), only)
    codes = columns.text("band", survey.band)
    names, places = np.unique(codes, return_inverse=True)
    known = [survey.bands.get(name, name) for name in names.tolist()]
    return np.array(known, dtype=str)[places]


def zeros_of(survey: Survey, band: np.ndarray) -> np.ndarray:
    """Flux [mJy] of magnitude 0 of each row, by its band; relative where the survey has none."""
    names, places = np.unique(band, return_inverse=True)
    default = survey.zero_points.get(ANY, RELATIVE_ZERO_FLUX)
    zeros = [survey.zero_points.get(name, default) for name in names.tolist()]
    return np.array(zeros)[places]


def is_flagged(flag: Flag, columns: Columns) -> np.ndarray:
    """Which rows a flag marks as bad, (N,) bool."""
    if flag.below is not None:
        return columns.get("flag", flag.column) >= flag.below
    text = np.char.lower(columns.text("flag", flag.column))
    if flag.equals is not None:
        return text != flag.equals
    return np.isin(text, TRUE)


def text_of(values: np.ndarray, where: str) -> np.ndarray:
    """Cells as text (N,) of str; whole numbers lose a decimal point that null cells gave them."""
    kind = values.dtype.kind
    if kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if kind in "SU":
        return np.char.strip(values)
    cells = values.tolist()
    if kind == "f":
        has_fraction = np.isfinite(values) & (values != np.round(values))
        if has_fraction.any():
            raise ReadError(f"{where} holds numbers with a fraction, which are no names")
        cells = [int(value) if np.isfinite(value) else None for value in cells]
    return np.array(list(map(cell, cells)), dtype=str)


def cell(value: object) -> str:
    """One cell as text, empty for null and NaN."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value).strip()
