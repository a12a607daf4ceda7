"""Folders of runs that are damaged, double or odd: the report lists them, and counts nothing that is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.report import table_files
from astrom3.report.__main__ import report

NAMES = {"mode": "photo", "sub": "full", "protocol": "full", "seed": 42, "init": {"name": "scratch"}}
SCORES = {"accuracy": 0.5, "macro_f1": 0.25}


def run_folder(root: Path, name: str, scores: Any = SCORES, **names: Any) -> Path:
    """A run folder as far as a report reads it; JSON is YAML, too."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(json.dumps(NAMES | names))
    if scores is not None:
        (folder / "metrics.json").write_text(json.dumps(scores))
    return folder


def reported(root: Path, *options: str) -> str:
    report(compose([f"root='{root}'", f"out='{root}/report'", "overwrite=true", *options], "report"))
    return (root / "report" / "report.md").read_text()


@pytest.mark.parametrize(("scores", "cells"), [
    ({}, "| photo | full | scratch | 1 | - | - |"),
    ({"macro_f1": 0.25}, "| photo | full | scratch | 1 | - | 25.0 |"),
    ({"accuracy": 0.5}, "| photo | full | scratch | 1 | 50.0 | - |"),
])  # fmt: skip
def test_scores_that_are_not_there_are_left_out(tmp_path, scores, cells):
    run_folder(tmp_path, "a", scores)
    run_folder(tmp_path, "b", scores, init={"name": "clip"})
    run_folder(tmp_path, "c", {}, mode="clip")
    text = reported(tmp_path)
    assert cells in text and "| 42 | - | - |  |" in text


@pytest.mark.parametrize("scores", [
    {"accuracy": 77}, {"accuracy": -5}, {"accuracy": float("nan")}, {"accuracy": True}, {"accuracy": 1e308},
    {"accuracy": 0.5, "macro_f1": 2},
])  # fmt: skip
def test_scores_that_cannot_be_are_damaged(tmp_path, scores):
    run_folder(tmp_path, "a", scores)
    assert "## Damaged\n\n- a: " in reported(tmp_path)


@pytest.mark.parametrize("names", [
    {"seed": float("inf")}, {"seed": 42.7}, {"seed": True}, {"seed": -3}, {"seed": int(400 * "9")}, {"seed": None},
    {"mode": ["photo"]}, {"mode": None}, {"sub": [1]}, {"protocol": 3}, {"init": "scratch"}, {"init": {"name": []}},
    {"task_name": {}},
])  # fmt: skip
def test_a_run_that_does_not_say_which_it_is_counts_nowhere(tmp_path, names):
    run_folder(tmp_path, "a", **names)
    text = reported(tmp_path)
    assert "- a: config.yaml cannot be read" in text and "No classification run is finished" in text


@pytest.mark.parametrize("name", ["photo-full-scratch-²", "photo-full-scratch-٣", "a-b-c-" + 200 * "9", "---", "-0"])
def test_any_name_of_a_damaged_folder(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.yaml").write_text("[")
    assert f"- {name}: config.yaml cannot be read" in reported(tmp_path)


def test_what_would_steer_a_terminal_or_break_a_table_is_written_out(tmp_path, capsys):
    run_folder(tmp_path, "a\x1b[31m\nb", mode="p|q")
    failed = run_folder(tmp_path, "c", None)
    (failed / "failure.json").write_text(json.dumps({"reason": "one\ntwo \x1b]0;three"}))
    text = reported(tmp_path, "modes=['p|q']")
    assert "\x1b" not in capsys.readouterr().out
    assert "| p\\|q | full | scratch | 1 |" in text and "- c: one two \\x1b]0;three\n" in text
    assert (
        table_files.escape("\\input{x}_50%~^$")
        == r"\textbackslash{}input\{x\}\_50\%\textasciitilde{}\textasciicircum{}\$"
    )


def test_two_runs_of_one_cell_and_seed_are_said(tmp_path):
    for name in ("informer", "survey", "curves"):
        run_folder(tmp_path, name)
    text = reported(tmp_path)
    assert "3 runs are of photo full scratch seed 42 (curves, informer, survey), of which the table counts" in text
    run_folder(tmp_path / "apart", "one")
    run_folder(tmp_path / "apart", "two", seed=0)
    assert "Warning" not in reported(tmp_path / "apart")


def test_a_place_where_nothing_can_be_made_is_said(tmp_path):
    run_folder(tmp_path, "a")
    if not os.path.isdir("/proc"):
        pytest.skip("no /proc here")
    with pytest.raises(OSError, match="No such file"):
        report(compose([f"root='{tmp_path}'", "out=/proc/x"], "report"))


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no runs"):
        reported(tmp_path)
