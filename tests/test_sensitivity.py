"""Replacing catalogue features: only what is meant to change changes, and what is found is what was planted."""

import numpy as np
import pytest
import torch
from data_files import make_rows, write_current, write_first, write_ours
from small_models import rows_with_gaps, save_model

from astrom3.analyse.replacing import FIRST, Trial, moved, recomputed, why_not_recomputed, z_score
from astrom3.analyse.section import Context
from astrom3.analyse.sensitivity import GRID, SCORE, best_constant, catalogue, features, section
from astrom3.cli.config import compose
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.trained import TrainedModel, data_of
from astrom3.modalities.catalogue import COLUMN
from astrom3.modalities.features import light_curve_features
from astrom3.modalities.schema import META_COLS, PHOTO_COLS

pytestmark = pytest.mark.slow

N = 60


def opened(root, survey, head=True):
    """Model, data and embeddings of all splits."""
    save_model(root / "model", survey if survey.name == "survey" else root / "survey", head)
    model = TrainedModel.load(root / "model", device="cpu")
    cfg = compose([f"model={root}/model", "data=local", f"data.path={survey}", f"data.cache={root}/cache"], "analyse")
    data = data_of(model, cfg.data, "full", 42)
    return model, data, {s: Embeddings.of_split_of(model, data, s) for s in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("sensitivity")
    write_ours(root / "survey", rows_with_gaps(N))
    return opened(root, root / "survey")


@pytest.mark.parametrize("modality", ["photometry", "metadata"])
def test_nothing_replaced_changes_nothing(place, modality):
    model, data, splits = place
    trial = Trial.of(model, data, modality, splits["test"], splits["train"])
    assert (trial.labels >= 0).all() and trial.base.present[modality].all() and 0 < len(trial.base) < 12
    same = trial.outcome({})
    np.testing.assert_allclose(same.vectors, trial.base.vectors[modality], atol=1e-5)
    np.testing.assert_allclose(same.mean, trial.base.vectors["mean"], atol=1e-5)
    np.testing.assert_array_equal(same.predicted, trial.base.predicted)
    columns = PHOTO_COLS if modality == "photometry" else META_COLS[:3]
    inputs = trial.replaced({c: trial.given(c) for c in columns})  # padded points included
    assert torch.equal(inputs[modality], trial.inputs[modality])


def test_only_the_column_that_is_meant_changes(place):
    model, data, splits = place
    trial = Trial.of(model, data, "photometry", splits["test"], splits["train"])
    inputs = trial.replaced({"lksl_statistic": np.full(len(trial.base), 7.0)})["photometry"]
    changed = (inputs != trial.inputs["photometry"]).any(0).any(0)
    assert changed.nonzero().flatten().tolist() == [FIRST + 2] and (inputs[:, :, FIRST + 2] == 7).all()
    trial = Trial.of(model, data, "metadata", splits["test"], splits["train"])
    inputs = trial.replaced({"ruwe": np.full(len(trial.base), 7.0)})["metadata"]
    changed = (inputs != trial.inputs["metadata"]).any(0).nonzero().flatten().tolist()
    assert changed == [META_COLS.index("ruwe")]


def test_in_the_current_layout_padded_rows_stay_zero(tmp_path):
    write_ours(tmp_path / "survey", make_rows(30))
    model, data, splits = opened(tmp_path, write_current(tmp_path / "current", make_rows(30)))
    trial = Trial.of(model, data, "photometry", splits["test"], splits["train"])
    assert not trial.padded and (trial.inputs["mask"] == 0).any()
    inputs = trial.replaced({"period": np.full(len(trial.base), 3.0)})["photometry"][:, :, FIRST + 1]
    np.testing.assert_array_equal(inputs.numpy(), 3 * trial.inputs["mask"].numpy())
    assert "normalised" in why_not_recomputed(data, model.normaliser)


def test_a_model_that_looks_at_one_column_only_is_found_out(place):
    model, data, _ = place
    encoder = model.network.backbone.encoders["metadata"]
    saved = {k: v.clone() for k, v in model.network.state_dict().items()}
    at = META_COLS.index("bp_rp")
    with torch.no_grad():
        keep = encoder.first.weight[:, at].clone()
        encoder.first.weight.zero_()
        encoder.first.weight[:, at] = 5 * keep
    try:
        new = {s: Embeddings.of_split_of(model, data, s) for s in ("train", "test")}
        found = catalogue(Trial.of(model, data, "metadata", new["test"], new["train"]))
    finally:
        model.network.load_state_dict(saved)
    assert found["bp_rp"]["random"]["distance"] > 0.01
    for column in META_COLS:
        if column != "bp_rp":
            assert found[column]["random"]["distance"] < 1e-6 and found[column]["mean"]["changed"] == 0


def test_features_are_computed_from_the_raw_curves(place):
    _, data, splits = place
    rows = {r["object_id"]: r for r in rows_with_gaps(N)}
    ids = np.array([i for i in splits["test"].ids if rows[i]["light_curve"] is not None])
    done = []
    found = recomputed(data, ids, done.append)
    assert sum(done) == len(ids)
    for name, values in zip(ids, found, strict=True):
        expected = light_curve_features(*rows[name]["light_curve"].values())
        np.testing.assert_allclose(values, [expected[c] for c in PHOTO_COLS])


def test_replacements_of_each_feature_and_all(place):
    model, data, splits = place
    trial = Trial.of(model, data, "photometry", splits["test"], splits["train"])
    found = features(trial, data, model.normaliser)
    assert found["recomputed_objects"] == found["n"] == len(trial.base) and "not_recomputed" not in found
    assert set(found["period"]) == {"mean", "random", "recomputed"}
    every = found["all four"]["recomputed"]
    assert every["distance"] > 0 and set(every["per_class"]) <= set(model.classes)
    own = trial.outcome({c: z_score(c, recomputed(data, trial.base.ids)[:, i], model.normaliser)
                         for i, c in enumerate(PHOTO_COLS)})  # fmt: skip
    before = trial.outcome({})
    cosine = (own.vectors * before.vectors).sum(1)
    assert every["distance"] == pytest.approx(1 - cosine.mean(), abs=1e-5)
    assert every["distance_sd"] == pytest.approx(cosine.std(), abs=1e-5)


def test_the_constant_that_costs_least(tmp_path):
    rows = make_rows(40)
    for i, row in enumerate(rows):
        row["photo_cols"][SCORE] = 0.63 + (0.2 if i % 5 == 2 else 0)  # of the test objects: 0.63
    model, data, splits = opened(tmp_path, write_ours(tmp_path / "survey", rows))
    trial = Trial.of(model, data, "photometry", splits["test"], splits["train"])
    found = best_constant(trial, data.source.normaliser)
    assert found["unit"] == "raw" and found["best"]["value"] == pytest.approx(0.63, abs=0.011)
    assert found["best"]["distance"] < 1e-3 < found["published"]["distance"]
    assert found["published"]["value"] == 0.392 and len(found["tried"]) == len(GRID) + 8
    values = [t["value"] for t in found["tried"]]
    assert values == sorted(values) and found["best"]["distance"] == min(t["distance"] for t in found["tried"])


def test_moved_by_hand():
    from astrom3.analyse.replacing import Outcome

    vectors = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    before = Outcome(vectors, vectors, np.array([0, 1, 0, 1]))
    after = Outcome(vectors[[0, 0, 2, 3]], vectors, np.array([0, 0, 1, 1]))
    found = moved(before, after, np.array([0, 1, 1, 1]), ("a", "b", "c"))
    assert found["distance"] == 0.25 and found["distance_sd"] == pytest.approx(np.std([0, 1, 0, 0]))
    assert found["accuracy"] == 0.75 and found["accuracy_change"] == 0 and found["changed"] == 0.5
    assert found["distance_mean"] == 0 and set(found["per_class"]) == {"a", "b"}
    assert found["per_class"]["b"]["n"] == 3 and found["per_class"]["b"]["distance"] == pytest.approx(1 / 3)


def test_the_section_says_what_could_not_be_computed(tmp_path):
    write_ours(tmp_path / "survey", make_rows(30))
    model, data, splits = opened(tmp_path, write_first(tmp_path / "first", make_rows(30)), head=False)
    found = section(Context(splits, tmp_path, model, data=data))
    assert "in steps of 0.25 d" in found.numbers["photometry"]["not_recomputed"]
    text = "\n".join(found.lines)
    assert "Not recomputed" in text and "| all four | random |" in text and "| bp_rp |" in text
    assert (tmp_path / "sensitivity.png").stat().st_size > 5000
    assert COLUMN[SCORE] == 3
