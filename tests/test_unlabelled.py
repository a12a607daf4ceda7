"""A survey of nothing but light curves, without labels: what pre-training, analysis and embedding make of it."""

import csv

import numpy as np
import pytest
from data_files import make_rows

from astrom3.analyse.isolation import isolation
from astrom3.data.writer import DatasetWriter
from astrom3.files import read_json
from astrom3.inference.embeddings import Embeddings

OBJECTS = 60


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
    from astrom3.analyse.__main__ import analyse
    from astrom3.cli.config import compose

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
    from astrom3.analyse.__main__ import analyse
    from astrom3.cli.config import compose

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


@pytest.fixture(scope="module")
def curves_only(tmp_path_factory):
    """A data set of light curves alone."""
    root = tmp_path_factory.mktemp("only") / "data"
    with DatasetWriter(root, classes=(), name="only", provenance={}) as writer:
        writer.write([row | {"label": None, "spectrum": None, "meta_cols": None} for row in make_rows(OBJECTS)])
        writer.finish([42])
    return root


@pytest.mark.slow
@pytest.mark.parametrize("model", ["model=curves mode=clip", "model=astromer2 mode=masked"])
def test_curves_alone_are_pre_trained_and_analysed(model, curves_only, tmp_path, monkeypatch):
    from astrom3.analyse.__main__ import analyse
    from astrom3.cli.config import compose
    from astrom3.train import train

    monkeypatch.setenv("ASTROM3_CACHE", str(curves_only.parent / "cache"))
    monkeypatch.chdir(tmp_path)
    data = ["data=local", f"data.path={curves_only}"]
    train(compose([*model.split(), *data, "size=tiny", "epochs=1", "run=r", "trainer=cpu"], "train"))
    numbers = analyse(compose(["model=r", *data, "out=a", "what=[outliers,retrieval,fewshot]"], "analyse"))
    ranked = next(iter(numbers["outliers"]["isolated"].values()))
    assert ranked["ranked"] == OBJECTS and np.isfinite(ranked["largest"])
    assert "fewshot" in numbers["left_out"] and ("retrieval" in numbers["left_out"]) == ("masked" in model)
    assert read_json(tmp_path / "a" / "analysis.json")["outliers"] == numbers["outliers"]
