"""Astromer in the house: masked pre-training, classifiers on it, released weights, exchange with AstroM3's encoders."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import astrom3
from astrom3.cli.config import compose
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.embed.__main__ import embed
from astrom3.encoders.astromer import Astromer, MaskedAstromer
from astrom3.encoders.heads import classifier
from astrom3.errors import UserError
from astrom3.export.__main__ import export
from astrom3.inference.embeddings import Embeddings
from astrom3.published import native
from astrom3.simulate.origin import Simulated
from astrom3.tasks.optimisers import find_part, freeze, make_optimizer
from astrom3.tasks.schedules import StepSchedule
from astrom3.train import train

pytestmark = pytest.mark.slow

TINY = ["size=tiny", "data=simulated", "data.objects=120", "trainer=cpu", "seed=0", "data.batch_size=32",
        "trainer.enable_progress_bar=false"]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache):
    """A masked pre-training and a classifier that starts from it with a frozen encoder."""
    root = tmp_path_factory.mktemp("runs")
    same = [*TINY, f"root={root}", f"data.cache={cache}", f"data.root={cache}", "model=astromer2", "epochs=2"]
    masked = train(compose([*same, "mode=masked", "optim.lr=0.001"]))
    photo = train(compose([*same, "mode=photo", "init=masked", "freeze=[encoders]"]))
    return root, masked, photo


@pytest.fixture(scope="module")
def data(cache):
    options = {"modalities": ("photometry",), "cache": cache, "labelled_only": False, "batch_size": 32}
    module = AstroM3DataModule(Simulated(120, root=cache), seed=0, views={"photometry": "astromer-masked"}, **options)
    module.setup("fit")
    return module


def test_a_masked_run_reports_hidden_and_probed_points(runs):
    root, masked, _ = runs
    folder = root / "astromer2-masked-full-scratch-0"
    assert {"rmse_hidden", "r2_hidden", "rmse_probed", "r2_probed", "loss", "n"} <= set(masked)
    assert all(np.isfinite(value) for value in masked.values() if isinstance(value, float))
    assert (folder / "reconstruction.png").stat().st_size > 5000
    assert native.is_native(folder / "model") and not (folder / "model" / "config.json").exists()


def test_a_frozen_encoder_keeps_the_weights_of_the_pre_training(runs):
    root, _, photo = runs
    before = native.load(root / "astromer2-masked-full-scratch-0" / "model").encoder.state_dict()
    after = native.load(root / "astromer2-photo-full-masked-0" / "model").encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert 0 <= photo["accuracy"] <= 1


def test_masks_are_new_every_epoch_and_fixed_in_validation(data):
    loader = data.train_dataloader()
    first = next(iter(loader))
    loader.set_epoch(1)
    second = {int(i): h for b in loader for i, h in zip(b["index"], b["astromer/hidden"], strict=True)}
    same = [torch.equal(h, second[int(i)]) for i, h in zip(first["index"], first["astromer/hidden"], strict=True)]
    assert sum(same) < len(same) / 2
    a = next(iter(data.val_dataloader()))
    b = next(iter(data.val_dataloader()))
    assert torch.equal(a["astromer/hidden"], b["astromer/hidden"])


def test_windows_are_centred_and_hidden_points_are_probed(data):
    batch = next(iter(data.val_dataloader()))
    valid = batch["astromer/valid"]
    for key in ("astromer/times", "astromer/target"):
        mean = (batch[key].double() * valid).sum(1) / valid.sum(1)
        assert mean.abs().max() < 1e-3 * (1 + batch[key].abs().max())
    assert (batch["astromer/hidden"] <= batch["astromer/probed"]).all()
    assert (batch["astromer/probed"] <= valid).all()


def test_no_output_depends_on_a_hidden_magnitude(data):
    batch = next(iter(data.val_dataloader()))
    model = MaskedAstromer(Astromer(2, layers=2, d_model=16, n_heads=2, d_ff=32)).eval()
    changed = dict(batch)
    noise = 50 * torch.randn_like(batch["astromer/magnitudes"])
    changed["astromer/magnitudes"] = batch["astromer/magnitudes"] + noise * batch["astromer/hidden"]
    with torch.no_grad():
        first, second = (model(*(b[key] for key in model.inputs)) for b in (batch, changed))
    assert torch.equal(first, second)


def test_raw_curves_get_embeddings_and_classes(runs):
    root, _, _ = runs
    model = astrom3.load(root / "astromer2-photo-full-masked-0")
    rng = np.random.default_rng(1)
    lengths = (300, 40, 7)
    curves = []
    for n in lengths:
        time = np.sort(rng.uniform(0, 900, n))
        curves.append(np.stack([time, 15 + rng.normal(0, 0.2, n), np.full(n, 0.03)], axis=1))
    embedded = model.embed(light_curve=curves)
    assert embedded.mean.shape == (3, 16) and np.isfinite(embedded.mean).all()
    shifted = [curve + np.array([1000.0, 2.0, 0.0]) for curve in curves]
    np.testing.assert_allclose(model.embed(light_curve=shifted).mean, embedded.mean, atol=2e-4)
    assert model.classify(light_curve=curves[0]).labels[0] in model.classes
    with pytest.raises(UserError, match="cannot be used"):
        model.embed(light_curve=curves[2][:4])


@pytest.mark.slow
def test_the_verbs_take_the_model(runs, tmp_path, cache):
    """Embeddings of a data set, and the ONNX form that the light-curve package reads."""
    pytest.importorskip("onnxruntime")
    model = runs[0] / "astromer2-photo-full-masked-0"
    same = [f"data.cache={cache}", f"data.root={cache}", "data=simulated", "data.objects=120", "seed=0"]
    embed(compose([f"model={model}", f"out={tmp_path / 'e'}", *same], "embed"))
    embeddings = Embeddings.read(tmp_path / "e")
    assert len(embeddings) == 120 and embeddings.vectors["photometry"].shape[1] == 16
    differences = export(compose([f"model={model}", f"out={tmp_path / 'x'}"], "export"))
    assert (
        list(differences) == ["light_curve.onnx", "light_curve_classifier.onnx"]
        and differences["light_curve.onnx"] < 1e-4
    )
    assert (tmp_path / "x" / "onnx" / "light_curve.onnx").is_file() and native.is_native(tmp_path / "x")


@pytest.mark.slow
def test_a_part_of_another_family_by_one_override(tmp_path, cache):
    same = [*TINY, f"root={tmp_path}", f"data.cache={cache}", f"data.root={cache}", "epochs=1"]
    scores = train(compose([*same, "mode=clip", "encoder/photometry=astromer1-tiny"]))
    assert np.isfinite(scores["loss"])
    model = astrom3.load(tmp_path / "clip-full-scratch-0")
    assert [view.name for view in model.views.values()] == ["astromer", "spectra", "metadata"]
    tuned = train(compose([*same, "mode=photo", "encoder/photometry=astromer1-tiny", "init=file",
                           f"init.path={tmp_path / 'clip-full-scratch-0'}"]))  # fmt: skip
    assert 0 <= tuned["accuracy"] <= 1


def test_weights_of_another_size_are_refused_in_a_sentence(runs, tmp_path, cache):
    root, _, _ = runs
    options = [*TINY, f"root={tmp_path}", f"data.cache={cache}", f"data.root={cache}", "model=astromer1", "mode=photo"]
    with pytest.raises(UserError, match="another kind or size"):
        train(compose([*options, "init=file", f"init.path={root / 'astromer2-masked-full-scratch-0'}"]))


def test_a_native_folder_constructs_nothing_of_others(tmp_path):
    native.save(classifier(Astromer(1, layers=1, d_model=8, n_heads=2, d_ff=8), 3, "skip"), tmp_path)
    assert native.load(tmp_path).num_classes == 3
    path = tmp_path / native.DESCRIPTION
    content = json.loads(path.read_text())
    for name in ("os.system", "torch.nn.Linear", "astrom3.encoders.heads.torch.nn.Linear", "astrom3.train.train", 3):
        path.write_text(json.dumps(content | {"network": content["network"] | {"class": name}}))
        with pytest.raises(UserError, match="names"):
            native.load(tmp_path)


def test_schedules_are_functions_of_the_step():
    parameter = torch.nn.Parameter(torch.zeros(2, 2))
    options = {"kind": "adamw", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    optimizer = make_optimizer([parameter], options, fused=False)
    cosine = StepSchedule(optimizer, "cosine", warmup_epochs=1, floor=0.1)
    rates = []
    for step in range(40):
        cosine.set(step, 10, 4)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.01) and rates[9] == pytest.approx(0.1) and rates[10] == pytest.approx(0.1)
    assert rates[25] == pytest.approx(0.1 * (0.1 + 0.9 * 0.5)) and rates[-1] < 0.0111
    noam = StepSchedule(optimizer, "noam", d_model=256)
    noam.set(0, 10, 4)
    assert optimizer.param_groups[0]["lr"] == 0
    noam.set(4000, 10, 4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(256**-0.5 * 4000**-0.5)


def test_groups_without_weight_decay_and_frozen_parts():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "no_decay": True}
    groups = make_optimizer(model.parameters(), options, fused=False).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (3, 0.0)]
    assert freeze(model, ["0"]) == [model[0]] and not model[0].weight.requires_grad
    with pytest.raises(UserError, match="no such part"):
        find_part(model, "encoders")


@pytest.mark.slow
def test_a_survey_in_magnitudes_without_catalogue_or_zero_point(tmp_path, cache):
    same = [*TINY, f"root={tmp_path}", f"data.cache={cache}", f"data.root={cache}", "data.survey=macho", "epochs=1"]
    scores = train(compose([*same, "model=astromer1", "mode=masked"]))
    assert scores["n"] == 12 and np.isfinite(scores["rmse_hidden"])
    photo = train(compose([*same, "model=astromer1", "mode=photo", "head=linear"]))
    assert photo["classes"] == ["Cep_0", "Cep_1", "EC", "LPV", "RRab", "RRc"]
    with pytest.raises(UserError, match="has no spectra: it has photometry"):
        train(compose([*same, "mode=spectra"]))


def test_magnitudes_come_back_through_the_fluxes(cache):
    """A window in magnitudes is the observed one, centred on its mean."""
    source = Simulated(120, root=cache, survey="macho").open("full", 0)
    rows = pq.read_table(source.root / "objects", columns=["object_id", "light_curve"]).to_pylist()
    curves = {row["object_id"]: row["light_curve"] for row in rows}
    data = AstroM3DataModule(Simulated(120, root=cache, survey="macho"), seed=0, modalities=("photometry",),
                             views={"photometry": "astromer"}, cache=cache)  # fmt: skip
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    for index, found in zip(batch["index"].tolist(), batch["astromer/magnitudes"].double().numpy(), strict=True):
        magnitude = np.array(curves[data.object_ids("test")[index]]["mag"])
        first = max(len(magnitude) - 200, 0) // 2
        window = magnitude[first : first + 200]
        np.testing.assert_allclose(found[: len(window)], window - window.mean(), atol=2e-5)


def test_curves_in_magnitudes_are_shown_as_relative_fluxes(cache):
    """What the explore page draws of a survey that has neither fluxes nor spectra."""
    from astrom3.data.observed import observations, units

    source = Simulated(120, root=cache, survey="macho").open("full", 0)
    table = source.tables["test"]
    rows = np.sort(source.rows["test"])[:3]
    found = list(observations(table, rows))
    kept = pq.read_table(source.root / "objects", columns=["light_curve"])["light_curve"]
    assert [one.row for one in found] == rows.tolist()
    for one in found:
        curve = kept[one.row].as_py()
        np.testing.assert_allclose(one.light_curve[0], curve["time"])
        np.testing.assert_allclose(-2.5 * np.log10(one.light_curve[1]) + 15, curve["mag"], atol=1e-6)
        assert one.spectrum is None and not one.problems
    assert units(source).flux == "relative flux"
