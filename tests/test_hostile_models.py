"""Model folders and released weights, damaged in many ways: each is read, or refused with one sentence."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_files import damaged, faults, instead, texts, with_bytes, with_text
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from small_models import save_model

import astrom3
from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.astromer import Astromer
from astrom3.encoders.folded import FoldedEncoder
from astrom3.encoders.ring import RingEncoder, VariabilityEncoder
from astrom3.encoders.specformer import SpecFormer
from astrom3.files import read_json
from astrom3.published import native

pytestmark = pytest.mark.slow

Call = Callable[[], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def model(place, survey_of_30) -> Path:
    return save_model(place / "model", survey_of_30)


def loading(folder: Path) -> Call:
    return lambda: astrom3.load(folder, device="cpu")


def weights(path: Path, read: Call) -> dict[str, Call]:
    """A file of tensors, of which one is NaN, infinite, of whole numbers, of another shape, or missing."""
    state = load_file(path)
    name = next(key for key, tensor in state.items() if tensor.is_floating_point() and tensor.dim() > 0)
    tensor = state[name]
    others = {
        "NaN": tensor * float("nan"),
        "inf": tensor / 0,
        "whole": tensor.long(),
        "truths": tensor.bool(),
        "longer": torch.cat([tensor, tensor]),
        "nested": tensor[None],
        "none": tensor.flatten()[:0],
    }
    cases = {f"{name} {kind}": {**state, name: other.contiguous()} for kind, other in others.items()}
    for key in state:
        if key.endswith("running_var"):
            cases[f"{key} below zero"] = {**state, key: -state[key] - 1}
    cases["one missing"] = {key: other for key, other in state.items() if key != name}
    cases["one more"] = {**state, "more": torch.zeros(3)}
    cases["nothing"] = {}
    return {f"{path.name} {kind}": with_bytes(path, to_bytes(content), read) for kind, content in cases.items()}


def of_model(folder: Path) -> tuple[dict[str, Call], dict[str, Call]]:
    """Cases that may be accepted, and cases that must be refused."""
    read = loading(folder)
    read()
    cases: dict[str, Call] = {}
    refused: dict[str, Call] = {}
    for path in sorted(folder.glob("*.json")):
        cases |= instead(path, read)
        for name, text in texts(read_json(path)):
            cases[f"{path.name} {name}"] = with_text(path, text, read)
    for path in sorted(folder.glob("*.safetensors")):
        cases |= instead(path, read)
        refused |= weights(path, read)
        for name, content in damaged(path.read_bytes()):
            where = cases if name == "garbled" else refused  # other numbers, which may do
            where[f"{path.name} {name}"] = with_bytes(path, content, read)
        header = (10**9).to_bytes(8, "little")
        refused[f"{path.name} of a giant header"] = with_bytes(path, header + path.read_bytes()[8:], read)
    return cases, refused


def test_model_folders_in_published_form(model):
    cases, refused = of_model(model)
    assert len(cases) > 100
    assert faults(cases) == []
    assert faults(refused, refused=True) == []


@pytest.mark.parametrize("make", [
    lambda: Astromer(layers=1, d_model=16, n_heads=2, d_ff=32),
    lambda: SpecFormer(embed_dim=32, num_layers=1, num_heads=2),
    lambda: RingEncoder(width=4, out_features=8),
    lambda: VariabilityEncoder(out_features=8, steps=2),
    lambda: FoldedEncoder(width=4, out_features=8, phases=16),
    lambda: AlignedTowers({"spectra": SpecFormer(embed_dim=16, num_layers=1, num_heads=2)}, 16),
])  # fmt: skip
def test_model_folders_in_native_form(place, make):
    folder = native.save(make(), place / f"native-{type(make()).__name__}")
    cases, refused = of_model(folder)
    assert faults(cases) == []
    assert faults(refused, refused=True) == []


def test_files_of_released_weights(place):
    """What a downloaded zip, checkpoint of TensorFlow or .ckpt may hold instead."""
    folder = place / "released"
    folder.mkdir()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../outside", "x")
        file.writestr("weights.index", "x")
    contents = dict(damaged(archive.getvalue())) | {"a zip with other files": archive.getvalue()}
    cases: dict[str, Call] = {}
    for name, content in contents.items():
        for ending in ("macho_a0.zip", "astroclip.ckpt", "weights.h5", "model.pt"):
            path = folder / f"{len(cases)}-{ending}"
            path.write_bytes(content)
            cases[f"{ending} {name}"] = loading(path)
    for number, value in enumerate(([], {}, {"state_dict": {}}, {"state_dict": {"a": torch.zeros(2)}}, torch.zeros(3))):
        path = folder / f"other-{number}.ckpt"
        torch.save(value, path)
        cases[path.name] = loading(path)
    for number, (index, data) in enumerate(((b"", b""), (b"x" * 100, b"y" * 100), (bytes(48), bytes(48)))):
        own = folder / f"tf{number}"
        own.mkdir()
        (own / "weights.index").write_bytes(index)
        (own / "weights.data-00000-of-00001").write_bytes(data)
        (own / "config.toml").write_text("[")
        cases[own.name] = loading(own)
    assert faults(cases, refused=True) == []


@pytest.mark.parametrize(
    "source", ["", ".", "/", "/dev/null", "/dev/zero", "/etc/passwd", "no/such", "a\0b", "x" * 5000, 5, None]
)
def test_sources_of_models(source, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert faults({"source": lambda: astrom3.load(source, device="cpu")}, refused=True) == []


def test_nothing_is_left_of_these_tests(place):
    assert not list(place.rglob("*.aside"))
    shutil.rmtree(place / "released", ignore_errors=True)
