"""Where data come from: a folder, the simulated survey, and a hub that is a real HTTP server on this machine."""

import logging
import socket

import numpy as np
import pytest
from data_files import make_rows, write_current, write_first
from hub_server import serve
from raw_layout import build_raw

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.layouts import open_source
from astrom3.data.origins import Hub, Local
from astrom3.errors import UserError
from astrom3.simulate.origin import Simulated


@pytest.fixture(scope="module")
def rows():
    return make_rows(30)


@pytest.fixture
def hub(rows, tmp_path, monkeypatch):
    repo = tmp_path / "hub" / "AstroMLCore" / "AstroM3Processed"
    write_current(repo, rows)
    (repo / "README.md").write_text("a data set card")
    (repo / "sub10_0").mkdir()
    (repo / "sub10_0" / "train-00000-of-00001.parquet").write_bytes(b"another configuration")
    write_first(tmp_path / "hub" / "MeriDK" / "AstroM3Processed", rows)
    with serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_the_hub_is_asked_for_one_configuration_only(hub, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        source = Hub(cache_dir=tmp_path / "cache").open("full", 42)
    assert source.layout == "processed-2" and len(source.rows["train"]) == 18
    assert "layout processed-2" in caplog.text
    fetched = {path.split("/resolve/")[1].split("/", 1)[1] for command, path in hub.requests if "/resolve/" in path}
    assert fetched == {f"full_42/{s}-00000-of-00001.parquet" for s in ("train", "validation", "test")}


def test_data_from_the_hub_train_batches(hub, tmp_path):
    origin = Hub(repo="MeriDK/AstroM3Processed", cache_dir=tmp_path / "cache")
    module = AstroM3DataModule(origin, batch_size=6, cache=tmp_path / "store")
    module.setup("fit")
    assert module.source.layout == "processed-1"
    assert [len(b["index"]) for b in module.train_dataloader()] == [6, 6, 6]


def test_what_was_fetched_once_is_used_offline(hub, tmp_path):
    first = Hub(cache_dir=tmp_path / "cache").open("full", 42)
    hub.broken = True
    again = Hub(cache_dir=tmp_path / "cache").open("full", 42)
    assert again.root == first.root
    with pytest.raises(UserError, match=WAYS_OUT):
        Hub(cache_dir=tmp_path / "cache").open("sub50", 42)  # another configuration is not there


WAYS_OUT = r"data=local data\.path=<folder>.*data=simulated"


def test_an_unreachable_hub_names_the_two_ways_out(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(UserError, match=rf"The hub at http://127\.0\.0\.1:{port} cannot be reached.*{WAYS_OUT}"):
        Hub(cache_dir=tmp_path).open("full", 42)


def test_a_hub_that_answers_errors_names_them_too(hub, tmp_path):
    hub.broken = True
    with pytest.raises(UserError, match=WAYS_OUT):
        Hub(cache_dir=tmp_path / "cache").open("full", 42)


def test_a_repository_that_does_not_exist_is_said_so(hub, tmp_path):
    with pytest.raises(UserError, match=rf"has no data set AstroMLCore/Nothing.*{WAYS_OUT}"):
        Hub(repo="AstroMLCore/Nothing", cache_dir=tmp_path).open("full", 42)


def test_a_configuration_that_does_not_exist_is_said_so(hub, tmp_path):
    with pytest.raises(UserError, match=rf"AstroMLCore/AstroM3Processed at .* has no sub25_66.*{WAYS_OUT}"):
        Hub(cache_dir=tmp_path / "cache").open("sub25", 66)


def test_the_raw_data_set_comes_from_the_hub_too(hub, tmp_path):
    build_raw(hub.folder / "AstroMLCore" / "AstroM3Dataset", n=30, subs=("full", "sub10"))
    origin = Hub(repo="AstroMLCore/AstroM3Dataset", cache_dir=tmp_path / "cache")
    module = AstroM3DataModule(origin, batch_size=4, cache=tmp_path / "store")
    module.setup("fit")
    assert module.source.layout == "raw" and module.counts["train"]["used"] == 24
    assert not [path for _, path in hub.requests if "splits/sub10" in path]


def test_local_data_need_a_path():
    with pytest.raises(UserError, match=r"data\.path=<folder>"):
        Local("").open("full", 42)


def test_the_simulated_survey_is_made_once_and_says_what_it_is(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first = Simulated(60, 1, tmp_path).open("full", 42)
        second = Simulated(60, 1, tmp_path).open("sub50", 0)
    assert first.root == second.root and "simulated data" in first.describe()
    assert sum("Simulating" in message for message in caplog.messages) == 1
    assert Simulated(60, 1, tmp_path, missing_spectra=0.5).open("full", 42).root != first.root


def test_raw_files_in_place_give_the_numbers_they_hold(tmp_path):
    objects = build_raw(tmp_path / "raw", n=30)
    lost = objects[0]
    next((tmp_path / "raw" / "spectra").rglob(lost["spec_filename"])).write_bytes(b"\x1f\x8b broken")
    source = open_source(tmp_path / "raw", "full", 42)
    assert source.layout == "raw" and sum(len(r) for r in source.rows.values()) == 30
    module = AstroM3DataModule(Local(tmp_path / "raw"), batch_size=4, cache=tmp_path / "cache")
    module.setup()
    named = {o["id"]: o for o in objects}
    for split in ("train", "validation", "test"):
        catalogue = source.catalogue(split)
        for name, values in zip(catalogue.ids, catalogue.values, strict=True):
            assert values.tolist() == list(named[name]["values"].values())
        for piece in source.chunks(split, "photometry"):
            lengths = [len(named[catalogue.ids[row]]["light_curve"][0]) for row in piece.rows]
            assert np.diff(piece.data.offsets).tolist() == lengths
    (broken,) = [d for d in module.rejected if d.decision == "rejected"]
    assert broken.object_id == lost["id"] and broken.modality == "spectra" and lost["spec_filename"] in broken.reason
    again = AstroM3DataModule(Local(tmp_path / "raw"), batch_size=4, cache=tmp_path / "cache")
    again.setup()  # from the store: the unreadable file is still listed
    assert [d for d in again.rejected if d.decision == "rejected"] == [broken]
