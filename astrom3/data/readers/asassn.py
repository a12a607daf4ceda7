"""Light curves as the ASAS-SN servers hand them out (csv).

Headers: `HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter`, the older one without flux
(`JD,HJD,UT_date,FWHM,Diff,Limit,mag,mag_err,Filter`) and that of Sky Patrol 2 (`jd,flux,flux_err,...,phot_filter`).
Non-detections (magnitude `>15.2`, or 99.990 in magnitude, flux or an error) are left out. Times are HJD where given.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from astrom3.data.readers import ColumnError, LightCurve, ReadError, read_text
from astrom3.data.readers.systems import SYSTEMS, flux_of_magnitude
from astrom3.modalities.ragged import ragged

SENTINEL = 99.0  # magnitudes: the servers write 99.990 or 99.99
ZERO_POINTS = {"V": SYSTEMS["asas-sn-V"], "g": SYSTEMS["asas-sn-g"]}
NAMES = {
    "time": ("hjd", "jd"),
    "mag": ("mag",),
    "mag_err": ("mag_err",),
    "flux": ("flux(mjy)", "flux (mjy)", "flux"),
    "flux_err": ("flux_err", "flux_error"),
    "band": ("filter", "phot_filter"),
}


def is_asassn(header: str) -> bool:
    """Whether the first line of a file is one of the headers above."""
    names = {name.strip().lower() for name in header.split(",")}
    has_time = not names.isdisjoint(NAMES["time"])
    has_band = not names.isdisjoint(NAMES["band"])
    return has_time and "mag" in names and has_band


def read_asassn(path: Path | str, band: str | None = None, keep_bands: bool = False) -> LightCurve:
    """One band (V or g) of a server file.

    Without `band` the file must hold a single one, or all are kept where `keep_bands` is true. ColumnError where the
    header is another one, ReadError where the file is damaged or lacks the band.
    """
    path = Path(path)
    at, rows = read_rows(path)
    names = [row[at["band"]].strip() for row in rows]
    if band is None and keep_bands:
        bands = sorted(set(names))
    else:
        bands = [choose_band(path, names, band)]

    parts = []
    for chosen in bands:
        of_band = [row for row, name in zip(rows, names, strict=True) if name == chosen]
        parts.append(_one_band(path, of_band, at, chosen))

    lengths = [len(part.time) for part in parts]
    labels = np.repeat(bands, lengths)
    if len(parts) == 1:
        return parts[0]._replace(band=labels)

    notes: list[str] = []
    for part in parts:
        notes += part.notes
    _, time, flux, error = ragged(parts)
    return LightCurve(time, flux, error, tuple(notes), labels)


def read_rows(path: Path) -> tuple[dict[str, int], list[list[str]]]:
    """Which column is which (see `positions`), and the cells of every row below the header."""
    lines = lines_of_content(path)
    rows = list(csv.reader(lines))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    at = positions(header)
    has_brightness = at["mag"] >= 0 or at["flux"] >= 0
    if at["time"] < 0 or not has_brightness or at["band"] < 0:
        raise ColumnError(
            f"{path}: not an ASAS-SN server file: expected HJD, mag, Filter in the header, found {lines[0][:120]}"
        )
    if len(rows) == 1:
        raise ReadError(f"{path}: no observations in it")

    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ReadError(f"{path}: corrupt or truncated: row {number} has {len(row)} of {len(header)} columns")
    return at, rows[1:]


def lines_of_content(path: Path) -> list[str]:
    """Lines of a text file without empty ones and comments."""
    return [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]


def positions(header: list[str]) -> dict[str, int]:
    """Key of NAMES -> number of its column, -1 where the header has none."""
    at = dict.fromkeys(NAMES, -1)
    for key, names in NAMES.items():
        known = [name for name in names if name in header]
        if known:
            at[key] = header.index(known[0])
    return at


def _one_band(path: Path, rows: list[list[str]], at: dict[str, int], chosen: str) -> LightCurve:
    """The light curve of rows of one band."""
    columns = {}
    for key, number in at.items():
        if key != "band" and number >= 0:
            columns[key] = _numbers(path, rows, number, key)

    measured = np.ones(len(rows), dtype=bool)
    for key in ("mag", "mag_err"):
        if key in columns:
            measured &= ~(columns[key] >= SENTINEL)

    if "flux_err" in columns:  # a flux of 99.99 mJy may well be real
        measured &= ~np.isclose(columns["flux_err"], 99.99, atol=0.0051)
    if at["mag"] >= 0:
        is_limit = [row[at["mag"]].strip().startswith(">") for row in rows]
        measured &= ~np.array(is_limit, dtype=bool)
    dropped = len(rows) - int(measured.sum())
    notes = (f"{dropped} non-detections left out",) if dropped else ()

    kept = {key: values[measured] for key, values in columns.items()}
    if "flux" in kept and "flux_err" in kept:
        return LightCurve(kept["time"], kept["flux"], kept["flux_err"], notes)
    if "mag_err" not in kept or chosen not in ZERO_POINTS:
        raise ColumnError(f"{path}: no flux, and no mag_err or no zero point for band {chosen} to compute it from")

    flux, flux_err = flux_of_magnitude(kept["mag"], kept["mag_err"], ZERO_POINTS[chosen])
    return LightCurve(kept["time"], flux, flux_err, notes)


def choose_band(path: Path | str, bands: list[str], band: str | None) -> str:
    """The band asked for, or the only one; ReadError that counts them otherwise."""
    counts = Counter(bands)
    found = ", ".join(f"{name} ({n})" for name, n in sorted(counts.items()))
    if band is None:
        if len(counts) > 1:
            raise ReadError(f"{path}: a mix of bands, {found}: choose one with band=<name>")
        return next(iter(counts))
    if band not in counts:
        raise ReadError(f"{path}: no observations in band {band}, it has {found}")
    return band


def _numbers(path: Path, rows: list[list[str]], column: int, key: str) -> np.ndarray:
    """A column as float64, (N,); empty cells are NaN and the limit `>15.2` is 15.2."""
    try:
        cells = [row[column].strip().lstrip(">") or "nan" for row in rows]
        return np.array(list(map(float, cells)), dtype=np.float64)
    except ValueError as error:
        raise ReadError(f"{path}: corrupt: {key} is not a number ({error})") from None
