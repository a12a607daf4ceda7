"""The published files of AstroCLIP: their forms, tensor names, hub ids (Parker et al. 2024).

    checkpoint = load("polymathic-ai/astroclip")      # or a file, or a folder that holds one
    checkpoint.modules["images"], checkpoint.modules["spectra"], checkpoint.config

`polymathic-ai/specformer` gives {"specformer"}, `polymathic-ai/astrodino` gives {"vit", "dino_head"}. Files that the
published trainers leave are read alike. Nothing in a file is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from astrom3 import hub
from astrom3.encoders.dino_head import DINOHead
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.towers_astroclip import ImageTower, SpectrumTower
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError, first_line, shown
from astrom3.places import expanded
from astrom3.published.checkpoint_file import attribute, read_checkpoint, tensors_of
from astrom3.published.model_files import is_hub_id, refuse_file
from astrom3.typed import brief, check_arguments

HUB_IDS = ("polymathic-ai/astroclip", "polymathic-ai/astrodino", "polymathic-ai/specformer")
FILES = ("astroclip.ckpt", "astrodino.ckpt", "specformer.ckpt", "teacher_checkpoint.pth")
HEAD_WIDTHS = {
    "vit": 64,
    "specformer": 128,
}  # numbers of heads are not in every file; published heads have these widths
SPECFORMER_DEFAULTS = {"slice_section_length": 20, "slice_overlap": 10, "dropout": 0.0}


@dataclass(frozen=True)
class Checkpoint:
    """What a published file holds. `config` is plain: module name -> constructor arguments, for JSON and YAML.

    kind is "astroclip", "astrodino" or "specformer". `config["scale"]` is the factor of the alignment's cosines.
    """

    kind: str
    modules: dict[str, nn.Module]
    config: dict[str, Any]


def load(source: Path | str, *, num_heads: int | None = None, revision: str | None = None) -> Checkpoint:
    """The modules in a published file, a folder with one, or a hub id, in evaluation mode, every tensor accounted for.

    `num_heads` is needed only for an image encoder or SpecFormer of unpublished width whose file does not say it.
    """
    path = find(source, revision)
    content = read_checkpoint(path)
    with torch.no_grad():
        if "teacher" in content:
            return _load_astrodino(tensors_of(content["teacher"], path), path, num_heads)
        state = tensors_of(content.get("state_dict"), path)
        hyper = content.get("hyper_parameters")
        hyper = hyper if isinstance(hyper, dict) else {}
        if any(name.startswith("image_encoder.") for name in state):
            return _load_astroclip(state, hyper, path)
        return _load_specformer(state, hyper, path, num_heads)


def find(source: Path | str, revision: str | None = None) -> Path:
    """The checkpoint file of `source`: the file itself, the one in a folder, or the one under a hub id."""
    path = expanded(source)
    if path.is_file():
        run = path.resolve().parent.parent
        if path.resolve().parent.name == "checkpoints" and (run / "config.yaml").is_file():
            raise UserError(
                f"{shown(path)} is a checkpoint of a run of astrom3: give the folder of the run, {shown(run)}"
            )
        return path
    if path.is_dir():
        present = [name for name in FILES if (path / name).is_file()]
        if len(present) != 1:
            what = f"several checkpoints ({', '.join(present)})" if present else f"none of {', '.join(FILES)}"
            raise UserError(f"{shown(path)} holds {what}: give the file itself")
        return path / present[0]
    refuse_file(path)
    if not is_hub_id(source):
        raise UserError(f"there is no file or folder {source}, and it is not a hub id (owner/name)")
    from huggingface_hub.errors import RepositoryNotFoundError

    name = str(source).split("/")[1] + ".ckpt"
    try:
        return hub.download(str(source), name, revision=revision)
    except RepositoryNotFoundError:
        raise UserError(f"the hub has no model {source} (and there is no such folder): check the name") from None
    except Exception as error:
        if not hub.is_of_network(error):
            raise
        raise UserError(
            f"the hub cannot be reached for {source}, or it holds no {name} ({type(error).__name__}): fetch the file "
            "on a machine that can, and give its path instead"
        ) from None


# --- the three kinds ------------------------------------------------------------------------------------------------


def _load_specformer(state: Mapping[str, Tensor], hyper: dict, path: Path, num_heads: int | None) -> Checkpoint:
    config = specformer_config(state, hyper, path, num_heads)
    module = _fill(SpecFormer, config, state, path)
    return Checkpoint("specformer", {"specformer": module}, {"specformer": config})


def _load_astrodino(state: Mapping[str, Tensor], path: Path, num_heads: int | None) -> Checkpoint:
    named = {}
    for name, tensor in state.items():
        named[name.replace("module.", "")] = tensor
    backbone = _group(named, "backbone.")
    head = _group(named, "dino_head.")
    _check_names(set(named), _with_prefix("backbone.", backbone) | _with_prefix("dino_head.", head), path)
    config = {"vit": vit_config(backbone, path, num_heads), "dino_head": dino_head_config(head, path)}
    modules = {
        "vit": _fill(VisionTransformer, config["vit"], plain_blocks(backbone), path),
        "dino_head": _fill(DINOHead, config["dino_head"], head, path),
    }
    return Checkpoint("astrodino", modules, config)


def _load_astroclip(state: dict[str, Tensor], hyper: dict, path: Path) -> Checkpoint:
    state = dict(state)
    scale = state.pop("logit_scale", None)
    images = _group(state, "image_encoder.")
    spectra = _group(state, "spectrum_encoder.")
    known = _with_prefix("image_encoder.", images) | _with_prefix("spectrum_encoder.", spectra)
    _check_names(set(state), known, path)
    pickled_images = hyper.get("image_encoder")
    pickled_spectra = hyper.get("spectrum_encoder")
    vit_heads = _whole(attribute(pickled_images, "backbone", "num_heads"))
    spectrum_hyper = attribute(pickled_spectra, "backbone", "_hparams")
    spectrum_hyper = spectrum_hyper if isinstance(spectrum_hyper, dict) else {}
    image_backbone = _group(images, "backbone.")
    spectrum_backbone = _group(spectra, "backbone.")
    config: dict[str, Any] = {
        "vit": vit_config(image_backbone, path, vit_heads),
        "specformer": specformer_config(spectrum_backbone, spectrum_hyper, path, None),
        "images": _tower_config(images, pickled_images, path) | {"compat": True},
        "spectra": _tower_config(spectra, pickled_spectra, path),
        "scale": _positive(hyper.get("temperature", 15.5), path),
        "learnable_scale": scale is not None,
    }
    vit = _empty(VisionTransformer, config["vit"], path)
    specformer = _empty(SpecFormer, config["specformer"], path)
    image_state = _group(images, "backbone.", inverse=True) | _prefixed(plain_blocks(image_backbone), "backbone.")
    modules: dict[str, nn.Module] = {
        "images": _fill(ImageTower, {"backbone": vit} | config["images"], image_state, path),
        "spectra": _fill(SpectrumTower, {"backbone": specformer} | config["spectra"], spectra, path),
    }
    return Checkpoint("astroclip", modules, config)


# --- configurations from tensors ------------------------------------------------------------------------------------


def specformer_config(state: Mapping[str, Tensor], hyper: dict, path: Path, num_heads: int | None) -> dict[str, Any]:
    """Constructor arguments of SpecFormer from its tensors, and from hyper-parameters where tensors do not tell."""
    width, _ = _shape(state, "data_embed.weight", path)
    length, _ = _shape(state, "position_embed.weight", path)
    values = SPECFORMER_DEFAULTS | {name: hyper[name] for name in SPECFORMER_DEFAULTS if name in hyper}
    section = _whole(values["slice_section_length"])
    overlap = values["slice_overlap"]
    dropout = values["dropout"]
    is_share = isinstance(dropout, float | int) and 0 <= dropout < 1
    if section is None or not isinstance(overlap, int) or not is_share:
        raise UserError(f"{shown(path)} has hyper-parameters of SpecFormer that are not numbers: fetch it again")
    heads = num_heads or _whole(hyper.get("num_heads")) or width // HEAD_WIDTHS["specformer"]
    return {
        "embed_dim": width,
        "num_layers": _blocks(state),
        "num_heads": _divisor(heads, width, path),
        "max_len": length,
        "dropout": float(dropout),
        "slice_section_length": section,
        "slice_overlap": overlap,
        "compat": True,
    }


def vit_config(state: Mapping[str, Tensor], path: Path, num_heads: int | None = None) -> dict[str, Any]:
    """Constructor arguments of the image encoder from its tensors."""
    _, positions, width = _shape(state, "pos_embed", path, 3)
    patch = _shape(state, "patch_embed.proj.weight", path, 4)[-1]
    first = next((name for name in state if name.endswith("mlp.fc1.weight")), "blocks.0.mlp.fc1.weight")
    hidden, _ = _shape(state, first, path)
    heads = num_heads or width // HEAD_WIDTHS["vit"]
    return {
        "img_size": int((positions - 1) ** 0.5 + 0.5) * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": _blocks(state),
        "num_heads": _divisor(heads, width, path),
        "mlp_ratio": hidden / width,
    }


def dino_head_config(state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Constructor arguments of the projection head from its tensors."""
    prototypes, bottleneck = _shape(state, "last_layer.weight_v", path)
    hidden, inputs = _shape(state, "mlp.0.weight", path)
    layers = sum(name.startswith("mlp.") and name.endswith(".weight") for name in state)
    return {
        "in_dim": inputs,
        "out_dim": prototypes,
        "nlayers": layers,
        "hidden_dim": hidden,
        "bottleneck_dim": bottleneck,
    }


def _tower_config(state: Mapping[str, Tensor], pickled: Any, path: Path) -> dict[str, Any]:
    width = _shape(state, "cross_attention.query", path, 3)[-1]
    heads = _whole(attribute(pickled, "cross_attention", "multihead_attn", "num_heads")) or 4
    return {"embed_dim": width, "n_head": _divisor(heads, width, path), "dropout": 0.1}


def _whole(value: Any) -> int | None:
    """The value where it is a positive whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _positive(value: Any, path: Path) -> float:
    """The value as a number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise UserError(f"{shown(path)} has a temperature of {brief(value)}, no positive number: fetch it again")
    return float(value)


def _divisor(heads: int, width: int, path: Path) -> int:
    if heads < 1 or width % heads:
        raise UserError(
            f"{shown(path)} does not say how many attention heads its {width} features have: give num_heads, "
            f"a divisor of {width}"
        )
    return heads


def _shape(state: Mapping[str, Tensor], name: str, path: Path, dimensions: int = 2) -> tuple[int, ...]:
    if name not in state or state[name].dim() != dimensions or 0 in state[name].shape:
        problem = f"of shape {tuple(state[name].shape)}" if name in state else "missing"
        raise UserError(f"{shown(path)} is no AstroCLIP checkpoint: its tensor {name} is {problem}")
    return tuple(state[name].shape)


def _blocks(state: Mapping[str, Tensor]) -> int:
    """Number of blocks; the last number before a block's own names counts over the whole network."""
    numbers = [re.match(r"blocks\.(?:\d+\.)?(\d{1,4})\.\D", name) for name in state]
    return len({match[1] for match in numbers if match})


# --- tensors --------------------------------------------------------------------------------------------------------


def plain_blocks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names of the image encoder, `blocks.<chunk>.<block>.`, as ours, `blocks.<block>.`."""
    return {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): tensor for name, tensor in state.items()}


def chunked_blocks(state: Mapping[str, Tensor], chunks: int = 4) -> dict[str, Tensor]:
    """Our names of the image encoder as the published ones, the blocks in `chunks` equal chunks."""
    size = max(_blocks(state) // chunks, 1)

    def chunk(match: re.Match[str]) -> str:
        return f"blocks.{int(match[1]) // size}.{match[1]}."

    return {re.sub(r"^blocks\.(\d+)\.", chunk, name): tensor for name, tensor in state.items()}


def _group(state: Mapping[str, Tensor], prefix: str, inverse: bool = False) -> dict[str, Tensor]:
    """The tensors below `prefix`, without it; or, inverted, all others."""
    if inverse:
        return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}
    found = {}
    for name, tensor in state.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = tensor
    return found


def _with_prefix(prefix: str, names: Iterable[str]) -> set[str]:
    return {prefix + name for name in names}


def _prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def _empty(module: type[nn.Module], config: Mapping[str, Any], path: Path) -> nn.Module:
    """A module without memory and initial weights, which a large one takes seconds to draw."""
    check_arguments(module, config, shown(path))
    try:
        with torch.device("meta"):
            return module(**config)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, AssertionError) as error:
        raise UserError(f"{shown(path)} describes a network that cannot be made ({first_line(error)})") from None


def _fill(module: type[nn.Module], config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The module with these tensors, each of which must have its place and shape."""
    built = _empty(module, config, path)
    own = built.state_dict()
    _check_names(set(state), set(own), path)
    for name, tensor in state.items():
        needed = tuple(own[name].shape)
        if tensor.shape != needed:
            raise UserError(f"{shown(path)}: tensor {name} has shape {tuple(tensor.shape)}, its model needs {needed}")
    built = built.to_empty(device="cpu")
    built.load_state_dict(dict(state))
    return built.eval()


def _check_names(given: set[str], needed: set[str], path: Path) -> None:
    missing = sorted(needed - given)
    surplus = sorted(given - needed)
    problems = [f"lacks {', '.join(missing[:5])}"] if missing else []
    if surplus:
        problems.append(f"has surplus {', '.join(surplus[:5])}")
    if problems:
        raise UserError(f"{shown(path)} does not fit its model: it {' and '.join(problems)}")
