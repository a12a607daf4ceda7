"""Schedules of AstroCLIP's three trainings, as numbers per optimiser step, and rates per parameter (DINOv2).

All are float64 and pure, so a resumed run reads the same values by its step number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from astrom3.errors import UserError


def warmup_cosine_rate(step: int, lr: float, warmup: int, total: int, floor: float = 0.0) -> float:
    """Learning rate of the alignment and of masked spectra at optimiser step `step`, 0 being the first.

    It rises from 0 in `warmup` steps, falls as a cosine and stays at `floor` from step `total` on. The published
    floors are 0 by a mistake in writing; lr / 100 and lr / 500 were meant.
    """
    if step < warmup:
        return lr * step / warmup
    if step >= total:
        return floor
    progress = (step - warmup) / (total - warmup)
    return floor + (lr - floor) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class Cosine:
    """Values of image pre-training over `total` iterations.

    First `frozen` iterations of 0, then a straight line from `warmup_start` to `start` in `warmup` iterations with both
    ends included, then a cosine from `start` to `end`. Beyond the last iteration the value is `end`.
    """

    start: float
    end: float
    total: int
    warmup: int = 0
    warmup_start: float = 0.0
    frozen: int = 0

    def __post_init__(self) -> None:
        if self.warmup + self.frozen > self.total:
            raise UserError(
                f"a schedule of {self.total} iterations cannot hold {self.warmup} iterations of warm-up "
                f"and {self.frozen} frozen ones"
            )

    def values(self) -> np.ndarray:
        """All values, float64 (total,)."""
        iterations = np.arange(self.total)
        return np.array([self[int(iteration)] for iteration in iterations], dtype=np.float64)

    def __getitem__(self, iteration: int) -> float:
        if iteration >= self.total:
            return self.end
        if iteration < self.frozen:
            return 0.0
        position = iteration - self.frozen
        if position < self.warmup:
            if self.warmup == 1:
                return self.warmup_start
            return self.warmup_start + (self.start - self.warmup_start) * position / (self.warmup - 1)
        position -= self.warmup
        length = self.total - self.warmup - self.frozen
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * position / length)) / 2


@dataclass(frozen=True)
class DistillationRecipe:
    """Schedules of image pre-training, with the published numbers, in epochs of `iterations_per_epoch`.

    `lr` is the peak, already scaled: 2e-4 * sqrt(total batch / 1024).
    """

    lr: float = 2e-4 * math.sqrt(1440 / 1024)
    min_lr: float = 1e-6
    iterations_per_epoch: int = 1250
    epochs: int = 200
    warmup_epochs: float = 32
    weight_decay: tuple[float, float] = (0.001, 0.01)
    momentum: tuple[float, float] = (0.992, 1.0)
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    teacher_temperature_epochs: float = 30
    frozen_last_layer_epochs: float = 1

    def at(self, iteration: int) -> StepSettings:
        """The settings of one optimiser step."""
        per_epoch = self.iterations_per_epoch
        total = self.epochs * per_epoch
        lr = Cosine(self.lr, self.min_lr, total, int(self.warmup_epochs * per_epoch))[iteration]
        warmup = int(self.teacher_temperature_epochs * per_epoch)
        cold, warm = self.teacher_temperature
        frozen = iteration < self.frozen_last_layer_epochs * per_epoch
        return StepSettings(
            lr=lr,
            last_layer_lr=0.0 if frozen else lr,
            weight_decay=Cosine(*self.weight_decay, total)[iteration],
            momentum=Cosine(*self.momentum, total)[iteration],
            teacher_temperature=Cosine(warm, warm, warmup, warmup, cold)[iteration],
        )


@dataclass(frozen=True)
class StepSettings:
    """What image pre-training changes from step to step."""

    lr: float
    last_layer_lr: float
    weight_decay: float
    momentum: float
    teacher_temperature: float


@dataclass(frozen=True)
class Multipliers:
    """Factors of a parameter's learning rate and weight decay, and whether it belongs to the head's last layer."""

    lr_multiplier: float
    wd_multiplier: float
    last_layer: bool


def multipliers(name: str, depth: int, decay: float = 0.9, patch_embed: float = 0.2) -> Multipliers:
    """Factors for the parameter `name` of an image encoder of `depth` blocks, or of a head.

    Deeper layers learn faster: block i of D has decay ** (D - i). Names may be prefixed and blocks may be numbered in
    chunks. Biases, norms and layer scales have no weight decay.
    """
    layer = depth + 1
    block = re.search(r"blocks\.(?:\d+\.)?(\d+)\.", name)
    if block:
        layer = int(block[1]) + 1
    elif re.search(r"pos_embed|patch_embed|mask_token|cls_token", name):
        layer = 0
    rate = decay ** (depth + 1 - layer)
    if "patch_embed" in name:
        rate *= patch_embed
    undecayed = name.endswith(".bias") or "norm" in name or "gamma" in name
    return Multipliers(rate, 0.0 if undecayed else 1.0, "last_layer" in name)


def parameter_groups(
    parameters: Iterable[tuple[str, Tensor]],
    depth: int,
    decay: float = 0.9,
    patch_embed: float = 0.2,
) -> list[dict]:
    """Optimiser groups, parameters with the same factors together; `set_rates` sets their numbers at each step."""
    groups: dict[Multipliers, list[nn.Parameter | Tensor]] = {}
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups.setdefault(multipliers(name, depth, decay, patch_embed), []).append(parameter)
    return [{"params": members} | asdict(factors) for factors, members in groups.items()]


def set_rates(optimizer: Optimizer, settings: StepSettings) -> None:
    """Put this step's learning rates and weight decays into the groups of `parameter_groups`."""
    for group in optimizer.param_groups:
        lr = settings.last_layer_lr if group["last_layer"] else settings.lr
        group["lr"] = lr * group["lr_multiplier"]
        group["weight_decay"] = settings.weight_decay * group["wd_multiplier"]
