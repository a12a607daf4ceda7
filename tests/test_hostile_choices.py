"""Choices that change nothing, that Lightning would take in its own way, or that would be waited for without end."""

from __future__ import annotations

import socket
import time

import pytest
from data_files import put
from processes import free_port

from astrom3.cli import config
from astrom3.cli.config import compose
from astrom3.cli.verbs import check_flags
from astrom3.embed import ray as embed_ray
from astrom3.errors import UserError
from astrom3.hardware import check_strategy


@pytest.mark.parametrize(("given", "words"), [
    (["mode=all", "head=mlp"], "head=mlp is for mode=photo, and mode=all has no such head"),
    (["mode=masked", "model=astromer2", "head=skip"], "mode=masked has no such head"),
    (["mode=photo", "trainer.max_epochs=null"], "trainer.max_epochs=null: it has to be a whole number"),
    (["mode=photo", "trainer.num_nodes=null"], "trainer.num_nodes=null: it has to be a whole number"),
    (["mode=photo", "trainer.devices=null"], "trainer.devices=null: it has to be a whole number"),
])  # fmt: skip
def test_a_choice_that_would_do_nothing_or_something_else_is_refused(given, words):
    with pytest.raises(UserError, match=words):
        compose([*given, "data=simulated"])


@pytest.mark.parametrize("given", [
    ["mode=photo", "head=mlp"], ["mode=photo", "model=astromer2", "head=lstm"], ["mode=clip", "head=linear"],
    ["mode=clip", "model=astromer2"], ["mode=photo", "trainer.gradient_clip_val=null"],
])  # fmt: skip
def test_and_what_is_right_is_taken(given):
    compose([*given, "data=simulated"])


@pytest.mark.slow  # Lightning is imported
def test_names_of_strategies():
    for name in ("auto", "ddp", "DDP", "fsdp", "ddp_find_unused_parameters_true", {"_target_": "a.Strategy"}):
        check_strategy(name)
    for name in ("", "foo", 3, None, ["ddp"]):
        with pytest.raises(UserError, match=r"trainer\.strategy=.* does not exist: give auto, ddp"):
            check_strategy(name)


@pytest.mark.parametrize(("address", "words"), [
    ("127.0.0.1:{port}", "cannot be reached"), ("ray://127.0.0.1:{port}", "cannot be reached"),
    ("no.such.host.invalid:6379", "cannot be reached"), ("a:b", "has no port"), ("a:99999", "has no port"),
    ("ray://[::1", "has no port"),
])  # fmt: skip
def test_a_cluster_that_is_not_there_is_said_at_once(address, words):
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"RAY_ADDRESS=.* {words}"):
        embed_ray.check_address(address.format(port=free_port()))
    assert time.monotonic() - start < 2 * embed_ray.PATIENCE


def test_a_cluster_that_listens_is_left_to_ray():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        embed_ray.check_address(f"127.0.0.1:{listening.getsockname()[1]}")
    for address in ("", "auto", "local", "ray://head"):
        embed_ray.check_address(address)


@pytest.mark.parametrize(("content", "words"), [
    ("a: [1, {", r"mine\.yaml, line 1, is no YAML"), ("a:\n\tb: 1", r"mine\.yaml, line 2, is no YAML"),
    ("a: !!python/object/apply:os.mkdir [x]", "is no YAML"), (b"\xff\xfe\x80", "no text in UTF-8|is no YAML"),
    ("# @package _global_\ndefaults:\n  - /logger: mine\n", "in a circle"), ("a: &a\n  b: *a", "in a circle"),
])  # fmt: skip
def test_own_files_that_cannot_be_read(tmp_path, monkeypatch, content, words):
    (tmp_path / "logger").mkdir()
    put(tmp_path / "logger" / "mine.yaml", content)
    monkeypatch.setattr(config, "OWN_FOLDERS", [])
    given = config.with_own_folders([f"--config-dir={tmp_path}", "mode=meta", "data=simulated", "logger=mine"])
    with pytest.raises(UserError, match=words):
        compose(given)
    assert not (tmp_path / "x").exists()


def test_a_mode_of_ones_own_says_which_file_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "mode").mkdir()
    (tmp_path / "mode" / "mine.yaml").write_text("# @package _global_\nmode: mine\n")
    monkeypatch.setattr(config, "OWN_FOLDERS", [])
    given = config.with_own_folders([f"--config-dir={tmp_path}", "mode=mine", "data=simulated"])
    with pytest.raises(UserError, match=r"mode=mine has no file (objective|published)/\w+-mine\.yaml: add it"):
        compose(given)


@pytest.mark.parametrize(("arguments", "place"), [
    (["mode=meta", "--config-dir={}", "-m"], 0), (["-m", "mode=meta", "--config-dir", "{}"], 1),
    (["--config-dir={}", "--cfg", "job"], 2), (["mode=meta", "--config-dir={}", "--cfg=job"], 0),
])  # fmt: skip
def test_an_own_folder_goes_with_flags(tmp_path, monkeypatch, arguments, place):
    monkeypatch.setattr(config, "OWN_FOLDERS", [])
    given = config.with_own_folders([word.format(tmp_path) for word in arguments])
    assert given[place].startswith("hydra.searchpath=[")
    check_flags(given)


@pytest.mark.parametrize("path", ["/no/such/folder", "file:///no/such/folder", "pkg://no_such_package"])
def test_a_search_path_that_is_not_there_is_refused(path):
    with pytest.raises(UserError, match=r"hydra\.searchpath=.*no.such.*: there is no such folder"):
        compose(["mode=meta", "data=simulated", f"hydra.searchpath=[{path}]"])
