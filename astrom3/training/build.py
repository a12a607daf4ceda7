"""From a run's configuration to its data module and its training module; `train` and `evaluate` start here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import nn

from astrom3 import registry
from astrom3.encoders.cpu import accelerate
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import compile_encoders
from astrom3.errors import UserError
from astrom3.modalities.schema import META_COLS, PHOTO_CHANNELS, PHOTO_COLS, SEQ_LEN, SPECTRUM_CHANNELS
from astrom3.tasks.classification import balanced_weights
from astrom3.tasks.regression import train_statistics
from astrom3.training.memory import check_fits

log = logging.getLogger(__name__)


def build(cfg: DictConfig, allow: Sequence[str] | str | None = None) -> tuple[Any, Any]:
    """The data, prepared and set up for fitting, and the module, made for the classes that the data have.

    allow: classes beyond the registry that `cfg` may construct, from the command line and never from a stored file.
    """
    registry.check(cfg, allow)
    check_fits(lambda: registry.instantiate(cfg.model, allow))
    data = registry.instantiate(cfg.datamodule, allow, views=views_of_encoders(cfg))
    data.prepare_data()
    data.setup("fit")
    module = registry.instantiate(
        cfg.module,
        allow,
        model=registry.instantiate(cfg.model, allow),
        **aim_of(cfg, data),
        optim=OmegaConf.to_container(cfg.optim),
        schedule=OmegaConf.to_container(cfg.schedule),
        seed=cfg.seed,
        freeze=list(cfg.get("freeze") or []),
    )
    check_inputs(module.model)
    accelerate(module)
    if cfg.get("compile"):  # runs of before had no such key
        compile_encoders(module.model)
    return data, module


def check_inputs(model: nn.Module) -> None:
    """UserError where an encoder of AstroM3 is made for inputs of another size than its view gives."""
    for part in model.modules():
        if isinstance(part, InformerEncoder):
            given = {"enc_in": (part.enc_in, PHOTO_CHANNELS), "seq_len": (part.seq_len, SEQ_LEN)}
        elif isinstance(part, GalSpecNet):
            given = {"conv_channels[0]": (part.conv_channels[0], SPECTRUM_CHANNELS)}
        elif isinstance(part, MetadataMLP):
            given = {"input_dim": (part.input_dim, len(META_COLS))}
        else:
            continue
        for name, (found, wanted) in given.items():
            if found != wanted:
                raise UserError(f"{type(part).__name__}: {name}={found}, but the data have {wanted}: leave it as it is")


def aim_of(cfg: DictConfig, data: Any) -> dict[str, Any]:
    """What the task learns of the data: its classes, or the targets of a regression with their train statistics."""
    labels = data.splits["train"].labels
    if data.targets:
        mean, std = train_statistics(data.splits["train"].targets, data.targets)
        warn_of_inputs(data)
        return {
            "targets": list(data.targets),
            "mean": mean,
            "std": std,
            "units": data.source.units,
        }

    classes = list(data.classes)
    if cfg.model.get("_partial_") and len(classes) < 2:
        found = f"only one class, {classes[0]}" if classes else "no classes"
        raise UserError(
            f"{data.source.root} has {found}, so there is nothing to classify: give target=<number to predict>, or "
            "pre-train without labels with mode=clip or mode=masked"
        )

    warn_of_classes(classes, labels, bool(cfg.model.get("_partial_")))
    aim: dict[str, Any] = {"classes": classes}
    if cfg.get("balance") == "weights":
        aim["class_weights"] = balanced_weights(labels, len(classes))
    return aim


def warn_of_classes(classes: Sequence[str], labels: np.ndarray, classifies: bool) -> None:
    """A class that no training object (n,) has cannot be learnt, which a classifier should say."""
    absent = []
    for number, name in enumerate(classes):
        if not (labels == number).any():
            absent.append(name)
    if classifies and absent:
        log.warning("no object of class %s is in the train split: it cannot be learnt", ", ".join(absent))


def warn_of_inputs(data: Any) -> None:
    """A catalogue column may be a target, and one of the inputs at the same time."""
    for view in data.views.values():
        columns = PHOTO_COLS if view.uses_features else () if view.stored else META_COLS
        for name in data.targets:
            if name in columns:
                log.warning("target=%s is among the inputs of %s: the network can read it there", name, view.modality)


def views_of_encoders(cfg: DictConfig) -> dict[str, Any]:
    """Modality -> the view that its encoder names, or the one that `views` of the configuration names instead."""
    chosen = dict(cfg.get("views") or {})
    for modality in cfg.modalities:
        node = (cfg.get("encoders") or {}).get(modality)
        if modality not in chosen and node is not None:
            chosen[modality] = getattr(registry.located(node._target_), "view", modality)
    return chosen
