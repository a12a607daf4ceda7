"""What others run: ONNX files against torch, the card, the way to the hub and back."""

import json
import os
import sys
import uuid

import numpy as np
import onnxruntime
import processes
import pytest
import torch
from hub_server import serve

import astrom3
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.export import onnx
from astrom3.export.onnx import TOLERANCE, compare, example, export, graphs, margins, write
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.schema import CLASSES
from astrom3.published import astrom3 as published

ALL = {"light_curve", "light_curve_embedding", "spectrum", "spectrum_embedding", "metadata", "metadata_embedding",
       "trimodal"}  # fmt: skip


def small(evaluation="fixed", merge="published", seed=0):
    torch.manual_seed(seed)
    encoders = {
        "photometry": InformerEncoder(d_model=16, d_ff=32, e_layers=1, head_merge=merge, evaluation=evaluation),
        "spectra": GalSpecNet((3, 4, 4)), "metadata": MetadataMLP(hidden_dim=8),
    }  # fmt: skip
    return MultimodalModel(encoders, hidden_dim=12)


def model_of(network):
    return TrainedModel("made up", network.eval(), CLASSES, None)


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small trimodal classifier and its files."""
    folder = tmp_path_factory.mktemp("onnx")
    model = model_of(MultimodalClassifier(small(), len(CLASSES)))
    return model, folder, export(model, folder)


@pytest.mark.slow
def test_every_part_is_written_and_agrees_with_torch(exported):
    _, folder, files = exported
    assert {f.name for f in files} == ALL and {p.stem for p in folder.glob("*.onnx")} == ALL
    assert all(f.difference <= TOLERANCE and f.objects == 50 for f in files)
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_the_light_curve_file_has_the_form_that_the_light_curve_package_reads(exported):
    _, folder, _ = exported
    found = session(folder / "light_curve.onnx")
    assert [(i.name, i.shape[1:]) for i in found.get_inputs()] == [("x_enc", [200, 9]), ("mask", [200])]
    assert [(o.name, o.shape[1:]) for o in found.get_outputs()] == [("mean", [16]), ("sequence", [200, 16])]
    assert len({i.shape[0] for i in found.get_inputs()}) == 1 and isinstance(found.get_inputs()[0].shape[0], str)
    x, mask = np.random.default_rng(0).normal(size=(3, 200, 9)).astype(np.float32), np.ones((3, 200), np.float32)
    mask[1, 5:], mask[2] = 0, 0  # a short curve, and one without any point
    mean, sequence = found.run(None, {"x_enc": x, "mask": mask})
    np.testing.assert_allclose(mean[1], sequence[1, :5].mean(0), atol=1e-6)
    assert (sequence[1, 5:] == 0).all() and (mean[2] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("present", [(1, 1, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1)])
def test_the_whole_gives_what_the_model_gives_with_modalities_missing(exported, present):
    model, folder, _ = exported
    graph = graphs(model)[-1]
    inputs = example(graph, 5, seed=9)
    inputs["present"][:] = torch.tensor(present)
    found = session(folder / "trimodal.onnx")
    names = [o.name for o in found.get_outputs()]
    assert names == ["light_curve_embedding", "spectrum_embedding", "metadata_embedding", "mean", "probabilities"]
    given = {name: inputs[key].numpy() for key, name in zip(graph.keys, graph.inputs, strict=True)}
    values = dict(zip(names, found.run(None, given), strict=True))
    batch = inputs | {"present": {m: torch.tensor([bool(p)] * 5) for m, p in
                                  zip(model.modalities, present, strict=True)}}  # fmt: skip
    expected = model.encode(batch)
    np.testing.assert_allclose(values["probabilities"], expected.probabilities, atol=TOLERANCE)
    np.testing.assert_allclose(values["mean"], expected.mean, atol=TOLERANCE)
    np.testing.assert_allclose(values["spectrum_embedding"], expected.embeddings["spectra"], atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["published", "usual"])
@pytest.mark.parametrize("evaluation", ["fixed", "full"])
def test_attention_is_exported_as_it_is(tmp_path, evaluation, merge):
    network = Classifier(small(evaluation, merge).encoders["photometry"], 10)
    graph = graphs(model_of(network))[0]
    write(graph, tmp_path / "light_curve.onnx")
    inputs = example(graph, 4, seed=3)
    given = {"x_enc": inputs["photometry"].numpy(), "mask": inputs["mask"].numpy()}
    sequence = session(tmp_path / "light_curve.onnx").run(["sequence"], given)[0]
    with torch.inference_mode():
        own = network.encoder.sequence(inputs["photometry"], inputs["mask"]).numpy()
        for layer in network.encoder.layers:
            layer.attention.head_merge = "usual" if merge == "published" else "published"
        other = network.encoder.sequence(inputs["photometry"], inputs["mask"]).numpy()
    np.testing.assert_allclose(sequence, own, atol=TOLERANCE)
    assert np.abs(sequence - other).max() > 100 * TOLERANCE  # the other merge is another network


@pytest.mark.slow
def test_the_published_sizes(tmp_path):
    torch.manual_seed(0)
    graph = graphs(model_of(Classifier(InformerEncoder(evaluation="fixed"), 10).eval()))[0]
    write(graph, tmp_path / "light_curve.onnx")
    assert compare(graph, tmp_path / "light_curve.onnx").difference <= TOLERANCE
    shapes = [o.shape for o in session(tmp_path / "light_curve.onnx").get_outputs()]
    assert [s[1:] for s in shapes] == [[128], [200, 128]]


def test_sampled_attention_is_refused(tmp_path):
    with pytest.raises(UserError, match="evaluation=fixed or evaluation=full"):
        export(model_of(Classifier(small("sampled").encoders["photometry"], 10)), tmp_path)


@pytest.mark.slow
def test_a_file_that_differs_is_not_left(tmp_path, monkeypatch):
    network = Classifier(MetadataMLP(hidden_dim=8), 10)

    def wrong(graph, path):
        with torch.no_grad():
            graph.module.encoder.first.bias += 0.01 if graph.name == "metadata" else 0
        write(graph, path)
        with torch.no_grad():
            graph.module.encoder.first.bias -= 0.01

    monkeypatch.setattr(onnx, "write", wrong)
    with pytest.raises(UserError, match="differs from torch by"):
        export(model_of(network), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_only_a_tie_of_queries_excuses_a_difference(tmp_path):
    graph = graphs(model_of(Classifier(small().encoders["photometry"], 10)))[0]
    inputs = example(graph, 6, seed=0)
    inputs["photometry"][2] = 1.0  # constant: points differ by their positions only
    with torch.inference_mode(), margins(graph.module) as gaps:
        graph.module(*inputs.values())
    assert len(gaps) == 1 and gaps[0].shape == (6,)
    assert (np.array(gaps) >= 0).all()
    attention = graph.module.encoder.encoder.layers[0].attention
    assert not attention._forward_pre_hooks
    path = tmp_path / "x.onnx"
    write(graph, path)
    with torch.no_grad():
        attention.query.weight.zero_()  # torch now finds all queries equally distinctive, the file does not
        attention.query.bias.zero_()
    tied = compare(graph, path)
    assert tied.tied > 40 and tied.objects == 50
    with torch.no_grad():
        graph.module.encoder.encoder.norm.bias += 0.01
        attention.query.bias += torch.randn(16)
        attention.query.weight += torch.randn(16, 16)
    with pytest.raises(UserError, match="differs from torch"):
        compare(graph, path)


# --- the verb -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on simulated data."""
    root = tmp_path_factory.mktemp("export")
    environment = os.environ | {"ASTROM3_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "astrom3.train", "mode=photo", "size=tiny", "trainer=cpu", "epochs=1",
               "data=simulated", "data.objects=200", f"root={root}/runs"]  # fmt: skip
    processes.run(command, check=True, capture_output=True, env=environment)
    return root / "runs" / "photo-full-scratch-42", environment


def call(arguments, **given):
    return processes.run([sys.executable, "-m", "astrom3.export", *arguments], capture_output=True, text=True, **given)


@pytest.mark.slow
def test_a_run_goes_to_the_hub_and_comes_back_the_same(run, tmp_path, monkeypatch):
    folder, environment = run
    name = f"me/stars-{uuid.uuid4().hex[:8]}"  # in nobody's cache
    (tmp_path / "hub").mkdir()
    with serve(tmp_path / "hub") as server:
        server.token = "hf_made_up"
        mine = environment | {"HF_ENDPOINT": server.url, "HF_TOKEN": server.token, "HF_HUB_DISABLE_XET": "1",
                              "HF_HOME": str(tmp_path / "home")}  # fmt: skip
        done = call([f"model={folder}", "out=release", f"push={name}"], env=mine, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert f"{server.url}/{name}" in done.stdout and str(folder.parent) not in done.stdout
        there = tmp_path / "hub" / name
        stored = {str(p.relative_to(there)) for p in there.rglob("*.*")}
        assert stored == {"config.json", "model.safetensors", "preprocessing.json", "confidence.json", "README.md",
                          "onnx/light_curve.onnx", "onnx/light_curve_classifier.onnx"}  # fmt: skip
        assert ("POST", f"/{name}.git/info/lfs/objects/batch") in server.requests  # weights as large files
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        back = astrom3.load(name)
    monkeypatch.delenv("HF_ENDPOINT")
    own = astrom3.load(folder)
    assert back.classes == own.classes and back.normaliser.to_dict() == own.normaliser.to_dict()
    for name, tensor in own.network.state_dict().items():
        torch.testing.assert_close(tensor, back.network.state_dict()[name], rtol=0, atol=0)
    curve = (np.arange(300.0), np.random.default_rng(0).normal(5, 1, 300), np.ones(300))
    np.testing.assert_array_equal(
        back.classify(light_curve=curve).probabilities, own.classify(light_curve=curve).probabilities
    )


@pytest.mark.slow
def test_the_card_says_what_the_run_knows(run, tmp_path):
    from huggingface_hub import ModelCard

    folder, environment = run
    done = call([f"model={folder}", "out=o", "onnx=false", "licence=cc-by-4.0"], env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    card = ModelCard.load(tmp_path / "o" / "README.md")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "astrom3"
    assert {"light-curves", "variable-stars"} <= set(card.data.tags)
    values = {r.metric_name: r.metric_value for r in card.data.eval_results}
    assert values["accuracy"] == pytest.approx(metrics["accuracy"], abs=1e-4)
    for text in (
        "simulated survey, subset full, split of seed 42",
        "not for science",
        "arXiv:2411.08842",
        "| train |",
        f"accuracy {100 * metrics['accuracy']:.2f} %",
        "published merge of the heads",
        "model.classify(",
    ):
        assert text in card.text, text
    assert str(folder.parent) not in card.text and "## ONNX" not in card.text
    again = call([f"model={tmp_path}/o", "out=o2", "onnx=false"], env=environment, cwd=tmp_path)  # a folder, not a run
    assert again.returncode == 0, again.stderr[-3000:]
    for name in ("config.json", "model.safetensors", "preprocessing.json"):
        assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "o2" / name).read_bytes()
    assert "Not recorded beside these weights" in (tmp_path / "o2" / "README.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    return published.save(Classifier(MetadataMLP(hidden_dim=4), 10), tmp_path_factory.mktemp("model"))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["no token", "wrong token", "broken", "unreachable"])
def test_what_the_hub_refuses_is_kept_and_said_in_a_sentence(folder, tmp_path, case):
    with serve(tmp_path) as server:
        server.token, server.broken = "hf_right", case == "broken"
        url = "http://127.0.0.1:9" if case == "unreachable" else server.url
        environment = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_TOKEN", None)
        if case != "no token":
            environment["HF_TOKEN"] = "hf_wrong" if case == "wrong token" else "hf_right"
        done = call([f"model={folder}", "out=o", "onnx=false", "push=me/stars"], env=environment, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-2000:]
    expected = {"no token": "HF_TOKEN", "wrong token": "(401)", "broken": "503", "unreachable": "cannot be reached"}
    assert expected[case] in done.stderr and "o is complete" in done.stderr and "hf_" not in done.stderr
    assert (tmp_path / "o" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "options, answer",
    [
        (["out=o", "push=stars"], "push=stars is no hub id"),
        (["out=o", "evaluation=sampled"], "sampled attention cannot be exported"),
        (["out=."], "holds files that are not of astrom3 export"),
        (["out=o", "model=nowhere"], "no model at nowhere"),
        (["out=o", "evaluation=magic"], "evaluation=magic does not exist"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(tmp_path, options, answer):
    torch.manual_seed(0)
    model = published.save(Classifier(InformerEncoder(d_model=8, d_ff=8, e_layers=1), 10), tmp_path / "m")
    done = call([f"model={model}", *options], cwd=tmp_path)
    assert done.returncode == 2 and answer in done.stderr and "Traceback" not in done.stderr


def test_a_missing_package_is_named(folder, tmp_path):
    code = "import sys; sys.modules['onnxruntime'] = None; from astrom3.export.__main__ import main; main()"
    done = processes.run_module("-c", code, f"model={folder}", "out=o", cwd=tmp_path)
    assert done.returncode == 2 and 'pip install "astrom3[export]"' in done.stderr and "onnx=false" in done.stderr
