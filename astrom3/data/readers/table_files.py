"""Files of tables: csv, parquet, FITS, VOTable and ECSV, read as Arrow, with a sentence where one is broken."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from astropy.table import Table

from astrom3.data.readers import (
    GZIP,
    LARGEST_TABLE,
    ReadError,
    read_bytes,
    read_text,
)
from astrom3.data.rows import check_rows
from astrom3.parquet_files import read_metadata, read_parquet, read_schema

ASTROPY_FORMATS = {
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".xml": "votable",
    ".votable": "votable",
    ".ecsv": "ascii.ecsv",
}


# What the first bytes of a file say that is no text, and what to do.
FOREIGN = {
    b"PAR1": "a file of parquet: give it a name that ends in .parquet",
    b"SIMPLE": "a FITS file: give it a name that ends in .fits",
    b"\x89HDF": "a file of HDF5, not a table: save it as csv or parquet",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save it as csv",
    b"BZh": "packed with bzip2: unpack it",
    b"\xfd7zXZ": "packed with xz: unpack it",
    b"\xff\xfe": "text in UTF-16: save it in UTF-8",
    b"\xfe\xff": "text in UTF-16: save it in UTF-8",
    b"<": "a web page or XML, not a table: fetch the table itself",
}


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
    if kind != ".parquet" and kind not in ASTROPY_FORMATS:
        refuse_foreign(path)

    try:
        table = _read_table(path, kind, strings)
        names = table.column_names
    except ReadError:
        raise
    except Exception as error:  # astropy's readers raise anything on a corrupt file
        raise ReadError(f"{path}: cannot be read as a table ({' '.join(str(error).split())[:160]})") from None

    check_names(path, names)
    return table


def refuse_foreign(path: Path) -> None:
    """ReadError where the first bytes of a file that should be text say that it is something else."""
    with path.open("rb") as file:
        start = file.read(8).lstrip()
    for mark, words in FOREIGN.items():
        if start.startswith(mark):
            raise ReadError(f"{path}: it is {words}")


def _read_table(path: Path, kind: str, strings: Sequence[str]) -> pa.Table:
    if kind == ".parquet":  # light curves as lists are read row group by row group, see nested.py
        check_rows(str(path), read_metadata(path).num_rows)
        flat = []
        for field in read_schema(path):
            if not pa.types.is_nested(field.type):
                flat.append(field.name)
        table = read_parquet(path, flat)
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
    seen = set()
    for name in names:
        if name in seen:
            raise ReadError(f"{path}: two columns are called {name}: give each its own name")
        seen.add(name)


def _from_astropy(table: Table) -> pa.Table:
    """One row per object; columns of arrays of one length (a spectrum in a table of one row) are flattened."""
    columns = {}
    fields = []
    sizes = {table[name].size for name in table.colnames}
    deepest = max((column.ndim for column in table.itercols()), default=0)
    flat = len(table) == 1 and deepest > 1 and len(sizes) == 1
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
