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
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from astrom3 import registry, typed
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError, shown
from astrom3.files import read_json, write_bytes, write_text
from astrom3.published import native, tensors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
Network = TypeVar("Network", bound=nn.Module)
POSITIONS = "enc_embedding.position_embedding.pe"  # a constant (1, 5000, d_model) that published files hold

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

# Constructor arguments, published -> ours (attribute of the encoder).
INFORMER_ARGUMENTS = {
    "seq_len": "seq_len",
    "enc_in": "enc_in",
    "d_model": "d_model",
    "n_heads": "n_heads",
    "d_ff": "d_ff",
    "e_layers": "e_layers",
    "factor": "factor",
    "dropout": "dropout",
    "activation": "activation",
    "output_attention": "output_attention",
}
# What a published configuration may lack: our variants, written only where they differ from the published network.
INFORMER_VARIANTS = {"head_merge": "published", "honour_dropout": False}


def _galspecnet_names(name: str) -> str:
    return re.sub(r"^convolutions\.(\d+)\.", lambda m: f"layers.{3 * int(m[1])}.", name)


def _substitute(table: list[tuple[str, str]]) -> Callable[[str], str]:
    def rename(name: str) -> str:
        for pattern, replacement in table:
            if re.search(pattern, name):
                return re.sub(pattern, replacement, name)
        raise KeyError(name)

    return rename


_ENCODERS: dict[type[nn.Module], tuple[str, Callable[[str], str]]] = {
    InformerEncoder: ("p", _substitute(INFORMER_NAMES)),
    GalSpecNet: ("s", _galspecnet_names),
    MetadataMLP: ("m", _substitute(MLP_NAMES)),
}
_MODALITY = {"photometry": InformerEncoder, "spectra": GalSpecNet, "metadata": MetadataMLP}


# --- configurations -------------------------------------------------------------------------------------------------


class Whole(TypedDict):
    """Keys of the configuration of a trimodal model beside those of its encoders."""

    seq_len: int
    hidden_dim: int
    classification: bool
    num_classes: NotRequired[int | None]
    fusion: NotRequired[Literal["avg", "concat"]]
    clamp: NotRequired[Literal["forward", "parameter"]]


class Single(TypedDict):
    """The same of a model of one encoder."""

    classification: NotRequired[bool]
    num_classes: NotRequired[int | None]


class Headed(TypedDict):
    """What a class head adds."""

    num_classes: int


def build(config: Mapping[str, Any], source: str = CONFIG) -> nn.Module:
    """The model that a published `config.json` describes (its keys say which of the four kinds).

    Without a class head (`classification` false) a single encoder is returned as it is. source: for messages.
    """
    if "p_enc_in" in config:
        typed.check(config, Whole, source, "fetch the model again")
        encoders: dict[str, nn.Module] = {
            "photometry": _informer(_strip(config, "p_") | {"seq_len": config["seq_len"]}),
            "spectra": _galspecnet(_strip(config, "s_")),
            "metadata": _mlp(_strip(config, "m_")),
        }
        model = MultimodalModel(encoders, config["hidden_dim"], config.get("clamp", "forward"))
        if config["classification"]:
            typed.check(config, Headed, source, "fetch the model again")
            return MultimodalClassifier(model, config["num_classes"], config.get("fusion", "avg"))
        return model
    typed.check(config, Single, source, "fetch the model again")
    encoder: nn.Module
    if "enc_in" in config:
        encoder = _informer(config)
    elif "conv_channels" in config:
        encoder = _galspecnet(config)
    elif "input_dim" in config:
        encoder = _mlp(config)
    else:
        raise UserError(
            f"the model configuration has none of p_enc_in, enc_in, conv_channels, input_dim "
            f"(its keys: {', '.join(config) or 'none'}): it is not a published AstroM3 model"
        )
    # The spectrum and metadata encoders were published with a class head only, hence the default.
    if not config.get("classification", True):
        return encoder
    typed.check(config, Headed, source, "fetch the model again")
    return Classifier(encoder, config["num_classes"])


def _strip(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}


def _informer(config: Mapping[str, Any]) -> InformerEncoder:
    known = {ours: config[theirs] for theirs, ours in INFORMER_ARGUMENTS.items() if theirs in config}
    return _made(InformerEncoder, known | {k: config[k] for k in INFORMER_VARIANTS if k in config})


def _galspecnet(config: Mapping[str, Any]) -> GalSpecNet:
    names = ("conv_channels", "kernel_size", "mp_kernel_size", "pixels")
    dropout = config.get("dropout_rate", config.get("dropout", 0.0))
    return _made(GalSpecNet, {"dropout": dropout} | {k: config[k] for k in names if k in config})


def _mlp(config: Mapping[str, Any]) -> MetadataMLP:
    arguments = {k: config[k] for k in ("input_dim", "hidden_dim", "dropout") if k in config}
    if "hidden_dim" not in arguments:
        raise UserError("the configuration of the catalogue encoder lacks hidden_dim")
    return _made(MetadataMLP, arguments)


def _made(kind: Callable[..., Network], arguments: Mapping[str, Any]) -> Network:
    """An encoder, its arguments compared with the annotations of its constructor."""
    typed.check_arguments(kind, arguments, CONFIG)
    return kind(**arguments)


def describe(model: nn.Module) -> dict[str, Any]:
    """The configuration `build` makes this model from, under the published names."""
    if isinstance(model, Classifier):
        return {"classification": True, "num_classes": model.num_classes} | _encoder_config(model.encoder)
    if isinstance(model, MultimodalClassifier):
        head = {"classification": True, "num_classes": model.num_classes, "fusion": model.fusion}
        return _multimodal_config(model.backbone) | head
    if isinstance(model, MultimodalModel):
        return _multimodal_config(model) | {"classification": False}
    return {"classification": False, "num_classes": None} | _encoder_config(model)


def _multimodal_config(model: MultimodalModel) -> dict[str, Any]:
    wrong = {m: type(e).__name__ for m, e in model.encoders.items() if _MODALITY.get(m) is not type(e)}
    if wrong or tuple(model.encoders) != tuple(_MODALITY):
        raise UserError(
            f"this model ({', '.join(f'{m}: {type(e).__name__}' for m, e in model.encoders.items())}) has no published "
            "form, which is photometry: InformerEncoder, spectra: GalSpecNet, metadata: MetadataMLP"
        )
    config: dict[str, Any] = {"fusion": "avg", "num_classes": 10, "hidden_dim": model.hidden_dim}
    if model.clamp != "forward":
        config["clamp"] = model.clamp
    for encoder in model.encoders.values():
        prefix = _ENCODERS[type(encoder)][0]
        own = _encoder_config(encoder)
        if "dropout_rate" in own:  # the trimodal model calls it s_dropout, the single encoder dropout_rate
            own["dropout"] = own.pop("dropout_rate")
        config |= {("seq_len" if k == "seq_len" else f"{prefix}_{k}"): v for k, v in own.items()}
    return config


def _encoder_config(encoder: nn.Module) -> dict[str, Any]:
    if isinstance(encoder, InformerEncoder):
        values = vars(encoder) | {"dropout": encoder.configured_dropout}
        variants = {k: values[k] for k, default in INFORMER_VARIANTS.items() if values[k] != default}
        return {theirs: values[ours] for theirs, ours in INFORMER_ARGUMENTS.items()} | variants
    if isinstance(encoder, GalSpecNet):
        config = {
            "conv_channels": list(encoder.conv_channels),
            "kernel_size": encoder.kernel_size,
            "mp_kernel_size": encoder.mp_kernel_size,
            "dropout_rate": encoder.configured_dropout,
        }
        return config if encoder.pixels == 2575 else config | {"pixels": encoder.pixels}
    if isinstance(encoder, MetadataMLP):
        return {"input_dim": encoder.input_dim, "hidden_dim": encoder.hidden_dim, "dropout": encoder.configured_dropout}
    raise UserError(f"{type(encoder).__name__} has no published form")


# --- tensors --------------------------------------------------------------------------------------------------------


def has_form(model: nn.Module) -> bool:
    """Whether there is a published form of this model."""
    try:
        describe(model)
    except UserError:
        return False
    return True


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
    return _ENCODERS[type(model)][1](name)


def _informers(model: nn.Module) -> dict[str, InformerEncoder]:
    """Published prefix -> light-curve encoder: those whose position table a published file holds."""
    if isinstance(model, MultimodalClassifier):
        model = model.backbone
    if isinstance(model, MultimodalModel):
        return {f"{m}_encoder.": e for m, e in model.encoders.items() if isinstance(e, InformerEncoder)}
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
        parts = [
            f"{kind} {', '.join(found)}" for kind, found in (("lacks", missing), ("has surplus", surplus)) if found
        ]
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
            if state[name].squeeze(0).shape != encoder.positions.shape:  # type: ignore[union-attr]
                raise UserError(f"{source}: tensor {name} has shape {tuple(state[name].shape)}")
            encoder.positions = state[name].squeeze(0).to(encoder.positions.device)  # type: ignore[union-attr, arg-type]


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
    path = Path(source).expanduser()
    if path.is_dir():
        inner = path / "model"
        known = (CONFIG, native.DESCRIPTION)
        return inner if any((inner / name).is_file() for name in known) else path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise UserError(f"no model at {source}: there is no such folder, and it is not a hub id (owner/name)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        endpoint = os.environ.get("HF_ENDPOINT")  # read now: huggingface_hub reads it when it is imported
        files = [CONFIG, WEIGHTS, native.WEIGHTS, "*.json"]
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=files, endpoint=endpoint))
    except RepositoryNotFoundError:
        raise UserError(f"the hub has no model {source} (and there is no such folder): check the name") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"the hub cannot be reached for {source} ({type(error).__name__}): fetch it on a machine that can, "
            f"and give the folder with {CONFIG} and {WEIGHTS} instead"
        ) from None


def encoder_state(state: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Published tensors of one encoder out of those of a trimodal model."""
    modality = next(m for m, kind in _MODALITY.items() if isinstance(encoder, kind))
    prefix = f"{modality}_encoder."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def count_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


__all__ = ["build", "describe", "find", "load", "load_state", "names", "published_state", "read_tensors", "save"]
