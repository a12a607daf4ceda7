"""What happens around the epochs: the table of metrics, checkpoints, early stopping, the progress bar."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, RichModelSummary, RichProgressBar

from astrom3.errors import UserError
from astrom3.files import write_text
from astrom3.progress import Advance, ignored, progress
from astrom3.tasks.task import MONITOR
from astrom3.training.run import BEST, LAST

SAID = (
    "train/loss",
    "val/loss",
    "val/accuracy",
    "val/r2_hidden",
    "val/r2",
)  # of an epoch, where there is no progress bar
log = logging.getLogger(__name__)


def on_terminal() -> bool:
    return os.isatty(1)


class EpochTable(Callback):
    """metrics.csv in the run folder: one row per epoch. The rows travel in the checkpoint, so resuming repeats none."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        values = {}
        for name, value in sorted(trainer.callback_metrics.items()):
            values[name] = float(f"{float(value):.7g}")  # what float32 knows
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, **values})
        if trainer.is_global_zero:
            write_table(self.path, self.rows)
            if not on_terminal():
                said = [f"{name} {values[name]:.4g}" for name in SAID if name in values]
                log.info("epoch %d of %s: %s", trainer.current_epoch + 1, trainer.max_epochs, ", ".join(said))

        for name, kind in (("train/loss", "training"), ("val/loss", "validation")):
            loss = values.get(name, 0.0)
            if not math.isfinite(loss):
                raise UserError(
                    f"the {kind} loss became {loss} in epoch {trainer.current_epoch}: lower optim.lr, or set "
                    f"trainer.gradient_clip_val; the weights before are in {self.path.parent / 'checkpoints'}"
                )

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rewrite the whole csv; a reader never sees half of it."""
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def checkpoints(folder: Path, monitor: str, direction: str) -> list[ModelCheckpoint]:
    """best.ckpt: the weights of the best value of the monitored metric; last.ckpt: everything needed to go on.

    Both are written at the end of the training epoch, after the schedule's step.
    """
    options: dict[str, Any] = {"save_top_k": 1, "save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(folder, Path(BEST).stem, monitor=monitor, mode=direction, save_weights_only=True, **options)
    last = ModelCheckpoint(folder, Path(LAST).stem, every_n_epochs=1, **options)
    return [best, last]


class PatientStopping(EarlyStopping):
    """Stops after `patience` epochs in a row without a lower validation loss, from the first epoch on.

    A run killed between its last epoch and its test knows from its checkpoint that it had stopped (Lightning's own
    would train one epoch more).
    """

    def __init__(self, patience: int):
        super().__init__(MONITOR, patience=patience, min_delta=0.0, mode="min", check_on_train_epoch_end=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class StepLines(Callback):
    """Where there is no progress bar, a line every 30 seconds of an epoch or a test that takes longer than that."""

    def __init__(self) -> None:
        self.open = ExitStack()
        self.advance: Advance = ignored

    def begin(self, title: str, total: float) -> None:
        """Start the lines of something with so many batches."""
        self.open.close()
        self.advance = self.open.enter_context(progress(title, int(total) if math.isfinite(total) else None, "batches"))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.begin(f"epoch {trainer.current_epoch + 1}", trainer.num_training_batches)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.begin("test", float(sum(trainer.num_test_batches)))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.advance(1)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.advance(1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.open.close()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.open.close()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.open.close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.open.close()


def standard_callbacks(
    run: Path, monitor: str, patience: int, shown: bool = True, direction: str = "max"
) -> list[Callback]:
    """In this order: the table and the early stopping are in the state that the checkpoints save. shown: with a bar."""
    bars = [RichProgressBar(), RichModelSummary(max_depth=2)] if shown else [StepLines()]
    return [
        *bars,
        EpochTable(run / "metrics.csv"),
        PatientStopping(patience),
        *checkpoints(run / "checkpoints", monitor, direction),
    ]
