"""Which encoders of a run are frozen, and keeping what they say of every object (data/kept.py).

An encoder is frozen as a whole (freeze=[encoders.spectra]), or as the inner part of a tower whose head learns
(model.frozen=true of AstroCLIP). Its outputs are kept where its view shows an object the same way in every epoch. The
losses and the weights of a run are the same with and without, bit by bit, as long as the hardware computes a row of a
batch the same way whatever stands beside it; the CPU in float32 does.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from astrom3.data.kept import (
    FOLDER,
    PIECE,
    KeptOutputs,
    KeptReader,
    compute,
    remove_unused,
    total_size,
    weights_key,
)
from astrom3.data.packed import PackedSplit
from astrom3.encoders.towers import FEATURES, TOKENS, Classifier, MultimodalModel
from astrom3.errors import UserError, shown
from astrom3.modalities.schema import PREPROCESSING_VERSION
from astrom3.modalities.view import Reader
from astrom3.places import cache_root
from astrom3.progress import progress
from astrom3.published.native import describe

log = logging.getLogger(__name__)
SPLITS = ("train", "validation")
STEP = 16  # objects that are encoded at once
ROOM = 0.5  # share of the free disk that may be taken
SMALL = 1e-9
MUCH = 1 << 30  # bytes of kept outputs that are worth a sentence


@dataclass(frozen=True)
class Fixed:
    """part: the module that stays as it is. key: of the batch, where its output goes. read: its inputs -> output."""

    part: nn.Module
    key: str
    inputs: tuple[str, ...]
    read: Callable[..., Tensor]
    about: str = ""


class KeepFrozen(Callback):
    """keep: "auto" (where the disk has room), True or False."""

    def __init__(self, keep: bool | str) -> None:
        self.keep = keep
        self.used: list[KeptOutputs] = []
        self.replaced: list[tuple[PackedSplit, str, Reader]] = []  # split, slot and what filled its batches before

    def on_train_epoch_start(self, trainer: L.Trainer, module: Any) -> None:
        """Long runs say that they still use what is kept."""
        for kept in self.used:
            kept.touch()

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        if self.keep is False:
            return

        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for slot, fixed in fixed_parts(module, data.views).items():
            reason = obstacle(trainer, data, slot)
            if reason:
                log.info("the frozen encoder of %s is computed in every epoch: %s", slot, reason)
                continue
            for name in SPLITS:
                split = data.splits[name]
                before = split.readers[slot]
                found = keep_outputs(trainer, data, name, slot, fixed, self.keep)
                if found is not None:
                    self.used.append(found)
                    self.replaced.append((split, slot, before))

        folder = cache_root(data.cache) / FOLDER
        taken = total_size(folder)
        if taken > MUCH:
            log.info(
                "kept outputs of frozen encoders take %.1f GB; %s can be removed at any time",
                taken / 1e9,
                shown(folder),
            )

    def on_fit_end(self, trainer: L.Trainer, module: Any) -> None:
        """What comes after training, such as calibration, reads the observations again."""
        for split, slot, before in self.replaced:
            split.readers[slot] = before
        self.replaced.clear()


def fixed_parts(module: Any, views: Any) -> dict[str, Fixed]:
    """Slot -> the frozen part of its encoder, of those that have one."""
    inner: Any = getattr(module.model, "backbone", module.model)
    if isinstance(inner, MultimodalModel):
        encoders = dict(inner.encoders.items())
    elif isinstance(module.model, Classifier):
        encoders = {next(iter(views)): module.model.encoder}
    else:
        return {}
    found = {slot: fixed_part(encoder, module) for slot, encoder in encoders.items()}
    return {slot: fixed for slot, fixed in found.items() if fixed is not None}


def fixed_part(encoder: Any, module: Any) -> Fixed | None:
    """The encoder itself, where `freeze` covers it, or the backbone of a tower that is frozen."""
    first = encoder.inputs[0]
    if is_fixed(encoder, module):
        return Fixed(encoder, FEATURES + first, encoder.inputs, encoder)
    inner = getattr(encoder, "backbone", None)
    if inner is None or not hasattr(encoder, "project"):
        return None
    if not (is_fixed(inner, module) or (getattr(encoder, "freeze", False) and does_not_learn(inner))):
        return None
    return Fixed(
        inner, TOKENS + first, encoder.inputs, lambda *inputs: encoder.tokens(*inputs)[0], type(encoder).__name__
    )


def is_fixed(part: nn.Module, module: Any) -> bool:
    """Whether a part is among those that `freeze` names, or within one: it learns nothing and never drops anything."""
    covered: set[nn.Module] = set()
    for frozen in module.frozen:
        covered.update(frozen.modules())
    return does_not_learn(part) and part in covered


def does_not_learn(part: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in part.parameters())


def obstacle(trainer: L.Trainer, data: Any, slot: str) -> str | None:
    """Why the outputs of a frozen encoder cannot be kept."""
    view = data.views[slot]
    if view.draws:
        return f"its view {view.name} shows an object differently in every epoch"
    if data.streaming:
        return "the data are streamed (data.streaming=false keeps its outputs)"
    if data.on_device is True:
        return "data.on_device=true keeps the observations themselves on the device"
    return None


def keep_outputs(
    trainer: L.Trainer, data: Any, name: str, slot: str, fixed: Fixed, keep: bool | str
) -> KeptOutputs | None:
    """Compute what is not kept yet of a split, and let its batches carry the outputs; None where that cannot be."""
    split: PackedSplit = data.splits[name]
    training = fixed.part.training
    fixed.part.eval()
    encode = Encoding(trainer, split, slot, fixed)
    example = encode(np.flatnonzero(split.present[slot])[:1])[0] if split.present[slot].any() else None
    if example is None:
        return None

    root = cache_root(data.cache)
    key = outputs_key(trainer, data, name, slot, fixed)
    kept = KeptOutputs(root / FOLDER / key, len(split), example)
    missing = kept.missing()
    if missing and not has_room(kept, len(missing), root, keep, slot):
        return None
    if missing:
        log.info("keeping what the frozen encoder of %s says of the %d objects of %s", slot, len(split), name)
    with progress(f"Encoding {slot}", PIECE * len(missing)) as advance:
        ranks = (trainer.global_rank, trainer.world_size), (trainer.local_rank, trainer.num_devices)
        for first, step in ranks:  # the second time for nodes that do not share the folder
            for done in compute(kept, kept.missing()[first::step], encode):
                advance(done)
            trainer.strategy.barrier()

    kept.describe(
        {
            "slot": slot,
            "split": name,
            "view": data.views[slot].name,
            "encoder": type(fixed.part).__name__,
        }
    )
    split.readers[slot] = KeptReader(fixed.key, kept)
    fixed.part.train(training)
    return kept


class Encoding:
    """Members (B,) of a split -> outputs of a fixed part (B, ...); zeros where the modality is absent."""

    def __init__(self, trainer: L.Trainer, split: PackedSplit, slot: str, fixed: Fixed) -> None:
        self.trainer = trainer
        self.reader = split.readers[slot]
        self.present = split.present[slot]
        self.fixed = fixed

    def __call__(self, members: np.ndarray) -> Tensor:
        there = members[self.present[members]]
        parts = []
        for first in range(0, len(there), STEP):
            parts.append(self.encode(there[first : first + STEP]))
        if not parts:
            return self.blank(len(members))
        found = torch.cat(parts)
        if len(there) == len(members):
            return found
        out = found.new_zeros(len(members), *found.shape[1:])
        out[torch.from_numpy(self.present[members])] = found
        return out

    def blank(self, rows: int) -> Tensor:
        """Outputs of objects that all lack the modality."""
        example = self.encode(np.flatnonzero(self.present)[:1])
        return example.new_zeros(rows, *example.shape[1:])

    @torch.no_grad()
    def encode(self, members: np.ndarray) -> Tensor:
        plugin = self.trainer.precision_plugin
        batch = plugin.convert_input(self.reader.fill(members))
        device = self.trainer.strategy.root_device
        inputs = [batch[name].to(device) for name in self.fixed.inputs]
        with plugin.forward_context():
            return self.fixed.read(*inputs).cpu()


def outputs_key(trainer: L.Trainer, data: Any, name: str, slot: str, fixed: Fixed) -> str:
    """Everything that decides the outputs: weights, data, precision, kind of device."""
    split: PackedSplit = data.splits[name]
    return weights_key(
        dict(fixed.part.state_dict()) | {"members of the table": torch.from_numpy(np.array(split.rows))},
        describe(fixed.part),
        fixed.key,
        fixed.about,
        [getattr(encoder, "compat", None) for encoder in towers_of(trainer.lightning_module, fixed)],
        data.views[slot].name,
        data.source.fingerprint(name, cache_root(data.cache)),
        str(trainer.precision),
        trainer.strategy.root_device.type,
        torch.__version__,
        PREPROCESSING_VERSION,
    )


def towers_of(module: Any, fixed: Fixed) -> list[nn.Module]:
    """The tower around a frozen part: it may read the part in its own way."""
    found = []
    for tower in module.modules():
        if getattr(tower, "backbone", None) is fixed.part:
            found.append(tower)
    return found


def has_room(kept: KeptOutputs, pieces: int, root: Path, keep: bool | str, slot: str) -> bool:
    """Whether the disk has room for some pieces, after what has not been used for a day is removed where that helps;
    UserError where it has not, and they must be kept."""
    needed = pieces * PIECE * kept.bytes_per_object
    free = shutil.disk_usage(root).free
    if needed >= ROOM * free:
        for old, size in remove_unused(root / FOLDER, int(needed / max(ROOM, SMALL)) - free, kept.folder):
            log.info("removed %s, kept outputs of a frozen encoder not used for a day (%.1f GB)", old, size / 1e9)
        free = shutil.disk_usage(root).free
    if needed < ROOM * free:
        return True

    said = (
        f"what the frozen encoder of {slot} says takes {needed / 1e9:.1f} GB, and {root} has {free / 1e9:.1f} GB free"
    )
    if keep is True:
        raise UserError(f"{said}: make room, choose another data.cache=<folder>, or say keep=false")

    log.warning("%s: it is computed in every epoch", said)
    return False
