"""Nearest neighbours among embeddings, in an embedded vector database (LanceDB: a folder of files, no server).

One row per object: id, label, split, an embedding for each modality and their mean, and the columns of a catalogue if
one was joined. Cosine similarity; exact by default below EXACT_BELOW objects, else through an index for each embedding.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.data.readers.tables import read_table
from astrom3.data.schema import MODALITIES
from astrom3.errors import UserError
from astrom3.extras import need
from astrom3.inference.embeddings import MEAN, Embeddings, files_of, read_about

TABLE, ABOUT = "objects", "about.json"
EXACT_BELOW = 50_000  # objects: reading them all is fast enough


@dataclass(frozen=True)
class Index:
    """An opened index. about: model, number of objects, width, embeddings that it has, columns to filter by."""

    folder: Path
    table: Any
    about: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        folder = Path(folder)
        try:
            about = json.loads((folder / ABOUT).read_text())
        except (OSError, ValueError):
            raise UserError(
                f"{folder} holds no index: build it with python -m astrom3.search index={folder} embeddings=<folder>"
            ) from None
        lancedb = need("lancedb", "search", "the search")
        return cls(folder, lancedb.connect(str(folder)).open_table(TABLE), about)

    @classmethod
    def build(cls, folder: str | Path, embeddings: str | Path, catalogue: str | Path | None = None) -> Index:
        """From what astrom3.embed wrote; an index that is there stays until the new one is whole."""
        lancedb = need("lancedb", "search", "the search")
        folder = Path(folder)
        temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            rows = joined(embeddings, catalogue)
            table = lancedb.connect(str(temporary)).create_table(TABLE, rows, on_bad_vectors="null")
            vectors = [name for name in (*MODALITIES, MEAN) if name in rows.column_names]
            if len(rows) >= EXACT_BELOW:
                for name in vectors:
                    table.create_index(metric="cosine", vector_column_name=name, index_type="IVF_HNSW_SQ")
            columns = [c for c in rows.column_names if c not in (*vectors, "probabilities")]
            about = {
                "model": read_about(rows.schema, str(embeddings)).get("model", ""), "objects": len(rows),
                "width": rows.schema.field(MEAN).type.list_size, "vectors": vectors, "columns": columns,
            }  # fmt: skip
            (temporary / ABOUT).write_text(json.dumps(about, indent=2) + "\n")
            if folder.exists():
                old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
                os.replace(folder, old)
                shutil.rmtree(old, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls.open(folder)

    def query(
        self, vector: np.ndarray, name: str = MEAN, top: int = 5, where: str | None = None, exact: bool | None = None,
        exclude: Sequence[str] = (),
    ) -> pa.Table:  # fmt: skip
        """The `top` nearest by cosine to `vector` (D,) among the embeddings `name`, the nearest first: the columns of
        `about` and `similarity`. where: an SQL condition on those columns. Who lacks that modality is left out."""
        self._check(name)
        if vector.shape != (self.about["width"],):
            raise UserError(f"the query has {vector.shape} numbers, the index {self.about['width']}: another model?")
        exact = self.about["objects"] < EXACT_BELOW if exact is None else exact
        conditions = [f"{name} IS NOT NULL", *([f"({where})"] if where else [])]
        if exclude:
            conditions.append(f"object_id NOT IN ({', '.join(quoted(e) for e in exclude)})")
        search = self.table.search(vector.astype(np.float32), vector_column_name=name).distance_type("cosine")
        search = (
            search.where(" AND ".join(conditions), prefilter=True)
            .select([*self.about["columns"], "_distance"])
            .limit(top)
        )
        try:
            found = (search.bypass_vector_index() if exact else search.nprobes(32).refine_factor(10)).to_arrow()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"where={where!r} does not fit ({str(error).splitlines()[0][:160]}); columns: "
                f"{', '.join(self.about['columns'])}"
            ) from None
        similarity = 1 - found["_distance"].to_numpy()
        return found.drop_columns(["_distance"]).append_column("similarity", pa.array(similarity))

    def vector_of(self, object_id: str, name: str = MEAN) -> np.ndarray:
        """The stored embedding (D,) of an object."""
        self._check(name)
        rows = self.table.search().where(f"object_id = {quoted(object_id)}").select([name]).limit(1).to_arrow()
        if not len(rows):
            raise UserError(f"{self.folder} has no object {object_id}")
        value = rows[name][0].as_py()
        if value is None:
            raise UserError(f"{object_id} has no {name}: search by another embedding")
        return np.array(value, dtype=np.float32)

    def recall(self, name: str = MEAN, top: int = 10, sample: int = 100, seed: int = 0) -> float:
        """Share of the exact `top` neighbours of some stored objects that the index finds."""
        self._check(name)
        rows = self.table.search().where(f"{name} IS NOT NULL").select(["object_id", name]).limit(None).to_arrow()
        chosen = np.random.default_rng(seed).choice(len(rows), min(sample, len(rows)), replace=False)
        hits = []
        for i in chosen.tolist():
            vector = np.array(rows[name][i].as_py(), dtype=np.float32)
            exact, found = (
                self.query(vector, name, top, exact=kind)["object_id"].to_pylist() for kind in (True, False)
            )
            hits.append(len(set(exact) & set(found)) / len(exact))
        return float(np.mean(hits))

    def _check(self, name: str) -> None:
        if name not in self.about["vectors"]:
            raise UserError(f"{self.folder} has no embeddings {name}: there are {', '.join(self.about['vectors'])}")


def joined(embeddings: str | Path, catalogue: str | Path | None) -> pa.Table:
    """All parts of the embeddings, with the columns of a catalogue (csv, parquet, FITS, VOTable) by object_id."""
    parts = [Embeddings.read(path).to_table() for path in files_of(embeddings)]
    rows = pa.concat_tables(parts)
    if catalogue is None:
        return rows
    other = read_table(catalogue, strings=("object_id",))
    if "object_id" not in other.column_names:
        raise UserError(f"{catalogue} has no column object_id; it has {', '.join(other.column_names)}")
    place = {str(name): i for i, name in enumerate(other["object_id"].to_pylist())}
    at = pa.array([place.get(name) for name in rows["object_id"].to_pylist()], pa.int64())
    for name in other.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(name, other[name].take(at))
    return rows


def quoted(text: str) -> str:
    return "'" + str(text).replace("'", "''") + "'"
