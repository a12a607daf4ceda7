"""Our models, preprocessing and schedule against numbers from the published implementation.

Tolerances: norm of the difference over norm of the reference, 1e-5 for outputs and 1e-4 for gradients; a reference
gradient below 1e-4 in norm (key biases: zero by the softmax's shift invariance) must agree to 1e-5 absolutely.
"""

import lightning
import numpy as np
import torch
from safetensors.torch import load_file

from astrom3.published import astrom3 as published
from astrom3.tasks.losses import contrastive_loss, pair_logits
from astrom3.tasks.task import TrainingModule
from astrom3.training.callbacks import PatientStopping

OUTPUT, GRADIENT, TINY_GRADIENT, TINY = 1e-5, 1e-4, 1e-4, 1e-5


def assert_close(ours, reference, tolerance, name):
    ours, reference = torch.as_tensor(ours).double(), torch.as_tensor(reference).double()
    assert ours.shape == reference.shape, name
    error = (ours - reference).norm()
    assert error <= tolerance * reference.norm() + 1e-12, f"{name}: {error / reference.norm():.2e} > {tolerance:.0e}"


def assert_gradient(ours, reference, name):
    if reference.norm() < TINY_GRADIENT:
        assert (ours - reference).norm() < TINY, name
    else:
        assert_close(ours, reference, GRADIENT, name)


def group(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def gradients(model):
    """Gradients under the published names and shapes."""
    names = published.names(model)
    out = {}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        out[names[name]] = gradient.unsqueeze(-1) if published.is_pointwise(names[name]) else gradient
    return out


class TestPhotometry:
    def kind(name, entry):
        return "enc_in" in entry["config"] and "hidden_dim" not in entry["config"] if "config" in entry else False

    def test_output_and_every_gradient(self, vector):
        path, entry = vector
        tensors = load_file(path)
        model = published.build(entry["config"]).eval()
        published.load_state(model, group(tensors, "state."), path.name)
        keys = group(tensors, "sampled_keys.")
        keys = [keys[str(i)] for i in range(len(keys))] or None
        encoder = getattr(model, "encoder", model)
        features = encoder(tensors["x"], tensors["mask"], keys=keys)
        output = model.head(features) if model is not encoder else features
        assert_close(output.detach(), tensors["output"], OUTPUT, "output")
        (output * tensors["grad_output"]).sum().backward()
        ours, reference = gradients(model), group(tensors, "grad.")
        assert set(ours) == set(reference)
        for name, gradient in reference.items():
            assert_gradient(ours[name], gradient, name)


class TestSingleEncoders:
    """Spectra and metadata: features before, logits after the head."""

    def kind(name, entry):
        return (
            not entry.get("config", {}).keys().isdisjoint({"conv_channels", "input_dim"})
            and "fusion" not in entry["config"]
        )

    def test_features_and_logits(self, vector):
        path, entry = vector
        tensors = load_file(path)
        model = published.build(entry["config"]).eval()
        published.load_state(model, group(tensors, "state."), path.name)
        features = model.encoder(tensors["x"])
        assert_close(features.detach(), tensors["features"], OUTPUT, "features")
        assert_close(model.head(features).detach(), tensors["logits"], OUTPUT, "logits")


class TestTrimodal:
    def kind(name, entry):
        return "fusion" in entry.get("config", {})

    def test_embeddings_losses_and_gradients(self, vector):
        path, entry = vector
        tensors = load_file(path)
        model = published.build(trimodal_arguments(entry["config"])).eval()
        published.load_state(model, group(tensors, "state."), path.name)
        batch = {k: tensors[k] for k in ("photometry", "mask", "spectra", "metadata")}
        backbone = getattr(model, "backbone", model)
        embeddings = backbone(batch)
        for modality, embedding in embeddings.items():
            assert_close(embedding.detach(), tensors[f"emb_{modality}"], OUTPUT, modality)
        if "logits" in tensors:
            assert_close(model(batch).detach(), tensors["logits"], OUTPUT, "logits")
            return
        scales = {pair: backbone.scale(*pair) for pair in backbone.pairs}
        losses = contrastive_loss(embeddings, {}, scales)
        for a, b in backbone.pairs:
            short = f"{a[0]}{b[0]}"
            logits = pair_logits(embeddings[a], embeddings[b], scales[a, b])
            assert_close(logits.detach(), tensors[f"logits_{short}"], OUTPUT, f"logits_{short}")
            assert_close(losses[f"loss/{a}_{b}"].detach(), tensors[f"loss_{short}"], OUTPUT, f"loss_{short}")
        assert_close(losses["loss"].detach(), tensors["loss"], OUTPUT, "loss")
        losses["loss"].backward()
        ours = gradients(model)
        for name, gradient in group(tensors, "grad.").items():
            assert_gradient(ours[name], gradient, name)


def trimodal_arguments(config):
    """The manifest gives the encoders' arguments without prefix; a published config.json has prefixes."""
    prefixed = {"d_model": "p", "n_heads": "p", "d_ff": "p", "e_layers": "p", "factor": "p", "enc_in": "p",
                "activation": "p", "conv_channels": "s", "kernel_size": "s", "mp_kernel_size": "s"}  # fmt: skip
    return {(f"{prefixed[k]}_{k}" if k in prefixed else k): v for k, v in config.items()}


class TestPreprocessing:
    def kind(name, entry):
        return "cases" in entry

    def test_every_case(self, vector):
        from astrom3.modalities import preprocess

        path, _ = vector
        tensors = {k: v.numpy() for k, v in load_file(path).items()}
        cases = sorted({k.split(".")[0] for k in tensors})
        assert cases
        for case in cases:
            raw = tensors[f"{case}.raw"]
            if f"{case}.mask" in tensors:
                x, mask = preprocess.light_curve(*raw.T, tensors[f"{case}.aux"])
                assert np.array_equal(mask, tensors[f"{case}.mask"]), case
            else:
                x = preprocess.spectrum(*raw.T)
            assert x.dtype == np.float32
            assert_close(x, tensors[f"{case}.x"], OUTPUT, case)


class TestSchedule:
    def kind(name, entry):
        return "scheduler" in entry.get("config", {})

    def test_rates_and_stopping_epoch(self, vector):
        path, entry = vector
        tensors, config = load_file(path), entry["config"]
        losses = tensors["val_loss"].tolist()
        patience = config["early_stopping_patience"]
        rates, _ = follow(config, losses, [])
        assert_close(torch.tensor(rates, dtype=torch.float64), tensors["lr"], 1e-9, "learning rates")
        _, last_epoch = follow(config, losses, [PatientStopping(patience)])
        assert last_epoch == int(tensors["stop_epoch"])


def follow(config, losses, callbacks):
    """Run our training module in a real Trainer on given validation losses: the rates, and the last epoch."""

    class Given(TrainingModule):
        def training_step(self, batch, _):
            rates.append(self.optimizers().param_groups[0]["lr"])
            return self.model(batch[0]).sum()

        def validation_step(self, batch, _):
            self.log("val/loss", torch.tensor(losses[self.current_epoch], dtype=torch.float64))

    rates = []
    schedule = {
        "warmup_epochs": config["warmup_epochs"],
        "factor": config["scheduler_factor"],
        "patience": config["scheduler_patience"],
    }
    optim = {"lr": config["lr"], "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(1, 1)))
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=len(losses), callbacks=callbacks, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Given(torch.nn.Linear(1, 1), optim, schedule), loader, loader)
    return rates, len(rates) - 1


class TestManifest:
    """Every tensor the manifest lists is in its file, with that shape."""

    def kind(name, entry):
        return True

    def test_shapes(self, vector):
        path, entry = vector
        tensors = load_file(path)
        for name, (dtype, shape) in entry.get("tensors", {}).items():
            if name in tensors:
                assert list(tensors[name].shape) == shape and str(tensors[name].dtype) == f"torch.{dtype}", name
