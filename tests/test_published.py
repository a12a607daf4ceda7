"""The published form: every tensor accounted for, the same bytes after load and save, clear errors."""

import json

import huggingface_hub.constants as constants
import pytest
import torch
from hub_server import serve
from safetensors.torch import load_file, save_file

from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.published import astrom3 as published
from astrom3.training.init import FromWeights, adopt

SMALL = {"d_model": 16, "n_heads": 2, "d_ff": 32, "e_layers": 2}

# config.json of a published trimodal model, with a small network.
TRIMODAL = {
    "classification": False, "fusion": "avg", "hidden_dim": 24, "m_dropout": 0.16, "m_hidden_dim": 32,
    "m_input_dim": 34, "num_classes": 10, "p_activation": "gelu", "p_d_ff": 32, "p_d_model": 16, "p_dropout": 0.245,
    "p_e_layers": 2, "p_enc_in": 9, "p_factor": 1, "p_n_heads": 2, "p_output_attention": False,
    "s_conv_channels": [3, 64, 64, 32, 32], "s_dropout": 0.34, "s_kernel_size": 3, "s_mp_kernel_size": 4,
    "seq_len": 200,
}  # fmt: skip


def models():
    torch.manual_seed(0)
    trimodal = MultimodalModel(
        {"photometry": InformerEncoder(**SMALL), "spectra": GalSpecNet(), "metadata": MetadataMLP(hidden_dim=32)}, 24
    )
    return {
        "informer": InformerEncoder(**SMALL),
        "photo": Classifier(InformerEncoder(**SMALL, dropout=0.3), 10),
        "spectra": Classifier(GalSpecNet(dropout=0.2), 10),
        "meta": Classifier(MetadataMLP(hidden_dim=32, dropout=0.1), 10),
        "clip": trimodal,
        "all": MultimodalClassifier(trimodal, 10),
        "concat": MultimodalClassifier(trimodal, 7, fusion="concat"),
        "usual": Classifier(InformerEncoder(**SMALL, head_merge="usual", honour_dropout=True), 3),
    }


@pytest.mark.parametrize("name", models())
def test_save_load_save_gives_the_same_bytes(name, tmp_path):
    published.save(models()[name], tmp_path / "a")
    published.save(published.load(tmp_path / "a"), tmp_path / "b")
    for file in (published.CONFIG, published.WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("name", ["photo", "all"])
def test_loaded_model_gives_the_same_output(name, tmp_path):
    model = models()[name].eval()
    batch = {"photometry": torch.randn(2, 200, 9), "mask": torch.ones(2, 200), "spectra": torch.randn(2, 3, 2575),
             "metadata": torch.randn(2, 34)}  # fmt: skip
    again = published.load(published.save(model, tmp_path))
    outputs = [torch.manual_seed(1) and m(batch) for m in (model, again)]
    assert torch.equal(*outputs)


def test_a_published_folder_loads_whole_and_comes_back_unchanged(tmp_path):
    """A folder as on the hub, position table with other last bits included."""
    reference = published.build(TRIMODAL)
    state = published.published_state(reference)
    pe = "photometry_encoder." + published.POSITIONS
    assert state[pe].shape == (1, 5000, 16)
    state[pe] = state[pe] + 1e-7
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text(json.dumps(TRIMODAL))
    save_file(state, tmp_path / "hub" / "model.safetensors")
    published.save(published.load(tmp_path / "hub"), tmp_path / "ours")
    ours = load_file(tmp_path / "ours" / "model.safetensors")
    assert set(ours) == set(state)
    for name, tensor in state.items():
        assert tensor.numpy().tobytes() == ours[name].numpy().tobytes(), name
    assert json.loads((tmp_path / "ours" / "config.json").read_text()) == TRIMODAL


def test_single_encoder_configurations():
    photo = {k.removeprefix("p_"): v for k, v in TRIMODAL.items() if k.startswith("p_")}
    photo |= {"classification": True, "num_classes": 10, "seq_len": 200}
    assert published.describe(published.build(photo)) == photo
    spectra = {"classification": True, "num_classes": 10, "conv_channels": [3, 64, 64, 32, 32], "dropout_rate": 0.2,
               "kernel_size": 3, "mp_kernel_size": 4}  # fmt: skip
    assert published.describe(published.build(spectra)) == spectra
    meta = {"classification": True, "num_classes": 10, "input_dim": 34, "hidden_dim": 32, "dropout": 0.1}
    assert published.describe(published.build(meta)) == meta


def test_missing_and_surplus_tensors_are_named(tmp_path):
    published.save(models()["meta"], tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["extra"] = state.pop("fc.bias")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks fc\.bias and has surplus extra"):
        published.load(tmp_path)


def test_wrong_shape_is_named(tmp_path):
    published.save(models()["meta"], tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_classes": 4}))
    with pytest.raises(UserError, match=r"fc\.\w+ has shape"):
        published.load(tmp_path)


def test_damaged_and_absent_files(tmp_path):
    published.save(models()["meta"], tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        published.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="no JSON"):
        published.load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds no config\.json"):
        published.load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        published.load(tmp_path / "nowhere" / "at" / "all")


def test_loads_by_hub_id_from_a_server(monkeypatch, tmp_path):
    published.save(models()["meta"], tmp_path / "hub" / "AstroMLCore" / "AstroM3-CLIP-meta")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        model = published.load("AstroMLCore/AstroM3-CLIP-meta")
        with pytest.raises(UserError, match="hub has no model AstroMLCore/AstroM3-CLIP-7"):
            published.load("AstroMLCore/AstroM3-CLIP-7")
    for name, tensor in models()["meta"].state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_unreachable_hub_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"hub cannot be reached for nobody/nothing.*give the folder"):
        published.load("nobody/nothing")


def test_fine_tuning_one_modality_takes_its_encoder_only(tmp_path):
    clip = models()["clip"]
    published.save(clip, tmp_path)
    classifier = Classifier(InformerEncoder(**SMALL), 5)
    head = classifier.head.weight.clone()
    FromWeights(str(tmp_path)).apply(classifier)
    for name, tensor in clip.encoders["photometry"].state_dict().items():
        assert torch.equal(tensor, classifier.encoder.state_dict()[name]), name
    assert torch.equal(classifier.head.weight, head)


def test_fine_tuning_all_takes_everything_but_the_head(tmp_path):
    clip = models()["clip"]
    published.save(clip, tmp_path)
    torch.manual_seed(5)
    fresh = MultimodalClassifier(published.build(TRIMODAL), 10)
    FromWeights(str(tmp_path)).apply(fresh)
    for name, tensor in clip.state_dict().items():
        assert torch.equal(tensor, fresh.backbone.state_dict()[name]), name


def test_weights_of_another_size_are_refused():
    state = published.published_state(models()["clip"])
    with pytest.raises(UserError, match="make the encoders the same size"):
        adopt(Classifier(MetadataMLP(hidden_dim=64), 3), state, "run")
    with pytest.raises(UserError, match="lacks"):
        adopt(Classifier(InformerEncoder(**SMALL | {"e_layers": 3}), 3), state, "run")
