"""Analyses: small cases worked out by hand, and the verb as a process on small runs."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from astrom3.analysis.calibration import calibration, reliability, temperature, tempered
from astrom3.analysis.comparison import compare
from astrom3.analysis.fewshot import by_centroid, by_neighbours, by_probe, drawn, few_shot
from astrom3.analysis.outliers import average_precision, distances, recall_of_swapped, suspicion
from astrom3.analysis.retrieval import ranks, retrieval
from astrom3.data.schema import UNLABELLED
from astrom3.inference.embeddings import Embeddings


def embeddings(vectors, labels, present=None, probabilities=None, classes=("a", "b", "c")):
    n = len(labels)
    present = present or {m: np.ones(n, bool) for m in vectors}
    mean = sum(vectors.values()) / len(vectors)
    return Embeddings(np.array([f"o{i}" for i in range(n)]), np.asarray(labels), np.full(n, "test"), present,
                      vectors | {"mean": mean}, probabilities, classes)  # fmt: skip


def clusters(per_class=40, classes=3, width=8, noise=0.3, seed=0):
    """Unit vectors around one direction per class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    centres = np.random.default_rng(7).normal(size=(classes, width))
    return centres[labels] + noise * rng.normal(size=(len(labels), width)), labels


def test_nearest_centroid_and_neighbours_by_hand():
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 2.0]])
    labels = np.array([0, 0, 2, 2])
    queries = np.array([[5, 1.0], [0.2, 0.3]])
    assert by_centroid(vectors, labels, queries).tolist() == [0, 2]
    assert by_neighbours(vectors, labels, queries, k=1).tolist() == [0, 2]
    # Two of each class among four neighbours: the nearest decides.
    assert by_neighbours(vectors, labels, queries, k=4).tolist() == [0, 2]
    assert by_probe(vectors, labels, queries).tolist() == [0, 2]


def test_neighbours_equal_a_full_sort():
    vectors, labels = clusters(noise=2.0)
    queries, _ = clusters(seed=5, noise=2.0)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, queries)]
    near = labels[np.argsort(-(unit[1] @ unit[0].T), axis=1)[:, :1]][:, 0]
    np.testing.assert_array_equal(by_neighbours(vectors, labels, queries, k=1), near)


def test_more_labels_help_and_unlabelled_objects_take_no_part():
    train, labels = clusters(noise=1.2)
    test, truth = clusters(noise=1.2, seed=1)
    one = few_shot(train, labels, test, truth, 1)
    everything = few_shot(train, labels, test, truth, None)
    for method in ("centroid", "neighbours", "probe"):
        assert one[method]["accuracy"] < everything[method]["accuracy"]
        assert everything[method]["accuracy_sd"] == 0 < one[method]["accuracy_sd"]
    hidden = np.where(np.arange(len(labels)) % 2, labels, UNLABELLED)
    half = few_shot(train[1::2], labels[1::2], test, truth, None)
    assert few_shot(train, hidden, test, truth, None) == half
    rows = drawn(labels, 5, 0)
    assert np.bincount(labels[rows]).tolist() == [5, 5, 5] and len(set(rows)) == 15
    assert len(drawn(labels, 1000, 0)) == len(labels)


def test_ranks_by_hand():
    queries = np.array([[1, 0], [0, 1], [1, 1.0]])
    found = np.array([[1, 0.1], [1, 0.2], [0, 1.0]])
    # Own cosine: the largest for query 0, behind the third for query 1, the smallest for query 2.
    assert ranks(queries, found).tolist() == [1, 2, 3]
    same = np.ones((4, 2))
    assert ranks(same, same).tolist() == [4] * 4  # ties count against


def test_retrieval_over_the_objects_that_have_both():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 6))
    there = {"photometry": np.arange(50) < 40, "spectra": np.arange(50) >= 10}
    found = retrieval(embeddings({"photometry": a, "spectra": a + 0.01}, np.zeros(50, int), there))
    assert found["photometry -> spectra"]["n"] == 30 and found["photometry -> spectra"]["recall@1"] == 1
    assert found["photometry -> spectra"]["median_rank"] == 1
    shuffled = retrieval(embeddings({"photometry": a, "spectra": a[rng.permutation(50)]}, np.zeros(50, int)))
    assert shuffled["photometry -> spectra"]["recall@10"] < 0.5


def test_distances_and_swapped_labels():
    vectors, labels = clusters()
    wrong = labels.copy()
    swapped = np.zeros(len(labels), bool)
    swapped[[3, 50, 100]] = True
    wrong[swapped] = (wrong[swapped] + 1) % 3
    objects = embeddings({"photometry": vectors}, wrong)
    found = distances(objects, "photometry")
    assert (found["own"][swapped] > found["other"][swapped]).all()
    assert (found["nearest"][swapped] == labels[swapped]).all()
    scores = suspicion(objects)
    assert recall_of_swapped(scores, swapped)["recall@k"] == 1 and average_precision(scores, swapped) == 1
    worst = recall_of_swapped(-scores, swapped)
    assert worst["recall@k"] == 0 and worst["average_precision"] < 0.1
    lacking = embeddings({"photometry": vectors}, wrong, {"photometry": np.arange(len(labels)) != 3})
    assert np.isnan(distances(lacking, "photometry")["own"][3])


def test_average_precision_by_hand():
    assert average_precision(np.array([3.0, 2, 1, 0]), np.array([True, False, True, False])) == pytest.approx(5 / 6)


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])
    found = calibration(probabilities, labels)
    assert found["ece"] == pytest.approx((2 * abs(0.5 - 0.9) + 2 * abs(1 - 0.6)) / 4)
    assert found["brier"] == pytest.approx((2 * 0.01 + 2 * 0.81 + 4 * 0.16) / 4)
    assert found["nll"] == pytest.approx(-np.log([0.9, 0.1, 0.6, 0.6]).mean())
    assert reliability(probabilities, labels)["count"].sum() == 4
    assert reliability(np.array([[1.0, 0.0]]), np.array([0]))["count"][-1] == 1


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (honest.cumsum(1) > rng.random(4000)[:, None]).argmax(1)
    bold = tempered(honest, 1 / 3)
    found = temperature(bold, labels)
    assert found == pytest.approx(3, rel=0.15)
    assert calibration(tempered(bold, found), labels)["ece"] < calibration(bold, labels)["ece"] / 3


def test_comparison_by_hand():
    labels = np.zeros(20, int)
    first = np.array([0] * 10 + [1] * 10)
    second = np.array([0] * 10 + [0] * 8 + [1] * 2)
    found = compare(first, second, labels)
    assert (found["only_first"], found["only_second"]) == (0, 8) and found["difference"] == pytest.approx(0.4)
    assert found["p"] == pytest.approx(2 * 0.5**8) and 0 < found["low"] < 0.4 < found["high"]
    assert compare(first, first, labels)["p"] == 1


OPTIONS = ["data=simulated", "data.objects=300", "data.swapped_labels=0.1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A tiny pre-training and a tiny classifier of all modalities, and the embeddings of the first."""
    root = tmp_path_factory.mktemp("analyse")
    environment = os.environ | {"ASTROM3_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    for mode in ("clip", "all"):
        command = [sys.executable, "-m", "astrom3.train", f"mode={mode}", "size=tiny", "trainer=cpu", "epochs=2",
                   "optim.lr=0.003", f"root={root}", *OPTIONS]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, env=environment)
    return root, environment


def analyse(runs, *options):
    command = [sys.executable, "-m", "astrom3.analyse", *OPTIONS, *options]
    return subprocess.run(command, capture_output=True, text=True, env=runs[1], cwd=runs[0])


@pytest.mark.slow
def test_a_pretraining_is_analysed(runs):
    root = runs[0]
    done = analyse(runs, "model=clip-full-scratch-42", "out=a")
    assert done.returncode == 0, done.stderr[-3000:]
    numbers = json.loads((root / "a" / "analysis.json").read_text())
    assert set(numbers["left_out"]) == {"ablation", "calibration", "compare"}
    assert len(numbers["retrieval"]) == 6 and len(numbers["attention"]) == 6
    swapped = numbers["outliers"]["swapped"]
    lines = next(root.glob("cache/simulated/*/swapped.csv")).read_text().splitlines()
    assert swapped["swapped"] == len(lines) - 1 > 0
    text = (root / "a" / "report.md").read_text()
    for picture in ("fewshot", "retrieval", "outliers", "map"):
        assert f"({picture}.png)" in text and (root / "a" / f"{picture}.png").stat().st_size > 5000
    listed = list(csv.DictReader((root / "a" / "outliers.csv").open()))
    assert [float(r["suspicion"]) for r in listed] == sorted((float(r["suspicion"]) for r in listed), reverse=True)
    assert str(root) not in text


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
    assert together["accuracy"] == pytest.approx(numbers["calibration"]["as it is"]["accuracy"])
    assert numbers["compare"]["difference"] == 0 and numbers["compare"]["p"] == 1


@pytest.mark.slow
def test_embeddings_on_disk_are_analysed(runs):
    command = [sys.executable, "-m", "astrom3.embed", "model=clip-full-scratch-42", "out=e", *OPTIONS]
    subprocess.run(command, check=True, capture_output=True, env=runs[1], cwd=runs[0])
    done = analyse(runs, "model=clip-full-scratch-42", "embeddings=e", "out=c", "what=[retrieval,attention]")
    assert done.returncode == 0 and "left out: needs a model with a light-curve encoder, and its data" in done.stdout
    first = json.loads((runs[0] / "a" / "analysis.json").read_text())["retrieval"]
    again = json.loads((runs[0] / "c" / "analysis.json").read_text())["retrieval"]
    for direction, values in first.items():
        assert values == pytest.approx(again[direction])


def test_an_analysis_that_does_not_exist_is_answered(tmp_path):
    done = subprocess.run([sys.executable, "-m", "astrom3.analyse", "model=x", "what=[magic]"], capture_output=True,
                          text=True, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2 and "what=[magic] does not exist" in done.stderr
