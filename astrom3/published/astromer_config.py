"""The published ASTROMER configurations, `conf.json` of version 1 and `config.toml` of version 2, as arguments."""

from __future__ import annotations

import tomllib
from typing import Any

from astrom3 import strict_json
from astrom3.errors import UserError, shown
from astrom3.published.model_files import ModelFiles
from astrom3.typed import brief

CONF_JSON = "conf.json"
CONFIG_TOML = "config.toml"
CONFIGS = (CONF_JSON, CONFIG_TOML)
LARGEST_CONFIG = {CONF_JSON: 1 << 20, CONFIG_TOML: 1 << 14}  # bytes; TOML of many dots takes the square of its time
LIMITS = {
    "layers": 128,
    "d_model": 8192,
    "n_heads": 256,
    "d_ff": 65536,
    "window": 1_000_000,
}
LARGEST_WIDTH_PRODUCT = 1 << 28  # numbers of all blocks' matrices, more or less
ARCHITECTURES = {"zero": 1, "base": 2}
BLOCKING = -1e3  # a mask factor of at most this keeps masked points out

# What the code of version 2 does with an option of its configuration, by version of the model.
MASK_FORMATS: dict[int, dict[Any, str]] = {
    1: {
        "Q": "key",
        "QK": "either",
        None: "none",
        "K": "none",
    },
    2: {"K": "key", "Q": "query", "QK": "either"},
}


def read_config(files: ModelFiles) -> dict[str, Any]:
    """The published configuration as it stands in its file. Raises UserError where it cannot be read."""
    name = next(name for name in CONFIGS if name in files)
    place = f"{name} of {shown(files.source)}"
    data = files.read(name, LARGEST_CONFIG[name])
    try:
        text = data.decode("utf-8")
        config = strict_json.loads(text) if name == CONF_JSON else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not valid ({error}); fetch the model again.") from None
    if not isinstance(config, dict):
        raise UserError(f"{place} does not hold the options of a model.")
    return config


def encoder_arguments(config: dict[str, Any], place: str) -> dict[str, Any]:
    """Arguments of `Astromer` that reproduce the model of a published configuration; `place` is for messages."""
    if "num_layers" in config:
        arguments = _of_second_code(config, place)
    else:
        arguments = _of_first_code(config, place)
    for name, limit in LIMITS.items():
        value = arguments[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limit:
            raise UserError(f"{place} has {name}={brief(value)}; a whole number from 1 to {limit} is needed.")
    for name in ("dropout", "temperature"):
        value = arguments[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise UserError(f"{place} has {name}={brief(value)}, which is not a number that can be used.")
    if not arguments["dropout"] < 1:
        raise UserError(f"{place} has dropout={arguments['dropout']}; it must be below 1.")
    if arguments["d_model"] % arguments["n_heads"]:
        raise UserError(f"{place} has a width of {arguments['d_model']} for {arguments['n_heads']} heads.")
    size = arguments["layers"] * arguments["d_model"] * (6 * arguments["d_model"] + 2 * arguments["d_ff"])
    if size > LARGEST_WIDTH_PRODUCT:
        raise UserError(f"{place} asks for a model of {size} numbers, far more than any that was released.")
    return arguments


def _needed(config: dict[str, Any], names: tuple[str, ...], place: str) -> None:
    missing = []
    for name in names:
        if name not in config:
            missing.append(name)
    if missing:
        raise UserError(f"{place} lacks {', '.join(missing)}, so it is not the configuration of an ASTROMER model.")


def _of_first_code(config: dict[str, Any], place: str) -> dict[str, Any]:
    """Version 1: `head_dim` is the whole width."""
    _needed(config, ("layers", "heads", "head_dim", "dff"), place)
    return {
        "version": 1,
        "layers": config["layers"],
        "d_model": config["head_dim"],
        "n_heads": config["heads"],
        "d_ff": config["dff"],
        "window": config.get("max_obs", 200),
        "dropout": config.get("dropout", 0.1),
        "compat": "v1",
        "temperature": 0.0,
    }


def _of_second_code(config: dict[str, Any], place: str) -> dict[str, Any]:
    """The code of version 2, which can train both: `head_dim` is the width of one head."""
    _needed(config, ("num_layers", "num_heads", "head_dim", "mixer"), place)
    architecture = config.get("arch", "base")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"{place} has arch={brief(architecture)}; only {known} can be read.")
    version = ARCHITECTURES[architecture]
    heads = config["num_heads"]
    width = config["head_dim"]
    if not isinstance(heads, int) or not isinstance(width, int):
        raise UserError(f"{place} has num_heads={brief(heads)} and head_dim={brief(width)}; whole numbers are needed.")
    return {
        "version": version,
        "layers": config["num_layers"],
        "d_model": heads * width,
        "n_heads": heads,
        "d_ff": config["mixer"],
        "window": config.get("window_size", 200),
        "dropout": config.get("dropout", 0.1),
        "compat": "v2",
        "mask_format": _mask_format(config, version, place),
        "temperature": config.get("temperature", 0.0),
    }


def _mask_format(config: dict[str, Any], version: int, place: str) -> str:
    """The attention mask of a model of version 2's code, from `mask_format` and its factor `m_alpha`."""
    option = config.get("mask_format")
    formats = MASK_FORMATS[version]
    if not isinstance(option, str | None) or option not in formats:
        raise UserError(f"{place} has mask_format={brief(option)}, which the published code does not know.")
    chosen = formats[option]
    factor = config.get("m_alpha", BLOCKING)
    if chosen == "none":
        return chosen
    if chosen == "either" and factor == 1:
        return "plus_one"
    if not isinstance(factor, int | float) or not factor <= BLOCKING:
        raise UserError(f"{place} has m_alpha={brief(factor)} with mask_format={option}, which cannot be reproduced.")
    return chosen
