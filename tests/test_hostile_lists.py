"""Small lists that verbs read again or are handed, damaged in many ways: each is read, or refused with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hostile_files import damaged, faults, instead, texts, with_bytes, with_text

from astrom3.analyse.embedded import swapped_labels
from astrom3.convert import long_files
from astrom3.errors import UserError
from astrom3.launch import SUBMITTED, submit
from astrom3.modalities.quality import Decision, read_decisions, write_decisions
from astrom3.tune.study import best_epoch

CONTENTS = {
    "latin-1": "object_id,true_label\né,EW\n".encode("latin-1"),
    "NUL": b"object_id,true_label\na\0,EW\n",
    "a long cell": b"object_id,true_label\n" + 200_000 * b"x" + b",EW\n",
    "a quote": b'object_id,true_label\n"a,EW\n',
    "ragged": b"object_id,true_label\na\nb,EW,1,2\n",
    "header alone": b"object_id,true_label\n",
    "a header twice": b"object_id,object_id,true_label\na,b,EW\n",
}


def cases(path: Path, read) -> dict:
    read()
    found = instead(path, read)
    for name, content in [*CONTENTS.items(), *damaged(path.read_bytes())]:
        found[name] = with_bytes(path, content, read)
    return found


def test_swapped_labels(tmp_path):
    path = tmp_path / "swapped.csv"
    path.write_text("object_id,true_label\na,EW\n")
    assert faults(cases(path, lambda: swapped_labels(path, True))) == []
    path.write_bytes(CONTENTS["latin-1"])
    with pytest.raises(UserError, match=r"swapped\.csv is damaged"):
        swapped_labels(path, True)


def test_lists_of_what_was_rejected(tmp_path):
    path = tmp_path / "rejected.csv"
    rows = [Decision("a", "photometry", "rejected", "two\nlines, and a comma")]
    write_decisions(path, rows)
    assert read_decisions(path) == rows
    found = cases(path, lambda: read_decisions(path))
    del found["rejected.csv missing"]  # never read then
    assert faults(found) == []
    path.write_bytes(CONTENTS["ragged"])
    with pytest.raises(UserError, match="run the same command again"):
        read_decisions(path)


def test_losses_of_a_trial(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,val/loss,val/accuracy\n0,1.5,0.2\n1,0.5,0.4\n")
    assert best_epoch(path) == {"epoch": 1, "loss": 0.5, "accuracy": 0.4}
    assert faults(cases(path, lambda: best_epoch(path))) == []
    path.write_text("epoch,val/loss\nx,0.5\n")
    with pytest.raises(UserError, match="the trial is made again"):
        best_epoch(path)


def test_jobs_that_were_handed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("astrom3.launch.in_queue", set)
    path = tmp_path / SUBMITTED
    path.write_text("{}")
    settings = {"tasks_per_node": 1, "nodes": 1}
    found = {name: with_text(path, text, lambda: submit([], settings, tmp_path)) for name, text in texts({"a": "1"})}
    assert faults(found) == []


@pytest.mark.parametrize("pattern", ["", "/**/*", "/*"])
def test_a_folder_of_very_many_files_is_not_walked(tmp_path, monkeypatch, pattern):
    for number in range(12):
        (tmp_path / f"{number}.csv").write_text(json.dumps(number))
    assert len(long_files.files_of(f"{tmp_path}{pattern}")) == 12
    monkeypatch.setattr(long_files, "MOST_FILES", 10)
    with pytest.raises(UserError, match="more than 10 files"):
        long_files.files_of(f"{tmp_path}{pattern}")
