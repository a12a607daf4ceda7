"""Rows of our own layout: objects as dicts to Arrow tables, and their catalogue columns back to arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.errors import UserError
from astrom3.modalities.catalogue_quality import possible
from astrom3.modalities.ragged import joined, offsets_of
from astrom3.modalities.schema import ALL_COLS, META_COLS, PHOTO_COLS, object_schema

MOST_ROWS = 10**8


def objects_table(rows: Sequence[Mapping[str, Any]], targets: Iterable[str] = (), bands: bool = False) -> pa.Table:
    """Rows as dicts (arrays for light curves and spectra, dicts for catalogue columns) -> table of object_schema."""
    schema = object_schema(targets, bands)
    columns: list[pa.Array] = []
    for field in schema:
        values: list[Any] = [row.get(field.name) for row in rows]
        if field.name in ("object_id", "label"):
            values = [None if value is None else str(value) for value in values]
        if field.name in ("light_curve", "spectrum"):
            columns.append(_ragged(values, field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=schema)


def _ragged(rows: Sequence[Mapping[str, Any] | None], kind: pa.StructType) -> pa.StructArray:
    """Struct of lists from dicts of 1-D arrays, None for a null struct; without a Python object per number."""
    children = []
    for child in kind:
        dtype = child.type.value_type.to_pandas_dtype()
        arrays = [np.empty(0, dtype) if row is None else np.asarray(row[child.name], dtype) for row in rows]
        offsets = offsets_of(list(map(len, arrays))).astype(np.int32)
        flat = joined(arrays, dtype)
        children.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, child.type.value_type)))
    mask = pa.array([row is None for row in rows], pa.bool_())
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)


def catalogue_values(table: pa.Table) -> np.ndarray:
    """Catalogue columns of objects, (n, 38) float64 in the order of ALL_COLS, NaN where unknown."""
    values = np.full((len(table), len(ALL_COLS)), np.nan)
    for group, names in (("photo_cols", PHOTO_COLS), ("meta_cols", META_COLS)):
        column = table[group].combine_chunks()
        for name in names:
            # Children of a struct array do not carry the null of the struct: struct_field does.
            child = pc.struct_field(column, name)
            values[:, ALL_COLS.index(name)] = child.to_numpy(zero_copy_only=False)
    return possible(values)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column holds plain numbers."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds a list of values in every row."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def check_rows(source: str, rows: int) -> None:
    """UserError where a file claims more rows than a catalogue has: ids and labels are kept in memory."""
    if rows > MOST_ROWS:
        raise UserError(f"{source} claims {rows:,} rows, more than can be kept: write it in smaller parts.")
