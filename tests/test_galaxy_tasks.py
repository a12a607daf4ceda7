"""Galaxies: outputs of frozen encoders kept, masked and contrastive tasks in one run, photometry as third modality."""

import csv
import logging
import os
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from astrom3.cli.config import compose
from astrom3.data import kept
from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.magnitudes import MagnitudeMLP
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError
from astrom3.modalities.view import get_view
from astrom3.published import native
from astrom3.tasks.masked_spectrum import masked_spectrum_loss, reconstruct
from astrom3.tasks.masks import ChunkMasks
from astrom3.train import train
from astrom3.training.build import build

pytestmark = pytest.mark.slow

TINY = ["model=astroclip", "size=tiny", "data=simulated", "data.objects=24", "data.batch_size=8", "trainer=cpu",
        "trainer.enable_progress_bar=false", "mode=clip"]  # fmt: skip
THREE = "modalities=[spectra,images,photometry]"


@pytest.fixture(autouse=True, scope="module")
def cache(galaxy_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROM3_CACHE", str(galaxy_cache))
        yield


def run(root, *extra):
    train(compose([*TINY, f"root={root}", *extra]))
    return root / "astroclip-clip-full-scratch-42"


def checkpoint(place):
    return torch.load(place / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def three(tmp_path_factory, cache, galaxy_cache):
    """A run with frozen encoders of images and spectra and a learning one of photometry, whose kept outputs are all
    that is kept: tests of other files share the cache."""
    shutil.rmtree(galaxy_cache / kept.FOLDER, ignore_errors=True)
    return run(tmp_path_factory.mktemp("kept"), THREE)


def test_kept_outputs_change_a_run_by_rounding_alone(three, tmp_path, galaxy_cache, caplog):
    folders = sorted((galaxy_cache / kept.FOLDER).iterdir())
    assert len(folders) >= 4 and all((folder / "000000.npy").is_file() for folder in folders)
    live = run(tmp_path / "live", THREE, "keep=false")
    one, two = checkpoint(three), checkpoint(live)
    torch.testing.assert_close(one["state_dict"], two["state_dict"], rtol=1e-4, atol=1e-6)
    tables = [list(csv.DictReader((folder / "metrics.csv").open())) for folder in (three, live)]
    assert len(tables[0]) == len(tables[1]) > 0
    for kept_row, live_row in zip(*tables, strict=True):
        assert float(kept_row["val/loss"]) == pytest.approx(float(live_row["val/loss"]), rel=1e-5)


def test_what_is_kept_is_used_again_and_mended_where_it_is_damaged(three, tmp_path, galaxy_cache, caplog):
    before = {path: path.stat().st_mtime_ns for path in (galaxy_cache / kept.FOLDER).rglob("*.npy")}
    damaged = next(iter(before))
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.INFO):
        again = run(tmp_path, THREE, "epochs=1")
    assert sum("keeping what the frozen encoder" in message for message in caplog.messages) == 1
    assert damaged.read_bytes() == whole
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path for path in before if after[path] != before[path]] == [damaged]
    assert (again / "metrics.json").is_file()


def test_a_key_is_of_every_bit_of_the_weights():
    state = {"a": torch.zeros(3), "b": torch.zeros(2, dtype=torch.bfloat16)}
    key = kept.weights_key(state, "cutout")
    changed = state | {"b": torch.tensor([0, 1e-30], dtype=torch.bfloat16)}
    assert key == kept.weights_key(dict(reversed(state.items())), "cutout")
    assert len({key, kept.weights_key(changed, "cutout"), kept.weights_key(state, "specformer")}) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_kept_outputs_come_back_as_they_were(dtype, tmp_path):
    values = torch.randn(150, 2, 3).to(dtype)
    outputs = kept.KeptOutputs(tmp_path / "x", len(values), values[0])
    assert outputs.missing() == [0, 1, 2]
    assert list(kept.compute(outputs, [0, 2], lambda at: values[torch.from_numpy(at)])) == [64, 22]
    assert outputs.missing() == [1]
    list(kept.compute(outputs, [1], lambda at: values[torch.from_numpy(at)]))
    at = np.array([149, 0, 63, 64, 3, 149])
    assert torch.equal(outputs.rows(at), values[torch.from_numpy(at)])


def test_views_that_draw_say_so():
    fixed = {"spectra", "metadata", "specformer", "cutout", "magnitudes"}
    assert {name for name in (*fixed, "photometry", "astromer", "cutout-crops") if not get_view(name).draws} == fixed


def test_full_disk_is_answered(tmp_path, monkeypatch):
    from astrom3.training import frozen

    monkeypatch.setattr(frozen, "ROOM", 0.0)
    outputs = kept.KeptOutputs(tmp_path / "x", 10, torch.zeros(4))
    assert not frozen.has_room(outputs, 1, tmp_path, "auto", "images")
    with pytest.raises(UserError, match="GB free: make room"):
        frozen.has_room(outputs, 1, tmp_path, True, "images")


def test_a_full_disk_takes_from_what_was_not_used_for_a_day(tmp_path, monkeypatch, caplog):
    from astrom3.training import frozen

    now = time.time()
    for name, days in {"old": 9.0, "older": 30.0, "busy": 0.2}.items():
        folder = tmp_path / kept.FOLDER / name
        outputs = kept.KeptOutputs(folder, 64, torch.zeros(100))
        outputs.write(0, torch.zeros(64, 100))
        outputs.describe({"slot": name})
        for path in (folder / kept.ABOUT, folder):
            os.utime(path, (now - days * 86400, now - days * 86400))
    size = kept.total_size(tmp_path / kept.FOLDER / "old")
    free = [50_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda root: SimpleNamespace(free=free[0]))
    mine = kept.KeptOutputs(tmp_path / kept.FOLDER / "mine", 64, torch.zeros(100))
    with caplog.at_level(logging.INFO):
        assert not frozen.has_room(mine, 1, tmp_path, "auto", "images")  # the disk says that nothing was freed
    there = {path.name for path in (tmp_path / kept.FOLDER).iterdir()}
    assert 2 * mine.bytes_per_object * 64 - free[0] < size and there == {"old", "busy"}  # one is enough, the oldest
    assert "not used for a day" in caplog.messages[0]
    kept.KeptOutputs(tmp_path / kept.FOLDER / "old", 64, torch.zeros(100)).touch()
    assert list(kept.remove_unused(tmp_path / kept.FOLDER, 10**9, mine.folder)) == []


def test_photometry_learns_beside_frozen_encoders(three):
    model = native.load(three / "model")
    assert list(model.encoders) == ["spectra", "images", "photometry"]
    assert isinstance(model.encoders["photometry"], MagnitudeMLP)
    scores = (three / "metrics.json").read_text()
    assert "photometry_spectra" in scores and "images_photometry" in scores
    batch = {"magnitudes/grz": torch.tensor([[18.0, 17.2, 16.7], [99.0, 17.0, 16.0]])}
    inputs = model.encoders["photometry"].scaled(batch["magnitudes/grz"])
    assert inputs.shape == (2, 5) and inputs.abs().max() <= 8
    assert model.embed("photometry", batch).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)


def small(frozen, present=None):
    """Aligned towers with the three modalities and a batch of six galaxies."""
    torch.manual_seed(0)
    encoders = {
        "photometry": MagnitudeMLP(16, 1),
        "spectra": SpecFormer(16, 1, 2),
        "images": VisionTransformer(embed_dim=16, depth=1, num_heads=2),
    }
    batch = {
        "index": torch.arange(6),
        "label": torch.zeros(6, dtype=torch.int64),
        "specformer/flux": torch.randn(6, 7781) + 2,
        "cutout/flux": torch.rand(6, 3, 152, 152),
        "magnitudes/grz": torch.randn(6, 3) + 18,
        "present": {slot: torch.tensor(rows) for slot, rows in (present or {}).items()},
    }
    return AlignedTowers(encoders, 16, 2, 0.0, frozen), batch


def aligned(model, **options):
    from astrom3.tasks.alignment_task import AlignmentModule

    return AlignmentModule(model, ("a",), {}, {}, seed=3, **options).eval()


def test_masked_and_contrastive_add_up_and_every_galaxy_counts():
    there = {
        "photometry": [True] * 6,
        "spectra": [True] * 5 + [False],
        "images": [False, False, True, True, True, True],
    }
    model, batch = small(["images"], there)
    both = aligned(model, tasks=["contrastive", "masked"], masked_weight=0.5)
    losses, _ = both._losses(batch)
    alone, _ = aligned(model)._losses(batch)
    encoder = model.encoders["spectra"].backbone
    parts = reconstruct(encoder, batch["specformer/flux"][:5], ChunkMasks(), torch.arange(5), (3, 0))
    expected = masked_spectrum_loss(*parts)
    torch.testing.assert_close(losses["loss/masked"], expected)
    torch.testing.assert_close(losses["loss"], alone["loss"] + 0.5 * expected)
    losses["loss"].backward()
    assert encoder.head.weight.grad.abs().max() > 0 and encoder.blocks[0].mlp.encoder.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in model.encoders["images"].backbone.parameters())
    assert model.encoders["photometry"].network[0].weight.grad.abs().max() > 0


def test_masked_beside_contrastive_needs_a_spectrum_encoder_that_learns():
    with pytest.raises(UserError, match=r"model\.frozen=false"):
        aligned(small(True)[0], tasks=["contrastive", "masked"])
    with pytest.raises(UserError, match=r"it is \[contrastive\] or"):
        aligned(small(True)[0], tasks=["masked"])
    with pytest.raises(UserError, match="has encoders of photometry, spectra, images"):
        small(["light_curves"])


def test_what_is_not_hidden_can_be_left_out_of_the_last_block():
    torch.manual_seed(0)
    encoder = SpecFormer(16, 2, 2)
    flux = torch.randn(3, 7781) + 1
    masks = ChunkMasks()
    objects = torch.arange(3)
    parts = reconstruct(encoder, flux, masks, objects, (3, 1))
    assert parts.reconstruction.shape == (3, 300, 22)
    loss = masked_spectrum_loss(*parts)
    found = torch.autograd.grad(loss, list(encoder.parameters()))
    tokens = encoder.prepare(flux)
    masked = masks.apply(tokens, masks.draw_for(objects, tokens.shape[1], 3, 1))
    whole = masked_spectrum_loss(encoder.reconstruct(masked), tokens, masked)
    torch.testing.assert_close(loss, whole)
    expected = torch.autograd.grad(whole, list(encoder.parameters()))
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-6)


def test_hidden_tokens_are_a_function_of_seed_epoch_and_object():
    masks = ChunkMasks()
    offsets = masks.draw_for(torch.arange(2000), 778, 1, 2)
    assert torch.equal(masks.draw_for(torch.tensor([7, 1999]), 778, 1, 2), offsets[[7, 1999]])
    assert not torch.equal(masks.draw_for(torch.arange(2000), 778, 1, 3), offsets)
    assert offsets.min() == 0 and offsets.max() == masks.offset_count(778) - 1
    assert offsets.float().mean(0).sub(39).abs().max() < 2


@pytest.mark.slow
def test_both_tasks_run_from_the_command_line(tmp_path):
    place = run(
        tmp_path, "tasks=[contrastive,masked]", "model.frozen=[images]", "epochs=1", "trainer.precision=bf16-mixed"
    )
    text = (place / "metrics.csv").read_text()
    assert "val/loss/masked" in text
    assert "loss/masked" in (place / "metrics.json").read_text()


def test_data_without_magnitudes_are_answered():
    cfg = compose([*TINY, THREE])
    data, _ = build(cfg)
    table = data.source.table("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(table), "target_names", property(lambda self: ("redshift",)))
        with pytest.raises(UserError, match="has no column mag_g, which photometry"):
            build(cfg)


@pytest.mark.parametrize("mode", ["masked", "distil", "clip"])
@pytest.mark.parametrize("size", ["published", "small", "tiny"])
def test_every_size_of_every_mode_composes(mode, size):
    cfg = compose(["model=astroclip", f"mode={mode}", f"size={size}", "data=simulated"])
    widths = {"published": (768, 1024), "small": (256, 384), "tiny": (64, 96)}[size]
    found = [cfg.encoders[slot].embed_dim for slot in ("spectra", "images") if slot in cfg.encoders]
    assert found == [w for w, m in zip(widths, ("distil", "masked"), strict=True) if mode != m]
