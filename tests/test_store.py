"""The packed store: made once, whatever happens around it, and never trusted blindly."""

import json
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from data_files import make_rows, write_first, write_ours

from astrom3.data.fingerprint import file_hash, fingerprint
from astrom3.data.layouts import open_source
from astrom3.data.store import open_store, prepared_pieces
from astrom3.errors import UserError
from astrom3.modalities.schema import PREPROCESSING_VERSION
from astrom3.places import cache_root

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_ours(tmp_path_factory.mktemp("data") / "ours", make_rows(60))


def table(root):
    return open_source(root, "full", 42).table("train")


def stores(cache):
    return sorted(p.name for p in Path(cache).iterdir() if p.is_dir() and p.name != "hashes")


def test_a_store_holds_what_the_pieces_hold(root, tmp_path):
    for modality, names in (("photometry", ("values", "constants")), ("spectra", ("values", "log_mad"))):
        store = open_store(table(root), modality, tmp_path)
        pieces = list(table(root).pieces(table(root).groups[0], modality))
        for name in names:
            expected = np.concatenate([getattr(piece.data, name) for piece in pieces])
            np.testing.assert_array_equal(store.arrays[name], expected)
        assert store.present.all() and isinstance(store.arrays["values"], np.memmap)


def test_it_is_made_once_and_a_missing_spectrum_takes_no_room(tmp_path, caplog):
    rows = make_rows(12)
    rows[3]["spectrum"] = None
    rows[5]["spectrum"]["flux"][:] = 0
    rows[7]["spectrum"]["ivar"][:] = 0
    root = write_ours(tmp_path / "o", rows)
    with caplog.at_level(logging.INFO):
        first = open_store(table(root), "spectra", tmp_path / "cache")
        before = os.stat(first.folder / "values.npy").st_mtime_ns
        again = open_store(table(root), "spectra", tmp_path / "cache")
    assert sum("Preparing" in m for m in caplog.messages) == 1
    assert os.stat(again.folder / "values.npy").st_mtime_ns == before
    assert first.arrays["values"].shape[0] == 9 and first.arrays["slot"][[2, 3, 4, 5, 6]].tolist() == [2, -1, 3, -1, 4]
    assert [tuple(d) for d in again.decisions()] == [
        ("star 5", "spectra", "rejected", "all-zero flux"),
        ("star 7", "spectra", "rejected", "all inverse variances 0: no pixel was observed"),
    ]


def test_two_subsets_share_the_store_of_our_layout(root, tmp_path):
    source = open_source(root, "full", 42)
    for split in ("train", "validation", "test"):
        open_store(source.table(split), "photometry", tmp_path)
    assert len(stores(tmp_path)) == 1


def test_threads_give_the_same_bytes(tmp_path):
    root = write_first(tmp_path / "first", make_rows(60), row_group=5)
    found = []
    for threads in (1, 3):
        store = open_store(table(root), "photometry", tmp_path / f"{threads}", threads=threads)
        found.append({p.name: p.read_bytes() for p in store.folder.glob("*.npy")})
    assert found[0] == found[1] and len(found[0]) == 3
    rows = [row for piece in prepared_pieces(table(root), "photometry", 3) for row in piece.rows.tolist()]
    assert rows == list(range(36))


@pytest.mark.parametrize("damage", ["truncated", "byte", "byte with the old time", "manifest", "file gone"])
def test_a_damaged_store_is_noticed_and_made_again(root, tmp_path, caplog, damage):
    store = open_store(table(root), "photometry", tmp_path)
    path, good = store.folder / "values.npy", np.array(store.arrays["values"])
    info = path.stat()
    if damage == "truncated":
        os.truncate(path, info.st_size - 100)
    elif damage.startswith("byte"):
        with open(path, "r+b") as file:
            file.seek(1000)
            file.write(b"\x7f\x12")
        if damage.endswith("time"):
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    elif damage == "manifest":
        (store.folder / "manifest.json").write_text('{"arrays": ')
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        again = open_store(table(root), "photometry", tmp_path)
    assert "are damaged" in caplog.text and "preparing them again" in caplog.text
    np.testing.assert_array_equal(again.arrays["values"], good)
    caplog.clear()
    open_store(table(root), "photometry", tmp_path)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_another_preprocessing_version_is_another_store(root, tmp_path, monkeypatch):
    open_store(table(root), "photometry", tmp_path)
    monkeypatch.setattr("astrom3.data.store.PREPROCESSING_VERSION", 99)
    open_store(table(root), "photometry", tmp_path)
    assert [name.rsplit("-", 1)[1] for name in stores(tmp_path)] == [f"v{PREPROCESSING_VERSION}", "v99"]


def test_the_key_follows_the_content_not_the_place_or_the_time(root, tmp_path):
    files = sorted((root / "objects").iterdir())
    copy = tmp_path / "elsewhere.parquet"
    shutil.copy(files[0], copy)
    assert fingerprint(files, tmp_path / "c") == fingerprint([copy], tmp_path / "c")
    info, whole = copy.stat(), bytearray(copy.read_bytes())
    whole[2000] ^= 1
    copy.write_bytes(whole)
    os.utime(copy, ns=(info.st_atime_ns, info.st_mtime_ns))  # same size, same time
    assert fingerprint(files, tmp_path / "c") != fingerprint([copy], tmp_path / "c")
    record = next((tmp_path / "c" / "hashes").iterdir())
    record.write_text("nonsense")
    assert file_hash(files[0], tmp_path / "c") == file_hash(files[0], tmp_path / "d")


def build(root, cache, seconds=0.0):
    """In a process of its own; `seconds` between pieces."""
    logging.basicConfig(level=logging.INFO)
    open_store(table(root), "spectra", cache, progress=lambda done: time.sleep(seconds))


def count_builds(root, cache, queue):
    built = []
    logging.getLogger("astrom3.data.store").addHandler(
        type("H", (logging.Handler,), {"emit": lambda _, r: built.append(r)})()
    )
    logging.getLogger("astrom3").setLevel(logging.INFO)
    store = open_store(table(root), "spectra", cache, progress=lambda done: time.sleep(0.2))
    queue.put((len(built), float(store.arrays["values"].sum())))


@pytest.mark.slow
def test_two_processes_at_once_build_one_store_and_both_use_it(root, tmp_path):
    queue = SPAWN.Queue()
    jobs = [SPAWN.Process(target=count_builds, args=(root, tmp_path, queue)) for _ in range(2)]
    for job in jobs:
        job.start()
    results = [queue.get(timeout=120) for _ in jobs]
    for job in jobs:
        job.join()
    assert sorted(builds for builds, _ in results) == [0, 1]
    assert results[0][1] == results[1][1] and len(stores(tmp_path)) == 1


@pytest.mark.slow
def test_a_killed_builder_leaves_nothing_that_counts_as_a_store(tmp_path):
    root = write_first(tmp_path / "first", make_rows(60), row_group=4)
    cache = tmp_path / "cache"
    job = SPAWN.Process(target=build, args=(root, cache, 0.5))
    job.start()
    deadline = time.time() + 60
    while not list(cache.glob(".spectra-*.tmp/values.npy")) and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(job.pid, signal.SIGKILL)
    job.join()
    assert job.exitcode == -signal.SIGKILL and list(cache.glob(".spectra-*.tmp"))
    assert [name for name in stores(cache) if not name.startswith(".")] == []
    store = open_store(table(root), "spectra", cache)  # the lock died with its process
    assert store.present.all() and stores(cache) == [store.folder.name]


def test_a_store_that_cannot_be_written_is_one_sentence(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to .*data\.cache=<folder>"):
        open_store(table(root), "photometry", tmp_path / "file")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(root, tmp_path):
    table(root).fingerprint(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the largest file this process may write
    try:
        with pytest.raises(UserError, match=r"cannot be written to .*make room there"):
            open_store(table(root), "spectra", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stores(tmp_path) == []


def test_the_cache_folder_is_given_or_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path))
    assert cache_root() == tmp_path and cache_root("x") == Path("x")
    monkeypatch.delenv("ASTROM3_CACHE")
    assert cache_root() == Path.home() / ".cache" / "astrom3"


def test_the_manifest_says_what_is_in_the_folder(root, tmp_path):
    store = open_store(table(root), "photometry", tmp_path)
    manifest = json.loads((store.folder / "manifest.json").read_text())
    assert manifest["objects"] == 60 and manifest["modality"] == "photometry"
    assert manifest["arrays"]["offsets"] == {"shape": [61], "dtype": "<i8"}
    assert set(manifest["files"]) == {"values.npy", "offsets.npy", "constants.npy", "rejected.csv"}
