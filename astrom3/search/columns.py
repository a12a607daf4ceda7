"""What an index is made of, read part by part: embeddings written by astrom3.embed, columns of a catalogue."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3 import stored
from astrom3.data.layouts.columns import parquet_schema, readable
from astrom3.data.readers.table_files import read_table
from astrom3.embed.job import MANIFEST
from astrom3.errors import UserError, shown
from astrom3.inference.embeddings import MEAN, check_columns, dense, files_of, lists, read_about, vector_names
from astrom3.modalities.kinds import known
from astrom3.parquet_files import open_parquet, read_parquet, read_schema

log = logging.getLogger(__name__)
ROWS = 4096  # objects in memory at a time
OWN = ("object_id", "label", "split", "predicted")


@dataclass
class Catalogue:
    """columns: those that can be filtered by; place: object id -> row; left_out: column -> why."""

    columns: pa.Table
    place: dict[str, int]
    left_out: dict[str, str]

    @classmethod
    def read(cls, path: str | Path) -> Catalogue:
        """A table (csv, parquet, FITS, VOTable) with a column object_id, or the folder of a data set in our layout."""
        table = of_dataset(Path(path)) if Path(path).is_dir() else read_table(path, strings=("object_id",))
        place = places_of(table, path)
        left_out: dict[str, str] = {}
        kept: dict[str, pa.ChunkedArray] = {}
        if Path(path).suffix == ".parquet":  # whose lists are not read into a table
            for field in read_schema(path):
                if field.name not in table.column_names:
                    left_out[field.name] = f"of type {field.type}"

        taken = {*OWN, *known(), MEAN, "probabilities"}  # by the embeddings
        for column, values in zip(table.schema, table.columns, strict=True):
            name = column.name.replace(".", "_")  # a dot means a member of a struct
            if name == "object_id":
                continue
            if name in taken or name in kept:
                left_out[column.name] = "the embeddings have a column of that name"
            elif pa.types.is_nested(column.type) or pa.types.is_null(column.type):
                left_out[column.name] = f"of type {column.type}"
            else:
                kept[name] = values

        return cls(pa.table(kept), place, left_out)

    def rows(self, ids: list[str]) -> pa.Table:
        """The columns for these objects, null where they are not in the catalogue."""
        places = [self.place.get(name) for name in ids]
        return self.columns.take(pa.array(places, pa.int64()))


def places_of(table: pa.Table, path: str | Path) -> dict[str, int]:
    """Object id -> row of a table that was read from `path`. UserError where an id is missing or occurs twice."""
    if "object_id" not in table.column_names:
        raise UserError(f"{path} has no column object_id; it has {', '.join(table.column_names)}")
    column = table["object_id"]
    if column.null_count:
        raise UserError(f"{path} has {column.null_count} rows without object_id: give each one")
    ids = [str(value) for value in column.to_pylist()]
    place = {name: row for row, name in enumerate(ids)}
    if len(place) < len(ids):
        twice = next(name for row, name in enumerate(ids) if place[name] != row)
        raise UserError(f"{path} has {len(ids) - len(place)} rows too many: {twice} and others occur twice")
    return place


def of_dataset(folder: Path) -> pa.Table:
    """Ids, catalogue values of a data set in our layout, one column each."""
    files = sorted((folder / "objects").glob("*.parquet"))
    if not files:
        raise UserError(f"{folder} is a folder without objects/*.parquet: give a table or a data set in our layout")
    wanted = ["object_id", "photo_cols", "meta_cols"]
    schema = parquet_schema(files[0])
    if "photo_cols" not in schema.names:  # galaxies
        wanted = [column.name for column in schema if not pa.types.is_nested(column.type)]
    tables = []
    for path in files:
        with readable(path):
            tables.append(read_parquet(path, wanted))
    table = pa.concat_tables(tables).flatten()
    return table.rename_columns([name.partition(".")[2] or name for name in table.column_names])


@dataclass
class Parts:
    """The objects of an index, read in batches; `counts` is filled while `batches` is consumed."""

    embeddings: str | Path
    catalogue: Catalogue | None = None
    counts: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def files(self) -> list[Path]:
        files = files_of(self.embeddings)
        for path in files:
            check_columns(parquet_schema(path), shown(path))
        first = self.about(files[0])
        for path in files[1:]:
            if self.about(path) != first:
                raise UserError(f"{path} and {files[0]} are embeddings of different models: give one folder of each")
        return files

    @property
    def columns(self) -> list[str]:
        """Which the embeddings' files have, without the vectors."""
        names = read_schema(self.files[0]).names
        return [name for name in OWN if name in names]

    @property
    def vectors(self) -> dict[str, int]:
        """Embedding -> length."""
        schema = read_schema(self.files[0])
        return {name: schema.field(name).type.list_size for name in vector_names(schema)}

    @staticmethod
    def about(path: Path) -> tuple[str, str]:
        """Model, and the types of all columns."""
        schema = read_schema(path)
        about = read_about(schema, str(path))
        types = [(column.name, column.type) for column in schema]
        return about.get("model", ""), str(types)

    @property
    def model(self) -> dict[str, str]:
        """name, and weights (sha256) and evaluation where embed's manifest says them."""
        path = Path(self.embeddings) / MANIFEST
        manifest = stored.read(path, stored.EmbeddingsManifest, "embed again") if path.exists() else {}
        name, _ = self.about(self.files[0])
        return {
            "name": name,
            "weights": manifest.get("model", ""),
            "evaluation": manifest.get("evaluation", "fixed"),
        }

    def fingerprint(self, catalogue: str | Path | None) -> str:
        """Changes with the files that an index is made of: names, sizes and footers of parquet, content of a table."""
        tables: list[Path] = []
        objects: list[Path] = []
        if catalogue is not None:
            if Path(catalogue).is_file():
                tables = [Path(catalogue)]
            else:
                objects = sorted((Path(catalogue) / "objects").glob("*.parquet"))
            if not tables and not objects:
                raise UserError(
                    f"catalogue={shown(catalogue)} is no table and no data set of astrom3 with objects/*.parquet"
                )

        key = hashlib.blake2b(digest_size=16)
        for path in (*self.files, *tables, *objects):
            size = path.stat().st_size
            key.update(f"{path.name} {size}".encode())
            with open(path, "rb") as file:
                if path not in tables:
                    file.seek(max(size - 2**20, 0))  # its footer has the extremes of every column
                key.update(file.read())

        return key.hexdigest()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """ROWS objects at a time; an embedding that is not finite or zero has no direction and becomes null."""
        seen = set[str]()
        matched = 0
        no_direction = dict.fromkeys(self.vectors, 0)
        for path, table in self._tables():
            ids = table["object_id"].to_pylist()
            if None in ids:
                raise UserError(f"{shown(path)} has objects without object_id: embed again")
            before = len(seen)
            seen.update(ids)
            if before + len(ids) > len(seen):
                raise UserError(f"{path}: object_id occurs twice in {self.embeddings}")

            for name in no_direction:
                table, bad = with_directions(table, name)
                no_direction[name] += bad
            if self.catalogue is not None:
                matched += sum(name in self.catalogue.place for name in ids)
                rows = self.catalogue.rows(ids)
                for name, values in zip(rows.column_names, rows.columns, strict=True):
                    table = table.append_column(name, values)
            yield from table.combine_chunks().to_batches()

        self.counts = {"objects": len(seen), "in_catalogue": matched, "no_direction": no_direction}
        if self.catalogue is not None and not matched:
            raise UserError("none of the objects is in the catalogue: do the two object_id mean the same?")

    def _tables(self) -> Iterator[tuple[Path, pa.Table]]:
        """(file, at most ROWS of its objects) of all files; UserError where one is damaged."""
        for path in self.files:
            with readable(path), open_parquet(path) as file:
                for batch in file.iter_batches(ROWS, columns=[*self.columns, *self.vectors]):
                    table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                    table.validate(full=True)
                    yield path, table


def with_directions(table: pa.Table, name: str) -> tuple[pa.Table, int]:
    """The table with null for the embeddings called `name` that have no direction, and how many these are."""
    values, there = dense(table[name])
    has_direction = (values != 0).any(1) & np.isfinite(values).all(1)
    bad = there & ~has_direction
    values[bad] = 0
    column = lists(values, there & ~bad)
    place = table.column_names.index(name)
    return table.set_column(place, name, column), int(bad.sum())
