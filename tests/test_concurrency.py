"""Two writers, a reader during a rebuild, a killed parent and files of others: with real processes and real files."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from processes import CONTEXT, finish, training, wait_for

from astrom3 import files
from astrom3.cli.config import compose
from astrom3.cli.verbs import run_verb
from astrom3.errors import UserError
from astrom3.inference import neighbours
from astrom3.inference.embeddings import Embeddings
from astrom3.locks import is_read, reading, sole_writer
from astrom3.modalities.quality import write_decisions
from astrom3.plots import save
from astrom3.train import train

TINY = ["mode=meta", "size=tiny", "data=simulated", "data.objects=240", "trainer=cpu", "early_stopping.patience=9999"]


def embeddings(n=60, seed=0):
    draws = np.random.default_rng(seed)
    ids = np.array([f"star {i}" for i in range(n)])
    vectors = draws.normal(size=(n, 8)).astype(np.float32)
    present = {"photometry": np.ones(n, bool)}
    return Embeddings(ids, np.zeros(n, int), np.full(n, "test"), present,
                      {"photometry": vectors, "mean": vectors}, None, ("A",), "m")  # fmt: skip


# --- two writers ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_second_training_of_a_run_says_so_and_a_killed_one_blocks_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("astrom3.locks.PATIENCE", 0.1)
    given = [*TINY, f"root={tmp_path}", "epochs=9999"]
    first = training(given, tmp_path / "log")
    run = tmp_path / "meta-full-scratch-42"
    try:
        assert wait_for(run / "run.json", first)
        before = (run / "config.yaml").read_bytes()
        with pytest.raises(UserError, match=r"another training is writing to .*meta-full-scratch-42: wait until"):
            train(compose([*given, "overwrite=true"]))
        assert (run / "config.yaml").read_bytes() == before
        os.kill(first.pid, signal.SIGKILL)
        finish(first)
        with sole_writer(run, "training"):
            assert (run / ".lock").is_file()
    finally:
        first.kill()


@pytest.mark.slow
def test_two_that_fill_one_folder_do_not_mix(tmp_path):
    folder = files.OutputFolder(tmp_path / "out", "report")
    with folder.staged(["a.txt"]) as stage:
        (stage / "a.txt").write_text("first")
        other = CONTEXT.Process(target=fill, args=(tmp_path / "out",))
        other.start()
        assert finish(other) == 7
    assert (tmp_path / "out" / "a.txt").read_text() == "first"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def fill(path):
    try:
        with files.OutputFolder(path, "report").staged(["a.txt"]) as stage:
            (stage / "a.txt").write_text("second")
    except UserError as error:
        sys.exit(7 if "another report is writing to" in str(error) else 1)


def test_what_fails_in_the_middle_leaves_nothing(tmp_path):
    folder = files.OutputFolder(tmp_path / "out", "report")
    with pytest.raises(ZeroDivisionError), folder.staged(["a.txt", "b.txt"]) as stage:
        (stage / "a.txt").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


# --- readers of an index ----------------------------------------------------------------------------------------------


def rebuild(folder, sources, times):
    from astrom3.search.index import Index

    for number in range(times):
        Index.build(folder, sources[number % 2], overwrite=True)


def read_until(folder, stop, vector, out):
    """Every answer is a whole one, of the old index or of the new."""
    from astrom3.search.index import Index

    answers = set()
    while not stop.exists():
        index = Index.open(folder)
        for _ in range(3):
            answers.add(tuple(index.query(vector, top=100)["object_id"].to_pylist()))
    out.write_text(str(len(answers)))
    counts = {len(answer) for answer in answers}
    sys.exit(0 if counts <= {30, 60} else 1)


@pytest.mark.slow
def test_readers_of_an_index_get_the_old_or_the_new_one(tmp_path):
    pytest.importorskip("lancedb")
    from astrom3.search.index import Index

    sources = [embeddings(30, 0).write(tmp_path / "a.parquet"), embeddings(60, 1).write(tmp_path / "b.parquet")]
    Index.build(tmp_path / "index", sources[1])
    vector = embeddings().vectors["mean"][0]
    outs = [tmp_path / "one", tmp_path / "two"]
    stop = tmp_path / "stop"
    readers = [CONTEXT.Process(target=read_until, args=(tmp_path / "index", stop, vector, out)) for out in outs]
    for reader in readers:
        reader.start()
    builder = CONTEXT.Process(target=rebuild, args=(tmp_path / "index", sources, 8))
    builder.start()
    assert finish(builder) == 0
    stop.touch()
    assert [finish(reader) for reader in readers] == [0, 0]
    assert max(int(out.read_text()) for out in outs) == 2
    Index.build(tmp_path / "index", sources[0], overwrite=True)
    assert len(list((tmp_path / "index").glob("objects-*"))) == 1  # nobody reads the earlier ones any more


def test_a_database_that_is_read_is_known_to_be(tmp_path):
    path = tmp_path / "readers"
    path.touch()
    assert not is_read(path)
    file = reading(path)
    assert is_read(path)
    file.close()
    assert not is_read(path)


# --- killed parents and what they leave -------------------------------------------------------------------------------

POOL = """
import os, time
from astrom3.workers import pool
if __name__ == "__main__":
    with pool(2) as workers:
        waiting = [workers.submit(os.getpid) for _ in range(2)]
        print(*{each.result() for each in waiting}, flush=True)
        [workers.submit(time.sleep, 600) for _ in range(4)]
        time.sleep(600)
"""


def test_workers_of_a_killed_parent_end_with_it():
    parent = subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE, text=True)
    workers = [int(number) for number in parent.stdout.readline().split()]
    assert workers and all(files.alive(worker) for worker in workers)
    parent.kill()
    parent.wait()
    limit = time.monotonic() + 20
    while any(files.alive(worker) for worker in workers) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(files.alive(worker) for worker in workers)


def test_half_a_file_of_a_killed_process_goes_with_the_next_write(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine = tmp_path / f".a.txt.{files.maker()}.part"
    left = tmp_path / f".a.txt.{files.host()}-{dead.pid}-0123abcd.part"
    left.touch()
    mine.touch()
    files.write_text(tmp_path / "a.txt", "whole")
    assert mine.exists() and not left.exists()


# --- files of others --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "arguments", "name"),
    [
        ("explore", ["embeddings=e", "map=pca"], "page.html"),
        ("search", ["index=i", "id=a"], "found.csv"),
        ("search", ["index=i", "id=a"], "found.json"),
    ],
)
def test_a_file_of_somebody_else_is_refused_by_name(verb, arguments, name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine")
    with pytest.raises(SystemExit) as end:
        run_verb(verb, verb_of(verb), [*arguments, f"out={name}"])
    assert end.value.code == 2
    assert f"out={name} is there already and is not of this verb" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # what it is made of is not there, which is another sentence
        run_verb(verb, verb_of(verb), [*arguments, f"out={name}", "overwrite=true"])
    assert "is there already" not in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"


def verb_of(name):
    import importlib

    return getattr(importlib.import_module(f"astrom3.{name}.__main__"), name)


def test_answers_and_pages_of_ours_are_known(tmp_path):
    from astrom3.explore.writing import GENERATOR, is_page
    from astrom3.search.__main__ import is_answer, write

    found = [{"object_id": "a", "label": None, "similarity": 0.5}]
    for name in ("a.csv", "a.json"):
        write(found, tmp_path / name, ["object_id", "label", "similarity"])
        assert is_answer(tmp_path / name)
        (tmp_path / name).write_text("object_id,ra\na,1\n")
        assert not is_answer(tmp_path / name)
    (tmp_path / "page.html").write_bytes(b"<html>" + GENERATOR)
    assert is_page(tmp_path / "page.html") and not is_page(tmp_path / "a.csv")


def test_no_log_appears_in_a_folder_of_somebody_else(tmp_path, capsys, monkeypatch):
    run = tmp_path / "photos"
    run.mkdir()
    (run / "holiday.jpg").touch()
    with pytest.raises(SystemExit):
        run_verb("train", train, [*TINY, f"run={run}"])
    assert "holiday.jpg" in capsys.readouterr().err
    assert [path.name for path in run.iterdir()] == ["holiday.jpg"]


def test_a_failing_analysis_leaves_no_folder(tmp_path, capsys):
    from astrom3.analyse.__main__ import analyse

    pq.write_table(pa.table({"a": [1]}), tmp_path / "e.parquet")
    with pytest.raises(SystemExit):
        run_verb("analyse", analyse, [f"embeddings={tmp_path / 'e.parquet'}", f"out={tmp_path / 'out'}"])
    assert "is not a table of embeddings" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["e.parquet"]


def test_every_writer_asks_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_json(tmp_path / "a.json", {})
        files.write_bytes(tmp_path / "a.bin", b"")
        write_decisions(tmp_path / "a.csv", [])
        save(Figure(), tmp_path / "a.png")
        embeddings(3).write(tmp_path / "a.parquet")
        with sole_writer(tmp_path, "test"):
            pass
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("a.json", "a.bin", "a.csv", "a.png", "a.parquet", ".lock"), 0o640
    )


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_neighbours_by_cells_are_nearly_those_of_all_pairs():
    draws = np.random.default_rng(0)
    vectors = np.tanh(draws.normal(size=(3000, 4)) @ draws.normal(size=(4, 24))).astype(np.float32)
    exact, cosine = neighbours.nearest(vectors, 10)
    found, similar = neighbours.nearest(vectors, 10, exact_to=100)
    shares = [len(np.intersect1d(a, b)) / 10 for a, b in zip(exact, found, strict=True)]
    assert np.mean(shares) > 0.97
    same = (exact == found).all(1)
    np.testing.assert_array_equal(cosine[same], similar[same])
    assert (np.diff(similar, axis=1) <= 0).all()
    assert not (found == np.arange(3000)[:, None]).any()


def test_neighbours_across_modalities_by_cells_are_nearly_those_of_all_pairs():
    """Of images among spectra of other objects; a third of the images have no spectrum of their own."""
    draws = np.random.default_rng(1)
    place = draws.normal(size=(3000, 4))
    surface = draws.normal(size=(4, 24))
    spectra = np.tanh(place @ surface).astype(np.float32)
    images = (spectra + 0.05 * draws.normal(size=spectra.shape)).astype(np.float32)
    own = np.where(np.arange(3000) % 3 == 0, -1, np.arange(3000))
    exact, cosine = neighbours.across(images, spectra, own, 10)
    found, similar = neighbours.across(images, spectra, own, 10, exact_to=100)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact, found, strict=True)]) > 0.97
    directions = spectra.astype(np.float64) / np.linalg.norm(spectra, axis=1, keepdims=True)
    query = images[7].astype(np.float64) / np.linalg.norm(images[7])
    all_pairs = directions @ query
    all_pairs[7] = -np.inf
    np.testing.assert_array_equal(exact[7], np.argsort(-all_pairs, kind="stable")[:10])
    np.testing.assert_allclose(cosine[7], np.sort(all_pairs)[::-1][:10], atol=1e-6)
    is_own = own[:, None] >= 0
    assert not ((found == own[:, None]) & is_own).any() and (np.diff(similar, axis=1) <= 0).all()
    none, _ = neighbours.across(images[:2], spectra[:1], np.array([0, -1]), 3)
    assert none.tolist() == [[-1, -1, -1], [0, -1, -1]]


# --- Ctrl-C while a checkpoint is written -----------------------------------------------------------------------------


def sweep_interrupted_in_a_write(root, output):
    """A sweep of two runs. The third write of a checkpoint sends Ctrl-C to its own process, halfway."""
    import torch

    write = torch.save
    writes = []

    def interrupted(value, file):
        writes.append(file)
        file.write(b"")
        if len(writes) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        write(value, file)

    torch.save = interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(output, "w", buffering=1) as file:
        os.dup2(file.fileno(), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        sys.argv = ["astrom3-train"]
        run_verb("train", train, ["-m", *TINY, f"root={root}", "epochs=9", "seed=42,0"])


@pytest.mark.slow
def test_ctrl_c_in_the_write_of_a_checkpoint_is_130_and_stops_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    process = CONTEXT.Process(target=sweep_interrupted_in_a_write, args=(tmp_path / "runs", tmp_path / "said"))
    process.start()
    assert finish(process) == 130
    said = (tmp_path / "said").read_text()
    assert said.strip().splitlines()[-1] == "astrom3 train: interrupted" and "make room" not in said
    assert [path.name for path in (tmp_path / "runs").glob("*/config.yaml")] == ["config.yaml"]
    assert not list((tmp_path / "runs").rglob("*.part"))
