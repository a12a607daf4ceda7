"""Similar objects: the exact neighbours, filters, across modalities, and an index that is never half built."""

import csv
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace

import numpy as np
import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_files import make_rows, write_ours

from astrom3.cli.config import compose
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier
from astrom3.errors import UserError
from astrom3.files import write_json
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import ALL_COLS, CLASSES
from astrom3.published import astrom3 as published
from astrom3.search.__main__ import embedded
from astrom3.search.index import Index

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


@pytest.fixture(scope="module")
def approximate(place):
    made_up(3000).write(place / "many.parquet")
    return Index.build(place / "approximate", place / "many.parquet", approximate=True)


@pytest.mark.slow
def test_the_reported_recall_is_that_of_the_searches(approximate, place):
    objects, index = made_up(3000), approximate
    assert index.about["approximate"] and index.table.list_indices()
    ids = objects.ids[objects.present["photometry"]]
    asked = ids[np.random.default_rng(3).choice(len(ids), 25, replace=False)]
    hits = []
    for own in asked:
        vector = objects.vectors["photometry"][objects.ids == own][0]
        found = index.query(vector, "spectra", 10, exact=False, exclude=[own])["object_id"].to_pylist()
        among = objects.present["spectra"] & (objects.ids != own)
        hits.append(len(set(found) & set(nearest(objects, vector, "spectra", 10, among)[0])) / 10)
    measured = index.recall("photometry", "spectra", top=10, sample=25, seed=3)
    assert measured["recall"] == pytest.approx(np.mean(hits)) and 0.8 < measured["recall"] <= 1
    assert (measured["queries"], measured["top"], measured["find"]) == (25, 10, "spectra")
    done = search(place, "recall=true", "sample=20", "top=3", index="approximate")
    assert done.returncode == 0 and "recall@3 of the approximate search, 20 stored objects, mean in" in done.stdout


@pytest.mark.slow
def test_the_recall_is_less_where_the_approximation_is_worse(approximate, monkeypatch):
    """Were `exact` not heeded, it would be 1."""
    found = approximate.query
    monkeypatch.setattr(Index, "query", lambda self, *a, exact=None, **k: found(*a, exact=True, **k).slice(0, 5)
                        if exact is False else found(*a, exact=True, **k))  # fmt: skip
    assert approximate.recall("mean", top=10, sample=5)["recall"] == pytest.approx(0.5)


def test_a_small_index_has_nothing_to_measure(place):
    with pytest.raises(UserError, match="no approximate index, every search is exact"):
        Index.open(place / "index").recall()


BUILD = """
import sys, time
from astrom3.search import columns
from astrom3.search.index import Index
columns.ROWS, batches = 50, columns.Parts.batches
def slowly(self):
    for batch in batches(self):
        print("a batch", flush=True)
        time.sleep(0.3)
        yield batch
columns.Parts.batches = slowly
Index.build(sys.argv[1], sys.argv[2], overwrite=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_is_stopped_leaves_the_old_index(place, tmp_path, how):
    before = Index.build(tmp_path / "index", place / "embeddings" / "train-00000-of-00004.parquet").about
    process = processes.Started("-c", BUILD, tmp_path / "index", place / "embeddings")
    while process.output()[0].count("a batch\n") < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    assert process.wait(60) != 0
    index = Index.open(tmp_path / "index")
    assert index.about == before and index.query(made_up().vectors["mean"][0])["object_id"][0].as_py() == "star 0"
    del index  # as long as somebody reads it, it stays
    after = Index.build(tmp_path / "index", place / "embeddings", overwrite=True)
    assert after.about["objects"] == N
    assert sorted(p.name for p in (tmp_path / "index").iterdir()) == [
        ".astrom3.json",
        ".lock",
        "about.json",
        after.about["data"],
    ]


def test_an_index_of_other_embeddings_is_not_used_by_mistake(place, tmp_path):
    one, all_ = place / "embeddings" / "train-00000-of-00004.parquet", place / "embeddings"
    first = Index.build(tmp_path / "index", one).about
    assert Index.build(tmp_path / "index", one).about == first  # not built again
    for other in ({"embeddings": all_}, {"embeddings": one, "catalogue": place / "catalogue.csv"}):
        with pytest.raises(UserError, match=r"index of other embeddings or another catalogue: .*overwrite=true"):
            Index.build(tmp_path / "index", **other)
    assert Index.build(tmp_path / "index", all_, overwrite=True).about["objects"] == N
    with pytest.raises(UserError, match="holds files that are not of astrom3 search"):
        Index.build(place / "embeddings", all_)


def test_what_cannot_be_searched_is_counted(tmp_path, caplog):
    objects = made_up(50)
    objects.vectors["photometry"][[3, 4]] = [[np.nan], [0]]
    objects.write(tmp_path / "e.parquet")
    with caplog.at_level("INFO"):
        index = Index.build(tmp_path / "index", tmp_path / "e.parquet")
    assert "2 embeddings photometry are zero or not finite" in caplog.text
    found = index.query(objects.vectors["photometry"][0], "photometry", 50)["object_id"].to_pylist()
    assert len(found) == 48 and not {"star 3", "star 4"} & set(found)


def test_columns_of_a_catalogue_and_of_a_data_set(place, tmp_path, caplog):
    ids = made_up().ids.tolist()
    pq.write_table(pa.table({"object_id": ids[:10], "Bmag.x": np.arange(10.0), "label": ["z"] * 10,
                             "list": [[1.0]] * 10}), tmp_path / "c.parquet")  # fmt: skip
    with caplog.at_level("INFO"):
        index = Index.build(tmp_path / "a", place / "embeddings", tmp_path / "c.parquet")
    assert "10 objects are in the catalogue, 390 are not" in caplog.text
    assert "catalogue column list is left out: of type list" in caplog.text
    assert "catalogue column label is left out: the embeddings have a column of that name" in caplog.text
    assert set(index.query(made_up().vectors["mean"][0], where="Bmag_x < 3")["object_id"].to_pylist()) == set(ids[:3])
    rows = make_rows(20)
    for row, name in zip(rows, ids, strict=False):
        row["object_id"] = name
    write_ours(tmp_path / "survey", rows)
    index = Index.build(tmp_path / "b", place / "embeddings", tmp_path / "survey")
    short = [r["object_id"] for r in rows if r["photo_cols"]["period"] < 30 and r["meta_cols"]["ruwe"] > 0]
    assert 0 < len(short) < 20
    found = index.query(made_up().vectors["mean"][0], top=20, where="period < 30 AND ruwe > 0")
    assert sorted(found["object_id"].to_pylist()) == sorted(short)


def test_what_cannot_be_done_is_said(place, tmp_path):
    with pytest.raises(UserError, match="holds no index: build it"):
        Index.open(tmp_path)
    index, ones = Index.open(place / "index"), np.ones(WIDTH, np.float32)
    for call, message in (
        (lambda: index.vector_of("nobody"), "has no object nobody"),
        (lambda: index.query(np.ones(3, np.float32)), r"3,\) numbers, the index 16: another model"),
        (lambda: index.query(0 * ones), "no direction"),
        (lambda: index.query(np.nan * ones), "no direction"),
        (lambda: index.query(ones, top=0), "top=0 must be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            call()
    (tmp_path / "wrong.csv").write_text("name,x\na,1\n")
    (tmp_path / "twice.csv").write_text("object_id,x\nstar 1,1\nstar 1,2\n")
    (tmp_path / "others.csv").write_text("object_id,x\n17,1\n")
    for name, message in (("wrong", "has no column object_id; it has name, x"), ("twice", "star 1 and others occur"),
                          ("others", "none of the objects is in the catalogue")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            Index.build(tmp_path / "i", place / "embeddings", tmp_path / f"{name}.csv")
    with pytest.raises(UserError, match="holds no embeddings"):
        Index.build(tmp_path / "i", tmp_path / "nothing")
    (tmp_path / "two").mkdir()
    for name in "ab":
        made_up(5).write(tmp_path / "two" / f"{name}.parquet")
    with pytest.raises(UserError, match="occurs twice"):
        Index.build(tmp_path / "i", tmp_path / "two")
    replace(made_up(5), model="another").write(tmp_path / "two" / "c.parquet")
    with pytest.raises(UserError, match="embeddings of different models"):
        Index.build(tmp_path / "i", tmp_path / "two")
    with pytest.raises(UserError, match="holds no index"):
        Index.open(tmp_path / "i")


def test_a_damaged_index_is_said_to_be(place, tmp_path):
    index = Index.build(tmp_path / "index", place / "embeddings")
    shutil.rmtree(tmp_path / "index" / index.about["data"])
    with pytest.raises(UserError, match=r"is damaged .*: build it again with overwrite=true"):
        Index.open(tmp_path / "index")


def test_without_the_extra_one_sentence(place):
    code = "import sys; sys.modules['lancedb'] = None; from astrom3.search.__main__ import main; main()"
    done = processes.run_module("-c", code, f"index={place}/index", "id=star 1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert 'the search needs lancedb: pip install "astrom3[search]"' in done.stderr


def search(place, *options, index="index"):
    return processes.run([sys.executable, "-m", "astrom3.search", f"index={place}/{index}", *options], cwd=place,
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip


def test_the_command_by_id_and_its_mistakes(place):
    done = search(place, "id=star 10", "top=3", "out=found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "found.json").read_text())
    expected, _ = nearest(made_up(), made_up().vectors["mean"][10], "mean", 4, np.ones(N, bool))
    assert [row["object_id"] for row in found] == expected[1:] and all(e in done.stdout for e in expected[1:])
    across = search(place, "id=star 10", "by=photometry", "find=spectra", "where=\"label = 'b' AND period < 3\"",
                    "out=found.csv")  # fmt: skip
    assert across.returncode == 0, across.stderr
    objects, row = made_up(), np.arange(N)
    among = objects.present["spectra"] & (objects.labels == 1) & (row < 300) & (row != 10) & (row != 5)
    expected, _ = nearest(objects, objects.vectors["photometry"][10], "spectra", 5, among)
    with open(place / "found.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["object_id"] for r in rows] == expected and "period" in rows[0] and "period" in across.stdout
    for options, message in (
        ([], "nothing to do"), (["id=nobody"], "has no object nobody"), (["id=star 1", "top=0"], "top=0"),
        (["id=star 1", "spectrum=x.fits"], "two queries"), (["id=star 1", "out=x.txt"], "must end in .json or .csv"),
        (["id=star 1", "catalogue=x.csv"], "when it is built"), (["id=star 1", "bye=mean"], "there is no key bye"),
    ):  # fmt: skip
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
    with open(tmp_path / "found.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["object_id"] == rows[12]["object_id"] and float(row["similarity"]) == pytest.approx(1, abs=1e-4)
    assert "predicted" in row
    with open(tmp_path / "star.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[3]["meta_cols"]))
        writer.writeheader()
        writer.writerow(rows[3]["meta_cols"])
    index = Index.open(tmp_path / "index")
    assert index.about["model"]["name"] == "model"
    cfg = compose([f"index={tmp_path}/index", f"metadata={tmp_path}/star.csv", f"model={tmp_path}/model"], "search")
    np.testing.assert_allclose(embedded(cfg, index), found.mean[3], atol=1e-5)
    torch.manual_seed(1)
    published.save(Classifier(MetadataMLP(hidden_dim=24), 10), tmp_path / "other")
    weights = hashlib.sha256((tmp_path / "model" / published.WEIGHTS).read_bytes()).hexdigest()
    index.about["model"]["weights"] = weights
    np.testing.assert_allclose(embedded(cfg, index), found.mean[3], atol=1e-5)
    cfg.model = str(tmp_path / "other")
    with pytest.raises(UserError, match=r"other is not the model that the embeddings in .* were made with"):
        embedded(cfg, index)
    wrong = search(tmp_path, "metadata=star.json", "by=photometry")
    assert wrong.returncode == 2 and "by=photometry: that modality is not among" in wrong.stderr
    (tmp_path / "model").rename(tmp_path / "moved")
    gone = search(tmp_path, "metadata=star.json")
    assert gone.returncode == 2 and "give model=<where it is now>" in gone.stderr


def test_tables_keep_what_they_are(place):
    table = Index.open(place / "index").query(made_up().vectors["mean"][0])
    assert table.schema.field("similarity").type in (pa.float32(), pa.float64())
    assert set(table.column_names) == {"object_id", "label", "split", "period", "similarity"}
