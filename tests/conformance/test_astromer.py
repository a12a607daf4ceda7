"""Astromer 1 and 2 against numbers from the original TensorFlow code: encoders, heads, losses, training steps.

Tolerances are those of the vectors' README: norm of the difference over norm of the reference, except where said.
"""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from astrom3.encoders.astromer import Astromer, MaskedAstromer
from astrom3.encoders.astromer_blocks import positional_features
from astrom3.encoders.curve import CurveEmbedding, RawCurve
from astrom3.encoders.heads import build_head
from astrom3.tasks.losses_masked import masked_mse, masked_r2, masked_rmse, noam_rate

FAMILY = "astromer"
LAYER = 2e-5
LOGITS = 1e-5
SCALED_LOGITS = 1e-4  # of the head that divides by small standard deviations
GRADIENT = 1e-4
SMALL = 1e-3  # of the largest gradient norm: below it a gradient is compared absolutely
SMALL_GRADIENT = 1e-5


def difference(ours, reference):
    """Norm of the difference over norm of the reference."""
    ours = torch.as_tensor(ours).detach().double()
    reference = torch.as_tensor(reference).double()
    assert ours.shape == reference.shape
    return float((ours - reference).norm() / reference.norm().clamp(min=1e-30))


def group(tensors, prefix):
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def inputs_of(tensors, prefix=""):
    """times, magnitudes, valid and hidden (B, L): the originals do not tell hidden points from padding."""
    columns = [tensors[prefix + name].squeeze(-1) for name in ("times", "input", "mask_in")]
    times, magnitudes, masked = columns
    return times, magnitudes, torch.ones_like(masked), masked


def build_encoder(config, token=False):
    """The encoder of a manifest's configuration in the form that reproduces the original."""
    version = config["version"]
    return Astromer(
        version=version,
        layers=config["layers"],
        d_model=config["d"],
        n_heads=config["heads"],
        d_ff=config["dff"],
        dropout=0.0,
        compat=None if token else f"v{version}",
        temperature=config.get("temperature") or 0.0,
    )


def check_gradients(model, reference):
    """Every gradient, with the small ones measured against the largest."""
    ours = {name: p.grad for name, p in model.named_parameters()}
    assert set(ours) == set(reference)
    largest = max(float(gradient.norm()) for gradient in reference.values())
    for name, gradient in reference.items():
        if gradient.norm() < SMALL * largest:
            assert (ours[name] - gradient).norm() <= SMALL_GRADIENT * largest, name
        else:
            assert difference(ours[name], gradient) <= GRADIENT, name


class TestEncoder:
    def kind(name, entry):
        return name.startswith("encoder_")

    def test_every_layer_the_reconstruction_and_every_gradient(self, vector):
        path, entry = vector
        tensors = load_file(path)
        config = entry["config"]
        token = config.get("mask_token") is not None
        model = MaskedAstromer(build_encoder(config, token))
        model.load_state_dict(with_prefixes(group(tensors, "state.")))
        layers = model.encoder.every_layer(*inputs_of(tensors))
        names = ["embedding", *(f"layer.{i}" for i in range(config["layers"]))]
        for name, layer in zip(names, layers, strict=True):
            assert difference(layer, tensors[name]) <= LAYER, name
        output = model.head(layers[-1]).unsqueeze(-1)
        assert difference(output, tensors["output"]) <= LAYER
        (output * tensors["grad_output"]).sum().backward()
        check_gradients(model, with_prefixes(group(tensors, "grad.")))
        if "parameters" in config:
            assert sum(p.numel() for p in model.parameters()) == config["parameters"]

    def test_short_windows_without_their_padding_give_the_same(self, vector):
        path, entry = vector
        tensors = load_file(path)
        config = entry["config"]
        if config["version"] == 1:
            pytest.skip("with the bonus of version 1 padding reaches every output")
        token = config.get("mask_token") is not None
        model = MaskedAstromer(build_encoder(config, token))
        model.load_state_dict(with_prefixes(group(tensors, "state.")))
        times, magnitudes, _, masked = inputs_of(tensors)
        points = torch.tensor(config["points"])
        valid = (torch.arange(times.shape[1]) < points.unsqueeze(1)).float()
        hidden = masked * valid
        output = model(times, magnitudes, valid, hidden)
        assert difference(output, tensors["output"].squeeze(-1) * valid) <= LAYER
        tokens, _ = model.encoder.tokens(times, magnitudes, valid, hidden)
        last = tensors[f"layer.{config['layers'] - 1}"] * valid.unsqueeze(-1)
        assert difference(tokens, last) <= LAYER


def with_prefixes(state):
    """The vectors' names as those of an encoder with its reconstruction head."""
    return {name if name.startswith("head.") else f"encoder.{name}": tensor for name, tensor in state.items()}


class TestPositional:
    def kind(name, entry):
        return name.startswith("positional")

    def test_features_as_the_original_and_as_the_formula(self, vector):
        tensors = load_file(vector[0])
        widths = [int(name.split(".")[0]) for name in tensors if name.endswith(".encoding")]
        assert widths
        for width in widths:
            ours = positional_features(tensors["times"], width)
            assert (ours - tensors[f"{width}.encoding"]).abs().max() <= 2e-4
            exact = positional_features(tensors["times"].double(), width)
            assert (exact - tensors[f"{width}.encoding_exact"]).abs().max() <= 1e-9


class TestHeads:
    def kind(name, entry):
        return name.startswith(("head_", "baseline_"))

    @pytest.mark.slow
    def test_logits_and_every_gradient(self, vector):
        path, entry = vector
        tensors = load_file(path)
        encoder, head = build_classifier(entry, tensors)
        state = group(tensors, "state.")
        model = torch.nn.ModuleDict({"encoder": encoder, "head": head}).eval()
        model.load_state_dict(as_classifier(state))
        times, magnitudes, valid, masked = inputs_of(tensors)
        layers = encoder.every_layer(times, magnitudes, valid, masked)
        logits = head(layers, 1 - masked)
        standardised = getattr(head, "scale", None) == "standard"
        assert difference(logits, tensors["logits"]) <= (SCALED_LOGITS if standardised else LOGITS)
        (logits * tensors["grad_logits"]).sum().backward()
        check_gradients(model, as_classifier(group(tensors, "grad.")))
        if "head_parameters" in entry["config"]:
            in_head = [p for name, p in model.named_parameters() if not name.startswith("encoder.blocks")]
            own_embedding = entry["config"].get("encoder") is None
            counted = in_head if own_embedding else list(head.parameters())
            assert sum(p.numel() for p in counted) == entry["config"]["head_parameters"]


def head_kind(entry, tensors):
    """Which head a vector is of, from its weights, and from its description where weights do not tell."""
    names = group(tensors, "state.")
    what = entry["what"]
    if "rnn.cell0.bias" in names:
        return "lstm"
    if "gru.biases" in names:
        return "gru"
    if "gamma" in names:
        return "skip"
    if "mlp.0.weight" not in names:
        return "norm_linear" if "norm.weight" in names else "linear"
    if "maximum" in what:
        return "max"
    return "mlp_avg" if "every time step" in what else "mlp"


def build_classifier(entry, tensors):
    config = entry["config"]
    kind = head_kind(entry, tensors)
    if config.get("encoder"):
        encoder = build_encoder(config["encoder"])
    elif "state.embed.weight" in tensors:
        encoder = CurveEmbedding(len(tensors["state.embed.bias"]))
    else:
        encoder = RawCurve("time_magnitude" if kind == "lstm" else "magnitude_time")
    hidden = config.get("hidden", ())
    head = build_head(kind, encoder, config["classes"], hidden, config.get("recurrent_units", 1), published=True)
    return encoder, head


def as_classifier(state):
    """The vectors' names as those of an encoder and a head."""
    named = {}
    for name, tensor in state.items():
        in_encoder = name.startswith(("encoder.", "embed."))
        named["encoder." + name.removeprefix("encoder.") if in_encoder else f"head.{name}"] = tensor
    return named


class TestLosses:
    def kind(name, entry):
        return name.startswith("losses")

    def test_losses_scores_and_gradients(self, vector):
        tensors = {name: t.squeeze(-1) for name, t in load_file(vector[0]).items()}
        target = tensors["target"]
        probed = tensors["mask_out"]
        weights = tensors["w_error"]
        everything = torch.ones_like(probed)
        losses = {
            "rmse": lambda p: masked_rmse(p, target, probed),
            "rmse_weighted": lambda p: masked_rmse(p, target, probed, weights),
            "mse": lambda p: masked_mse(p, target, probed),
            "mse_weighted": lambda p: masked_mse(p, target, probed, weights),
            "rmse_no_mask": lambda p: masked_rmse(p, target, everything),
            "r2": lambda p: masked_r2(p, target, probed),
        }
        for name, loss in losses.items():
            prediction = tensors["prediction"].clone().requires_grad_()
            value = loss(prediction)
            assert abs(value.item() - tensors[name].item()) <= 1e-6, name
            if f"grad_prediction.{name}" in tensors:
                value.backward()
                assert difference(prediction.grad, tensors[f"grad_prediction.{name}"]) <= 1e-6, name


class TestSchedule:
    def kind(name, entry):
        return name.startswith("schedule")

    def test_noam_rates(self, vector):
        tensors = load_file(vector[0])
        for name in set(tensors) - {"steps"}:
            width, warmup = (int(part[1:]) for part in name.split("_"))
            rates = [noam_rate(int(step), width, warmup) for step in tensors["steps"]]
            assert difference(np.array(rates), tensors[name]) <= 1e-6


class TestTrainingSteps:
    def kind(name, entry):
        return name.startswith("train_steps")

    def test_five_steps_of_the_original_training(self, vector):
        path, entry = vector
        tensors = load_file(path)
        model = MaskedAstromer(build_encoder(entry["config"]))
        start = with_prefixes(group(tensors, "state."))
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9)
        for step, expected in enumerate(tensors["losses"].tolist()):
            times, magnitudes, valid, masked = inputs_of(tensors, f"{step}.")
            target = tensors[f"{step}.target"].squeeze(-1)
            probed = tensors[f"{step}.mask_out"].squeeze(-1)
            loss = masked_rmse(model(times, magnitudes, valid, masked, probed), target, probed)
            assert abs(loss.item() - expected) <= 1e-5, f"step {step}"
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        final = with_prefixes(group(tensors, "final."))
        for name, ours in model.state_dict().items():
            if name.endswith("attn.k.bias"):  # no gradient but rounding, which Adam magnifies
                continue
            change = (final[name] - start[name]).norm()
            assert (ours - final[name]).norm() <= 1e-2 * change, name


class TestFullSizes:
    def kind(name, entry):
        return name.startswith("full_size_parameters")

    @pytest.mark.slow
    def test_numbers_of_parameters(self, vector):
        counts = vector[1]["counts"]
        encoders = {
            1: Astromer(version=1, layers=2, d_ff=128, compat="v1"),
            2: Astromer(version=2, compat="v2"),
        }
        for version, encoder in encoders.items():
            assert parameters(encoder) == counts[f"encoder_v{version}"]
            assert parameters(MaskedAstromer(encoder)) == counts[f"encoder_v{version}_with_head"]
        token = Astromer(version=2)
        assert parameters(token) - parameters(encoders[2]) == counts["mask_token"]
        raw = RawCurve()
        embedded = CurveEmbedding()
        cases = {
            "head_skip_avg_mlp_v2": ("skip", encoders[2]),
            "head_skip_avg_mlp_v1": ("skip", encoders[1]),
            "head_avg_mlp_v2": ("mlp", encoders[2]),
            "head_v1_mlp_att": ("mlp", encoders[1]),
            "head_v1_lstm_att": ("lstm", encoders[1]),
            "head_v1_lstm": ("lstm", raw),
            "head_baseline_gru": ("gru", raw),
            "head_baseline_embedding_gru": ("gru", embedded),
            "head_baseline_embedding_mlp": ("mlp", embedded),
        }
        for name, (kind, encoder) in cases.items():
            for classes in (5, 6):
                own = parameters(encoder) if encoder is embedded else 0
                head = build_head(kind, encoder, classes)
                assert parameters(head) + own == counts[f"{name}_{classes}classes"], name


def parameters(module):
    return sum(p.numel() for p in module.parameters())
