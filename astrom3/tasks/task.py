"""What every training task shares: optimiser, schedule, frozen parts, and what a checkpoint carries.

A task is a subclass with a loss; see classification.py and contrastive.py. The schedule is stepped at the end of the
training epoch, before the checkpoint is written, so that a resumed run has the same rates (stack: Lightning's own
plateau handling lags one step on resume).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from astrom3.errors import UserError
from astrom3.tasks.optimisers import freeze as freeze_parts
from astrom3.tasks.optimisers import make_optimizer
from astrom3.tasks.schedules import StepSchedule, WarmupThenPlateau, make_schedule

MONITOR = "val/loss"


def at_least_float32(x: Tensor) -> Tensor:
    """Losses are computed in float32 whatever the precision of the network."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class TrainingModule(L.LightningModule):
    """model: takes a batch dict. optim, schedule: the groups of the configuration. freeze: names of parts that do not
    learn and stay in evaluation mode. seed: of the dropout masks and drawn keys, which each epoch draws from (seed,
    epoch, rank) alone."""

    best_metric = "val/accuracy"  # the weights of its best value are kept; "CLIP accuracy" in pre-training
    direction = "max"  # whether the highest or the lowest value is the best

    def __init__(
        self,
        model: nn.Module,
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
    ):
        super().__init__()
        self.seed = seed
        self.model = model
        self.optim = dict(optim)
        self.schedule_options = dict(schedule)
        self.frozen = freeze_parts(model, freeze)
        self.schedule: WarmupThenPlateau | StepSchedule | None = None
        self._schedule_state: dict[str, Any] | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Lightning refuses to clip gradients of a fused optimiser in mixed precision.
        fused = not self.trainer.gradient_clip_val or "mixed" not in str(self.trainer.precision)
        optimizer = make_optimizer(self.model, self.optim, fused)
        self.schedule = make_schedule(optimizer, self.schedule_options)
        if self._schedule_state is not None:
            self.schedule.load_state_dict(self._schedule_state)
        return optimizer

    def on_train_epoch_start(self) -> None:
        # So that a run that goes on from the end of an epoch draws what it would have drawn, on every rank.
        torch.manual_seed((self.seed * 100_003 + self.current_epoch) * 1009 + self.global_rank)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if isinstance(self.schedule, StepSchedule):
            steps = int(self.trainer.num_training_batches)
            self.schedule.set(self.trainer.global_step, steps, self.trainer.max_epochs or 1)

    def train(self, mode: bool = True) -> TrainingModule:
        """Frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def on_train_epoch_end(self) -> None:
        loss = self.trainer.callback_metrics.get(MONITOR)
        if loss is None:
            raise UserError("no validation loss was computed: the validation split is empty, and the schedule needs it")
        assert self.schedule is not None
        self.schedule.step(float(loss))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.schedule is not None:
            checkpoint["schedule"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._schedule_state = checkpoint.get("schedule")

    def log_training_loss(self, loss: Tensor, n: int) -> None:
        """Logged per epoch; one that is not finite ends the run with the reason (callbacks.EpochTable)."""
        self.log("train/loss", loss.detach(), on_epoch=True, on_step=False, prog_bar=True, batch_size=n, sync_dist=True)
