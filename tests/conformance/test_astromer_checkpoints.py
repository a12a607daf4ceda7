"""Checkpoints of the original ASTROMER code: every weight, and what the loaded networks give."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from astrom3.encoders.astromer import pooled
from astrom3.modalities.astromer_view import empty_batch, fill_windows, sequential_windows
from astrom3.published.astromer import load

FAMILY = "astromer"
ROOT = Path(__file__).resolve().parents[2]
EMBEDDING = 1e-5
RECONSTRUCTION = 2e-5
RELEASED_EMBEDDING = 2e-5
RELEASED_RECONSTRUCTION = 1e-4


def difference(ours, reference):
    """Norm of the difference over norm of the reference."""
    assert ours.shape == reference.shape
    return float((ours.double() - reference.double()).norm() / reference.double().norm())


@torch.inference_mode()
def run(encoder, head, tensors, prefix=""):
    """Last block (B, L, D), reconstruction (B, L, 1) and visible points (B, L) for a vector's inputs."""
    columns = [tensors[prefix + name].squeeze(-1) for name in ("times", "input", "mask_in")]
    times, magnitudes, masked = columns
    last = encoder.every_layer(times, magnitudes, torch.ones_like(masked), masked)[-1]
    return last, head(last).unsqueeze(-1), 1 - masked


def check_weights(encoder, head, tensors):
    ours = encoder.state_dict() | {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    theirs = {name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")}
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


class TestCheckpoints:
    def test_weights_and_outputs(self, checkpoint):
        tensors = load_file(checkpoint / "expected.safetensors")
        encoder, head, _ = load(checkpoint)
        check_weights(encoder, head, tensors)
        last, output, visible = run(encoder, head, tensors)
        assert difference(last, tensors["embedding"]) <= EMBEDDING
        assert difference(output, tensors["output"]) <= RECONSTRUCTION
        for pool in ("mean", "max"):
            assert difference(pooled(last, visible, pool), tensors[pool]) <= EMBEDDING

    def test_encode_of_whole_curves(self, checkpoint):
        tensors = load_file(checkpoint / "expected.safetensors")
        numbers = sorted(int(name.split(".")[1]) for name in tensors if name.startswith("encode."))
        if not numbers:
            pytest.skip("only the library of version 1 encodes whole curves")
        encoder, _, _ = load(checkpoint)
        for number in numbers:
            curve = tensors[f"curve.{number}"].numpy()
            lengths = np.array([len(curve)])
            windows = sequential_windows(lengths, encoder.window, min_points=1, duplicates=True)
            batch = empty_batch(len(windows.curves), encoder.window)
            fill_windows(curve, np.array([0, len(curve)]), windows.curves, windows.starts, batch)
            inputs = [torch.from_numpy(batch[key]) for key in encoder.inputs]
            with torch.inference_mode():
                tokens, visible = encoder.tokens(*inputs)
            assert difference(tokens[visible], tensors[f"encode.{number}"]) <= EMBEDDING

    def test_the_other_form_of_a_release(self, checkpoint, tmp_path):
        if not (checkpoint / "weights.h5").is_file():
            pytest.skip("this checkpoint has no weights.h5")
        for name in ("conf.json", "weights.h5"):
            (tmp_path / name).write_bytes((checkpoint / name).read_bytes())
        encoder, head, _ = load(tmp_path)
        check_weights(encoder, head, load_file(checkpoint / "expected.safetensors"))


class TestReleased:
    def kind(name, entry):
        return name.startswith("released_")

    def test_embeddings_and_reconstructions(self, vector):
        path, entry = vector
        folder = Path(os.environ.get("ASTROM3_WEIGHTS", ROOT.parent / "shared" / "weights" / "astromer"))
        digest = entry["archive_sha256"]
        archives = sorted(folder.glob("*.zip")) if folder.is_dir() else []
        same = [archive for archive in archives if hashlib.sha256(archive.read_bytes()).hexdigest() == digest]
        if not same:
            pytest.skip(f"the released weights are not in {folder} (set ASTROM3_WEIGHTS)")
        encoder, head, config = load(same[0])
        assert {name: config[name] for name in entry["config"]} == entry["config"]
        modules = (encoder, head)
        assert sum(p.numel() for module in modules for p in module.parameters()) == entry["parameters"]

        tensors = load_file(path)
        last, output, visible = run(encoder, head, tensors)
        assert difference(output, tensors["output"]) <= RELEASED_RECONSTRUCTION
        for pool in ("mean", "max"):
            assert difference(pooled(last, visible, pool), tensors[pool]) <= RELEASED_EMBEDDING
        sequences = [name for name in tensors if name.startswith("sequence.")]
        for name in sequences:
            assert difference(last[int(name.split(".")[1])], tensors[name]) <= RELEASED_EMBEDDING
        _, output, _ = run(encoder, head, tensors, "masked.")
        assert difference(output, tensors["masked.output"]) <= RELEASED_RECONSTRUCTION
