"""DatasetWriter: our layout on disk."""

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from astrom3.data.writer import DatasetWriter, PublishedSplit, catalogue_values, objects_table
from astrom3.errors import UserError
from astrom3.modalities.catalogue import transform
from astrom3.modalities.schema import ALL_COLS, META_COLS, OBJECT_SCHEMA, PHOTO_COLS, SEEDS, SUBS


def rows(n, seed=0, labels=("A", "B")):
    rng = np.random.default_rng(seed)
    for i in range(n):
        points = int(rng.integers(10, 30))
        yield {
            "object_id": f"star {i}",
            "label": labels[i % len(labels)] if labels else None,
            "light_curve": {k: rng.normal(10, 1, points) for k in ("time", "flux", "flux_err")} if i % 3 else None,
            "spectrum": {k: rng.random(100) for k in ("wavelength", "flux", "ivar")} if i % 5 else None,
            "photo_cols": dict.fromkeys(PHOTO_COLS, 0.5 + i),
            "meta_cols": {c: float(rng.random()) for c in META_COLS if c != "w4_mag"} if i % 2 else None,
        }


def writer(root, **options):
    return DatasetWriter(
        root, **({"classes": ("A", "B"), "name": "test", "provenance": {"made": "by a test"}} | options)
    )


def test_folder_holds_every_object_once_in_order_with_nulls_for_what_is_missing(tmp_path):
    given = list(rows(700))
    with writer(tmp_path / "set", rows_per_file=300) as out:
        for start in range(0, 700, 90):
            out.write(given[start : start + 90])
        out.finish()
    files = sorted((tmp_path / "set/objects").iterdir())
    assert [pq.read_metadata(f).num_rows for f in files] == [256, 256, 188]
    table = pq.read_table(files)
    assert table.schema.equals(OBJECT_SCHEMA)
    found = table.to_pylist()
    assert [r["object_id"] for r in found] == [r["object_id"] for r in given]
    for index in (0, 1, 5, 699):
        for name in ("light_curve", "spectrum"):
            if given[index][name] is None:
                assert found[index][name] is None
            else:
                np.testing.assert_allclose(found[index][name]["flux"], given[index][name]["flux"], rtol=1e-6)
    np.testing.assert_array_equal(found[1]["light_curve"]["time"], given[1]["light_curve"]["time"])  # float64
    assert found[1]["meta_cols"]["w4_mag"] is None
    dataset = json.loads((tmp_path / "set/dataset.json").read_text())
    assert dataset["layout"] == "astrom3" and dataset["classes"] == ["A", "B"] and dataset["n_objects"] == 700
    assert dataset["counts"]["present"] == {"light_curve": 466, "spectrum": 560, "photo_cols": 700, "meta_cols": 350}


def test_splits_and_statistics_of_every_sub_and_seed(tmp_path):
    with writer(tmp_path / "set") as out:
        out.write(list(rows(300)))
        out.finish()
    names = {f"{sub}_{seed}" for sub in SUBS for seed in SEEDS}
    assert {p.stem for p in (tmp_path / "set/splits").iterdir()} == names
    split = pq.read_table(tmp_path / "set/splits/sub50_42.parquet").to_pydict()
    info = json.loads((tmp_path / "set/splits/sub50_42.json").read_text())
    assert sum(sum(c.values()) for c in info["counts"].values()) == len(split["object_id"])
    table = pq.read_table(tmp_path / "set/objects")
    train = {i for i, s in zip(split["object_id"], split["split"], strict=True) if s == "train"}
    chosen = [i for i, object_id in enumerate(table["object_id"].to_pylist()) if object_id in train]
    values = transform(catalogue_values(table)[chosen])
    assert info["all_cols"] == list(ALL_COLS)
    np.testing.assert_allclose(info["mean"][:4], np.nanmean(values[:, :4], axis=0))
    np.testing.assert_allclose(info["std"][8], np.nanstd(values[:, 8]))


def test_published_splits_and_statistics_are_kept(tmp_path):
    split = PublishedSplit({"train": ["star 3", "star 1", "gone"], "test": ["star 0"]}, {"mean": [1.5]})
    with writer(tmp_path / "set") as out:
        out.write(list(rows(5)))
        out.finish(published={("sub10", 66): split})
    assert len(list((tmp_path / "set/splits").iterdir())) == 2
    kept = pq.read_table(tmp_path / "set/splits/sub10_66.parquet").to_pydict()
    assert kept == {"object_id": ["star 0", "star 1", "star 3"], "split": ["test", "train", "train"]}
    assert json.loads((tmp_path / "set/splits/sub10_66.json").read_text())["mean"] == [1.5]


def test_duplicates_and_unknown_classes_are_listed_and_counted(tmp_path):
    given = list(rows(6))
    given[2]["object_id"] = "star 1"
    given[4]["label"] = "Z"
    given[5]["object_id"] = None
    with writer(tmp_path / "set") as out:
        out.write(given)
        out.reject("star 0", "spectrum", "repaired", "3 pixels dropped")
        out.reject("star 1", "spectrum", "repaired", "12 pixels dropped")
        out.reject("star 2", "photometry", "rejected", "times span more than 50,000 days: JD and MJD mixed?")
        out.reject("star 3", "image", "rejected", "140 x 140 pixels, not 152 x 152")
        out.reject("star 5", "image", "rejected", "139 x 140 pixels, not 152 x 152")
        out.finish(seeds=[1], subs=["full"])
    with (tmp_path / "set/rejected.csv").open() as file:
        listed = [tuple(r.values()) for r in csv.DictReader(file)]
    assert ("star 1", "object", "rejected", "object_id occurs twice: the first one is kept") in listed
    assert ("star 4", "object", "rejected", "unknown class: Z") in listed
    assert ("", "object", "rejected", "no object_id") in listed
    summary = json.loads((tmp_path / "set/summary.json").read_text())
    assert summary["objects"] == 3
    assert summary["decisions"]["repaired"]["spectrum"] == {"pixels dropped": 2}
    assert summary["decisions"]["rejected"]["object"]["unknown class"] == 1
    assert summary["decisions"]["rejected"]["photometry"] == {"times span more than 50,000 days": 1}
    assert list(summary["decisions"]["rejected"]["image"].values()) == [2]


def test_unlabelled_data_get_full_splits_only(tmp_path):
    with writer(tmp_path / "set", classes=()) as out:
        out.write(list(rows(20, labels=None)))
        out.finish(seeds=[7])
    assert sorted(p.name for p in (tmp_path / "set/splits").iterdir()) == ["full_7.json", "full_7.parquet"]


def test_nothing_is_left_when_writing_is_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt), writer(tmp_path / "set") as out:
        out.write(list(rows(300)))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_existing_folders_are_not_replaced_unasked(tmp_path):
    root = tmp_path / "set"
    for overwrite in (False, True):
        with writer(root, overwrite=overwrite) as out:
            out.write(list(rows(10 + overwrite)))
            out.finish(seeds=[1])
    assert json.loads((root / "dataset.json").read_text())["n_objects"] == 11
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    with pytest.raises(UserError, match="overwrite=true"):
        writer(root)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").touch()
    with pytest.raises(UserError, match="not a data set"):
        writer(tmp_path / "home", overwrite=True)


def test_an_empty_result_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no object is left.*unknown class"), writer(tmp_path / "set") as out:
        out.write([{"object_id": "1", "label": "Z"}])
        out.finish()
    assert list(tmp_path.iterdir()) == []


def test_objects_table_keeps_the_schema_for_empty_input():
    assert objects_table([]).schema.equals(OBJECT_SCHEMA)
