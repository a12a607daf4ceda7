"""Nearest neighbours among embeddings, in an embedded vector database (LanceDB: a folder of files, no server).

    index = Index.open("similar")
    index.query(index.vector_of("ASASSN-V J0", "photometry"), "spectra", top=5, where="label = 'RRAB'")

One row per object: id, label, split, an embedding for each modality and their mean, the columns of a catalogue. Cosine
similarity. Which engine and why: experiments/search_engines/report.md.

The folder: about.json, and objects-<random>/, the database that it names. A new one is written beside the old one and
takes its place with about.json, so an index is whole whenever its build is killed.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock

from astrom3 import stored
from astrom3.errors import UserError, first_line
from astrom3.extras import need
from astrom3.files import LOCKS, OutputFolder, read_json, write_json
from astrom3.inference.embeddings import MEAN
from astrom3.locks import LOCK, is_read, reading
from astrom3.search.columns import Catalogue, Parts
from astrom3.search.damage import OURS, explained

log = logging.getLogger(__name__)
TABLE = "objects"
ABOUT = "about.json"
DATA = "objects-"
VERSION = 1
READERS = ".readers"  # in a database: whoever reads it holds a lock on this file
EXACT_BELOW = 50_000  # objects: reading them all is fast enough
NPROBES = 32  # parts of the index that are looked at; candidates per neighbour, compared exactly
REFINE = 5


@dataclass(frozen=True)
class Index:
    """An opened index. about: model, number of objects, width, embeddings that it has, columns to filter by, and
    whether there is an approximate index too."""

    folder: Path
    table: Any
    about: dict[str, Any]
    reader: Any = None  # an open file: as long as it is held, no build removes this database

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """The index as it is. A build that ends meanwhile removes the database, and then the new one is opened."""
        folder = Path(folder)
        lancedb = need("lancedb", "search", "the search")
        about = described(folder)
        while True:
            reader = None
            with suppress(OSError):
                reader = reading(folder / about["data"] / READERS)
            now = described(folder)
            if now["data"] != about["data"]:
                about = now
                continue
            with explained(folder):
                table = lancedb.connect(str(folder / about["data"])).open_table(TABLE)
                check_table(table, about)
            return cls(folder, table, about, reader)

    @classmethod
    def build(
        cls,
        folder: str | Path,
        embeddings: str | Path,
        catalogue: str | Path | None = None,
        *,
        overwrite: bool = False,
        approximate: bool | None = None,
    ) -> Index:
        """From what astrom3.embed wrote. One that was made of the same files is opened, one of other files only
        replaced with overwrite=True. approximate: make an approximate index too (None: from EXACT_BELOW objects)."""
        folder, parts = Path(folder), Parts(embeddings)
        need("lancedb", "search", "the search")
        made_of = f"{parts.fingerprint(catalogue)} {approximate}"
        output = OutputFolder(folder, "search", legacy=written_before)
        output.check([ABOUT], overwrite, "index")
        if catalogue is not None and (overwrite or not (folder / ABOUT).is_file()):
            parts.catalogue = Catalogue.read(catalogue)  # before the folder is there, which a refusal would leave
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            if (folder / ABOUT).is_file() and output.is_own and not overwrite:
                index = cls.open(folder)
                if index.about["made_of"] == made_of:
                    remove_unread(output, {ABOUT, f"{index.about['data']}/"})
                    return index
                raise UserError(
                    f"{folder} is an index of other embeddings or another catalogue: give another index=<folder>, or "
                    "overwrite=true to build it again"
                )
            if parts.catalogue is None and catalogue is not None:
                parts.catalogue = Catalogue.read(catalogue)
            cls._write(output, parts, made_of, approximate, overwrite)

        return cls.open(folder)

    @staticmethod
    def _write(output: OutputFolder, parts: Parts, made_of: str, approximate: bool | None, overwrite: bool) -> None:
        folder = output.path
        name = DATA + secrets.token_hex(4)
        output.open([ABOUT, f"{name}/"], overwrite, "index")
        try:
            about = fill(folder / name, parts, approximate) | {"version": VERSION, "data": name, "made_of": made_of}
            write_json(folder / ABOUT, about)
        except BaseException:
            shutil.rmtree(folder / name, ignore_errors=True)
            raise
        remove_unread(output, {ABOUT, f"{name}/"})

    def query(
        self,
        vector: np.ndarray,
        name: str = MEAN,
        top: int = 5,
        where: str | None = None,
        exact: bool | None = None,
        exclude: Sequence[str] = (),
    ) -> pa.Table:
        """The `top` nearest by cosine to `vector` (D,) among the embeddings `name`, the nearest first: the columns of
        `about` and `similarity`. where: an SQL condition on those columns. Who lacks that modality is left out.
        exact: None means exact where there is no approximate index."""
        self._check(name)
        if vector.shape != (self.about["width"],):
            raise UserError(f"the query has {vector.shape} numbers, the index {self.about['width']}: another model?")
        if not np.isfinite(vector).all() or not vector.any():
            raise UserError("the query has no direction: it is zero or not finite")
        if top < 1:
            raise UserError(f"top={top} must be at least 1")

        conditions = [f"({where})"] if where else []
        if exclude:
            conditions.append(f"object_id NOT IN ({', '.join(map(quoted, exclude))})")
        search = self.table.search(vector.astype(np.float32), vector_column_name=name).distance_type("cosine")
        search = search.select([*self.about["columns"], "_distance"]).limit(top)
        if conditions:
            search = search.where(" AND ".join(conditions), prefilter=True)
        if exact or not self.about["approximate"]:
            search = search.bypass_vector_index()
        else:
            search = search.nprobes(NPROBES).refine_factor(REFINE)

        with explained(self.folder):
            try:
                found = search.to_arrow()
            except BaseException as error:  # a condition may let the Rust code panic, too
                if not where or isinstance(error, OURS):
                    raise
                columns = ", ".join(self.about["columns"])
                raise UserError(
                    f"where={where!r} does not fit ({first_line(error)[:160]}); columns: {columns}"
                ) from None
        distance = found["_distance"].to_numpy().astype(np.float64)
        return found.drop_columns(["_distance"]).append_column("similarity", pa.array(1 - distance))

    def vector_of(self, object_id: str, name: str = MEAN) -> np.ndarray:
        """The stored embedding (D,) of an object."""
        self._check(name)
        vector = self.vectors_of([object_id], name)[0]
        if vector is None:
            raise UserError(f"{object_id} has no {name}: search by another embedding")
        return vector

    def vectors_of(self, ids: Sequence[str], name: str = MEAN) -> list[np.ndarray | None]:
        """Stored embeddings (D,), None where an object lacks that modality."""
        listed = ", ".join(map(quoted, ids))
        with explained(self.folder):
            search = self.table.search().where(f"object_id IN ({listed})")
            rows = search.select(["object_id", name]).limit(len(ids)).to_arrow()
        stored = dict(zip(rows["object_id"].to_pylist(), rows[name].to_pylist(), strict=True))
        vectors: list[np.ndarray | None] = []
        for object_id in ids:
            if object_id not in stored:
                raise UserError(f"{self.folder} has no object {object_id}")
            vector = stored[object_id]
            vectors.append(None if vector is None else np.array(vector, dtype=np.float32))
        return vectors

    def recall(
        self, name: str = MEAN, find: str | None = None, top: int = 10, sample: int = 100, seed: int = 0
    ) -> dict[str, Any]:
        """Share of the exact `top` neighbours (embedding `find`) of stored objects (embedding `name`; themselves left
        out) that the approximate search finds, and seconds per query of both."""
        if not self.about["approximate"]:
            raise UserError(
                f"{self.folder} has {self.about['objects']:,} objects and no approximate index, every search is exact: "
                "build it with approximate=true to have one"
            )
        self._check(name)
        find = find or name
        with explained(self.folder):
            search = self.table.search().where(f"{name} IS NOT NULL")
            ids = search.select(["object_id"]).limit(None).to_arrow()["object_id"]
        chosen = np.random.default_rng(seed).choice(len(ids), min(sample, len(ids)), replace=False)
        asked = [ids[row].as_py() for row in chosen.tolist()]

        shares = []
        seconds = {True: 0.0, False: 0.0}  # of exact searches and of approximate ones
        for own, vector in zip(asked, self.vectors_of(asked, name), strict=True):
            assert vector is not None
            found = {}
            for exact in seconds:
                start = time.perf_counter()
                answer = self.query(vector, find, top, exact=exact, exclude=[own])
                found[exact] = set(answer["object_id"].to_pylist())
                seconds[exact] += time.perf_counter() - start
            hits = found[True] & found[False]
            shares.append(len(hits) / max(len(found[True]), 1))
        return {
            "recall": float(np.mean(shares)),
            "top": top,
            "queries": len(asked),
            "by": name,
            "find": find,
            "exact_s": seconds[True] / len(asked),
            "approximate_s": seconds[False] / len(asked),
        }

    def check_model(self, digest: str, name: str) -> None:
        """Whether the weights with this SHA-256 are those that made the embeddings, where that is known."""
        known = self.about["model"]["weights"]
        if known and digest != known:
            raise UserError(
                f"{name} is not the model that the embeddings in {self.folder} were made with "
                f"({self.about['model']['name']}): its numbers cannot be compared with them"
            )

    def _check(self, name: str) -> None:
        if name not in self.about["vectors"]:
            raise UserError(f"{self.folder} has no embeddings {name}: there are {', '.join(self.about['vectors'])}")


def described(folder: Path) -> dict[str, Any]:
    """What about.json says of an index, checked."""
    if not (folder / ABOUT).exists():
        raise UserError(
            f"{folder} holds no index: build it with python -m astrom3.search index={folder} embeddings=<folder>"
        )
    about = stored.read(folder / ABOUT, stored.IndexAbout, "build it again with embeddings=<folder> overwrite=true")
    if about["version"] != VERSION:
        raise UserError(f"{folder} was written by another version: build it again with embeddings=<folder>")
    if not re.fullmatch(DATA + r"[0-9a-f]{8}", about["data"]):
        raise UserError(f"{folder} is damaged ({ABOUT} names {about['data']!r}): build it again with overwrite=true")
    return about


def remove_unread(output: OutputFolder, kept: set[str]) -> None:
    """Remove the databases of earlier and of killed builds, except those that somebody still reads: the next build
    does that."""
    others = (output.files or set()) - kept
    output.remove([name for name in others if not is_read(output.path / name / READERS)])


def check_table(table: Any, about: dict[str, Any]) -> None:
    """ValueError where the database is another one than about.json describes."""
    names = table.schema.names
    absent = [name for name in (*about["columns"], *about["vectors"]) if name not in names]
    if absent or not about["vectors"]:
        raise ValueError(f"it lacks the column {absent[0] if absent else MEAN}")
    for name in about["vectors"]:
        kind = table.schema.field(name).type
        if not pa.types.is_fixed_size_list(kind) or kind.list_size != about["width"]:
            raise ValueError(f"{name} is of type {kind}, not {about['width']} numbers")


def written_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has written to the folder of an index, None where it is none (see OutputFolder)."""
    names = [path.name for path in folder.iterdir()]
    found = [f"{n}/" if (folder / n).is_dir() else n for n in names if re.fullmatch(DATA + r"[0-9a-f]{8}(\.json)?", n)]
    if (folder / ABOUT).is_file():
        about = read_json(folder / ABOUT)
        return [ABOUT, *found] if {"data", "made_of", "vectors"} <= set(about) else None
    return found if found and len(found) == len([n for n in names if n not in LOCKS]) else None


def fill(folder: Path, parts: Parts, approximate: bool | None) -> dict[str, Any]:
    """Write the database; what about.json says of it."""
    import lancedb
    from lancedb.index import IvfSq

    batches = parts.batches()
    first = next(batches, None)
    if first is None:
        raise UserError(f"{parts.embeddings} holds no objects: embed again")
    trouble: list[BaseException] = []

    def recorded() -> Iterator[pa.RecordBatch]:
        try:
            yield first
            yield from batches
        except BaseException as error:  # LanceDB would pass on its text only
            trouble.append(error)
            raise

    reader = pa.RecordBatchReader.from_batches(first.schema, recorded())
    try:
        table = lancedb.connect(str(folder)).create_table(TABLE, reader, on_bad_vectors="null")
    except BaseException as error:
        raise trouble[0] if trouble else error from None
    (folder / READERS).touch()
    vectors = parts.vectors
    counts = parts.counts
    approximate = counts["objects"] >= EXACT_BELOW if approximate is None else approximate
    if approximate:
        for name in vectors:
            log.info("approximate index of %s", name)
            table.create_index(name, config=IvfSq(distance_type="cosine"))
    for name, n in counts["no_direction"].items():
        if n:
            log.info("%d embeddings %s are zero or not finite: these objects are not found by it", n, name)
    if parts.catalogue is not None:
        absent = counts["objects"] - counts["in_catalogue"]
        log.info("%d objects are in the catalogue, %d are not", counts["in_catalogue"], absent)
        for column, why in parts.catalogue.left_out.items():
            log.info("catalogue column %s is left out: %s", column, why)
    columns = []
    for c in first.schema.names:
        if c not in vectors:
            columns.append(c)
    return {
        "model": parts.model,
        "objects": counts["objects"],
        "width": next(iter(vectors.values())),
        "vectors": list(vectors),
        "columns": columns,
        "approximate": approximate,
        "counts": counts,
    }


def quoted(text: str) -> str:
    return "'" + str(text).replace("'", "''") + "'"
