"""A survey of nothing but light curves, without labels: what pre-training, analysis and embedding make of it."""

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest
from data_files import make_rows
from test_docs import commands

from astrom3.analyse.__main__ import analyse
from astrom3.analyse.isolation import isolation
from astrom3.cli.config import compose
from astrom3.data.writer import DatasetWriter
from astrom3.files import read_json
from astrom3.inference.embeddings import Embeddings

OBJECTS = 40
PAGE = Path(__file__).resolve().parents[1] / "docs" / "pages" / "light-curves-only.md"


def made_up(vectors, labels=None, splits=None):
    n = len(vectors)
    labels = np.full(n, -1) if labels is None else labels
    splits = np.full(n, "test") if splits is None else splits
    names = np.array([f"o{i}" for i in range(n)])
    present = {"photometry": np.ones(n, bool)}
    both = {"photometry": vectors, "mean": vectors}
    return Embeddings(names, labels, splits, present, both, None, ("a", "b"))


def test_distances_to_the_nearest_by_hand():
    vectors = np.array([[1.0, 0], [1, 0], [0, 1], [0, 2]])
    objects = made_up(vectors)
    distance, closest = isolation(objects, "photometry", k=1)
    np.testing.assert_allclose(distance, 0, atol=1e-6)
    assert closest.tolist() == [1, 0, 3, 2]
    distance, _ = isolation(objects, "photometry", k=2)
    np.testing.assert_allclose(distance, 0.5, atol=1e-6)
    alone = isolation(made_up(vectors[:1]), "photometry")
    assert np.isnan(alone[0]).all() and alone[1].tolist() == [-1]


def test_a_lone_object_comes_first():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([np.array([1, 0, 0]) + 0.05 * rng.normal(size=(50, 3)), [[0, 0, 1.0]]])
    distance, _ = isolation(made_up(vectors), "photometry")
    assert distance.argmax() == 50 and distance[50] > 5 * np.delete(distance, 50).max()


def test_embeddings_without_labels_are_analysed_as_far_as_they_can(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = np.array(["train", "validation", "test"])[np.arange(OBJECTS) % 3]
    made_up(np.random.default_rng(0).normal(size=(OBJECTS, 6)).astype(np.float32), None, splits).write(
        tmp_path / "e.parquet"
    )
    numbers = analyse(compose(["embeddings=e.parquet", "out=a", "what=[outliers,fewshot,calibration]"], "analyse"))
    assert numbers["outliers"]["isolated"]["photometry"]["ranked"] == OBJECTS
    assert "no object has one: convert with label=" in numbers["left_out"]["fewshot"]
    with open(tmp_path / "a" / "isolated-photometry.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    distances = [float(row["distance"]) for row in rows]
    assert len(rows) == OBJECTS and distances == sorted(distances, reverse=True)
    assert (tmp_path / "a" / "outliers.png").stat().st_size > 5000


def test_one_class_is_nothing_to_tell_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = np.array(["train", "validation", "test"])[np.arange(OBJECTS) % 3]
    vectors = np.random.default_rng(0).normal(size=(OBJECTS, 6)).astype(np.float32)
    made_up(vectors, np.zeros(OBJECTS, int), splits).write(tmp_path / "e.parquet")
    numbers = analyse(compose(["embeddings=e.parquet", "out=a", "what=[outliers,fewshot]"], "analyse"))
    assert (
        numbers["left_out"]["fewshot"] == "all labelled objects are of the class a, so there is nothing to tell apart"
    )
    assert numbers["outliers"]["embedding"]["photometry"]["ranked"] == OBJECTS
    assert numbers["outliers"]["isolated"]["photometry"]["ranked"] == OBJECTS


def write_observations(path):
    """One table of OBJECTS sinusoids with noise, one row per observation."""
    rng = np.random.default_rng(0)
    lines = ["id,mjd,mag,magerr"]
    for number in range(OBJECTS):
        time = np.sort(rng.uniform(58000, 58200, 40))
        mag = 15 + 0.3 * np.sin(2 * np.pi * time / rng.uniform(1, 20)) + rng.normal(0, 0.02, 40)
        lines += [f"{number},{t:.4f},{m:.4f},0.02" for t, m in zip(time, mag, strict=True)]
    path.write_text("\n".join(lines) + "\n")


def write_labelled(root):
    """The data set that a later conversion would give: some labels, and a number to predict."""
    rows = [row | {"spectrum": None, "meta_cols": None} for row in make_rows(OBJECTS)]
    for i, row in enumerate(rows):
        row["label"] = "EW" if i % 2 else "SR"
        row["targets"] = {"feh": -0.1 * (i % 7)}
    with DatasetWriter(root, classes=("EW", "SR"), name="t", provenance={}, targets={"feh": "dex"},
                       overwrite=True) as writer:  # fmt: skip
        writer.write(rows)
        writer.finish([42])


SHRUNK = {
    "convert": ["workers=1"],
    "train": ["size=tiny", "epochs=1", "trainer=cpu", "data.cache=cache"],
    "analyse": ["what=[outliers,retrieval,fewshot]", "device=cpu", "data.cache=cache"],
    "embed": ["device=cpu", "data.cache=cache"],
    "explore": ["device=cpu", "data.cache=cache"],
}


@pytest.mark.slow
def test_the_guide_for_light_curves_alone(tmp_path, monkeypatch):
    """Every command of docs/pages/light-curves-only.md, in one process."""
    monkeypatch.chdir(tmp_path)
    write_observations(tmp_path / "curves.csv")
    ran = []
    for line in commands(PAGE):
        words = line.split()
        verb = words[2].removeprefix("astrom3.")
        if "mode=photo" in words and not any("mode=photo" in before for before in ran):
            write_labelled(tmp_path / "my_curves")
        module = "astrom3.train" if verb == "train" else f"astrom3.{verb}.__main__"
        getattr(importlib.import_module(module), verb)(compose([*words[3:], *SHRUNK[verb]], verb))
        ran.append(line)
    assert len(ran) == 8
    numbers = read_json(tmp_path / "my_analysis" / "analysis.json")
    assert numbers["outliers"]["isolated"]["features"]["ranked"] == OBJECTS
    assert len(numbers["retrieval"]) == 2 and list(numbers["left_out"]) == ["fewshot"]
    assert (tmp_path / "my_curves.html").stat().st_size > 5e4
    names = {path.name for path in (tmp_path / "my_runs").iterdir() if path.is_dir()}
    assert {"astromer2-masked-full-scratch-42", "curves-photo-full-clip-42"} <= names
    assert any("feh" in name for name in names)
