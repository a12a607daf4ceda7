"""Self-distillation of images: a student predicts what a running mean of itself, the teacher, says of other crops.

DINOv2's recipe (Oquab et al. 2023, arXiv:2304.07193) as AstroDINO uses it (Parker et al. 2024, section 4.2). The step
itself is in self_distillation.py. The teacher is the model that a run leaves; checkpoints hold the student, the centres
and the optimiser too, and every schedule is a function of the step, so a run goes on exactly where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from random import Random
from typing import Any

import torch
from torch import Tensor

from astrom3.encoders.dino_head import Branch
from astrom3.encoders.transformer import ImageBlock
from astrom3.modalities.galaxy_views import GLOBAL_CROPS, LOCAL_CROPS
from astrom3.tasks.dino import update_teacher
from astrom3.tasks.distributed import gather_rows, mean_over_ranks, sum_over_ranks
from astrom3.tasks.masks import BlockMasks, crop_masks
from astrom3.tasks.schedules_astroclip import DistillationRecipe, StepSettings, parameter_groups, set_rates
from astrom3.tasks.self_distillation import Centres, Crops, Weights, clip_gradients, distillation_losses, itself
from astrom3.tasks.task import TrainingModule

VALIDATION = 1 << 40  # keeps the masks of evaluation apart from those of training


class DistillationModule(TrainingModule):
    """model: the teacher, and the weights that the student starts from.

    drop_path: stochastic depth of the student. weight_decay_end, momentum, teacher_temperature: of the first and last
    step. Warm-ups longer than half of the run are cut to it. layer_decay: factor of the rate from block to block.
    koleo: weight of the loss that spreads the embeddings. koleo_global: its neighbours are sought among the images of
    all processes, so that their number changes nothing; false: of each by itself, as published. The last weights are
    the result, as published.
    """

    best_metric = "val/steps"
    direction = "max"
    model: Branch

    def __init__(
        self,
        model: Branch,
        classes: Sequence[str],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
        drop_path: float = 0.3,
        weight_decay_end: float = 0.01,
        momentum: Sequence[float] = (0.992, 1.0),
        teacher_temperature: Sequence[float] = (0.04, 0.07),
        teacher_warmup_epochs: float = 30,
        frozen_epochs: float = 1,
        layer_decay: float = 0.9,
        koleo: float = 0.1,
        koleo_global: bool = True,
    ):
        super().__init__(model, optim, schedule, seed, freeze)
        self.classes = tuple(classes)
        self.weight_decay_end = weight_decay_end
        self.momentum = (momentum[0], momentum[1])
        self.teacher_temperature = (teacher_temperature[0], teacher_temperature[1])
        self.teacher_warmup_epochs = teacher_warmup_epochs
        self.frozen_epochs = frozen_epochs
        self.layer_decay = layer_decay
        self.weights = Weights(koleo=koleo)
        self.koleo_global = koleo_global
        self.student = deepcopy(model)
        for block in self.student.modules():
            if isinstance(block, ImageBlock):
                block.drop_path = drop_path
        model.requires_grad_(False)
        self.centres = Centres(model.dino_head.out_dim)
        self.settings: StepSettings | None = None
        self.totals = {"loss": 0.0, "images": 0.0}
        self.results: dict[str, Any] = {}

    def setup(self, stage: str) -> None:
        """The student starts as the teacher, whatever weights that was given. A checkpoint is read after this."""
        if stage == "fit":
            self.student.load_state_dict(self.model.state_dict())

    def configure_model(self) -> None:
        """Teacher and student are spread over the devices, where the strategy wants it (trainer=fsdp)."""
        from astrom3.tasks.sharding import is_sharded, shard

        if self.device_mesh is None or is_sharded(self):
            return
        for branch in (self.model, self.student):
            shard(branch.backbone, (ImageBlock,), self.device_mesh, "features")
            shard(branch.dino_head, (), self.device_mesh)

    def train(self, mode: bool = True) -> DistillationModule:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def recipe(self) -> DistillationRecipe:
        """The schedules of this run."""
        epochs = self.trainer.max_epochs or 1
        lr = self.optim["lr"]
        return DistillationRecipe(
            lr=lr,
            min_lr=lr * self.schedule_options.get("floor", 0.0),
            iterations_per_epoch=int(self.trainer.num_training_batches),
            epochs=epochs,
            warmup_epochs=min(self.schedule_options.get("warmup_epochs", 0), epochs / 2),
            weight_decay=(self.optim["weight_decay"], self.weight_decay_end),
            momentum=self.momentum,
            teacher_temperature=self.teacher_temperature,
            teacher_temperature_epochs=min(self.teacher_warmup_epochs, epochs / 2),
            frozen_last_layer_epochs=min(self.frozen_epochs, epochs / 2),
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        depth = self.student.backbone.depth
        groups = parameter_groups(self.student.named_parameters(), depth, self.layer_decay)  # type: ignore[arg-type]
        betas = (self.optim["beta1"], self.optim["beta2"])
        return torch.optim.AdamW(groups, lr=self.optim["lr"], betas=betas, eps=self.optim.get("eps", 1e-8))

    def configure_gradient_clipping(self, optimizer: Any, *limits: Any, **named: Any) -> None:
        """Encoder and head are clipped each by itself."""
        limit = self.trainer.gradient_clip_val
        if limit:
            clip_gradients([self.student.backbone, self.student.dino_head], limit)

    def crops(self, batch: Mapping[str, Any], key: int) -> Crops:
        """The crops of a batch, first crops first, and masks drawn for `key`."""
        large = batch[GLOBAL_CROPS].transpose(0, 1).flatten(0, 1)  # (2 B, 3, H, W)
        small = batch[LOCAL_CROPS].transpose(0, 1).flatten(0, 1)  # (n B, 3, h, w)
        patch = self.model.backbone.patch_size
        blocks = BlockMasks(large.shape[-2] // patch, large.shape[-1] // patch)
        masks = crop_masks(Random((self.seed * 100_003 + key) * 1009 + self.global_rank), len(large), blocks)
        return Crops(large, small, masks.to(large.device))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.settings = self.recipe().at(self.trainer.global_step)
        set_rates(self.optimizers(), self.settings)  # type: ignore[arg-type]

    def training_step(self, batch: Mapping[str, Any], _: int) -> Tensor:
        assert self.settings is not None
        losses = distillation_losses(
            self.student,
            self.model,
            self.crops(batch, self.trainer.global_step),
            self.centres,
            self.settings.teacher_temperature,
            self.weights,
            mean_over_ranks=mean_over_ranks,
            gather=gather_rows if self.koleo_global else itself,
        )
        count = len(batch[GLOBAL_CROPS])
        self.log_training_loss(losses["loss"], count)
        for name, value in losses.items():
            if name != "loss":
                self.log(f"train/{name}", value, on_epoch=True, on_step=False, batch_size=count, sync_dist=True)
        return losses["loss"]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert self.settings is not None
        update_teacher(self.model.parameters(), self.student.parameters(), self.settings.momentum)

    def on_train_epoch_end(self) -> None:
        """The schedules are functions of the step."""

    def validation_step(self, batch: Mapping[str, Any], number: int) -> None:
        self._evaluate(batch, number)

    def test_step(self, batch: Mapping[str, Any], number: int) -> None:
        self._evaluate(batch, number)

    def _evaluate(self, batch: Mapping[str, Any], number: int) -> None:
        """The loss at the last temperature of the teacher; the centres stay as they are."""
        count = len(batch[GLOBAL_CROPS])
        if not count:  # a rank's part of the last batch may be empty
            return
        crops = self.crops(batch, VALIDATION + number)
        centres = deepcopy(self.centres)
        losses = distillation_losses(
            self.student, self.model, crops, centres, self.teacher_temperature[1], self.weights
        )
        self.totals["loss"] += float(losses["loss"]) * count
        self.totals["images"] += count

    def _finish(self, stage: str) -> dict[str, float]:
        total = {}
        for name, value in self.totals.items():
            total[name] = sum_over_ranks(value, self.device)
        self.totals = dict.fromkeys(self.totals, 0.0)
        loss = total["loss"] / max(total["images"], 1.0)
        self.log(f"{stage}/loss", loss, prog_bar=True)
        return {"loss": loss, "n": int(total["images"])}

    def on_validation_epoch_end(self) -> None:
        self._finish("val")
        self.log(self.best_metric, float(self.trainer.global_step))

    def on_test_epoch_end(self) -> None:
        self.results = self._finish("test")
