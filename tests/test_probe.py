"""probe=true: the linear head starts from a logistic regression on what the encoders say."""

import csv

import numpy as np
import pytest
import torch

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.train import train
from astrom3.training.probe import cross_entropy, regression

pytestmark = pytest.mark.usefixtures("in_star_cache")

TINY = ["size=tiny", "data=simulated", "data.objects=240", "trainer=cpu", "trainer.enable_progress_bar=false"]


def clouds(classes, rows=40, width=6, seed=0):
    """Gaussian clouds (n, width) float64 whose first column tells the class, and the classes (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(classes, rows)
    vectors = rng.normal(size=(len(labels), width))
    vectors[:, 0] += 2 * labels
    return vectors, labels


@pytest.mark.parametrize("classes", [[0, 1], [0, 2], [0, 1, 2]])
def test_weights_and_biases_give_the_answers_of_the_regression(classes):
    from sklearn.linear_model import LogisticRegression

    vectors, labels = clouds(classes)
    weight, bias = regression(vectors, labels, 4, 0.3, balanced=False)
    expected = LogisticRegression(C=0.3, max_iter=500).fit(vectors, labels).predict_proba(vectors)
    logits = torch.from_numpy(vectors @ weight.T + bias)
    assert logits.shape == (len(labels), 4)
    found = logits[:, classes].softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert logits.softmax(1)[:, 3].max() < 1e-3  # a class that no training object has


def test_balanced_classes_move_the_border():
    vectors, labels = clouds([0, 1])
    few = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:5]])
    answers = []
    for balanced in (False, True):
        weight, bias = regression(vectors[few], labels[few], 2, 1.0, balanced)
        answers.append((vectors @ weight.T + bias).argmax(1).sum())
    assert answers[1] > answers[0]


def test_no_rows_have_no_loss():
    assert cross_entropy(np.empty((0, 3)), np.empty(0, dtype=np.int64)) == 0.0


def rows_of(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_starts_from_the_regression_and_loses_it_at_no_step(tmp_path, caplog):
    """At a rate of nothing the run is the regression itself, which is better than a head as drawn."""
    scores = {}
    caplog.set_level("INFO", logger="astrom3")
    still = ["mode=meta", "epochs=1", "optim.lr=1e-12"]
    for probe in ("true", "false"):
        cfg = compose([*TINY, *still, f"probe={probe}", f"root={tmp_path}/{probe}"])
        scores[probe] = train(cfg)["accuracy"]
    assert scores["true"] > scores["false"] + 0.2
    assert caplog.text.count("the head starts from a logistic regression with C = ") == 1


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_fit_its_head_again(tmp_path):
    options = [*TINY, "mode=meta", "probe=true"]
    whole = compose([*options, "epochs=3", f"root={tmp_path}/whole"])
    train(whole)

    stopped = tmp_path / "stopped" / "meta-full-scratch-42"
    train(compose([*options, "epochs=2", f"root={tmp_path}/stopped"]))
    (stopped / "metrics.json").unlink()  # as if it had been killed after two epochs
    train(compose([*options, "epochs=3", "accept_changes=true", f"root={tmp_path}/stopped"]))
    assert rows_of(stopped) == rows_of(tmp_path / "whole" / "meta-full-scratch-42")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["mode=clip"], "fits a linear head of classes"),
        (["mode=meta", "target=amplitude"], "fits a linear head of classes"),
        (["mode=meta", "data.streaming=true"], "leave data.streaming=true away"),
    ],
)
def test_where_there_is_no_such_head_it_says_so(overrides, said, tmp_path):
    with pytest.raises(UserError, match=said):
        train(compose([*TINY, *overrides, "probe=true", f"root={tmp_path}"]))
