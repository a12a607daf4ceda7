"""Small genuine files of AstroCLIP in all published forms, what the loaded networks give, and hostile files."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from astroclip_vectors import assert_close
from safetensors.torch import load_file

from astrom3.errors import UserError
from astrom3.modalities.cutout import from_paired
from astrom3.published.astroclip import chunked_blocks, find, load

FAMILY = "astroclip"
FOLDER = Path(__file__).parent / "astroclip" / "checkpoints"
FORMS = ("specformer", "specformer_trainer", "specformer_trainer_newer")


@pytest.fixture(scope="module")
def expected():
    return load_file(FOLDER / "expected.safetensors")


@torch.inference_mode()
def test_aligned_model(expected):
    loaded = load(FOLDER / "astroclip.ckpt")
    assert loaded.kind == "astroclip"
    assert loaded.config["scale"] == 15.5
    assert not loaded.modules["images"].training
    flux = from_paired(expected["flux"])
    assert_close(loaded.modules["images"](flux), expected["astroclip.image"], name="images")
    assert_close(loaded.modules["spectra"](expected["spectrum"]), expected["astroclip.spectrum"], name="spectra")


@torch.inference_mode()
@pytest.mark.parametrize("form", FORMS)
def test_specformer(expected, form):
    model = load(FOLDER / f"{form}.ckpt").modules["specformer"]
    assert_close(model(expected["spectrum"]), expected[f"{form}.mean"], name="mean")
    if f"{form}.embedding" in expected:
        assert_close(model.tokens(expected["spectrum"])[0], expected[f"{form}.embedding"], name="tokens")
        reconstruction = model.reconstruct(model.prepare(expected["spectrum"]))
        assert_close(reconstruction, expected[f"{form}.reconstructions"], name="reconstruction")


@torch.inference_mode()
def test_image_encoder(expected):
    loaded = load(FOLDER / "astrodino.ckpt", num_heads=3)
    assert set(loaded.modules) == {"vit", "dino_head"}
    features = loaded.modules["vit"].features(expected["image"])
    assert_close(features.cls, expected["astrodino.cls"], name="cls")
    assert_close(features.patches, expected["astrodino.patch"], name="patches")


def test_every_tensor_of_the_files_is_in_the_modules():
    listed = json.loads((FOLDER / "checkpoints.json").read_text())
    content = torch.load(FOLDER / "astrodino.ckpt", weights_only=True)["teacher"]
    loaded = load(FOLDER / "astrodino.ckpt", num_heads=3)
    ours = {"dino_head." + name: tensor for name, tensor in loaded.modules["dino_head"].state_dict().items()}
    backbone = chunked_blocks(loaded.modules["vit"].state_dict())
    ours |= {"backbone." + name: tensor for name, tensor in backbone.items()}
    assert set(ours) == set(listed["astrodino.ckpt"]["tensors"]) == set(content)
    for name, tensor in content.items():
        assert torch.equal(ours[name], tensor), name


def test_configurations_are_plain():
    for name in ("astroclip.ckpt", "specformer.ckpt"):
        config = load(FOLDER / name).config
        assert json.loads(json.dumps(config)) == config


@pytest.mark.slow
def test_folder_and_hub_id(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"several checkpoints \(astroclip\.ckpt, astrodino\.ckpt, specformer\.ckpt\)"):
        find(FOLDER)
    shutil.copy(FOLDER / "specformer.ckpt", tmp_path)
    assert find(tmp_path) == tmp_path / "specformer.ckpt"
    with pytest.raises(UserError, match="not a hub id"):
        find("no/such/file.ckpt")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="hub cannot be reached for nobody/specformer"):
        find("nobody/specformer")


# --- hostile files --------------------------------------------------------------------------------------------------


class Command:
    """Pickles as a call of os.system that leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_file_that_would_run_a_command_is_refused(tmp_path):
    state = load_state()
    torch.save({"state_dict": state, "hyper_parameters": Command(tmp_path / "ran")}, tmp_path / "specformer.ckpt")
    with pytest.raises(UserError, match=r"asks for posix\.system"):
        load(tmp_path / "specformer.ckpt")
    assert not (tmp_path / "ran").exists()


def load_state():
    return torch.load(FOLDER / "specformer_trainer.ckpt", weights_only=True)["state_dict"]


def wrong_shape(state):
    state["head.weight"] = torch.zeros(22, 19)


def missing(state):
    del state["blocks.1.mlp.decoder.bias"]


def surplus(state):
    state["blocks.1.extra"] = torch.zeros(3)


def not_finite(state):
    state["head.bias"][3] = float("nan")


def not_a_tensor(state):
    state["head.bias"] = "zeros"


def larger_than_the_file(state):
    state["position_embed.weight"] = torch.zeros(1, 1).expand(10**6, 10**6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (wrong_shape, r"head\.weight has shape \(22, 19\)"),
        (missing, r"lacks blocks\.1\.mlp\.decoder\.bias"),
        (surplus, r"has surplus blocks\.1\.extra"),
        (not_finite, r"head\.bias holds numbers that are not finite"),
        (not_a_tensor, r"'head\.bias', which is not a tensor"),
        (larger_than_the_file, "more than the file has"),
    ],
)
def test_wrong_weights_get_a_sentence(tmp_path, change, sentence):
    state = load_state()
    change(state)
    hyper = {"num_heads": 3, "slice_section_length": 20, "slice_overlap": 10, "dropout": 0.0}
    torch.save({"state_dict": state, "hyper_parameters": hyper}, tmp_path / "specformer.ckpt")
    with pytest.raises(UserError, match=sentence):
        load(tmp_path / "specformer.ckpt")


@pytest.mark.parametrize("hyper", [{}, {"num_heads": "3"}, {"num_heads": 3, "slice_section_length": [20]}, 7])
def test_wrong_hyper_parameters_get_a_sentence(tmp_path, hyper):
    torch.save({"state_dict": load_state(), "hyper_parameters": hyper}, tmp_path / "specformer.ckpt")
    with pytest.raises(UserError, match=r"attention heads|not numbers"):
        load(tmp_path / "specformer.ckpt")


def test_damaged_files_get_a_sentence(tmp_path):
    path = tmp_path / "specformer.ckpt"
    whole = (FOLDER / "specformer.ckpt").read_bytes()
    for content in (b"", b"not a checkpoint", whole[:20_000]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            load(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="holds a list"):
        load(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(UserError, match="holds no weights"):
        load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("specformer/data.pkl", b"\0" * 1000)
    with pytest.raises(UserError, match="is compressed"):
        load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("specformer/data.pkl", b"\x80\x02garbage")
        archive.writestr("specformer/version", b"3\n")
    with pytest.raises(UserError, match="damaged"):
        load(path)
