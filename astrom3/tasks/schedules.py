"""The published learning-rate schedule and stopping rule, per epoch.

Linear warm-up from lr * 1e-5 over the first epochs, then ReduceLROnPlateau on the validation loss; early stopping on
the validation loss is Lightning's (callbacks.py). `training/module.py` drives the schedule.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, ReduceLROnPlateau

WARMUP_START = 1e-5


class WarmupThenPlateau:
    """`step(val_loss)` at the end of each epoch: a warm-up step in the first `warmup_epochs`, else a plateau step."""

    def __init__(self, optimizer: Optimizer, warmup_epochs: int = 10, factor: float = 0.1, patience: int = 3):
        self.warmup_epochs, self.epoch = warmup_epochs, 0
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
