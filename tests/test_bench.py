"""The plain variant that the benchmark measures against computes the same as ours, and a row of it comes out."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
import torch

from astrom3.encoders.astromer import Astromer, MaskedAstromer
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.modalities.preprocess import light_curve, spectrum
from experiments.bench import plain
from experiments.bench.measure import spread, verdict
from experiments.bench.rows import Row

ROOT = Path(__file__).resolve().parents[1]


def test_plain_networks_compute_what_ours_do():
    torch.manual_seed(0)
    ours, photometry = InformerEncoder().eval(), torch.randn(3, 200, 9)
    mask = (torch.arange(200) < torch.tensor([[200], [80], [3]])).float()
    theirs, keys = plain.adopt(plain.PlainInformer(), ours).eval(), ours.fixed_keys(200)
    torch.testing.assert_close(theirs(photometry, mask, keys), ours(photometry, mask, keys), rtol=1e-4, atol=1e-4)
    for kind, rival, x in ((GalSpecNet, plain.PlainGalSpecNet, torch.randn(2, 3, 2575)),
                           (MetadataMLP, plain.PlainMLP, torch.randn(5, 34))):  # fmt: skip
        ours = kind().eval()
        torch.testing.assert_close(plain.adopt(rival(), ours).eval()(x), ours(x), rtol=1e-4, atol=1e-5)


def test_plain_networks_have_our_gradients():
    torch.manual_seed(0)
    ours = InformerEncoder(e_layers=2).double()
    theirs = plain.adopt(plain.PlainInformer(layers=2).double(), ours)
    photometry, mask = torch.randn(2, 200, 9, dtype=torch.float64), torch.ones(2, 200, dtype=torch.float64)
    weights = torch.randn(25600, dtype=torch.float64)
    for model in (ours, theirs):
        for module in model.modules():
            if hasattr(module, "p"):
                module.p = 0.0
        (model(photometry, mask, ours.fixed_keys(200)) @ weights).sum().backward()
    for name, parameter in ours.named_parameters():
        other = dict(theirs.named_parameters())[name].grad
        torch.testing.assert_close(other.view(parameter.shape), parameter.grad, rtol=1e-7, atol=1e-7, msg=name)


@pytest.mark.parametrize("version", [1, 2])
def test_plain_astromer_computes_what_ours_does(version):
    from experiments.bench import plain_astromer
    from experiments.bench.astromer import random_windows

    torch.manual_seed(0)
    encoder = Astromer(version=version, layers=2, d_model=32, n_heads=4, d_ff=64)
    ours = MaskedAstromer(encoder).eval()
    theirs = plain_astromer.adopt(plain_astromer.PlainAstromer(version, 2, 32, 4, 64), ours).eval()
    data = random_windows(20)
    inputs = [data[name] for name in ("times", "magnitudes", "valid", "hidden")]
    probed = data["probed"] > 0
    found = theirs.reconstruct(*inputs)
    torch.testing.assert_close(found[probed], ours(*inputs, data["probed"])[probed], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs.features(*inputs[:3]), encoder(*inputs[:3]), rtol=1e-4, atol=1e-4)


def test_plain_preprocessing_gives_our_numbers():
    rng = np.random.default_rng(0)
    for n in (30, 500):
        time, flux = np.sort(rng.uniform(0, 900, n)), rng.normal(10, 1, n)
        error, features = rng.uniform(0.01, 0.1, n), rng.normal(size=4)
        x, mask = plain.light_curve(np.stack([time, flux, error], 1).tolist(), features.tolist())
        expected = light_curve(time, flux, error, features)
        np.testing.assert_array_equal(mask, expected[1])
        # Ours has the constants in padded rows too, as the first hub layout.
        np.testing.assert_allclose(x, expected[0] * mask[:, None], rtol=1e-5, atol=1e-6)
    wavelength, flux = np.linspace(3700, 9100, 3900), rng.normal(100, 5, 3900)
    third = rng.uniform(1, 2, 3900)
    np.testing.assert_allclose(plain.spectrum(np.stack([wavelength, flux, third], 1).tolist()),
                               spectrum(wavelength, flux, third), rtol=1e-4, atol=1e-5)  # fmt: skip


def test_any_of_the_targets_of_a_row_is_enough():
    row = Row("x", "step", {}, ratio=2.0, rate=100)
    assert verdict(row, {"ratio": spread([1.0]), "rate": spread([120.0, 110.0, 90.0])})["reached"]
    assert not verdict(row, {"ratio": spread([1.9]), "rate": spread([99.0])})["reached"]
    assert verdict(Row("x", "step", {}), {}) == {}


@pytest.mark.slow
def test_rows_come_out_of_the_command(tmp_path):
    command = [sys.executable, "-m", "experiments.bench", "small", "only=meta training step, f32", f"out={tmp_path}"]
    processes.run(command, cwd=ROOT, check=True, capture_output=True, env=os.environ | {"ASTROM3_CACHE": str(tmp_path)})
    found = json.loads((tmp_path / "bench-cpu-small.json").read_text())
    assert len(found["rows"]) == 1 and all(r["ratio"]["median"] > 0 and r["gflops"] > 0 for r in found["rows"])
    text = (tmp_path / "bench-cpu-small.md").read_text()
    assert "meta training step, f32" in text and str(tmp_path) not in text


def test_an_unknown_word_is_answered():
    done = processes.run([sys.executable, "-m", "experiments.bench", "huge"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("bench: huge is not known")
