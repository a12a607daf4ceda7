"""The downstream tasks of experiments/astroclip: scores of posteriors, answers of the decision tree, small networks."""

import numpy as np
import pytest
import torch

from astrom3.simulate.galaxies.populations import CLUMPY
from astrom3.simulate.galaxies.survey import galaxy, truth
from experiments.astroclip import posterior, questions
from experiments.astroclip.morphology import one_question
from experiments.astroclip.properties import few_shot, scores
from experiments.astroclip.settings import SIZES, Settings
from experiments.astroclip.stages import overrides_of
from experiments.astroclip.vectors import Vectors

pytestmark = pytest.mark.slow

QUICK = Settings(objects=1, stages={}, fewest_steps=300, width=8, epochs=1, batch=32, flows=2)


def test_crps_and_coverage_of_a_normal_posterior():
    random = np.random.default_rng(0)
    samples = random.standard_normal((4000, 50, 1))
    # Of a standard normal at its mean: 2 / sqrt(2 pi) - 1 / sqrt(pi) (Gneiting & Raftery 2007, equation 20).
    expected = 2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi)
    assert posterior.crps(samples, np.zeros((50, 1)))[0] == pytest.approx(expected, abs=0.01)
    drawn = random.standard_normal(3000)
    covered = posterior.coverage(random.standard_normal((400, 3000)), drawn)
    np.testing.assert_allclose(covered, posterior.LEVELS, atol=0.03)
    narrow = posterior.coverage(0.3 * random.standard_normal((400, 3000)), drawn)
    assert narrow[9] < 0.3  # a posterior too sure of itself covers a third of the half


def normal_vectors(n=600):
    """Embeddings of two numbers, one of which tells every target up to noise of 0.5."""
    random = np.random.default_rng(1)
    found = {}
    for split in ("train", "validation", "test"):
        x = random.standard_normal((n, 2))
        targets = x[:, :1] + 0.5 * random.standard_normal((n, 5))
        found[split] = Vectors({"image, toy": x.astype(np.float32)}, targets, np.arange(n).astype(str))
    return found


@pytest.mark.slow
def test_flows_find_the_width_of_the_posterior():
    pytest.importorskip("zuko")
    found = posterior.posterior(normal_vectors(), "image, toy", [0], QUICK)
    ideal = 0.5 * np.log(2 * np.pi * np.e * 0.25)  # entropy of the noise
    assert ideal - 0.1 < found["nll"] < ideal + 0.35
    assert abs(np.array(found["coverage"]["redshift"]) - posterior.LEVELS).max() < 0.15


def test_few_shot_networks_reach_the_possible_r2():
    vectors = normal_vectors()
    train, test = vectors["train"], vectors["test"]
    told = few_shot(train.vectors["image, toy"], train.targets, test.vectors["image, toy"], QUICK)
    r2 = scores(np.abs(test.targets), np.abs(test.targets))["r2"]
    assert set(r2.values()) == {1.0}
    assert min(scores(test.targets, told)["r2"].values()) > 0.6  # 0.8 is possible


def test_answers_follow_the_decision_tree():
    ids = [f"GAL-0-{number:06d}" for number in range(40)]
    assert truth(0, 3).redshift == galaxy(0, 3, 16).properties.redshift
    asked = {question.name: question for question in questions.of_truth(ids)}
    assert set(asked) == set(questions.TREE)
    assert asked["smooth"].asked.all() and asked["merging"].asked.all()
    featured = asked["smooth"].fractions[:, 1] == 1
    np.testing.assert_array_equal(asked["disk-edge-on"].asked, featured)
    np.testing.assert_array_equal(asked["how-rounded"].asked, ~featured)
    edge_on = np.nan_to_num(asked["disk-edge-on"].fractions[:, 0]) == 1
    np.testing.assert_array_equal(asked["edge-on-bulge"].asked, edge_on)
    np.testing.assert_array_equal(asked["bar"].asked, featured & ~edge_on)
    armed = np.nan_to_num(asked["spiral-arms"].fractions[:, 0]) == 1
    assert armed.sum() > 5
    for name in ("spiral-winding", "spiral-arm-count"):
        np.testing.assert_array_equal(asked[name].asked, armed)
    for question in asked.values():
        assert (question.fractions[question.asked].sum(axis=1) == 1).all()


def test_spiral_questions_have_the_answers_that_the_image_was_drawn_with():
    ids = [f"GAL-0-{number:06d}" for number in range(40)]
    asked = {question.name: question for question in questions.of_truth(ids)}
    for row, name in enumerate(ids):
        drawn = truth(0, int(name.split("-")[2]))
        if not asked["spiral-arm-count"].asked[row]:
            assert drawn.arms == 0 and drawn.pitch == 0
            continue
        assert asked["spiral-arm-count"].fractions[row].argmax() == drawn.arms - 1
        winding = questions.TREE["spiral-winding"][asked["spiral-winding"].fractions[row].argmax()]
        assert winding == ("tight" if drawn.pitch <= 15 else "medium" if drawn.pitch <= 23 else "loose")
        assert asked["clumpy"].fractions[row, 0] == (drawn.clumps < CLUMPY)


def test_morphology_learns_what_an_embedding_tells():
    vectors = normal_vectors(300)
    of_split = {}
    for split, part in vectors.items():
        first = part.vectors["image, toy"][:, 0] > 0
        fractions = np.stack([first, ~first], axis=1).astype(float)
        fractions[::7] = np.nan
        of_split[split] = questions.Question("smooth", ("smooth", "featured"), fractions)
    found = one_question(of_split, vectors, "image, toy", QUICK)
    assert found["accuracy"] > 0.95 and found["f1"] > 0.95 and found["n"] == 257
    assert torch.is_grad_enabled()


def test_overrides_of_the_command_line_win_over_those_of_the_size():
    common = ["epochs=3", "modalities=[spectra,images,photometry]"]
    masked = overrides_of("masked", common, SIZES["tiny"])
    assert [text for text in masked if text.startswith("epochs=")] == ["epochs=3"]
    assert "module.width=12" in masked
    assert "modalities" not in " ".join(masked)
    assert "modalities=[spectra,images,photometry]" in overrides_of("clip", common, SIZES["tiny"])
