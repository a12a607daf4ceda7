"""Similar objects: the exact neighbours, filters, across modalities, and an index that is never half built."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from data_files import make_rows

from astrom3.data.normalise import Normaliser
from astrom3.data.schema import ALL_COLS, CLASSES
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.models import published
from astrom3.models.mlp import MetadataMLP
from astrom3.models.multimodal import Classifier
from astrom3.similarity import index as module
from astrom3.similarity.index import Index
from astrom3.training.run import write_json

pytest.importorskip("lancedb")
N, WIDTH = 400, 16


def made_up(n=N, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    centres = rng.normal(size=(3, WIDTH))
    vectors = {m: (centres[labels] + 0.5 * rng.normal(size=(n, WIDTH))).astype(np.float32)
               for m in ("photometry", "spectra")}  # fmt: skip
    present = {"photometry": np.ones(n, bool), "spectra": np.arange(n) % 4 != 0}
    vectors["spectra"][~present["spectra"]] = 0
    vectors["mean"] = vectors["photometry"] + vectors["spectra"]
    ids = np.array([f"star '{i}'" if i == 7 else f"star {i}" for i in range(n)])
    return Embeddings(ids, labels, np.full(n, "train"), present, vectors, None, ("a", "b", "c"), "somewhere")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("search")
    objects = made_up()
    for k in range(4):
        objects.take(np.arange(k * 100, k * 100 + 100)).write(root / "embeddings" / f"train-{k:05d}-of-00004.parquet")
    with open(root / "catalogue.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["object_id", "period"])
        writer.writerows([name, i / 100] for i, name in enumerate(objects.ids) if i != 5)
    Index.build(root / "index", root / "embeddings", root / "catalogue.csv")
    return root


def nearest(objects, vector, name, top, among):
    unit = objects.vectors[name] / np.maximum(np.linalg.norm(objects.vectors[name], axis=1, keepdims=True), 1e-12)
    cosine = np.where(among, unit @ (vector / np.linalg.norm(vector)), -2)
    order = np.argsort(-cosine)[:top]
    return objects.ids[order].tolist(), cosine[order]


def test_the_neighbours_are_the_exact_ones(place):
    objects, index = made_up(), Index.open(place / "index")
    for row in (0, 7, 123):
        vector = index.vector_of(objects.ids[row], "photometry")
        np.testing.assert_array_equal(vector, objects.vectors["photometry"][row])
        found = index.query(vector, "photometry", 10)
        expected, cosine = nearest(objects, vector, "photometry", 10, objects.present["photometry"])
        assert found["object_id"].to_pylist() == expected
        np.testing.assert_allclose(found["similarity"].to_numpy(), cosine, atol=1e-5)
        assert expected[0] == objects.ids[row]
        without = index.query(vector, "photometry", 3, exclude=[objects.ids[row]])["object_id"].to_pylist()
        assert without == expected[1:4]


def test_conditions_on_class_and_catalogue(place):
    objects, index = made_up(), Index.open(place / "index")
    vector = objects.vectors["mean"][3]
    found = index.query(vector, top=20, where="label IN ('a', 'c') AND period < 2")
    expected, _ = nearest(
        objects, vector, "mean", 20, (objects.labels != 1) & (np.arange(N) < 200) & (np.arange(N) != 5)
    )
    assert found["object_id"].to_pylist() == expected
    assert index.query(vector, where="period < -1").num_rows == 0
    assert index.query(vector, top=N, where="period IS NULL")["object_id"].to_pylist() == ["star 5"]
    with pytest.raises(UserError, match="where='nonsense = 3' does not fit"):
        index.query(vector, where="nonsense = 3")


def test_across_modalities_objects_without_the_other_are_left_out(place):
    objects, index = made_up(), Index.open(place / "index")
    vector = index.vector_of("star 4", "photometry")
    found = index.query(vector, "spectra", N)
    assert found.num_rows == objects.present["spectra"].sum()
    expected, _ = nearest(objects, vector, "spectra", 5, objects.present["spectra"])
    assert found["object_id"].to_pylist()[:5] == expected
    with pytest.raises(UserError, match="star 4 has no spectra"):
        index.vector_of("star 4", "spectra")
    with pytest.raises(UserError, match="no embeddings metadata: there are photometry, spectra, mean"):
        index.query(vector, "metadata")


@pytest.mark.slow
def test_the_approximate_index_is_measured_against_the_exact_search(place, monkeypatch):
    monkeypatch.setattr(module, "EXACT_BELOW", 300)
    made_up(3000).write(place / "many.parquet")
    index = Index.build(place / "approximate", place / "many.parquet")
    vector = made_up(3000).vectors["mean"][0]
    assert index.query(vector, exact=False)["object_id"][0].as_py() == "star 0"
    measured = index.recall("mean", top=10, sample=30)
    assert 0.8 < measured <= 1


def test_an_interrupted_build_leaves_the_old_index(place, monkeypatch):
    before = Index.open(place / "index").about
    monkeypatch.setattr(module.json, "dumps", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Index.build(place / "index", place / "embeddings")
    monkeypatch.undo()
    assert Index.open(place / "index").about == before
    assert not [p for p in place.iterdir() if p.name.endswith(".tmp")]


def test_what_cannot_be_done_is_said(place, tmp_path):
    with pytest.raises(UserError, match="holds no index: build it"):
        Index.open(tmp_path)
    index = Index.open(place / "index")
    with pytest.raises(UserError, match="has no object nobody"):
        index.vector_of("nobody")
    with pytest.raises(UserError, match="another model"):
        index.query(np.ones(3, np.float32))
    (tmp_path / "wrong.csv").write_text("name,x\na,1\n")
    with pytest.raises(UserError, match="has no column object_id; it has name, x"):
        Index.build(tmp_path / "i", place / "embeddings", tmp_path / "wrong.csv")
    with pytest.raises(UserError, match="holds no embeddings"):
        Index.build(tmp_path / "i", tmp_path / "nothing")


def search(place, *options):
    return subprocess.run([sys.executable, "-m", "astrom3.search", f"index={place}/index", *options], cwd=place,
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip


def test_the_command_by_id_and_its_mistakes(place):
    done = search(place, "id=star 10", "top=3", "out=found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "found.json").read_text())
    expected, _ = nearest(made_up(), made_up().vectors["mean"][10], "mean", 4, np.ones(N, bool))
    assert [row["object_id"] for row in found] == expected[1:] and all(e in done.stdout for e in expected[1:])
    for options, message in (([], "nothing to do"), (["id=nobody"], "has no object nobody")):
        done = search(place, *options)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_the_command_by_raw_observations(tmp_path):
    rows = make_rows(30)
    values = np.array([[{**r["photo_cols"], **r["meta_cols"]}[c] for c in ALL_COLS] for r in rows])
    torch.manual_seed(0)
    published.save(Classifier(MetadataMLP(hidden_dim=24), 10), tmp_path / "model")
    write_json(tmp_path / "model" / "preprocessing.json",
               {"classes": list(CLASSES), "normaliser": Normaliser.fit(values).to_dict()})  # fmt: skip
    import astrom3

    model = astrom3.load(tmp_path / "model")
    found = model.embed(metadata=[r["meta_cols"] for r in rows])
    labels = np.array([CLASSES.index(r["label"]) for r in rows])
    objects = Embeddings(np.array([r["object_id"] for r in rows]), labels, np.full(30, "train"), found.present,
                         found.embeddings | {"mean": found.mean}, found.probabilities, CLASSES, "model")  # fmt: skip
    objects.write(tmp_path / "e.parquet")
    (tmp_path / "star.json").write_text(json.dumps(rows[12]["meta_cols"]))
    done = search(tmp_path, "embeddings=e.parquet", "metadata=star.json", "top=1", "out=found.csv")
    assert done.returncode == 0, done.stderr
    row = next(csv.DictReader((tmp_path / "found.csv").open()))
    assert row["object_id"] == rows[12]["object_id"] and float(row["similarity"]) == pytest.approx(1, abs=1e-4)
    assert "predicted" in row
    wrong = search(tmp_path, "metadata=star.json", "by=photometry")
    assert wrong.returncode == 2 and "by=photometry: that modality is not among" in wrong.stderr


def test_tables_keep_what_they_are(place):
    table = Index.open(place / "index").query(made_up().vectors["mean"][0])
    assert table.schema.field("similarity").type in (pa.float32(), pa.float64())
    assert set(table.column_names) == {"object_id", "label", "split", "period", "similarity"}
