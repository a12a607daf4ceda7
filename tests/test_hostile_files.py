"""Stored files of every verb, damaged in many ways, in one process: each is read, or refused with one sentence."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from data_files import make_rows, write_ours
from hostile_files import answer, damaged, faults, instead, tables, texts, with_bytes, with_text
from omegaconf import OmegaConf
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from small_models import save_model

import astrom3
from astrom3.cli.config import compose
from astrom3.encoders.astromer import Astromer
from astrom3.encoders.specformer import SpecFormer
from astrom3.files import read_json
from astrom3.inference.embeddings import Embeddings
from astrom3.published import native

Call = Callable[[], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def survey(place) -> Path:
    return write_ours(place / "survey", make_rows(30))


@pytest.fixture(scope="module")
def model(place, survey) -> Path:
    return save_model(place / "model", survey)


@pytest.fixture(scope="module")
def run(place, survey) -> Path:
    """A finished run of one epoch."""
    from astrom3.train import train

    given = ["mode=meta", "size=tiny", "data=local", f"data.path={survey}", "trainer=cpu", "epochs=1"]
    train(compose([*given, f"root={place / 'runs'}", f"data.cache={place / 'cache'}", "data.batch_size=8"]))
    return place / "runs" / "meta-full-scratch-42"


# --- model folders --------------------------------------------------------------------------------------------------


def loading(folder: Path) -> Call:
    return lambda: astrom3.load(folder, device="cpu")


def weights(path: Path, read: Call) -> dict[str, Call]:
    """A file of tensors, of which one is NaN, infinite, of whole numbers, of another shape, or missing."""
    state = load_file(path)
    name = next(key for key, tensor in state.items() if tensor.is_floating_point() and tensor.dim() > 0)
    tensor = state[name]
    others = {
        "NaN": tensor * float("nan"),
        "inf": tensor / 0,
        "whole": tensor.long(),
        "truths": tensor.bool(),
        "longer": torch.cat([tensor, tensor]),
        "nested": tensor[None],
        "none": tensor.flatten()[:0],
    }
    cases = {f"{name} {kind}": {**state, name: other.contiguous()} for kind, other in others.items()}
    cases["one missing"] = {key: other for key, other in state.items() if key != name}
    cases["one more"] = {**state, "more": torch.zeros(3)}
    cases["nothing"] = {}
    return {f"{path.name} {kind}": with_bytes(path, to_bytes(content), read) for kind, content in cases.items()}


def of_model(folder: Path) -> tuple[dict[str, Call], dict[str, Call]]:
    """Cases that may be accepted, and cases that must be refused."""
    read = loading(folder)
    read()
    cases: dict[str, Call] = {}
    refused: dict[str, Call] = {}
    for path in sorted(folder.glob("*.json")):
        cases |= instead(path, read)
        for name, text in texts(read_json(path)):
            cases[f"{path.name} {name}"] = with_text(path, text, read)
    for path in sorted(folder.glob("*.safetensors")):
        cases |= instead(path, read)
        refused |= weights(path, read)
        for name, content in damaged(path.read_bytes()):
            where = cases if name == "garbled" else refused  # other numbers, which may do
            where[f"{path.name} {name}"] = with_bytes(path, content, read)
        header = (10**9).to_bytes(8, "little")
        refused[f"{path.name} of a giant header"] = with_bytes(path, header + path.read_bytes()[8:], read)
    return cases, refused


def test_model_folders_in_published_form(model):
    cases, refused = of_model(model)
    assert len(cases) > 100
    assert faults(cases) == []
    assert faults(refused, refused=True) == []


@pytest.mark.parametrize("make", [
    lambda: Astromer(layers=1, d_model=16, n_heads=2, d_ff=32),
    lambda: SpecFormer(embed_dim=32, num_layers=1, num_heads=2),
])  # fmt: skip
def test_model_folders_in_native_form(place, make):
    folder = native.save(make(), place / f"native-{type(make()).__name__}")
    cases, refused = of_model(folder)
    assert faults(cases) == []
    assert faults(refused, refused=True) == []


def test_files_of_released_weights(place):
    """What a downloaded zip, checkpoint of TensorFlow or .ckpt may hold instead."""
    folder = place / "released"
    folder.mkdir()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside", "x")
        file.writestr("weights.index", "x")
    contents = dict(damaged(archive.getvalue())) | {"a zip with other files": archive.getvalue()}
    cases: dict[str, Call] = {}
    for name, content in contents.items():
        for ending in ("macho_a0.zip", "astroclip.ckpt", "weights.h5", "model.pt"):
            path = folder / f"{len(cases)}-{ending}"
            path.write_bytes(content)
            cases[f"{ending} {name}"] = loading(path)
    for number, value in enumerate(([], {}, {"state_dict": {}}, {"state_dict": {"a": torch.zeros(2)}}, torch.zeros(3))):
        path = folder / f"other-{number}.ckpt"
        torch.save(value, path)
        cases[path.name] = loading(path)
    for number, (index, data) in enumerate(((b"", b""), (b"x" * 100, b"y" * 100), (bytes(48), bytes(48)))):
        own = folder / f"tf{number}"
        own.mkdir()
        (own / "weights.index").write_bytes(index)
        (own / "weights.data-00000-of-00001").write_bytes(data)
        (own / "config.toml").write_text("[")
        cases[own.name] = loading(own)
    assert faults(cases, refused=True) == []


# --- embeddings and indexes -----------------------------------------------------------------------------------------


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


# --- run folders ----------------------------------------------------------------------------------------------------


def test_run_folders(run):
    from astrom3.report.table import Grid, collect, summarise
    from astrom3.training.run import read_run, read_scores

    grid = Grid(("meta",), ("full",), ("scratch",), (42,))

    def read() -> None:
        summarise(collect(run.parent), grid)
        read_run(run)
        read_scores(run)

    read()
    cases: dict[str, Call] = {}
    config = run / "config.yaml"
    content = OmegaConf.to_container(OmegaConf.load(config))
    for name, text in texts(content, every=17, write=yaml.safe_dump):
        cases[f"config.yaml {name}"] = with_text(config, text, read)
    for path in (run / "run.json", run / "metrics.json"):
        cases |= {f"{path.name} {name}": with_text(path, text, read) for name, text in texts(read_json(path), every=5)}
    for name in ("config.yaml", "run.json", "metrics.json", "metrics.csv"):
        cases |= instead(run / name, read)
        cases |= {f"{name} {kind}": with_bytes(run / name, b, read) for kind, b in damaged((run / name).read_bytes())}
    assert len(cases) > 150
    assert faults(cases) == []


def test_checkpoints_of_a_run(run):
    from astrom3.training.checkpoints import AtomicCheckpointIO, load_weights, newest_sound

    best = run / "checkpoints" / "best.ckpt"
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(best, weights_only=True)
    state = content["state_dict"]
    name = next(key for key, tensor in state.items() if tensor.is_floating_point())
    values = [
        [], {}, {"state_dict": []}, {"state_dict": {name: "x"}}, {"state_dict": {name: None}},
        {"state_dict": {**state, name: state[name] * float("nan")}}, {"state_dict": {5: state[name]}},
        {"state_dict": {**state, name: state[name].to(torch.complex64)}}, torch.zeros(3), "x", None,
    ]  # fmt: skip
    contents = dict(damaged(best.read_bytes())) | {"of code": pickled()}
    for number, value in enumerate(values):
        file = io.BytesIO()
        torch.save(value, file)
        contents[f"content {number}"] = file.getvalue()
    cases = {f"best {kind}": with_bytes(best, b, lambda: load_weights(best)) for kind, b in contents.items()}
    resume = lambda: AtomicCheckpointIO().load_checkpoint(last)  # noqa: E731
    cases |= {f"last {kind}": with_bytes(last, b, resume) for kind, b in contents.items()}
    assert faults(cases, refused=True) == []
    assert not MARKER.exists()
    for kind, b in damaged(last.read_bytes()):
        with_bytes(last, b, lambda: newest_sound(run))(), kind


MARKER = Path("/tmp/astrom3-hostile-marker")


class Touch:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (MARKER,)


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": Touch()}, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "source", ["", ".", "/", "/dev/null", "/dev/zero", "/etc/passwd", "no/such", "a\0b", "x" * 5000, 5, None]
)
def test_sources_of_models(source, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert faults({"source": lambda: astrom3.load(source, device="cpu")}, refused=True) == []


def test_nothing_is_left_of_these_tests(place):
    assert not list(place.rglob("*.aside"))
    shutil.rmtree(place / "released", ignore_errors=True)
