"""AstroCLIP in the house: every task trains, goes on exactly where it was, and starts from weights of others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from astrom3.cli.config import compose
from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.dino_head import Branch
from astrom3.encoders.specformer import SpecFormer
from astrom3.errors import UserError
from astrom3.published import astroclip, native
from astrom3.tasks.alignment import alignment_loss
from astrom3.train import train
from astrom3.training.build import build

pytestmark = pytest.mark.slow

CHECKPOINTS = Path(__file__).parent / "conformance" / "astroclip" / "checkpoints"
TINY = ["model=astroclip", "size=tiny", "data=simulated", "data.objects=24", "data.batch_size=8", "trainer=cpu"]
KINDS = {"masked": SpecFormer, "distil": Branch, "clip": AlignedTowers}


@pytest.fixture(autouse=True, scope="module")
def cache(galaxy_cache):
    """One simulated survey and one store for all tests here, away from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROM3_CACHE", str(galaxy_cache))
        yield


def run(root, mode, *extra):
    return train(compose([*TINY, f"root={root}", f"mode={mode}", "trainer.enable_progress_bar=false", *extra]))


def folder(root, mode, init="scratch"):
    return root / f"astroclip-{mode}-full-{init}-42"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A finished run of each task."""
    root = tmp_path_factory.mktemp("runs")
    scores = {mode: run(root, mode) for mode in KINDS}
    return root, scores


@pytest.mark.parametrize("mode", KINDS)
def test_a_run_leaves_its_scores_and_its_model(mode, trained):
    root, scores = trained
    place = folder(root, mode)
    found = json.loads((place / "metrics.json").read_text())
    assert np.isfinite(found["loss"]) and found == json.loads(json.dumps(scores[mode]))
    for name in ("config.yaml", "run.json", "metrics.csv", "curves.png", "rejected.csv", "model/preprocessing.json"):
        assert (place / name).is_file(), name
    about = json.loads((place / "run.json").read_text())["data"]
    assert about["layout"] == "galaxies" and about["note"] == "simulated data"
    model = native.load(place / "model")
    assert type(model) is KINDS[mode]
    weights = torch.load(place / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, weights[f"model.{name}"], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", KINDS)
def test_a_run_that_stopped_after_an_epoch_ends_as_one_that_did_not(mode, trained, tmp_path):
    root, _ = trained
    whole = folder(root, mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("astrom3.training.evaluation.load_best", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, mode)
    broken = folder(tmp_path, mode)
    assert not (broken / "metrics.json").exists()
    shutil.copy(broken / "checkpoints" / "previous.ckpt", broken / "checkpoints" / "last.ckpt")
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    run(tmp_path, mode)
    assert (broken / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    one, two = (torch.load(place / "checkpoints" / "last.ckpt", weights_only=True) for place in (whole, broken))
    torch.testing.assert_close(one["state_dict"], two["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(one["optimizer_states"], two["optimizer_states"], rtol=0, atol=0)


def stop(*_):
    raise KeyboardInterrupt


def test_a_distilled_run_keeps_student_teacher_centres_and_rates_by_layer(trained):
    root, _ = trained
    state = torch.load(folder(root, "distil") / "checkpoints" / "last.ckpt", weights_only=True)
    weights = state["state_dict"]
    name = "backbone.blocks.0.mlp.fc1.weight"
    moved = (weights[f"student.{name}"] - weights[f"model.{name}"]).abs().max()
    assert moved > 0
    assert weights["centres.dino.value"].abs().max() > 0 and weights["centres.ibot.value"].abs().max() > 0
    rates = {group["lr_multiplier"] for group in state["optimizer_states"][0]["param_groups"]}
    assert {1.0, 0.9, 0.9**3} <= rates and len(rates) == 6  # three blocks, tokens, patches, the rest


@pytest.mark.slow
def test_alignment_starts_from_both_pre_trainings_and_freezes_them(trained, tmp_path):
    root, _ = trained
    spectra = native.load(folder(root, "masked") / "model")
    run(tmp_path, "clip", "init=file", f"init.path={folder(root, 'masked')}")
    model = native.load(folder(tmp_path, "clip", "file") / "model")
    tower = model.encoders["spectra"]
    torch.testing.assert_close(tower.backbone.state_dict(), spectra.state_dict(), rtol=0, atol=0)
    images = native.load(folder(root, "distil") / "model")
    cfg = compose([*TINY, "mode=clip", "init=stages", f"root={root}"])
    _, module = build(cfg)
    start = instantiate(cfg.init.start)
    start.check()
    start.apply(module.model)
    for slot, expected in (("spectra", spectra), ("images", images.backbone)):
        found = module.model.encoders[slot].backbone.state_dict()
        torch.testing.assert_close(found, expected.state_dict(), rtol=0, atol=0)


def test_the_loss_is_the_published_one_over_the_pairs_that_are_there(trained):
    root, _ = trained
    model = native.load(folder(root, "clip") / "model")
    cfg = compose([*TINY, "mode=clip"])
    data, module = build(cfg)
    module.model.load_state_dict(model.state_dict())
    module.eval()
    batch = data.splits["train"].batch(np.arange(6))
    with torch.no_grad():
        towers = module.model.encoders
        spectra = towers["spectra"](batch["specformer/flux"])
        images = towers["images"](batch["cutout/flux"])
        whole = module._losses(batch)[0]["loss"]
        torch.testing.assert_close(whole, alignment_loss(images, spectra))
        batch["present"]["images"][[1, 4]] = False
        batch["present"]["spectra"][2] = False
        kept = torch.tensor([0, 3, 5])
        partial = module._losses(batch)[0]["loss"]
    torch.testing.assert_close(partial, alignment_loss(images[kept], spectra[kept]))


def test_a_learnable_scale_enters_the_loss(trained):
    cfg = compose([*TINY, "mode=clip", "model.learnable=true"])
    data, module = build(cfg)
    module._losses(data.splits["train"].batch(np.arange(4)))[0]["loss"].backward()
    assert float(module.model.logit_scales["all"].grad.abs()) > 0
    assert {p.requires_grad for p in module.model.encoders["images"].backbone.parameters()} == {False}


@pytest.mark.parametrize(
    ("mode", "file"), [("masked", "specformer.ckpt"), ("distil", "astrodino.ckpt"), ("clip", "astroclip.ckpt")]
)
def test_genuine_files_are_where_a_run_starts(mode, file, tmp_path):
    found = astroclip.load(CHECKPOINTS / file, num_heads=2 if mode == "distil" else None)
    overrides = as_overrides(found.config, mode)
    cfg = compose([*TINY, f"mode={mode}", "init=file", f"init.path={CHECKPOINTS / file}", *overrides])
    model = instantiate(cfg.model)
    instantiate(cfg.init.start).apply(model)
    state = model.state_dict()
    expected = expected_state(found.modules, mode)
    assert set(expected) == set(state)
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


def as_overrides(config, mode):
    """The sizes of a checkpoint as keys of the configuration."""
    parts = {"specformer": "encoders.spectra", "vit": "encoders.images", "dino_head": "heads.images"}
    found = []
    for part, prefix in parts.items():
        for key, value in config.get(part, {}).items():
            found.append(f"{prefix}.{key}={str(value).lower() if isinstance(value, bool) else value}")
    if mode == "clip":
        tower = config["images"]
        found += ["model.compat=true", f"model.embed_dim={tower['embed_dim']}", f"model.n_head={tower['n_head']}"]
    return found


def expected_state(modules, mode):
    """The tensors of a checkpoint under the names of the task's model."""
    if mode == "masked":
        return modules["specformer"].state_dict()
    names = {"vit": "backbone", "dino_head": "dino_head", "images": "encoders.images", "spectra": "encoders.spectra"}
    return {f"{names[part]}.{n}": t for part, module in modules.items() for n, t in module.state_dict().items()}


def test_an_image_head_of_the_published_form_needs_compat():
    cfg = compose([*TINY, "mode=clip", "init=file", f"init.path={CHECKPOINTS / 'astroclip.ckpt'}"])
    with pytest.raises(UserError, match=r"needs its published form: add model\.compat=true"):
        instantiate(cfg.init.start).apply(instantiate(cfg.model))
