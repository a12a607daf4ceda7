"""The published config.json of AstroM3: networks from it, and it from networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

from torch import nn

from astrom3 import typed
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError

Network = TypeVar("Network", bound=nn.Module)
CONFIG = "config.json"


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
PREFIX = {InformerEncoder: "p", GalSpecNet: "s", MetadataMLP: "m"}  # of the arguments of a trimodal model
_MODALITY = {"photometry": InformerEncoder, "spectra": GalSpecNet, "metadata": MetadataMLP}


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
    found = {}
    for k, v in config.items():
        if k.startswith(prefix):
            found[k.removeprefix(prefix)] = v
    return found


def _informer(config: Mapping[str, Any]) -> InformerEncoder:
    known = {}
    for theirs, ours in INFORMER_ARGUMENTS.items():
        if theirs in config:
            known[ours] = config[theirs]
    return _made(InformerEncoder, known | _chosen(config, INFORMER_VARIANTS))


def _galspecnet(config: Mapping[str, Any]) -> GalSpecNet:
    names = ("conv_channels", "kernel_size", "mp_kernel_size", "pixels")
    dropout = config.get("dropout_rate", config.get("dropout", 0.0))
    return _made(GalSpecNet, {"dropout": dropout} | _chosen(config, names))


def _mlp(config: Mapping[str, Any]) -> MetadataMLP:
    arguments = _chosen(config, ("input_dim", "hidden_dim", "dropout"))
    if "hidden_dim" not in arguments:
        raise UserError("the configuration of the catalogue encoder lacks hidden_dim")
    return _made(MetadataMLP, arguments)


def _chosen(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of some keys that a configuration has."""
    return {name: config[name] for name in names if name in config}


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
    kinds = {modality: type(encoder) for modality, encoder in model.encoders.items()}
    if list(kinds.items()) != list(_MODALITY.items()):
        listed = ", ".join(f"{modality}: {kind.__name__}" for modality, kind in kinds.items())
        raise UserError(
            f"this model ({listed}) has no published form, which is photometry: InformerEncoder, spectra: GalSpecNet, "
            "metadata: MetadataMLP"
        )
    config: dict[str, Any] = {"fusion": "avg", "num_classes": 10, "hidden_dim": model.hidden_dim}
    if model.clamp != "forward":
        config["clamp"] = model.clamp
    for encoder in model.encoders.values():
        prefix = PREFIX[type(encoder)]
        own = _encoder_config(encoder)
        if "dropout_rate" in own:  # the trimodal model calls it s_dropout, the single encoder dropout_rate
            own["dropout"] = own.pop("dropout_rate")
        for key, value in own.items():
            config["seq_len" if key == "seq_len" else f"{prefix}_{key}"] = value
    return config


def _encoder_config(encoder: nn.Module) -> dict[str, Any]:
    if isinstance(encoder, InformerEncoder):
        values = vars(encoder) | {"dropout": encoder.configured_dropout}
        variants = {}
        for k, default in INFORMER_VARIANTS.items():
            if values[k] != default:
                variants[k] = values[k]
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
