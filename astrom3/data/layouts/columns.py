"""Files that hold columns of objects: parquet files on a disk or on the hub here, and Arrow files in arrow.py.

file = ParquetFile(Path("objects-00000.parquet"))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from astrom3.data.layouts.remote import RemoteFile
from astrom3.data.readers.table_files import check_names
from astrom3.errors import UserError, shown
from astrom3.files import check_regular
from astrom3.parquet_files import open_parquet, read_metadata, read_schema

BUFFER = 1 << 21  # bytes of a remote column read at a time, whose row group may have hundreds of MB


@contextmanager
def readable(path: Any, kind: str = "parquet") -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into one sentence that names it."""
    if isinstance(path, Path):
        check_regular(path)
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; download or write it again.") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{path} cannot be read as {kind} ({lines[0][:200]}); download or write it again.") from error


def parquet_schema(path: Path) -> pa.Schema:
    """Columns of a parquet file, from its footer."""
    with readable(path):
        return read_schema(path)


def with_names(schema: pa.Schema) -> pa.Schema:
    """The schema; UnicodeDecodeError where a name in it is not text, which shows only when it is looked at."""
    look_at_names(list(schema))
    return schema


def look_at_names(fields: list[pa.Field]) -> None:
    """Decode the names of these columns and of the fields within them."""
    for field in fields:
        _ = field.name
        kind = field.type
        if isinstance(kind, pa.StructType):
            look_at_names([kind.field(number) for number in range(kind.num_fields)])


class ColumnFile(ABC):
    """One file of a table. Its rows come in groups, which are the unit of reading.

    remote: whether its bytes come over a network, so that what is not needed is not read.
    """

    remote = False

    def __init__(self, path: Any) -> None:
        self.path = path  # of a remote file, its name

    def __str__(self) -> str:
        return str(self.path)

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Names and types of the columns, with their metadata."""

    @property
    @abstractmethod
    def group_rows(self) -> Sequence[int]:
        """Number of rows of each group."""

    @abstractmethod
    def batches(self, number: int, columns: list[str], rows_at_once: int) -> Iterator[pa.RecordBatch]:
        """A group in record batches of at most so many objects."""

    @abstractmethod
    def columns(self, names: list[str]) -> pa.Table:
        """Whole columns."""


def column_files(paths: Iterable[Any]) -> list[ColumnFile]:
    """Files of columns as they are, and paths as those of parquet files."""
    files: list[ColumnFile] = []
    for path in paths:
        files.append(path if isinstance(path, ColumnFile) else ParquetFile(path))
    return files


class ParquetFile(ColumnFile):
    """A parquet file on a disk or on the hub. Its groups are its row groups, and a remote one is read in ranges."""

    def __init__(self, path: Path | RemoteFile) -> None:
        super().__init__(path)
        self.remote = isinstance(path, RemoteFile)

    def _source(self) -> Any:
        """What pyarrow reads from."""
        return self.path.open() if self.remote else self.path

    @cached_property
    def metadata(self) -> pq.FileMetaData:
        """The footer, read once. UserError where two columns have one name."""
        with readable(self.path):
            found = read_metadata(self._source())
            names = with_names(found.schema.to_arrow_schema()).names
        check_names(self.path, names)
        return found

    @property
    def schema(self) -> pa.Schema:
        with readable(self.path):
            return with_names(self.metadata.schema.to_arrow_schema())

    @property
    def group_rows(self) -> Sequence[int]:
        return [self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups)]

    def batches(self, number: int, columns: list[str], rows_at_once: int) -> Iterator[pa.RecordBatch]:
        options = {"pre_buffer": False, "buffer_size": BUFFER if self.remote else 0, "metadata": self.metadata}
        with readable(self.path), open_parquet(self._source(), **options) as file:
            yield from file.iter_batches(rows_at_once, row_groups=[number], columns=columns, use_threads=False)

    def columns(self, names: list[str]) -> pa.Table:
        # Buffered before: of a remote file, columns that lie side by side are one range.
        with readable(self.path), open_parquet(self._source(), pre_buffer=True, metadata=self.metadata) as file:
            table = file.read(columns=names, use_threads=False)
        for name in names:
            if name not in table.column_names:
                raise UserError(
                    f"{shown(self.path)} lacks the column {name}, which is read of every file: fetch it again"
                )
        return table.select(names)
