"""The verb astrom3.analyse as a process on small runs."""

import csv
import json
import os
import sys

import numpy as np
import processes
import pyarrow.parquet as pq
import pytest
from made_up_embeddings import clusters, embeddings

from astrom3.analyse.embedded import swapped_labels
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings


def test_the_truth_of_swapped_labels_is_read(tmp_path):
    path = tmp_path / "swapped.csv"
    assert swapped_labels(path, False) == {}
    with pytest.raises(UserError, match="is no file"):
        swapped_labels(path, True)
    path.write_text("object_id,label,true_label\nx,EW,EB\n")
    assert swapped_labels(path, True) == {"x": "EB"}
    path.write_text("id,label\nx,EW\n")
    with pytest.raises(UserError, match="needs the columns"):
        swapped_labels(path, True)


OPTIONS = ["data=simulated", "data.objects=300", "data.swapped_labels=0.1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A tiny pre-training and a tiny classifier of all modalities, in one process."""
    root = tmp_path_factory.mktemp("analyse")
    environment = os.environ | {"ASTROM3_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "astrom3.train", "-m", "mode=clip,all", "size=tiny", "trainer=cpu", "epochs=2",
               "optim.lr=0.003", f"root={root}", *OPTIONS]  # fmt: skip
    processes.run(command, check=True, capture_output=True, env=environment)
    return root, environment


def analyse(runs, *options):
    command = [sys.executable, "-m", "astrom3.analyse", *OPTIONS, *options]
    return processes.run(command, capture_output=True, text=True, env=runs[1], cwd=runs[0])


@pytest.fixture(scope="module")
def pretrained(runs):
    """All that a pre-training allows, made once."""
    done = analyse(runs, "model=clip-full-scratch-42", "out=a", "unseen=[M]")
    assert done.returncode == 0, done.stderr[-3000:]
    return runs[0] / "a", json.loads((runs[0] / "a" / "analysis.json").read_text())


@pytest.mark.slow
def test_a_pretraining_is_analysed(runs, pretrained):
    folder, numbers = pretrained
    assert set(numbers["left_out"]) == {"ablation", "calibration", "compare", "properties"}
    assert numbers["objects"] == {"train": 240, "validation": 30, "test": 30} and numbers["warnings"] == []
    assert len(numbers["retrieval"]) == 6 and set(numbers["fewshot"]["few"]["mean"]) == {"1", "5", "20", "100", "all"}
    kinds = numbers["attention"]["light curve, by centroid"]
    assert len(kinds) == 6 and kinds["fixed, published merge"]["flipped"] == 0
    assert kinds["sampled, published merge"]["draws"] == 5 and kinds["fixed, usual merge"]["cosine"] < 1 - 1e-5
    text = (folder / "report.md").read_text()
    for picture in ("fewshot", "retrieval", "outliers", "map", "attention"):
        assert f"({picture}.png)" in text and (folder / f"{picture}.png").stat().st_size > 5000
    assert str(runs[0]) not in text and "needs a model with a class head" in text


@pytest.mark.slow
def test_suspicious_labels_are_listed_with_the_truth_beside_them(runs, pretrained):
    folder, numbers = pretrained
    with next(runs[0].glob("cache/simulated/*/swapped.csv")).open() as file:
        truth = {row["object_id"]: row for row in csv.DictReader(file)}
    assert numbers["outliers"]["swapped"]["mean"]["neighbours"]["swapped"] == len(truth) > 15
    with (folder / "mislabelled.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == 300
    suspicion = [float(row["suspicion"]) for row in listed]
    assert suspicion == sorted(suspicion, reverse=True)
    marked = {row["object_id"] for row in listed if row["true_label"] != row["label"]}
    assert marked == set(truth) and all(row["label"] == truth[row["object_id"]]["label"]
                                        for row in listed if row["object_id"] in truth)  # fmt: skip
    for name in ("photometry", "spectra", "metadata", "mean"):
        with (folder / f"outliers-{name}.csv").open() as file:
            far = [float(row["distance"]) for row in csv.DictReader(file)]
        assert len(far) == 300 and far == sorted(far, reverse=True)


@pytest.mark.slow
def test_classes_kept_out_of_the_fit_are_projected(pretrained):
    folder, numbers = pretrained
    rows = pq.read_table(folder / "map.parquet").to_pylist()
    assert len(rows) == 300 and all(np.isfinite([r["x"], r["y"]]).all() for r in rows)
    fitted = [r for r in rows if r["fitted"]]
    assert {r["split"] for r in fitted} == {"train"} and "M" not in {r["label"] for r in fitted}
    assert numbers["map"]["fitted_on"] == len(fitted) < 240 and numbers["map"]["unseen"] == ["M"]
    assert numbers["map"]["settings"] == {"n_neighbors": 45, "min_dist": 0.7, "metric": "cosine", "random_state": 42}


@pytest.mark.slow
def test_embeddings_in_the_folder_are_used_again_and_those_of_other_data_refused(runs, pretrained):
    before = {p: p.stat().st_mtime_ns for p in (pretrained[0] / "embeddings").glob("*.parquet")}
    done = analyse(runs, "model=clip-full-scratch-42", "out=a", "what=[retrieval]", "sub=sub50")
    assert done.returncode == 2 and "overwrite=true" in done.stderr and "other settings (sub)" in done.stderr
    report = (pretrained[0] / "report.md").read_text()
    assert "## Map" in report  # of the first analysis, untouched
    assert len(before) == 3 and before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.slow
def test_a_classifier_is_analysed_and_compared(runs):
    root = runs[0]
    done = analyse(runs, "model=all-full-scratch-42", "other=all-full-scratch-42", "out=b",
                   "what=[ablation,calibration,compare]")  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    numbers = json.loads((root / "b" / "analysis.json").read_text())
    tested = json.loads((root / "all-full-scratch-42" / "metrics.json").read_text())
    together = numbers["ablation"]["photometry + spectra + metadata"]
    assert len(numbers["ablation"]) == 7 and together["n"] == tested["n"]
    assert together["published_macro_recall"] == pytest.approx(0.93071)
    assert together["accuracy"] == pytest.approx(numbers["calibration"]["as it is"]["accuracy"])
    assert numbers["calibration"]["validation_nll_with_temperature"] <= numbers["calibration"]["validation_nll"]
    assert numbers["compare"]["difference"] == 0 and numbers["compare"]["p"] == 1 and numbers["compare"]["n"] == 30
    assert sum(c["n"] for c in numbers["compare"]["per_class"].values()) == 30
    assert sum(map(bool, (root / "b").glob("*.png"))) == 3


@pytest.mark.slow
def test_embeddings_on_disk_are_analysed_without_data_or_model(runs, pretrained):
    swapped = next(runs[0].glob("cache/simulated/*/swapped.csv"))
    command = [sys.executable, "-m", "astrom3.analyse", "data=local", "data.path=nowhere", "embeddings=a/embeddings",
               "other=b/embeddings", "out=c", "what=[retrieval,outliers,compare,attention]",
               f"swapped={swapped}"]  # fmt: skip
    done = processes.run(command, capture_output=True, text=True, env=runs[1], cwd=runs[0])
    assert done.returncode == 0, done.stderr[-3000:]
    numbers = json.loads((runs[0] / "c" / "analysis.json").read_text())
    assert set(numbers["left_out"]) == {"attention"}
    for name in ("retrieval", "outliers"):
        assert numbers[name] == pretrained[1][name]
    assert "by centroids of the training embeddings: clip-full-scratch-42" in (runs[0] / "c" / "report.md").read_text()


@pytest.mark.slow
def test_a_run_of_another_seed_is_pointed_out_and_nothing_possible_is_an_error(runs):
    done = analyse(runs, "model=clip-full-scratch-42", "seed=0", "out=d", "what=[calibration]")
    assert "was trained with the split of seed 42" in done.stdout
    assert done.returncode == 2 and "nothing of what was asked is possible: calibration needs" in done.stderr


def without_umap(options, **given):
    code = "import sys; sys.modules['umap'] = None; sys.argv = ['analyse', *sys.argv[1:]]; "
    code += "from astrom3.analyse.__main__ import main; main()"
    return processes.run_module("-c", code, *options, **given)


def test_a_missing_package_is_named_at_once_where_the_map_is_asked(tmp_path):
    done = without_umap(["model=x", "what=[map]"], cwd=tmp_path)
    assert done.returncode == 2 and 'pip install "astrom3[analyse]"' in done.stderr and "umap" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_the_package_all_but_the_map_is_made(tmp_path):
    vectors, labels = clusters()
    objects = embeddings({"photometry": vectors.astype(np.float32)}, labels)
    half = np.where(np.arange(len(labels)) % 2, "train", "test")
    Embeddings(objects.ids, labels, half, objects.present, objects.vectors, None, objects.classes, "made up").write(
        tmp_path / "e.parquet"
    )
    done = without_umap(["embeddings=e.parquet", "out=o"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    numbers = json.loads((tmp_path / "o" / "analysis.json").read_text())
    assert 'pip install "astrom3[analyse]"' in numbers["left_out"]["map"]
    assert {"fewshot", "outliers"} == set(numbers) - {"model", "warnings", "left_out", "objects"}


@pytest.mark.parametrize(
    "options, answer",
    [
        (["model=x", "what=[magic]"], "what=[magic] does not exist"),
        (["out=x"], "give model="),
        (["embeddings=nowhere"], "nowhere holds no embeddings"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(tmp_path, options, answer):
    done = processes.run([sys.executable, "-m", "astrom3.analyse", *options], capture_output=True, text=True,
                          cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2 and answer in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_compiled_for_a_map_is_kept_for_the_next_process():
    import numba

    from astrom3 import umap_maps

    njit = numba.njit
    random = np.random.default_rng(0)
    xy, place = umap_maps.fit("analyse", "the map", random.normal(size=(20, 4)), {"n_neighbors": 5, "random_state": 0})
    assert xy.shape == (20, 2) and place(random.normal(size=(3, 4))).shape == (3, 2)
    assert numba.njit is njit
    loops = umap_maps.package("analyse", "the map").umap_.compute_membership_strengths
    assert loops.stats.cache_path, "numba would compile it again in every process"


def test_neighbours_are_looked_up_once_for_all_who_ask_the_same():
    from astrom3.inference.neighbours import Neighbours, nearest

    vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    found = Neighbours({"mean": vectors})
    everybody, some = np.arange(40), np.arange(0, 40, 2)
    index, cosine = found.nearest("mean", everybody, 5)
    assert found.nearest("mean", everybody.copy(), 5)[0] is index
    np.testing.assert_array_equal(index, nearest(vectors, 5)[0])
    np.testing.assert_array_equal(found.nearest("mean", some, 5)[1], nearest(vectors[some], 5)[1])
    assert np.isfinite(cosine).all()
