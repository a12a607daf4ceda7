"""Calibrated probabilities, prediction sets, novelty, their file, and curves of which only first points are seen."""

import json

import numpy as np
import pytest

from astrom3.errors import UserError
from astrom3.inference.confidence import Calibration, Confidence, read_confidence
from astrom3.inference.conformal import class_limit, needed, prediction_sets, rank, vouched
from astrom3.inference.early import Cut
from astrom3.inference.novelty import Novelty
from astrom3.inference.temperature import temperature, tempered
from astrom3.modalities.scaled_view import scale_again, scale_curve
from astrom3.modalities.truncation import cut_curves, kept_points

CLASSES = ("A", "B", "C")


def drawn(n, seed, sharpness=3.0):
    """Probabilities (n, 3) that are too sure by a factor of three, and labels (n,) drawn from the true ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (true.cumsum(1) < rng.random((n, 1))).sum(1)
    return tempered(true, 1 / sharpness), labels


def test_the_temperature_is_the_factor_by_which_logits_are_too_large():
    assert temperature(*drawn(20000, 0)) == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_each_class_is_in_its_sets_as_often_as_asked(coverage):
    fitted = Calibration.fit(*drawn(6000, 1))
    probabilities, labels = drawn(20000, 2)
    sets = fitted.sets(probabilities, coverage)
    for k in range(3):
        assert sets[labels == k, k].mean() == pytest.approx(coverage, abs=0.02)


def test_limits_by_hand():
    scores = np.arange(1, 10) / 10
    assert needed(0.9) == 9 and rank(9, 0.9) == 9
    assert class_limit(scores, 0.9) == 0.9 and class_limit(scores, 0.5) == 0.5
    assert class_limit(scores[:4], 0.9) == 0.4 and vouched(4, 0.9) == 0.8
    assert np.isinf(class_limit(scores[:0], 0.9))
    sets = prediction_sets(np.array([[0.7, 0.2, 0.1]]), [0.5, 0.8, 0.5])
    assert sets.tolist() == [[True, True, False]]


def fitted(early=()):
    """A confidence of drawn objects with embeddings of eight numbers."""
    probabilities, labels = drawn(300, 3)
    vectors = np.random.default_rng(4).normal(size=(600, 8)) + np.eye(8)[np.arange(600) % 3] * 6
    novelty = Novelty.fit(vectors[:300], np.arange(300) % 3, vectors[300:])
    return Confidence(CLASSES, Calibration.fit(probabilities, labels), tuple(early), 30 if early else 0, novelty)


def test_the_file_gives_back_what_was_written(tmp_path):
    written = fitted([Calibration.fit(*drawn(100, n), points=n) for n in (5, 20)])
    written.save(tmp_path)
    read = read_confidence(tmp_path, CLASSES, 8)
    probabilities, _ = drawn(50, 9)
    points = np.array([3, 5, 19, 20, 29, 30, 200, 6, 7, 8] * 5)
    np.testing.assert_array_equal(read.which(points, 50)[:7], [0, 0, 0, 1, 1, -1, -1])
    np.testing.assert_array_equal(read.calibrated(probabilities, points), written.calibrated(probabilities, points))
    vectors = np.random.default_rng(0).normal(size=(20, 8))
    np.testing.assert_array_equal(read.novelty.score(vectors), written.novelty.score(vectors))
    assert read_confidence(tmp_path / "nowhere", CLASSES, 8) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(format=2),
        lambda d: d.update(classes=["A", "C", "B"]),
        lambda d: d["complete"].update(temperature=float("nan")),
        lambda d: d["complete"].update(temperature=1e9),
        lambda d: d["complete"]["scores"].update(A=[0.5, 0.1]),
        lambda d: d["complete"]["scores"].update(B=["x"]),
        lambda d: d["complete"]["scores"].pop("C"),
        lambda d: d.update(shortest=-1),
        lambda d: d["novelty"].update(rest=0),
        lambda d: d["novelty"].update(centres=[[1.0]]),
        lambda d: d["novelty"].update(quantiles=[1.0]),
        lambda d: d.pop("novelty"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, spoil):
    path = fitted().save(tmp_path)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"confidence\.json is damaged"):
        read_confidence(tmp_path, CLASSES, 8)


def test_what_is_unlike_the_training_set_is_far_from_it():
    novelty = fitted().novelty
    usual = np.random.default_rng(5).normal(size=(300, 8)) + np.eye(8)[np.arange(300) % 3] * 6
    strange = np.random.default_rng(6).normal(size=(300, 8)) + np.eye(8)[5] * 6
    assert np.median(novelty.quantile(novelty.score(usual))) == pytest.approx(0.5, abs=0.1)
    assert np.median(novelty.quantile(novelty.score(strange))) > 0.97


def test_a_cut_curve_is_scaled_as_if_the_rest_had_never_been():
    rng = np.random.default_rng(0)
    time = np.sort(rng.random(80)) * 100
    flux = 5 + rng.normal(size=80)
    error = np.full(80, 0.1)
    whole, constants = scale_curve(time, flux, error)
    again, again_constants = scale_again(whole[:20], constants)
    expected, expected_constants = scale_curve(time[:20], flux[:20], error[:20])
    np.testing.assert_allclose(again, expected, atol=2e-5)
    np.testing.assert_allclose(again_constants, expected_constants, atol=2e-5)


def test_the_share_of_curves_that_are_cut_and_their_first_points():
    lengths = np.full(4000, 200)
    items = np.arange(4000)
    kept = kept_points(lengths, items, 1, 0, 0.5)
    assert 0.46 < (kept < 200).mean() < 0.54 and kept.min() >= 5
    assert 25 < np.median(kept[kept < 200]) < 40  # evenly in the logarithm: half are below the root of 5 times 200
    assert (kept_points(lengths, items, 1, 1, 0.5) != kept).any() and (
        kept_points(lengths, items, 1, 0, 0) == 200
    ).all()
    values, offsets = cut_curves(np.arange(10.0)[:, None], np.array([0, 4, 10]), np.array([1, 0]), np.array([2, 3]))
    assert values[:, 0].tolist() == [4, 5, 0, 1, 2] and offsets.tolist() == [0, 2, 5]


def test_points_and_days_of_a_curve_in_any_order():
    curve = (np.array([30.0, 0.0, 20.0, 10.0]), np.arange(4.0), np.ones(4))
    assert Cut(points=2).apply(curve)[0][1].tolist() == [1, 3]
    assert Cut(days=20).apply(curve)[0][1].tolist() == [1, 3, 2]
    assert Cut().apply(curve)[1] is False and Cut(points=4).apply(curve)[1] is False
