"""Released AstroCLIP files as models of this package: what `astrom3.load("polymathic-ai/astroclip")` gives.

    network = as_model(astroclip.load("polymathic-ai/astroclip"))

astroclip.ckpt becomes the aligned towers with their published quirks, astrodino.ckpt the image encoder with its
projection head, specformer.ckpt the spectrum encoder.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.dino_head import Branch
from astrom3.errors import UserError
from astrom3.places import expanded
from astrom3.published import astroclip
from astrom3.published.astroclip import Checkpoint

SUFFIXES = (".ckpt", ".pth")


def recognises(source: str | Path) -> bool:
    """Whether this is a published file, a folder that holds one, or a hub id of AstroCLIP."""
    path = expanded(source)
    if path.is_file():
        return path.suffix in SUFFIXES
    if path.is_dir():
        return any((path / name).is_file() for name in astroclip.FILES)
    return str(source) in astroclip.HUB_IDS


def load(source: str | Path, num_heads: int | None = None, revision: str | None = None) -> nn.Module:
    """The model in a released file, in evaluation mode."""
    return as_model(astroclip.load(source, num_heads=num_heads, revision=revision))


def as_model(checkpoint: Checkpoint) -> nn.Module:
    """A checkpoint's modules as the model of this package that they are, every tensor in its place."""
    modules = checkpoint.modules
    if checkpoint.kind == "specformer":
        return modules["specformer"]
    if checkpoint.kind == "astrodino":
        return Branch(modules["vit"], modules["dino_head"]).eval()  # type: ignore[arg-type]
    images = checkpoint.config["images"]
    spectra = checkpoint.config["spectra"]
    different = []
    for name in ("embed_dim", "n_head"):
        if images[name] != spectra[name]:
            different.append(name)
    if different:
        raise UserError(
            f"the towers of the checkpoint differ in {different[0]}, which the published model does not have"
        )
    model = AlignedTowers(
        {slot: modules[slot].backbone for slot in ("spectra", "images")},  # type: ignore[misc]
        embed_dim=images["embed_dim"],
        n_head=images["n_head"],
        dropout=images["dropout"],
        compat=True,
        scale=checkpoint.config["scale"],
        learnable=checkpoint.config["learnable_scale"],
    )
    for slot in ("spectra", "images"):
        model.encoders[slot].load_state_dict(modules[slot].state_dict())
    return model.eval()
