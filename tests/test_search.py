"""Similar objects: the exact neighbours, filters, across modalities, and an index that is never half built."""

import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import make_rows, write_ours
from search_index import WIDTH, N, made_up, make_place, nearest, search

from astrom3.errors import UserError
from astrom3.search.index import Index

pytest.importorskip("lancedb")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("search"))


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


@pytest.mark.slow
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


def test_tables_keep_what_they_are(place):
    table = Index.open(place / "index").query(made_up().vectors["mean"][0])
    assert table.schema.field("similarity").type in (pa.float32(), pa.float64())
    assert set(table.column_names) == {"object_id", "label", "split", "period", "similarity"}
