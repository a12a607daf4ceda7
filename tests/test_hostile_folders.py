"""Folders of others: nothing in them is touched, and what killed writers leave goes."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from astrom3.errors import UserError
from astrom3.files import MARK, OutputFolder, inside, read_json, remove_leftovers, replacing, write_text

pytestmark = pytest.mark.slow


def test_a_foreign_folder_is_refused_and_named_and_overwrite_removes_nothing_of_it(tmp_path):
    (tmp_path / "objects.parquet").write_text("mine")
    folder = OutputFolder(tmp_path, "embed")
    with pytest.raises(UserError, match=r"objects\.parquet.*overwrite=true"):
        folder.open(["train.parquet"])
    folder.open(["train.parquet"], overwrite=True)
    (tmp_path / "train.parquet").write_text("ours")
    folder.remove()
    assert (tmp_path / "objects.parquet").read_text() == "mine"
    assert not (tmp_path / "train.parquet").exists()


def test_files_of_others_in_an_own_folder_stay_and_are_not_replaced(tmp_path):
    folder = OutputFolder(tmp_path / "new", "export")
    folder.open(["a", "onnx/b"])
    (tmp_path / "new" / "onnx").mkdir()
    for name in ("a", "onnx/b", "onnx/mine", "c"):
        (tmp_path / "new" / name).write_text(name)
    with pytest.raises(UserError, match=r"did not write \(c\)"):
        folder.open(["a", "c"])
    folder.remove()
    assert sorted(p.name for p in (tmp_path / "new").rglob("*")) == [MARK, "c", "mine", "onnx"]


def test_the_folder_of_another_verb_is_foreign(tmp_path):
    OutputFolder(tmp_path, "report").open(["report.md"])
    (tmp_path / "report.md").write_text("text")
    with pytest.raises(UserError, match=r"report\.md"):
        OutputFolder(tmp_path, "analyse").open(["report.md"])


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link/x"])
def test_a_manifest_cannot_name_what_is_outside(tmp_path, name):
    (tmp_path / "x").write_text("outside")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    assert inside(folder, name) is None
    write_text(folder / MARK, json.dumps({"made_by": "embed", "version": 1, "files": [name]}))
    OutputFolder(folder, "embed").remove()
    assert (tmp_path / "x").read_text() == "outside"


def test_files_are_whole_and_carry_the_mode_of_the_umask(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    before = os.umask(0o022)
    write_text(tmp_path / "file", "new")
    os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_leftovers_of_killed_writers_go_and_what_they_moved_away_comes_back(tmp_path):
    import platform

    host = re.sub(r"\W", "", platform.node()) or "host"
    dead = 2**22 + 1  # beyond the largest process id of Linux
    for name in (
        f".set.{host}-{dead}-0123abcd.old",
        f".set.{host}-{dead}-0123abcd.tmp",
        f".set.{host}-{os.getpid()}-0123abcd.tmp",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    remove_leftovers(tmp_path / "set")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".set.{host}-{os.getpid()}-0123abcd.tmp", "set"]
    assert (tmp_path / "set" / "file").read_text().endswith(".old")


def test_an_overwritten_data_set_keeps_what_is_not_of_it(tmp_path):
    from astrom3.simulate.survey import simulate

    simulate(tmp_path / "set", n_objects=40, seed=0)
    (tmp_path / "set" / "notes.txt").write_text("mine")
    (tmp_path / "set" / "objects" / "mine.bin").write_text("mine")
    simulate(tmp_path / "set", n_objects=50, seed=0, overwrite=True)
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "set" / "objects" / "mine.bin").read_text() == "mine"
    assert read_json(tmp_path / "set" / "dataset.json")["n_objects"] == 50
    shutil.rmtree(tmp_path / "set" / "splits")
    write_text(tmp_path / "set" / "dataset.json", '{"layout": "of somebody else"}')
