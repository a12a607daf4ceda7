"""What the two test files of AstroCLIP's vectors share: reading, tolerances, and modules with given tensors."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.towers_astroclip import ImageTower, SpectrumTower
from astrom3.encoders.vit import VisionTransformer
from astrom3.published.astroclip import plain_blocks

OUTPUT = 1e-5
GRADIENT = 1e-4
SMALL = 1e-4  # norm of a reference gradient below which it is compared absolutely
SMALL_GRADIENT = 1e-5


class Vector:
    """One file of vectors with its entry of the manifest, and its neighbours in the folder."""

    def __init__(self, vector):
        self.path, self.entry = vector
        self.folder = Path(self.path).parent
        self.name = Path(self.path).stem
        self.config = self.entry["config"]
        self.numbers = self.entry.get("numbers", {})
        self.tensors = load_file(self.path) if self.path.exists() else {}

    def check(self, checks):
        """Run the check of this kind of vector."""
        kind = kind_of(self.name, checks)
        self.suffix = self.name.removeprefix(kind)
        checks[kind](self)

    def sibling(self, name):
        """The tensors of another kind with the same ending of the name, or, without such a file, none."""
        path = self.folder / f"{name}{self.suffix}.safetensors"
        return load_file(path if path.exists() else self.folder / f"{name}.safetensors")

    def config_of(self, name):
        manifest = json.loads((self.folder / "manifest.json").read_text())
        return manifest.get(name + self.suffix, manifest.get(name))["config"]


def kind_of(name, checks):
    """The check of a vector: that of its name, or of the longest beginning of it; none where there is none."""
    fitting = [kind for kind in checks if name == kind or name.startswith(kind + "_")]
    return max(fitting, key=len, default=None)


def group(tensors, prefix):
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def assert_close(ours, reference, tolerance=OUTPUT, name=""):
    ours = torch.as_tensor(ours).detach().double()
    reference = torch.as_tensor(reference).double()
    assert ours.shape == reference.shape, name
    error = float((ours - reference).norm())
    assert error <= tolerance * float(reference.norm()), f"{name}: {error / float(reference.norm()):.1e}"


def assert_gradient(ours, reference, name):
    if reference.norm() < SMALL:
        assert float((ours - reference).norm()) < SMALL_GRADIENT, name
    else:
        assert_close(ours, reference, GRADIENT, name)


def assert_gradients(model, reference, complete=True):
    """Every reference gradient is ours; with `complete` nothing else has a gradient."""
    ours = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            ours[name] = parameter.grad
    renamed = plain_names(reference)
    assert set(renamed) <= set(ours)
    if complete:
        assert set(renamed) == set(ours)
    for name, gradient in renamed.items():
        assert_gradient(ours[name], gradient, name)


def plain_names(state):
    """Published names with the chunk numbers taken out, below any prefix."""
    out = {}
    for name, tensor in state.items():
        start = name.find("blocks.")
        prefix = name[:start] if start > 0 else ""
        renamed = plain_blocks({name.removeprefix(prefix): tensor})
        out[prefix + next(iter(renamed))] = tensor
    return out


def specformer(config, state):
    """SpecFormer in evaluation mode, with the arguments that a manifest gives."""
    names = ("embed_dim", "num_layers", "num_heads", "max_len", "dropout")
    section = config["input_dim"] - 2
    overlap = config.get("slice_overlap", section // 2)
    arguments = {name: config[name] for name in names}
    model = SpecFormer(**arguments, slice_section_length=section, slice_overlap=overlap).eval()
    model.load_state_dict(state)
    return model


def vit(config, state):
    """The image encoder in evaluation mode, with the arguments that a manifest gives."""
    names = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
    model = VisionTransformer(**{name: config[name] for name in names if name in config}).eval()
    model.load_state_dict(plain_names(state))
    return model


def image_tower(config, state, freeze):
    return _tower(ImageTower, vit, config, state, freeze, compat=True)


def spectrum_tower(config, state, freeze):
    return _tower(SpectrumTower, specformer, config, state, freeze)


def _tower(kind, build, config, state, freeze, **more):
    backbone = build(config["backbone"], group(state, "backbone."))
    tower = kind(backbone, config["embed_dim"], config["n_head"], config["dropout"], freeze, **more).eval()
    tower.load_state_dict(plain_names(state))
    return tower
