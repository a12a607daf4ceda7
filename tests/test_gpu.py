"""What only a CUDA device can show: `make test-gpu`. The batches gathered on it are in test_resident.py."""

import json

import pytest
import torch

from astrom3.cli.config import compose
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.towers import MultimodalModel
from astrom3.tasks.losses import contrastive_loss
from astrom3.train import train

pytestmark = pytest.mark.gpu
TINY = ["size=tiny", "data=simulated", "data.objects=240", "trainer=gpu", "trainer.enable_progress_bar=false"]


def test_the_light_curve_encoder_gives_the_numbers_of_the_cpu():
    torch.manual_seed(0)
    model = InformerEncoder(evaluation="fixed").eval()
    photometry, mask = torch.randn(8, 200, 9), torch.ones(8, 200)
    here = model(photometry, mask)
    there = model.cuda()(photometry.cuda(), mask.cuda()).cpu()
    # A near tie may choose another query: nearly all numbers must agree, not every single one.
    close = (here - there).abs() < 1e-3
    assert close.float().mean() > 0.99


def test_no_step_waits_for_the_device():
    from astrom3.encoders.galspecnet import GalSpecNet
    from astrom3.encoders.mlp import MetadataMLP

    model = MultimodalModel({"photometry": InformerEncoder(), "spectra": GalSpecNet(), "metadata": MetadataMLP()})
    model.cuda()
    batch = {"photometry": torch.randn(4, 200, 9), "mask": torch.ones(4, 200), "spectra": torch.randn(4, 3, 2575),
             "metadata": torch.randn(4, 34)}  # fmt: skip
    batch = {k: v.cuda() for k, v in batch.items()} | {"present": {}}
    torch.cuda.set_sync_debug_mode("error")
    try:
        scales = {pair: model.scale(*pair) for pair in model.pairs}
        contrastive_loss(model(batch), {}, scales)["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("mode", ["photo", "all", "clip"])
@pytest.mark.parametrize("options", [[], ["data.on_device=true", "compile=true", "trainer.precision=bf16-mixed"]])
def test_runs_on_the_device(mode, options, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    scores = train(compose([*TINY, f"mode={mode}", f"root={tmp_path}", *options]))
    assert json.loads((tmp_path / f"{mode}-full-scratch-42" / "metrics.json").read_text())["seed"] == 42
    assert scores["loss" if mode == "clip" else "accuracy"] >= 0
