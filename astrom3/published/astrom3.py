"""The published form of a model: `config.json` and `model.safetensors`, tensor names and argument names as on the hub.

    model = load("AstroMLCore/AstroM3-CLIP-42")     # or a folder
    save(model, folder)                             # load -> save gives the same bytes of every tensor

Hub: AstroMLCore/AstroM3-CLIP, -CLIP-{42,0,66,12,123}, -CLIP-{photo,spectra,meta,all} (Rizhko & Bloom 2024).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from astrom3 import hub, registry
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError, shown
from astrom3.files import listed, read_json, write_bytes, write_text
from astrom3.places import expanded
from astrom3.published import native, tensors
from astrom3.published.astrom3_config import _MODALITY, CONFIG, build, describe
from astrom3.published.model_files import is_hub_id, refuse_file

WEIGHTS = "model.safetensors"
POSITIONS = "enc_embedding.position_embedding.pe"  # a constant (1, 5000, d_model) that published files hold
ROUNDED = 0.01  # what half precision may change of it

# Encoder tensors, ours -> published.
INFORMER_NAMES = [
    (r"^embedding\.weight$", "enc_embedding.value_embedding.tokenConv.weight"),
    (r"^layers\.(\d+)\.attention\.(query|key|value|out)\.", r"encoder.attn_layers.\1.attention.\2_projection."),
    (r"^layers\.(\d+)\.expand\.", r"encoder.attn_layers.\1.conv1."),
    (r"^layers\.(\d+)\.contract\.", r"encoder.attn_layers.\1.conv2."),
    (r"^layers\.(\d+)\.(norm\d)\.", r"encoder.attn_layers.\1.\2."),
    (r"^norm\.", "encoder.norm."),
]
MLP_NAMES = [(r"^first\.", "model.0."), (r"^second\.", "model.3.")]


def _galspecnet_names(name: str) -> str:
    return re.sub(r"^convolutions\.(\d+)\.", lambda m: f"layers.{3 * int(m[1])}.", name)


def _substitute(table: list[tuple[str, str]]) -> Callable[[str], str]:
    def rename(name: str) -> str:
        for pattern, replacement in table:
            if re.search(pattern, name):
                return re.sub(pattern, replacement, name)
        raise KeyError(name)

    return rename


_NAMES: dict[type[nn.Module], Callable[[str], str]] = {
    InformerEncoder: _substitute(INFORMER_NAMES),
    GalSpecNet: _galspecnet_names,
    MetadataMLP: _substitute(MLP_NAMES),
}


def has_form(model: nn.Module) -> bool:
    """Whether there is a published form of this model."""
    try:
        describe(model)
    except UserError:
        return False
    return True


# --- tensors --------------------------------------------------------------------------------------------------------


def names(model: nn.Module) -> dict[str, str]:
    """Published name of every tensor of `model.state_dict()`."""
    return {ours: _published_name(model, ours) for ours in model.state_dict()}


def _published_name(model: nn.Module, name: str) -> str:
    if isinstance(model, Classifier):
        if name.startswith("head."):
            return "fc." + name.removeprefix("head.")
        return _published_name(model.encoder, name.removeprefix("encoder."))
    if isinstance(model, MultimodalClassifier):
        if name.startswith("head."):
            return "fc." + name.removeprefix("head.")
        return _published_name(model.backbone, name.removeprefix("backbone."))
    if isinstance(model, MultimodalModel):
        group, modality, *rest = name.split(".", 2)
        if group == "logit_scales":
            a, b = modality.split("_")
            return f"logit_scale_{a[0]}{b[0]}"
        if group == "projections":
            return f"{modality}_proj.{rest[0]}"
        return f"{modality}_encoder.{_published_name(model.encoders[modality], rest[0])}"
    return _NAMES[type(model)](name)


def _informers(model: nn.Module) -> dict[str, InformerEncoder]:
    """Published prefix -> light-curve encoder: those whose position table a published file holds."""
    if isinstance(model, MultimodalClassifier):
        model = model.backbone
    if isinstance(model, MultimodalModel):
        found = {}
        for m, e in model.encoders.items():
            if isinstance(e, InformerEncoder):
                found[f"{m}_encoder."] = e
        return found
    encoder = model.encoder if isinstance(model, Classifier) else model
    return {"": encoder} if isinstance(encoder, InformerEncoder) else {}


def published_state(model: nn.Module) -> dict[str, Tensor]:
    """All tensors under their published names and shapes, contiguous, on the CPU."""
    renamed = names(model)
    state = {renamed[k]: v.detach().cpu() for k, v in model.state_dict().items()}
    for name, tensor in state.items():
        if is_pointwise(name):
            state[name] = tensor.unsqueeze(-1)  # (out, in) -> (out, in, 1)
    for prefix, encoder in _informers(model).items():
        state[prefix + POSITIONS] = encoder.positions.detach().cpu().unsqueeze(0)  # type: ignore[operator]
    return {k: v.contiguous().clone() for k, v in state.items()}


def is_pointwise(name: str) -> bool:
    """Feed-forward weights, published as convolutions of width 1: (out, in, 1), ours (out, in)."""
    return re.search(r"attn_layers\.\d+\.conv[12]\.weight$", name) is not None


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str = "the weights") -> None:
    """Put published tensors into `model`, each accounted for; only the constant position table may be absent."""
    renamed = names(model)
    own = model.state_dict()
    optional = {prefix + POSITIONS: encoder for prefix, encoder in _informers(model).items()}
    missing = sorted(set(renamed.values()) - set(state))
    surplus = sorted(set(state) - set(renamed.values()) - set(optional))
    if missing or surplus:
        parts = []
        for kind, found in (("lacks", missing), ("has surplus", surplus)):
            if found:
                parts.append(f"{kind} {listed(found)}")
        raise UserError(f"{source} does not fit its configuration: it {' and '.join(parts)}")
    ours: dict[str, Tensor] = {}
    for name, published in renamed.items():
        tensor = state[published].squeeze(-1) if is_pointwise(published) else state[published]
        if tensor.shape != own[name].shape:
            raise UserError(
                f"{source}: tensor {published} has shape {tuple(state[published].shape)}, the configuration asks for "
                f"{tuple(own[name].shape)}"
            )
        ours[name] = tensor
    tensors.check_kinds(own, ours, source)
    model.load_state_dict(ours)
    for name, encoder in optional.items():
        if name in state:
            table = state[name].squeeze(0)
            own_table: Any = encoder.positions
            if table.shape != own_table.shape:
                raise UserError(f"{source}: tensor {name} has shape {tuple(state[name].shape)}")
            if not torch.allclose(table.to(own_table), own_table, atol=ROUNDED):
                raise UserError(f"{source}: tensor {name} is not the constant that it should be: fetch the model again")
            encoder.positions = table.to(own_table)


# --- folders and the hub --------------------------------------------------------------------------------------------


def save(model: nn.Module, folder: Path | str) -> Path:
    """Write `config.json` and `model.safetensors`; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CONFIG, json.dumps(describe(model), indent=2, sort_keys=True) + "\n")
    write_bytes(folder / WEIGHTS, to_bytes(published_state(model), metadata={"format": "pt"}))
    return folder


def load(source: Path | str, *, revision: str | None = None, allow: str | Sequence[str] | None = None) -> nn.Module:
    """The model in a folder or, where there is no such folder, under a hub id `owner/name`, in evaluation mode.
    allow: see `registry.check`."""
    folder = find(source, revision=revision)
    config = read_config(folder)
    path = shown(folder / CONFIG)
    registry.check(config, allow, path)
    state = read_tensors(folder)
    model = tensors.made(lambda: build(config, path), state, path)
    load_state(model, state, str(source))
    return model.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """Content of config.json, an object."""
    path = folder / CONFIG
    if not path.exists():
        raise UserError(f"{shown(folder)} holds no {CONFIG}: a published model is a folder with {CONFIG} and {WEIGHTS}")
    return read_json(path)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Tensors of the published file."""
    return tensors.read_tensors(folder / WEIGHTS, f"a published model is a folder with {CONFIG} and {WEIGHTS}")


def find(source: Path | str, *, revision: str | None = None) -> Path:
    """The folder of a model: `source` itself, a run folder's `model/`, or a snapshot of the hub."""
    path = expanded(source)
    if path.is_dir():
        inner = path / "model"
        known = (CONFIG, native.DESCRIPTION)
        return inner if any((inner / name).is_file() for name in known) else path
    refuse_file(path)
    if not is_hub_id(source):
        raise UserError(f"no model at {source}: there is no such folder, and it is not a hub id (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        endpoint = os.environ.get("HF_ENDPOINT")  # read now: huggingface_hub reads it when it is imported
        files = [CONFIG, WEIGHTS, native.WEIGHTS, "*.json"]
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=files, endpoint=endpoint))
    except RepositoryNotFoundError:
        raise UserError(f"the hub has no model {source} (and there is no such folder): check the name") from None
    except Exception as error:
        if not hub.is_of_network(error):
            raise
        raise UserError(
            f"the hub cannot be reached for {source} ({type(error).__name__}): fetch it on a machine that can, "
            f"and give the folder with {CONFIG} and {WEIGHTS} instead"
        ) from None


def encoder_state(state: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Published tensors of one encoder out of those of a trimodal model."""
    modality = next(m for m, kind in _MODALITY.items() if isinstance(encoder, kind))
    prefix = f"{modality}_encoder."
    found = {}
    for k, v in state.items():
        if k.startswith(prefix):
            found[k.removeprefix(prefix)] = v
    return found


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


__all__ = ["build", "describe", "find", "load", "load_state", "names", "published_state", "read_tensors", "save"]
