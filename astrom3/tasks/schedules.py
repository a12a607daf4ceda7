"""Learning-rate schedules: the published one of AstroM3, per epoch, and functions of the step.

Linear warm-up from lr * 1e-5 over the first epochs, then ReduceLROnPlateau on the validation loss; early stopping on
the validation loss is Lightning's (callbacks.py). `tasks/task.py` drives the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau

from astrom3.tasks.losses_masked import noam_rate
from astrom3.typed import check_arguments

WARMUP_START = 1e-5


class WarmupThenPlateau:
    """`step(val_loss)` at the end of each epoch: a warm-up step in the first `warmup_epochs`, else a plateau step."""

    def __init__(self, optimizer: Optimizer, warmup_epochs: int = 10, factor: float = 0.1, patience: int = 3):
        self.warmup_epochs = warmup_epochs
        self.epoch = 0
        # The plateau first: LinearLR lowers the rate when it is made.
        self.plateau = ReduceLROnPlateau(optimizer, mode="min", factor=factor, patience=patience)
        self.warmup = LinearLR(optimizer, WARMUP_START, total_iters=warmup_epochs) if warmup_epochs else None

    def step(self, val_loss: float) -> None:
        self.epoch += 1
        if self.warmup is not None and self.epoch <= self.warmup_epochs:
            self.warmup.step()
        else:
            self.plateau.step(val_loss)

    def state_dict(self) -> dict[str, Any]:
        warmup = self.warmup.state_dict() if self.warmup is not None else None
        return {"epoch": self.epoch, "warmup": warmup, "plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.plateau.load_state_dict(state["plateau"])
        if self.warmup is not None:
            self.warmup.load_state_dict(state["warmup"])


class StepSchedule:
    """A rate that is a function of the step or epoch alone, so a resumed run has it without any state.

    kind: "cosine", "constant" (both after a linear warm-up over `warmup_epochs`) or "noam" (Vaswani et al. 2017,
    equation 3, counted from 0 as ASTROMER does). per: "step" or "epoch", when the rate changes.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        kind: str,
        warmup_epochs: float = 0,
        floor: float = 0.0,
        per: str = "step",
        warmup_steps: int = 4000,
        d_model: int = 256,
    ):
        if kind not in ("cosine", "constant", "noam") or per not in ("step", "epoch"):
            raise ValueError(f"schedule.kind={kind}, schedule.per={per}: no such schedule")
        self.optimizer = optimizer
        self.kind = kind
        self.warmup_epochs = warmup_epochs
        self.floor = floor
        self.per = per
        self.warmup_steps = warmup_steps
        self.d_model = d_model
        self.rates = [group["lr"] for group in optimizer.param_groups]

    def set(self, step: int, steps_per_epoch: int, epochs: int) -> None:
        """Set the rates of the update number `step` (from 0) of a run of so many epochs."""
        if self.kind == "noam":
            rate = noam_rate(step, self.d_model, self.warmup_steps)
            for group, own in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (own / max(self.rates))
            return
        position = step if self.per == "step" else step // steps_per_epoch * steps_per_epoch
        total = epochs * steps_per_epoch
        warmup = self.warmup_epochs * steps_per_epoch
        if self.kind == "cosine":
            warmup = min(warmup, total / 2)  # a run too short for its warm-up reaches the full rate all the same
        share = self.share(position, warmup, total)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def share(self, step: int, warmup: float, total: int) -> float:
        """Part of the full rate at a step; the first step of a warm-up has 1 / warmup of it."""
        if step < warmup:
            return (step + 1) / warmup
        if self.kind == "constant":
            return 1.0
        progress = min((step - warmup) / max(total - warmup, 1), 1.0)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))

    def step(self, val_loss: float) -> None:
        """Nothing follows from the validation loss."""

    def state_dict(self) -> dict[str, Any]:
        return {"rates": self.rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rates = list(state["rates"])


def make_schedule(optimizer: Optimizer, options: Mapping[str, Any]) -> WarmupThenPlateau | StepSchedule:
    """The schedule that the group `schedule` describes; without `kind`, as in runs of version 0.1, the published."""
    arguments = dict(options)
    kind = arguments.pop("kind", "warmup_plateau")
    if kind == "warmup_plateau":
        check_arguments(WarmupThenPlateau, {"optimizer": optimizer, **arguments}, "schedule")
        return WarmupThenPlateau(optimizer, **arguments)
    check_arguments(StepSchedule, {"optimizer": optimizer, "kind": kind, **arguments}, "schedule")
    return StepSchedule(optimizer, kind, **arguments)
