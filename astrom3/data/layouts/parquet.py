"""Tables kept in files of columns: groups of rows are the unit of reading, nested columns become flat arrays."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.data.fingerprint import fingerprint
from astrom3.data.layouts.columns import ColumnFile, column_files, readable
from astrom3.data.layouts.remote import RemoteFile
from astrom3.data.layouts.table import Group, Piece, Table
from astrom3.data.rows import check_rows, is_list, is_numeric
from astrom3.errors import UserError
from astrom3.modalities.quality import UNEQUAL
from astrom3.modalities.ragged import offsets_of
from astrom3.modalities.view import StoredView, stored_view

ROWS_AT_ONCE = Table.rows_at_once
REMOTE_ROWS = 64  # the same of remote files, so that the first batch waits for little more than its own objects


def text_column(table: pa.Table, name: str, source: Path | str, nulls: bool = False) -> list[Any]:
    """A column as text; UserError where it holds something else or, unless `nulls`, where a cell is empty."""
    column = table[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    is_empty = nulls and pa.types.is_null(kind)
    if not is_text and not is_empty:
        raise UserError(f"{source}: the column {name} is of type {kind}, not text; write the data set again.")
    if column.null_count and not nulls:
        raise UserError(f"{source}: {column.null_count} rows have no {name}; write the data set again.")
    return column.to_pylist()


def check_once(names: Sequence[str], source: str) -> None:
    """UserError where two columns have one name."""
    for name, count in sorted(Counter(names).items()):
        if count > 1:
            raise UserError(f"{source} has the column {name} twice; write the data set again.")


class ParquetTable(Table):
    """Objects in files of columns, in the order given; a path is that of a parquet file.

    Subclasses say which column is which, and decode it.
    """

    column: ClassVar[dict[str, str]]  # modality -> column name

    def __init__(self, files: Sequence[Path | RemoteFile | ColumnFile]) -> None:
        self.files = column_files(files)
        self.remote = any(file.remote for file in self.files)
        if self.remote:
            self.rows_at_once = REMOTE_ROWS
        self.schema = self.files[0].schema if self.files else pa.schema([])
        check_once(self.schema.names, str(self.files[0]) if self.files else "")

        self._groups: list[Group] = []
        self._where: list[tuple[ColumnFile, int]] = []  # file, and number in it, of each group
        first = 0
        for file in self.files:
            if file.schema.names != self.schema.names or file.schema.types != self.schema.types:
                raise UserError(f"{file} has other columns than {self.files[0]}; they are not parts of one table.")
            check_rows(str(file), sum(file.group_rows))
            for number, rows in enumerate(file.group_rows):
                self._groups.append(Group(len(self._where), first, rows))
                self._where.append((file, number))
                first += rows

    @property
    def groups(self) -> Sequence[Group]:
        return self._groups

    def fingerprint(self, cache: Path) -> str:
        return fingerprint([Path(file.path) for file in self.files], cache, type(self).__name__)

    @abstractmethod
    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        """Prepared objects and repair counts from one column of a record batch."""

    def batches(self, group: Group, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(first row, record batch) of a row group, at most `rows_at_once` objects at a time."""
        file, number = self._where[group.number]
        first = group.first
        for batch in file.batches(number, columns, self.rows_at_once):
            yield first, batch
            first += len(batch)

    def pieces(self, group: Group, view: str | StoredView, rows: np.ndarray | None = None) -> Iterator[Piece]:
        stored = stored_view(view)
        if stored.modality not in self.column:
            there = ", ".join(self.column)
            raise UserError(f"{self.files[0]} has no {stored.modality}: it has {there}.")

        column = self.column[stored.modality]
        if rows is not None:
            in_group = (rows >= group.first) & (rows < group.first + group.rows)
            rows = np.sort(rows[in_group])
            if not len(rows):
                return

        for first, batch in self.batches(group, [column]):
            if rows is not None and first > rows[-1]:
                return
            array = batch.column(0)
            chosen = np.arange(first, first + len(batch))
            if rows is not None:
                start, stop = np.searchsorted(rows, [first, first + len(batch)])
                chosen = rows[start:stop]
                if not len(chosen):
                    continue
                if len(chosen) < len(batch):
                    array = array.take(pa.array(chosen - first))
            try:
                prepared = self.decode(stored, array)
            except UserError as error:
                file, _ = self._where[group.number]
                raise UserError(f"{file}, column {column}: {error}") from None
            yield Piece(stored, chosen, *prepared)

    def small_columns(self, names: list[str]) -> pa.Table:
        """Whole columns without observations: ids, labels, catalogue values."""
        parts = []
        for file in self.files:
            part = file.columns(names)
            with readable(file):
                part.validate(full=True)  # text that is not UTF-8
            parts.append(part)
        return pa.concat_tables(parts)


def unnest(array: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """One level of lists -> lengths (n,) int64 and the child array; a null list has length 0."""
    if isinstance(array, pa.ExtensionArray):  # the Array2D of `datasets`, where that library is imported
        array = array.storage
    if not is_list(array.type):
        raise UserError(f"Expected a list column, found {array.type}; the columns are not those of a known layout.")
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    lengths = lengths.to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64), array.flatten()


def numbers(array: pa.Array) -> np.ndarray:
    """A flat float or integer array, NaN for null; without a copy where there is no null."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if not is_numeric(array.type) and not pa.types.is_decimal(array.type):
        raise UserError(f"Expected numbers, found {array.type}; the columns are not those of a known layout.")
    return array.to_numpy(zero_copy_only=False)


def rows_of_three(array: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """list<list<float>> with three numbers per row -> lengths (n,), numbers (total, 3), bad (n,) bool.

    An object with a row of another width is bad and gets length 0.
    """
    lengths, inner = unnest(array)
    widths, flat = unnest(inner)
    values = numbers(flat)
    bad = np.zeros(len(lengths), dtype=bool)
    is_other = widths != 3
    if is_other.any():
        owner = np.repeat(np.arange(len(lengths)), lengths)
        bad[owner[is_other]] = True
        kept = np.repeat(~bad[owner], widths)
        values = values[kept]
        lengths = np.where(bad, 0, lengths)
    return lengths, values.reshape(-1, 3), bad


def member(array: pa.Array, name: str) -> pa.Array:
    """A field of a struct column; UserError where the column is none, or has no such field."""
    if not pa.types.is_struct(array.type) or array.type.get_field_index(name) < 0:
        raise UserError(f"Expected a struct with {name}, found {array.type}; write or download the data set again.")
    return pc.struct_field(array, name)


def columns_of_struct(array: pa.StructArray, names: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """struct of three lists -> lengths (n,), three flat columns, bad (n,) bool: lists of unequal length (length 0)."""
    children = [unnest(member(array, name)) for name in names]
    lengths, _ = children[0]
    bad = np.zeros(len(array), dtype=bool)
    for others, _ in children[1:]:
        bad |= others != lengths

    columns = [numbers(flat) for _, flat in children]
    if bad.any():
        for number, (own_lengths, _) in enumerate(children):
            kept = np.repeat(~bad, own_lengths)
            columns[number] = columns[number][kept]
        lengths = np.where(bad, 0, lengths)
    return lengths, columns, bad


def prepare(
    view: StoredView, lengths: np.ndarray, columns: Sequence[np.ndarray], bad: np.ndarray
) -> tuple[Any, np.ndarray]:
    """Check and prepare raw ragged columns; `bad` objects are rejected for their unequal columns."""
    checked = view.check(offsets_of(lengths), *columns)
    data = view.prepare(checked)
    data.verdict[bad] = UNEQUAL[view.modality]
    return data, checked.repairs
