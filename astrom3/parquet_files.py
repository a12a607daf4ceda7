"""Parquet files of this machine, opened by their path alone.

pyarrow takes a name such as a:b for an address, ~ for the home folder, and a folder called x=1 for a column. Here a
path is a path, and a file has the columns that are written in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def open_parquet(source: Any, **options: Any) -> pq.ParquetFile:
    """A file to read in parts. source: a path, or an open file. options: of pyarrow's ParquetFile."""
    return pq.ParquetFile(named(source), **options)


def read_schema(path: Path | str) -> pa.Schema:
    """Names and types of its columns."""
    return pq.read_schema(named(path))


def read_metadata(source: Any) -> pq.FileMetaData:
    """Its footer: rows, row groups and schema. source: a path, or an open file."""
    return pq.read_metadata(named(source))


def read_parquet(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the columns asked for, or of all."""
    return pq.read_table(named(path), columns=columns, partitioning=None)


def named(source: Any) -> Any:
    """A path in full, which pyarrow takes for nothing else; anything but a path as it is."""
    return Path(source).absolute() if isinstance(source, str | Path) else source
