"""Long tables: one row per observation, with the object's id in each, sorted or not; csv, parquet or FITS.

Tables may be larger than memory. They are read once, in blocks; the observations go into files of some ten megabytes
each, all those of an object into the same one, and every file is then sorted by object. A reference to a light curve is
its file and place. Memory stays at a block, a file, and the list of ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.data.readers import ColumnError, LightCurve, ReadError
from astrom3.data.readers.blocks import blocks_of, column_names
from astrom3.data.readers.surveys import recognise
from astrom3.data.readers.tables import Column, Columns, LightCurveColumns
from astrom3.errors import UserError

IDS = (
    "id",
    "object_id",
    "objectid",
    "diaobjectid",
    "oid",
    "source_id",
    "sourceid",
    "masterid",
    "asas_sn_id",
    "num",
    "star",
    "star_id",
    "name",
    "tic",
    "ticid",
    "kic",
    "kepid",
)
ROW = np.dtype([("object", "<i8"), ("time", "<f8"), ("flux", "<f8"), ("flux_err", "<f8"), ("band", "<i2")])
BYTES_PER_FILE = 2**26
MOST_FILES = 256
UNKNOWN = -1  # code of the band of observations in a table without bands


class Place(NamedTuple):
    """Where the observations of an object are: rows start to stop of a file."""

    file: int
    start: int
    stop: int


@dataclass
class LongReader:
    """Place -> LightCurve. bands: names by code; band: the only one to take, None for all."""

    folder: Path
    bands: tuple[str, ...]
    is_relative: bool
    source: str
    sentence: str
    band: str | None = None
    _open: dict[int, np.ndarray] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, object]:
        """Worker processes map the files themselves."""
        return {**self.__dict__, "_open": {}}

    def __call__(self, place: Place) -> LightCurve:
        """Time [day], flux and error [mJy, or relative] of one object, and its bands where the table has them."""
        if place.file not in self._open:
            self._open[place.file] = np.load(file_of(self.folder, place.file), mmap_mode="r", allow_pickle=False)
        rows = np.asarray(self._open[place.file][place.start : place.stop])
        names = np.array([*self.bands, ""], dtype=str)
        band = names[rows["band"]] if self.bands else None
        curve = LightCurve(rows["time"].copy(), rows["flux"].copy(), rows["flux_err"].copy(), (), band)
        return curve if self.band is None or band is None else curve.of_band(self.band)

    def relative(self, place: Place) -> bool:
        """Whether fluxes are relative; the same for the whole table."""
        return self.is_relative

    def taken(self, place: Place) -> str:
        """One sentence: what was taken of the table."""
        return self.sentence


@dataclass(frozen=True)
class LongTable:
    """What was found: id -> place, in the order in which the ids first occur, and how to read them."""

    places: dict[str, Place]
    reader: LongReader
    rows: int
    left_out: Counter[str]  # why -> rows


def read_long(
    paths: Sequence[Path], columns: LightCurveColumns, id: Column, folder: Path, band: str | None = None
) -> LongTable:
    """Sort long tables of the same columns into files in `folder`. Raises UserError that names the table."""
    names = column_names(paths[0])
    id_name = id_column(paths[0], names, id)
    empty = Columns(paths[0], names, [np.empty(0)] * len(names))
    needed = columns.needed(empty)
    files = number_of_files(paths)
    writer = Sorter(folder, files)
    left_out: Counter[str] = Counter()
    total = 0
    for path in paths:
        missing = {id_name, *needed} - set(column_names(path))
        if missing:
            raise ColumnError(f"{path}: no column {sorted(missing)[0]}, which {paths[0]} has")
        for ids, block in blocks_of(path, id_name, needed):
            measured = columns.measure(block)
            total += len(block)
            for note in measured.notes:
                count, _, reason = note.partition(" ")
                left_out[reason] += int(count)
            writer.write(ids, measured.time, measured.flux, measured.flux_err, measured.band, measured.seen)

    if not total:
        raise ReadError(f"{paths[0]}: no observations in it")

    places = writer.finish()
    bands = tuple(writer.bands)
    if band is not None and band not in bands:
        known = f"it has {', '.join(bands)}" if bands else "it has no column of bands"
        raise UserError(f"{paths[0]}: no observations in band {band}: {known}.")

    sentence = f"{columns.taken(empty)}, id {id_name}"
    reader = LongReader(folder, bands, columns.relative(empty), str(paths[0]), sentence, band)
    return LongTable(places, reader, total, left_out)


def id_column(path: Path, names: Sequence[str], given: Column) -> str:
    """Name of the column of ids: the one given, that of the survey, or a usual one."""
    lower = {name.lower(): name for name in names}
    if given is not None:
        if str(given).lower() in lower:
            return lower[str(given).lower()]
        raise ColumnError(f"{path}: no column {given} (light_curves.columns.id); it has {', '.join(names)}")
    survey = recognise(names, str(path))
    for name in (*(survey.id if survey else ()), *IDS):
        if name in lower:
            return lower[name]
    raise ColumnError(
        f"{path}: which column names the object? Set light_curves.columns.id to one of {', '.join(names)}"
    )


def number_of_files(paths: Sequence[Path]) -> int:
    """Into how many files to sort, by the size of the tables; packed ones count five times."""
    size = 0
    for path in paths:
        packed = path.suffix in (".gz", ".parquet")
        size += path.stat().st_size * (5 if packed else 1)
    return int(min(max(size // BYTES_PER_FILE, 1), MOST_FILES))


def file_of(folder: Path, number: int) -> Path:
    """The sorted file of a number."""
    return folder / f"{number:04d}.npy"


class Sorter:
    """Rows in any order -> files in which the rows of each object stand together, in the order they came."""

    def __init__(self, folder: Path, files: int) -> None:
        self.folder = folder
        self.files = files
        self.numbers: dict[str, int] = {}
        self.bands: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def write(
        self,
        ids: pa.Array,
        time: np.ndarray,
        flux: np.ndarray,
        flux_err: np.ndarray,
        band: np.ndarray | None,
        seen: np.ndarray,
    ) -> None:
        """Append the rows (N,) of a block that are `seen`; an object without any keeps its id."""
        encoded = pc.dictionary_encode(ids.fill_null(""))
        numbers = []
        for name in encoded.dictionary.to_pylist():
            numbers.append(self.numbers.setdefault(name, len(self.numbers)))
        rows = np.empty(len(time), dtype=ROW)
        rows["object"] = np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
        rows["time"] = time
        rows["flux"] = flux
        rows["flux_err"] = flux_err
        rows["band"] = UNKNOWN if band is None else self.codes(band)
        rows = rows[seen]
        owner = rows["object"] % self.files
        order = np.argsort(owner, kind="stable")
        ends = np.searchsorted(owner[order], np.arange(self.files + 1))
        for number in range(self.files):
            part = rows[order[ends[number] : ends[number + 1]]]
            if len(part):
                with open(self.folder / f"{number:04d}.rows", "ab") as file:
                    file.write(part.tobytes())

    def codes(self, band: np.ndarray) -> np.ndarray:
        """Codes (N,) of names of bands, in the order in which the names first occur."""
        encoded = pc.dictionary_encode(pa.array(band.tolist(), pa.string()))
        known = []
        for name in encoded.dictionary.to_pylist():
            known.append(self.bands.setdefault(name, len(self.bands)))
        return np.array(known, dtype=np.int16)[encoded.indices.to_numpy(zero_copy_only=False)]

    def finish(self) -> dict[str, Place]:
        """Sort every file by object; id -> place, of all ids, with no rows for objects never seen."""
        found = np.zeros((len(self.numbers), 3), dtype=np.int64)
        for number in range(self.files):
            path = self.folder / f"{number:04d}.rows"
            if not path.is_file():
                continue
            rows = np.fromfile(path, dtype=ROW)
            order = np.argsort(rows["object"], kind="stable")
            rows = rows[order]
            objects, starts, counts = np.unique(rows["object"], return_index=True, return_counts=True)
            found[objects, 0] = number
            found[objects, 1] = starts
            found[objects, 2] = starts + counts
            np.save(file_of(self.folder, number), rows, allow_pickle=False)
            path.unlink()

        self.numbers.pop("", None)  # rows without an id belong to nobody
        return {name: Place(*found[number].tolist()) for name, number in self.numbers.items()}


def matched(table: LongTable, ids: Sequence[str]) -> Iterator[Place | None]:
    """The places of some objects, None for those without observations."""
    for name in ids:
        place = table.places.get(name)
        yield place if place is not None and place.stop > place.start else None
