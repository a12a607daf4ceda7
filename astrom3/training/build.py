"""From a run's configuration to its data module and its training module; `train` and `evaluate` start here."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3 import registry
from astrom3.models.multimodal import compile_encoders


def build(cfg: DictConfig, allow: Any = None) -> tuple[Any, Any]:
    """The data, prepared and set up for fitting, and the module, made for the classes that the data have.

    allow: classes beyond the registry that `cfg` may construct, from the command line and never from a stored file.
    """
    registry.check(cfg, allow)
    data = registry.instantiate(cfg.datamodule, allow)
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
    )
    if cfg.get("compile"):  # runs of before had no such key
        compile_encoders(module.model)
    return data, module
