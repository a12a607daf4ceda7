"""Light curves, spectra and images as a data set has them: every layout, nothing cleaned, nothing normalised by us.

`observations(source, wanted)` reads a table once, group by group, so memory is bounded. What a layout cannot give raw
(processed-2 holds prepared inputs only) is given as it is there, and `units` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from astrom3.data.layouts.galaxy_rows import GalaxyRows, prepared
from astrom3.data.layouts.hats import HatsTable
from astrom3.data.layouts.hub import CurrentTable, FirstTable
from astrom3.data.layouts.magnitudes import MagnitudeTable
from astrom3.data.layouts.ours import ObjectTable
from astrom3.data.layouts.parquet import ParquetTable, numbers, rows_of_three, unnest
from astrom3.data.layouts.protocols import JoinedTable
from astrom3.data.layouts.raw import RawTable
from astrom3.data.layouts.table import Source, Table
from astrom3.data.readers import ReadError
from astrom3.errors import UserError
from astrom3.modalities.catalogue import PERIOD, Normaliser
from astrom3.modalities.galaxy_views import PIXELS, REJECTIONS
from astrom3.modalities.schema import PHOTO_CHANNELS, PHOTO_COLS, WAVELENGTH_COUNT, WAVELENGTH_START, WAVELENGTH_STEP
from astrom3.modalities.view import stored_view

GRID = 3600.0 + 0.8 * np.arange(PIXELS)  # of galaxies' spectra: observed, vacuum [Angstrom]
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]
DAYS_PER_YEAR = 365.0  # as the published preprocessing has it
STEP_OF_FLOAT32_HJD = 0.25  # [day]


class Observed(NamedTuple):
    """One object. light_curve: time, flux, error; spectrum: wavelength [Angstrom, vacuum], flux, third column; None
    where there is none. photo: its PHOTO_COLS where the layout keeps them with the light curve. image: of a galaxy,
    float32 (3, H, W) in g, r, z [nanomaggies], survey orientation, without its lost pixels, as is its spectrum."""

    row: int
    light_curve: Columns | None
    spectrum: Columns | None
    photo: np.ndarray | None = None
    problems: tuple[str, ...] = ()
    image: np.ndarray | None = None


@dataclass(frozen=True)
class Units:
    """What stands on the axes. time_step: coarseness of the times [day], 0 where they are fine."""

    time: str
    flux: str
    spectrum: str
    catalogue: str
    time_step: float = 0.0


def units(source: Source) -> Units:
    """Of the layout of a source."""
    unnormalised = "flux [mJy]", "flux [as in the data set]"
    if is_of_galaxies(source):
        return Units("", "", "flux [1e-17 erg/s/cm²/Å]", "as in the data set")
    if source.layout == "processed-2":
        normalised = "normalised: (flux − mean) / MAD"
        return Units("days since the first point", normalised, normalised, "z-scores")
    if is_made_of(source, MagnitudeTable):
        return Units("time [d]", "relative flux", "", "as in the data set")
    catalogue = "z-scores" if source.normaliser is None else "as in the catalogue"
    step = STEP_OF_FLOAT32_HJD if source.layout == "processed-1" else 0.0
    return Units("time [d]", *unnormalised, catalogue, step)


def is_of_galaxies(source: Source) -> bool:
    """Whether the objects of a source are galaxies."""
    return is_made_of(source, GalaxyRows)


def is_made_of(source: Source, kind: type) -> bool:
    """Whether all tables of a source are of one kind. A fold may have joined several to one."""
    for table in source.tables.values():
        parts = table.tables if isinstance(table, JoinedTable) else [table]
        if not all(isinstance(part, kind) for part in parts):
            return False
    return True


def locate(source: Source) -> tuple[list[Table], dict[str, tuple[int, int]]]:
    """The tables of a source, and id -> (number of its table, row in it)."""
    tables: list[Table] = []
    where: dict[str, tuple[int, int]] = {}
    for split, rows in source.rows.items():
        table = source.tables[split]
        if table not in tables:
            tables.append(table)
        number = tables.index(table)
        for object_id, row in zip(source.catalogue(split).ids, rows, strict=True):
            where[str(object_id)] = (number, int(row))
    return tables, where


def observations(table: Table, rows: np.ndarray) -> Iterator[Observed]:
    """The objects `rows` (sorted) of a table, in that order."""
    if isinstance(table, GalaxyRows):
        yield from _galaxies(table, rows)
    elif isinstance(table, RawTable):
        yield from _files(table, rows)
    elif isinstance(table, ParquetTable):
        yield from _parquet(table, rows)
    else:
        raise UserError(f"the observations of a {type(table).__name__} cannot be read")


def days(period: np.ndarray, normaliser: Normaliser | None) -> np.ndarray:
    """Periods [day] from the z-scores of a layout that holds those, with the statistics they were made with; NaN
    where these are not known."""
    if normaliser is None:
        return np.full(len(period), np.nan)
    return 10 ** (period * normaliser.std[PERIOD] + normaliser.mean[PERIOD])


# --- parquet ----------------------------------------------------------------------------------------------------------


def _parquet(table: ParquetTable, rows: np.ndarray) -> Iterator[Observed]:
    """The objects in rows (m,), ascending, of a table in files of columns."""
    own = isinstance(table, ObjectTable | MagnitudeTable | HatsTable)
    decode = partial(_ours, table) if own else DECODERS[type(table)]
    names = list(table.column.values())
    for group in table.groups:
        inside = between(rows, group.first, group.rows)
        if not len(inside):
            continue
        for first, batch in table.batches(group, names):
            wanted = between(inside, first, len(batch))
            if not len(wanted):
                continue
            chosen = batch.take(pa.array(wanted - first))
            read = {modality: decode(modality, chosen.column(name)) for modality, name in table.column.items()}
            nothing: list[Any] = [None] * len(wanted)
            curves = read.get("photometry", nothing)
            spectra = read.get("spectra", nothing)
            for row, curve, spectrum in zip(wanted.tolist(), curves, spectra, strict=True):
                features = curve[3] if isinstance(curve, tuple) and len(curve) > 3 else None
                yield Observed(row, _three(curve), _three(spectrum), features, _problems(curve, spectrum))


def between(rows: np.ndarray, first: int, count: int) -> np.ndarray:
    """Those of the rows (m,) that are among `count` rows from `first` on."""
    return rows[(rows >= first) & (rows < first + count)]


def _three(found: Any) -> Columns | None:
    return found[:3] if isinstance(found, tuple) else None


def _problems(*found: Any) -> tuple[str, ...]:
    """What stands in the place of observations that cannot be read."""
    return tuple(problem for problem in found if isinstance(problem, str))


def _ragged(lengths: np.ndarray, columns: list[np.ndarray], bad: np.ndarray) -> Iterator[Columns | str | None]:
    ends = np.cumsum(lengths)
    for i, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
        if bad[i]:
            yield "columns of unequal length"
        elif length:
            first, second, third = columns
            part = slice(end - length, end)
            yield first[part].astype(np.float64), second[part].astype(np.float64), third[part].astype(np.float64)
        else:
            yield None


def _ours(table: Any, modality: str, column: pa.Array) -> Iterator[Columns | str | None]:
    return _ragged(*table.observations(modality, column))


def _first(modality: str, column: pa.Array) -> Iterator[Columns | str | None]:
    lengths, points, bad = rows_of_three(column)
    return _ragged(lengths, list(points.T), bad)


def _current(modality: str, column: pa.Array) -> Iterator[Any]:
    """processed-2: times back from [0, 1] to days by the span that stands beside them."""
    lengths, inner = unnest(column)
    widths, flat = unnest(inner)
    values = numbers(flat)
    starts = np.cumsum(widths) - widths
    width = PHOTO_CHANNELS if modality == "photometry" else WAVELENGTH_COUNT
    grid = WAVELENGTH_START + WAVELENGTH_STEP * np.arange(WAVELENGTH_COUNT)
    first = 0
    for length in lengths.tolist():
        last = first + length
        is_strange = (widths[first:last] != width).any() or (modality == "spectra" and length != 3)
        if not length:
            yield None
        elif is_strange:
            yield f"rows of another width than {width}"
        else:
            start = int(starts[first])
            table = np.asarray(values[start : start + length * width], np.float64).reshape(length, width)
            if modality == "spectra":
                yield grid, table[0], table[1]
            else:
                time = table[:, 0] * table[0, -1] * DAYS_PER_YEAR
                features = table[0, 3 : 3 + len(PHOTO_COLS)]
                yield time, table[:, 1], table[:, 2], features
        first = last


DECODERS: dict[type, Callable[[str, pa.Array], Iterator[Any]]] = {
    FirstTable: _first,
    CurrentTable: _current,
}


# --- galaxies ---------------------------------------------------------------------------------------------------------


def _galaxies(table: GalaxyRows, rows: np.ndarray) -> Iterator[Observed]:
    views = {"images": stored_view("cutout"), "spectra": stored_view("specformer")}
    ids = table.catalogue().ids
    for group in table.groups:
        inside = between(rows, group.first, group.rows)
        if not len(inside):
            continue
        iterators = [table.observations(group, modality, inside) for modality in table.modalities]
        for pieces in zip(*iterators, strict=True):
            read = {}
            unreadable = {}
            for modality, piece in zip(table.modalities, pieces, strict=True):
                read[modality] = prepared(views[modality], piece)
                for decision in piece.unreadable:
                    unreadable[decision.object_id] = decision.reason

            for place, row in enumerate(pieces[0].rows.tolist()):
                columns = None
                flux = _row_of(read, "spectra", place)
                if flux is not None:
                    columns = (GRID, flux.astype(np.float64), np.ones(len(GRID)))
                problems = []
                for modality, data in read.items():
                    verdict = int(data.verdict[place])
                    if verdict:
                        problems.append(f"{modality}: {REJECTIONS[verdict]}")
                name = str(ids[row])
                if name in unreadable:
                    problems.append(unreadable[name])
                yield Observed(row, None, columns, None, tuple(problems), _row_of(read, "images", place))


def _row_of(found: dict[str, Any], modality: str, place: int) -> np.ndarray | None:
    """One prepared observation, None where it is absent or rejected."""
    rows = found.get(modality)
    return rows.values[place] if rows is not None and rows.present[place] else None


# --- files ------------------------------------------------------------------------------------------------------------


def _files(table: RawTable, rows: np.ndarray) -> Iterator[Observed]:
    dataset = table.dataset
    objects = table.dataset.split(table.split)
    for row in rows.tolist():
        name = objects.names[row]
        filename = objects.spec_filenames[row]
        label = objects.labels[row]
        curve = _read(dataset.light_curve, name) if name else None
        spectrum = _read(dataset.spectrum, filename, label) if filename else None
        yield Observed(row, _three(curve), _three(spectrum), None, _problems(curve, spectrum))


def _read(read: Callable[..., Any], *arguments: Any) -> Columns | str:
    """Three columns, or why the file cannot be read."""
    try:
        return tuple(read(*arguments)[:3])
    except ReadError as error:
        return str(error)
