"""ONNX of encoders that are not AstroM3's: Astromer under every head and in clip, and the curves model."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from astrom3 import registry
from astrom3.cli.config import compose
from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.astromer import Astromer
from astrom3.encoders.folded import FoldedEncoder
from astrom3.encoders.heads import classifier
from astrom3.encoders.magnitudes import MagnitudeMLP
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.ring import RingEncoder, VariabilityEncoder
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError
from astrom3.export.__main__ import export as export_verb
from astrom3.export.onnx import TOLERANCE, compare, example, export, graphs, write
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.schema import CLASSES
from astrom3.published import native


def astromer(version=2):
    return Astromer(version, layers=2, d_model=16, n_heads=2, d_ff=32)


def model_of(network):
    return TrainedModel("made up", network.eval(), CLASSES, None)


def run(folder, graph, inputs):
    """Outputs of a file by name."""
    session = onnxruntime.InferenceSession(str(folder / f"{graph.name}.onnx"), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == list(graph.inputs)
    given = {name: inputs[key].numpy() for key, name in zip(graph.keys, graph.inputs, strict=True)}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


ENCODERS = [
    "mode=photo recipe=survey",
    "mode=photo encoder/photometry=bands-tiny",
    "mode=photo encoder/photometry=raw",
    "mode=clip model=curves",
    "mode=clip model=astroclip modalities=[spectra,images,photometry]",
    "mode=all modalities=[spectra,metadata]",
]


@pytest.mark.slow
@pytest.mark.parametrize("words", ENCODERS)
def test_every_encoder_is_traced_with_any_number_of_objects(words):
    """The export runs the forward pass with a number of objects that has no value: none may be read off it."""
    batch = torch.export.Dim("batch", min=1, max=65536)
    for node in compose([*words.split(), "size=tiny"]).encoders.values():
        graph = graphs(model_of(Classifier(registry.instantiate(node, None), len(CLASSES))))[-1]
        inputs = tuple(example(graph, 3, seed=0).values())
        traced = torch.export.export(graph.module, inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),))
        five = tuple(example(graph, 5, seed=1).values())
        torch.testing.assert_close(traced.module()(*five), graph.module(*five), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_spectra_images_and_magnitudes_of_galaxies(tmp_path):
    torch.manual_seed(0)
    encoders = {
        "spectra": SpecFormer(embed_dim=8, num_layers=1, num_heads=2),
        "images": VisionTransformer(embed_dim=8, depth=1, num_heads=2),
        "photometry": MagnitudeMLP(hidden_dim=8, layers=1),
    }
    model = model_of(AlignedTowers(encoders, embed_dim=8, n_head=2))
    graph = graphs(model)[-1]
    assert graph.inputs == ("present", "specformer_flux", "cutout_flux", "grz")
    assert [one.name for one in graphs(model)] == [
        *("spectrum", "spectrum_embedding", "images", "images_embedding", "magnitudes", "magnitudes_embedding"),
        "trimodal",
    ]
    write(graph, tmp_path / "trimodal.onnx")
    assert compare(graph, tmp_path / "trimodal.onnx").difference < TOLERANCE


@pytest.mark.slow
def test_a_folded_classifier_as_a_file(tmp_path):
    torch.manual_seed(0)
    model = model_of(Classifier(FoldedEncoder(width=8, out_features=8), len(CLASSES)))
    assert [file.name for file in export(model, tmp_path)] == ["light_curve", "light_curve_classifier"]


class Counting(torch.nn.Linear):
    """An encoder of catalogue values that reads how many objects there are."""

    view = "metadata"
    inputs = ("metadata",)
    out_features = 4

    def __init__(self):
        super().__init__(34, 4)

    def forward(self, metadata):
        return super().forward(metadata) / len(metadata)


@pytest.mark.slow
def test_an_encoder_that_reads_the_number_of_objects_is_named(tmp_path):
    model = model_of(Classifier(Counting(), len(CLASSES)))
    with pytest.raises(
        UserError, match=r"metadata\.onnx does not take a batch of 1 .* x\.shape\[0\] keeps the number open"
    ):
        export(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Astromer and catalogue values in one space with a class head, and its files."""
    torch.manual_seed(0)
    encoders = {"photometry": astromer(), "metadata": MetadataMLP(hidden_dim=8)}
    model = model_of(MultimodalClassifier(MultimodalModel(encoders, hidden_dim=12), len(CLASSES)))
    folder = tmp_path_factory.mktemp("clip")
    return model, folder, export(model, folder)


@pytest.mark.slow
def test_astromer_in_clip_has_every_file(clip):
    _, folder, files = clip
    assert [file.name for file in files] == [
        "light_curve", "light_curve_embedding", "metadata", "metadata_embedding", "whole",
    ]  # fmt: skip
    assert {path.stem for path in folder.glob("*.onnx")} == {file.name for file in files}
    assert all(file.difference <= TOLERANCE for file in files)
    session = onnxruntime.InferenceSession(str(folder / "light_curve.onnx"), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["input", "times", "mask_in"]  # the light-curve package's
    assert [value.name for value in session.get_outputs()] == ["mean", "max", "sequence"]


@pytest.mark.slow
@pytest.mark.parametrize("present", [(1, 1), (1, 0), (0, 1)])
def test_the_whole_gives_what_the_model_gives(clip, present):
    model, folder, _ = clip
    graph = graphs(model)[-1]
    assert graph.inputs == ("present", "times", "magnitudes", "valid", "metadata")
    inputs = example(graph, 5, seed=4)
    inputs["present"][:] = torch.tensor(present)
    found = run(folder, graph, inputs)
    there = {m: torch.tensor([bool(p)] * 5) for m, p in zip(model.modalities, present, strict=True)}
    expected = model.encode(inputs | {"present": there})
    np.testing.assert_allclose(found["probabilities"], expected.probabilities, atol=TOLERANCE)
    np.testing.assert_allclose(found["mean"], expected.mean, atol=TOLERANCE)
    np.testing.assert_allclose(found["light_curve_embedding"], expected.embeddings["photometry"], atol=TOLERANCE)


@pytest.mark.slow
def test_a_classifier_of_astromer_has_its_probabilities(tmp_path):
    torch.manual_seed(0)
    model = model_of(classifier(astromer(), len(CLASSES), "skip"))
    assert [file.name for file in export(model, tmp_path)] == ["light_curve", "light_curve_classifier"]
    graph = graphs(model)[1]
    inputs = example(graph, 6, seed=1)
    found = run(tmp_path, graph, inputs)["probabilities"]
    np.testing.assert_allclose(found, model.encode(inputs).probabilities, atol=TOLERANCE)
    assert np.abs(found - found[0]).max() > 1e-4  # inputs matter


@pytest.mark.slow
@pytest.mark.parametrize("head", ["lstm", "gru"])
def test_of_a_recurrent_classifier_the_encoder_is_exported(tmp_path, head):
    model = model_of(classifier(astromer(1), len(CLASSES), head))
    assert [file.name for file in export(model, tmp_path)] == ["light_curve"]


def test_a_batch_without_any_light_curve_has_embeddings_all_the_same():
    encoder = astromer().eval()
    nothing = torch.zeros(0, 200)
    assert encoder(nothing, nothing, nothing).shape == (0, 16)
    assert encoder.tokens(nothing, nothing, nothing)[0].shape == (0, 200, 16)


@pytest.mark.slow
def test_the_curves_model(tmp_path):
    torch.manual_seed(0)
    encoders = {"photometry": RingEncoder(width=8, out_features=16), "features": VariabilityEncoder(out_features=16)}
    model = model_of(MultimodalModel(encoders, hidden_dim=12))
    files = export(model, tmp_path)
    assert [file.name for file in files] == [
        "light_curve", "light_curve_embedding", "features", "features_embedding", "whole",
    ]  # fmt: skip
    graph = graphs(model)[-1]
    inputs = example(graph, 4, seed=2)
    inputs["present"][:] = 1
    found = run(tmp_path, graph, inputs)
    there = {m: torch.ones(4, dtype=torch.bool) for m in model.modalities}
    np.testing.assert_allclose(found["mean"], model.encode(inputs | {"present": there}).mean, atol=TOLERANCE)


@pytest.mark.slow
def test_what_cannot_be_traced_is_said_in_a_sentence(tmp_path):
    class Counting(MetadataMLP):
        def forward(self, metadata):
            if float(metadata.sum()) > 0:
                return super().forward(metadata)
            return super().forward(-metadata)

    with pytest.raises(UserError, match=r"metadata cannot be traced for ONNX .* onnx=false"):
        export(model_of(Classifier(Counting(hidden_dim=8), len(CLASSES))), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_released_weights_of_astromer_become_native(form, tmp_path):
    source = Path(__file__).parent / "conformance" / "astromer" / "tf-checkpoint-v1"
    if form == "zip":
        source = Path(shutil.make_archive(str(tmp_path / "released"), "zip", source))
    export_verb(compose([f"model={source}", f"out={tmp_path}/native"], "export"))
    assert native.is_native(tmp_path / "native") and (tmp_path / "native" / "onnx" / "light_curve.onnx").is_file()
    curves = [np.stack([np.linspace(0, 90, 40), np.sin(np.arange(40.0)), np.full(40, 0.1)], axis=1)]
    told = TrainedModel.load(tmp_path / "native", device="cpu")
    expected = TrainedModel.load(source, device="cpu")
    assert told.classes == expected.classes == ()
    found = told.embed(light_curve=curves, pooling="mean").vectors
    np.testing.assert_array_equal(found, expected.embed(light_curve=curves, pooling="mean").vectors)
