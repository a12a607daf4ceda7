"""From a run's configuration to its data module and its training module; `train` and `evaluate` start here."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3 import registry
from astrom3.encoders.towers import compile_encoders


def build(cfg: DictConfig, allow: Any = None) -> tuple[Any, Any]:
    """The data, prepared and set up for fitting, and the module, made for the classes that the data have.

    allow: classes beyond the registry that `cfg` may construct, from the command line and never from a stored file.
    """
    registry.check(cfg, allow)
    data = registry.instantiate(cfg.datamodule, allow, views=views_of_encoders(cfg))
    data.prepare_data()
    data.setup("fit")
    module = registry.instantiate(
        cfg.module,
        allow,
        model=registry.instantiate(cfg.model, allow),
        classes=list(data.classes),
        optim=OmegaConf.to_container(cfg.optim),
        schedule=OmegaConf.to_container(cfg.schedule),
        seed=cfg.seed,
        freeze=list(cfg.get("freeze") or []),
    )
    if cfg.get("compile"):  # runs of before had no such key
        compile_encoders(module.model)
    return data, module


def views_of_encoders(cfg: DictConfig) -> dict[str, Any]:
    """Modality -> the view that its encoder names, or the one that `views` of the configuration names instead."""
    chosen = dict(cfg.get("views") or {})
    for modality in cfg.modalities:
        node = (cfg.get("encoders") or {}).get(modality)
        if modality not in chosen and node is not None:
            chosen[modality] = getattr(registry.located(node._target_), "view", modality)
    return chosen
