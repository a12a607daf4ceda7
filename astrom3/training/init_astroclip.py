"""Weights of published AstroCLIP files (`published/astroclip.py`) as the start of a run: init=file init.path=<file>."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from astrom3.encoders.dino_head import Branch
from astrom3.encoders.towers import encoders_of
from astrom3.encoders.towers_astroclip import CrossAttentionTower
from astrom3.errors import UserError
from astrom3.published import astroclip
from astrom3.published.astroclip_model import recognises

__all__ = ["adopt", "recognises"]


def adopt(model: nn.Module, source: str) -> int:
    """Put published weights into the encoders of `model`, into its heads where both have them; returns how many."""
    from astrom3.training.init import fill

    own = encoders_of(model)
    checkpoint = astroclip.load(source, num_heads=heads_of(own))
    given = by_slot(checkpoint.modules)
    shared = [slot for slot in own if slot in given]
    if not shared:
        raise UserError(f"{source} has weights of {', '.join(given)}, this model reads {', '.join(own)}")

    for slot in shared:
        check_form(own[slot], given[slot], source)
    taken = 0
    for slot in shared:
        mine = own[slot]
        theirs = given[slot]
        if isinstance(theirs, CrossAttentionTower) and not isinstance(mine, CrossAttentionTower):
            theirs = theirs.backbone
        taken += fill(mine, theirs, source)

    if isinstance(model, Branch) and "dino_head" in checkpoint.modules:
        taken += fill(model.dino_head, checkpoint.modules["dino_head"], source)
    return taken


def heads_of(encoders: Mapping[str, nn.Module]) -> int | None:
    """Attention heads of the only encoder: files of one encoder do not always say how many there are."""
    if len(encoders) != 1:
        return None
    return next(iter(encoders.values())).num_heads  # type: ignore[return-value]


def by_slot(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The encoders or towers of a checkpoint by slot."""
    slots = {
        "specformer": "spectra",
        "spectra": "spectra",
        "vit": "images",
        "images": "images",
    }
    found = {}
    for name, module in modules.items():
        if name in slots:
            found[slots[name]] = module
    return found


def check_form(own: nn.Module, given: nn.Module, source: str) -> None:
    """Published image heads read other tokens than ours do by default."""
    towers = isinstance(own, CrossAttentionTower) and isinstance(given, CrossAttentionTower)
    if towers and getattr(own, "compat", None) != getattr(given, "compat", None):
        raise UserError(f"the image head in {source} needs its published form: add model.compat=true")
