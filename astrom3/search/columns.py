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
import pyarrow.parquet as pq

from astrom3 import stored
from astrom3.data.layouts.columns import parquet_schema, readable
from astrom3.data.readers.table_files import read_table
from astrom3.embed.job import MANIFEST
from astrom3.errors import UserError, shown
from astrom3.inference.embeddings import MEAN, check_columns, dense, files_of, lists, read_about, vector_names
from astrom3.modalities.kinds import known

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
        if "object_id" not in table.column_names:
            raise UserError(f"{path} has no column object_id; it has {', '.join(table.column_names)}")
        if table["object_id"].null_count:
            raise UserError(f"{path} has {table['object_id'].null_count} rows without object_id: give each one")
        ids = [str(i) for i in table["object_id"].to_pylist()]
        place = {name: row for row, name in enumerate(ids)}
        if len(place) < len(ids):
            twice = next(name for row, name in enumerate(ids) if place[name] != row)
            raise UserError(f"{path} has {len(ids) - len(place)} rows too many: {twice} and others occur twice")
        left_out: dict[str, str] = {}
        kept: dict[str, pa.ChunkedArray] = {}
        if Path(path).suffix == ".parquet":  # whose lists are not read into a table
            for field in pq.read_schema(path):
                if field.name not in table.column_names:
                    left_out[field.name] = f"of type {field.type}"
        for column, values in zip(table.schema, table.columns, strict=True):
            name = column.name.replace(".", "_")  # a dot means a member of a struct
            if name in (*OWN, *known(), MEAN, "probabilities") or name in kept:
                if name != "object_id":
                    left_out[column.name] = "the embeddings have a column of that name"
            elif pa.types.is_nested(column.type) or pa.types.is_null(column.type):
                left_out[column.name] = f"of type {column.type}"
            else:
                kept[name] = values
        return cls(pa.table(kept), place, left_out)

    def rows(self, ids: list[str]) -> pa.Table:
        """The columns for these objects, null where they are not in the catalogue."""
        return self.columns.take(pa.array([self.place.get(name) for name in ids], pa.int64()))


def of_dataset(folder: Path) -> pa.Table:
    """Ids, catalogue values of a data set in our layout, one column each."""
    files = sorted((folder / "objects").glob("*.parquet"))
    if not files:
        raise UserError(f"{folder} is a folder without objects/*.parquet: give a table or a data set in our layout")
    wanted = ["object_id", "photo_cols", "meta_cols"]
    schema = parquet_schema(files[0])
    if "photo_cols" not in schema.names:  # galaxies
        wanted = []
        for field in schema:
            if not pa.types.is_nested(field.type):
                wanted.append(field.name)
    tables = []
    for path in files:
        with readable(path):
            tables.append(pq.read_table(path, columns=wanted, partitioning=None))
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
        names = pq.read_schema(self.files[0]).names
        return [name for name in OWN if name in names]

    @property
    def vectors(self) -> dict[str, int]:
        """Embedding -> length."""
        schema = pq.read_schema(self.files[0])
        return {name: schema.field(name).type.list_size for name in vector_names(schema)}

    @staticmethod
    def about(path: Path) -> tuple[str, str]:
        """Model, and the types of all columns."""
        schema = pq.read_schema(path)
        about = read_about(schema, str(path))
        return about.get("model", ""), str([(f.name, f.type) for f in schema])

    @property
    def model(self) -> dict[str, str]:
        """name, and weights (sha256) and evaluation where embed's manifest says them."""
        manifest = Path(self.embeddings) / MANIFEST
        found = stored.read(manifest, stored.EmbeddingsManifest, "embed again") if manifest.exists() else {}
        return {
            "name": self.about(self.files[0])[0],
            "weights": found.get("model", ""),
            "evaluation": found.get("evaluation", "fixed"),
        }

    def fingerprint(self, catalogue: str | Path | None) -> str:
        """Changes with the files that an index is made of: names, sizes and footers of parquet, content of a table."""
        key = hashlib.blake2b(digest_size=16)
        own = [Path(catalogue)] if catalogue is not None and Path(catalogue).is_file() else []
        objects = sorted((Path(catalogue) / "objects").glob("*.parquet")) if catalogue is not None and not own else []
        if catalogue is not None and not own and not objects:
            raise UserError(
                f"catalogue={shown(catalogue)} is no table and no data set of astrom3 with objects/*.parquet"
            )
        for path in (*self.files, *own, *objects):
            key.update(f"{path.name} {path.stat().st_size}".encode())
            with open(path, "rb") as file:
                if path not in own:
                    file.seek(max(path.stat().st_size - 2**20, 0))  # its footer has the extremes of every column
                key.update(file.read())
        return key.hexdigest()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """ROWS objects at a time; an embedding that is not finite or zero has no direction and becomes null."""
        seen = set[str]()
        matched = 0
        no_direction = dict.fromkeys(self.vectors, 0)
        for path in self.files:
            with readable(path), pq.ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS, columns=[*self.columns, *self.vectors]):
                    table = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                    table.validate(full=True)
                    ids = table["object_id"].to_pylist()
                    if None in ids:
                        raise UserError(f"{shown(path)} has objects without object_id: embed again")
                    before = len(seen)
                    seen.update(ids)
                    if before + len(ids) > len(seen):
                        raise UserError(f"{path}: object_id occurs twice in {self.embeddings}")
                    for name in self.vectors:
                        values, there = dense(table[name])
                        bad = there & ~((values != 0).any(1) & np.isfinite(values).all(1))
                        no_direction[name] += int(bad.sum())
                        values[bad] = 0
                        table = table.set_column(table.column_names.index(name), name, lists(values, there & ~bad))
                    if self.catalogue is not None:
                        matched += sum(name in self.catalogue.place for name in ids)
                        for name, values in zip(*self._of_catalogue(ids), strict=True):
                            table = table.append_column(name, values)
                    yield from table.combine_chunks().to_batches()
        self.counts = {"objects": len(seen), "in_catalogue": matched, "no_direction": no_direction}
        if self.catalogue is not None and not matched:
            raise UserError("none of the objects is in the catalogue: do the two object_id mean the same?")

    def _of_catalogue(self, ids: list[str]) -> tuple[list[str], list[pa.ChunkedArray]]:
        assert self.catalogue is not None
        rows = self.catalogue.rows(ids)
        return rows.column_names, rows.columns
