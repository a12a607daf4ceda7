"""Embeddings and search indexes, damaged in many ways: each is read, or refused with one sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import answer, damaged, faults, instead, tables, texts, with_bytes, with_text

from astrom3.files import read_json
from astrom3.inference.embeddings import Embeddings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


def embeddings(count: int = 12) -> Embeddings:
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(count, 4)).astype(np.float32)
    there = np.ones(count, bool)
    odds = draws.dirichlet([1, 1], count).astype(np.float32)
    return Embeddings(
        np.array([f"star {i}" for i in range(count)]),
        np.arange(count) % 2,
        np.full(count, "test"),
        {"metadata": there},
        {"metadata": vectors, "mean": vectors},
        odds,
        ("A", "B"),
        "m",
    )


def test_parts_of_embeddings(place):
    from astrom3.search.columns import Parts

    path = embeddings().write(place / "embeddings" / "test-00000-of-00001.parquet")
    table = pq.read_table(path)

    def both() -> None:
        """Both readers, of the verbs and of the index."""
        one = answer(lambda: Embeddings.read(path.parent))
        other = answer(lambda: list(Parts(path.parent).batches()))
        if other and not one:
            raise AssertionError(f"the index alone refuses: {other}")

    both()
    cases = instead(path, both)
    contents = dict(damaged(path.read_bytes()))
    for name, changed in variants(table):
        buffer = io.BytesIO()
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), buffer)
        contents[name] = buffer.getvalue()
    for meta in (b"{", b"[]", b"\xff", b'{"classes": 1}', b'{"classes": [1]}', b'{"model": 5, "classes": []}', b"{}"):
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({b"astrom3": meta}), buffer)
        contents[f"metadata {meta!r}"] = buffer.getvalue()
    cases |= {name: with_bytes(path, content, both) for name, content in contents.items()}
    assert len(cases) > 80
    assert faults(cases) == []
    must = ("no rows", "rows twice", "object_id null", "object_id gone", "mean gone", "half", "empty", "an id twice")
    reading = {name: with_bytes(path, contents[name], lambda: Embeddings.read(path.parent)) for name in must}
    assert faults(reading, refused=True) == []


def variants(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    yield from tables(table)
    ids = table["object_id"].to_pylist()
    place = table.column_names.index("object_id")
    yield "an id twice", table.set_column(place, "object_id", pa.array([ids[1], *ids[1:]]))
    yield "an id missing", table.set_column(place, "object_id", pa.array([None, *ids[1:]]))
    kind = table["mean"].type
    at = table.column_names.index("mean")
    for name, value in (("NaN", float("nan")), ("inf", float("inf"))):
        rows = [[value] * kind.list_size, *table["mean"].to_pylist()[1:]]
        yield f"a mean of {name}", table.set_column(at, "mean", pa.array(rows, kind))


def test_the_manifest_of_embeddings(place):
    from astrom3.search.columns import Parts

    folder = place / "manifest"
    embeddings().write(folder / "test-00000-of-00001.parquet")
    path = folder / "_manifest.json"
    content = {"model": "0" * 64, "evaluation": "fixed", "sub": "full", "seed": 42, "part": 4096, "splits": ["test"]}
    path.write_text(json.dumps(content))
    read = lambda: Parts(folder).model  # noqa: E731
    cases = {name: with_text(path, text, read) for name, text in texts(content)}
    assert faults(cases) == []
    mark = folder / ".astrom3.json"
    content = {"made_by": "embed", "version": 1, "files": ["test-00000-of-00001.parquet"]}
    mark.write_text(json.dumps(content))
    cases = {name: with_text(mark, text, lambda: Embeddings.read(folder)) for name, text in texts(content)}
    assert faults(cases) == []


def test_an_index(place):
    pytest.importorskip("lancedb")
    from astrom3.search.index import Index

    path = embeddings().write(place / "of index.parquet")
    folder = place / "index"
    Index.build(folder, path)

    def ask() -> None:
        index = Index.open(folder)
        index.query(index.vector_of("star 3", "mean"), top=3)

    ask()
    about = folder / "about.json"
    cases = instead(about, ask) | {name: with_text(about, text, ask) for name, text in texts(read_json(about), every=3)}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 100):
        for name, content in list(damaged(file.read_bytes()))[:4]:
            cases[f"{file.name} {name}"] = with_bytes(file, content, ask)
    assert faults(cases) == []


@pytest.mark.parametrize("where", [
    "label", "nonsense ~~", "'", "label =", "DROP TABLE objects", "object_id IN (SELECT 1)", "1/0", "period <",
    "label IN ()", 3000 * "x", "(((((", "label = \x00", "no_such = 1", "label < 5 OR", ";", "--",
])  # fmt: skip
def test_conditions_that_make_no_sense(place, where):
    pytest.importorskip("lancedb")
    from astrom3.search.index import Index

    folder = place / "index of conditions"
    if not folder.exists():
        Index.build(folder, embeddings().write(place / "conditions.parquet"))
    index = Index.open(folder)
    vector = index.vector_of("star 3", "mean")
    assert faults({where: lambda: index.query(vector, where=where)}) == []
