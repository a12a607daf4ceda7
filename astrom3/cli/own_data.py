"""A verb that is given a run, and no data, works on the data that the run was trained on, with its split and seed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from astrom3.registry import read_stored

DATA = ("data", "data.origin", "data.repo", "data.revision")  # overrides that say which data are meant
STORED = {"data": "datamodule.origin", "sub": "datamodule.sub", "seed": "datamodule.seed"}  # key -> place in a run


def adopt(cfg: DictConfig, given: Collection[str]) -> None:
    """Put origin, subset and seed of the run that `model` names in the place of the defaults. A model without such a
    run, from the hub for example, leaves them as they are. given: the keys on the command line."""
    if not isinstance(cfg.get("model"), str) or OmegaConf.select(cfg, "data.origin") is None:
        return
    if any(key in given for key in DATA):
        return
    config = Path(cfg.model).expanduser() / "config.yaml"
    if not config.is_file():
        return
    stored = read_stored(config, cfg.get("allow"))
    for key, place in STORED.items():
        value = OmegaConf.select(stored, place)
        if value is None or key in given:
            continue
        if key == "data":
            cfg.data.origin = value
        elif key in cfg:
            cfg[key] = value


def given_keys(cfg: DictConfig) -> set[str]:
    """Keys and groups of the command line, which Hydra notes in its own node."""
    hydra = cfg.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    if hydra is None:
        return set()
    return {str(override).lstrip("+~").partition("=")[0] for override in hydra.overrides.task}
