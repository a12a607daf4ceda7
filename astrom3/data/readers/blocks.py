"""Tables of any size, read in blocks of rows: csv (gzipped or not) and parquet through Arrow, FITS through astropy."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from astropy.io import fits

from astrom3.data.readers import ReadError
from astrom3.data.readers.table_files import check_names, suffix
from astrom3.data.readers.tables import USUAL, Columns
from astrom3.errors import UserError
from astrom3.parquet_files import open_parquet, read_schema

ROWS = 2**17  # of a block
BYTES = 2**23  # of a block of text
FITS = (".fits", ".fit")
# Columns of names and flags, which are read as text; all others are numbers.
TEXT = {*USUAL["band"], "quality", "rejected_by_photometry", "rejected_by_variability"}


def column_names(path: Path) -> list[str]:
    """Names of the columns of a long table. ReadError where two have one name."""
    names = names_in(path)
    check_names(path, names)
    return names


def names_in(path: Path) -> list[str]:
    """The same, as they stand in the file."""
    if not path.is_file():
        raise ReadError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ReadError(f"{path}: file is empty")

    kind = suffix(path)
    try:
        if kind == ".parquet":
            return list(read_schema(path).names)
        if kind in FITS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with fits.open(path) as hdus:
                    return list(_table_of(path, hdus).columns.names)
        with _open_text(path, delimiter_of(path), {}) as reader:
            return list(reader.schema.names)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def blocks_of(path: Path, id: str, names: Sequence[str]) -> Iterator[tuple[pa.Array, Columns]]:
    """Ids (N,) as text, and the named columns, of N rows at a time."""
    kind = suffix(path)
    try:
        if kind == ".parquet":
            yield from _parquet(path, id, names)
        elif kind in FITS:
            yield from _fits(path, id, names)
        else:
            yield from _text(path, id, names)
    except UserError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _parquet(path: Path, id: str, names: Sequence[str]) -> Iterator[tuple[pa.Array, Columns]]:
    wanted = list(dict.fromkeys([id, *names]))
    with open_parquet(path, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS, columns=wanted):
            values = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
            yield ids_of(path, id, batch.column(id)), Columns(path, names, values)


def _text(path: Path, id: str, names: Sequence[str]) -> Iterator[tuple[pa.Array, Columns]]:
    types = {name: pa.string() if name.lower() in TEXT or name == id else pa.float64() for name in (id, *names)}
    with _open_text(path, delimiter_of(path), types) as reader:
        for batch in reader:
            values = [batch.column(name).to_numpy(zero_copy_only=False) for name in names]
            yield batch.column(id), Columns(path, names, values)


def _fits(path: Path, id: str, names: Sequence[str]) -> Iterator[tuple[pa.Array, Columns]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, memmap=True) as hdus:
            table = _table_of(path, hdus)
            for start in range(0, len(table.data), ROWS):
                rows = table.data[start : start + ROWS]
                values = [native(rows[name]) for name in names]
                numbers = native(rows[id])
                if numbers.dtype.kind == "S":
                    numbers = np.char.strip(np.char.decode(numbers, "utf-8", "replace"))
                texts = numbers.tolist() if numbers.dtype.kind in "OU" else numbers
                yield ids_of(path, id, pa.array(texts)), Columns(path, names, values)


def native(values: np.ndarray) -> np.ndarray:
    """A column of a FITS table in memory, in the byte order of this machine."""
    copied = np.array(values)
    return copied.astype(copied.dtype.newbyteorder("="), copy=False)


def ids_of(path: Path, name: str, column: pa.Array) -> pa.Array:
    """Ids as text. Those kept as floating point numbers have lost digits, so they are refused."""
    if pa.types.is_floating(column.type):
        raise ReadError(
            f"{path}: the ids in {name} are floating point numbers, which lose digits beyond 2^53: write them as whole "
            "numbers or text"
        )
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string())


def delimiter_of(path: Path) -> str:
    """What separates the columns of a text file: a comma, a semicolon or a tab."""
    with pa.input_stream(str(path)) as stream:  # unpacks by the suffix
        head = stream.read(2**16).decode("utf-8", "replace")
    first = next((line for line in head.splitlines() if line.strip()), "")
    found = []
    for mark in (",", ";", "\t"):
        if mark in first:
            found.append(mark)
    if not found:
        raise ReadError(f"{path}: a table of observations in text needs commas, semicolons or tabs between its columns")
    return found[0]


def _open_text(path: Path, delimiter: str, types: dict[str, pa.DataType]) -> pacsv.CSVStreamingReader:
    options = pacsv.ConvertOptions(column_types=types, include_columns=list(types) or None)
    return pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(block_size=BYTES),
        parse_options=pacsv.ParseOptions(delimiter=delimiter),
        convert_options=options,
    )


def _table_of(path: Path, hdus: fits.HDUList) -> fits.BinTableHDU:
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
            return hdu
    raise ReadError(f"{path}: no table in this FITS file")


def _damaged(path: Path, error: Exception) -> ReadError:
    return ReadError(f"{path}: cannot be read as a table ({' '.join(str(error).split())[:160]})")
