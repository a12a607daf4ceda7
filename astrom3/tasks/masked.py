"""Masked pre-training: a network reconstructs points that were hidden from it, without labels.

Donoso-Oliva et al. 2023 (A&A 670, A54), section 3. The model names its inputs among the keys of the batch, which a view
with masks fills; target and masks are keys of the batch too. The loss is the root mean square residual of the probed
points, of the global batch in training and of the whole split in evaluation. Hidden points are reported apart, because
probed points that stay visible are easy to copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from astrom3.modalities.astromer_masks import HIDDEN, PROBED, TARGET
from astrom3.modalities.astromer_view import TIMES, VALID, WEIGHTS
from astrom3.tasks.distributed import mean_over_ranks, sum_over_ranks
from astrom3.tasks.losses_masked import masked_mse, r2_sums, root
from astrom3.tasks.task import TrainingModule, at_least_float32

EXAMPLES = 6  # windows kept for the picture


class Sums:
    """What evaluation adds up: mean squares by window, and squared residuals of probed and of hidden points."""

    names = (
        "squares",
        "windows",
        "probed",
        "probed_residual",
        "probed_scatter",
        "hidden",
        "hidden_residual",
        "hidden_scatter",
    )

    def __init__(self) -> None:
        self.values = dict.fromkeys(self.names, 0.0)

    def add(self, predicted: Tensor, batch: Mapping[str, Tensor], mean_square: Tensor) -> None:
        """Add a batch of windows (B, L)."""
        windows = len(predicted)
        self.values["squares"] += float(mean_square) * windows
        self.values["windows"] += windows
        for name, points in (("probed", batch[PROBED]), ("hidden", batch[HIDDEN])):
            residual, scatter = r2_sums(predicted, batch[TARGET], points)
            self.values[name] += float(points.sum())
            self.values[f"{name}_residual"] += float(residual)
            self.values[f"{name}_scatter"] += float(scatter)

    def scores(self, device: torch.device) -> dict[str, float]:
        """Loss, RMSE [mag] and R2 over all ranks."""
        total = {name: sum_over_ranks(value, device) for name, value in self.values.items()}
        scores = {"loss": (total["squares"] / max(total["windows"], 1.0)) ** 0.5}
        for name in ("probed", "hidden"):
            scores[f"rmse_{name}"] = (total[f"{name}_residual"] / max(total[name], 1.0)) ** 0.5
            scores[f"r2_{name}"] = 1 - total[f"{name}_residual"] / max(total[f"{name}_scatter"], 1e-12)
        return scores | {"n": int(total["windows"])}


class MaskedModule(TrainingModule):
    """model: has `inputs` and gives reconstructed magnitudes (B, L). error_weights: squared residuals are weighted by
    the errors, as Astromer 2 was trained."""

    best_metric = "val/loss"
    direction = "min"

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
        error_weights: bool = False,
    ):
        super().__init__(model, optim, schedule, seed, freeze)
        self.classes = tuple(classes)
        self.error_weights = error_weights
        self.sums = Sums()
        self.results: dict[str, Any] = {}
        self.examples: dict[str, Any] = {}

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Reconstructed magnitudes (B, L), float32."""
        return at_least_float32(self.model(*(batch[key] for key in self.model.inputs)))  # type: ignore[union-attr]

    def mean_square(self, predicted: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Mean square residual () of the probed points [mag^2], weighted where asked."""
        weights = batch[WEIGHTS] if self.error_weights else None
        return masked_mse(predicted, batch[TARGET], batch[PROBED], weights)

    def training_step(self, batch: Mapping[str, Any], _: int) -> Tensor:
        loss = root(mean_over_ranks(self.mean_square(self(batch), batch)))
        self.log_training_loss(loss, len(batch[TARGET]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Mapping[str, Any], _: int) -> None:
        predicted = self._evaluate(batch)
        if not self.examples:
            kept = {TIMES, TARGET, PROBED, HIDDEN, VALID}
            self.examples = {key: batch[key][:EXAMPLES].float().cpu().numpy() for key in kept}
            self.examples["predicted"] = predicted[:EXAMPLES].cpu().numpy()

    def _evaluate(self, batch: Mapping[str, Any]) -> Tensor:
        predicted = self(batch)
        if len(predicted):  # a rank's part of the last batch may be empty
            self.sums.add(predicted, batch, self.mean_square(predicted, batch))
        return predicted

    def _finish(self, stage: str) -> dict[str, float]:
        scores = self.sums.scores(self.device)
        self.sums = Sums()
        for name, value in scores.items():
            if name != "n":
                self.log(f"{stage}/{name}", value, prog_bar=name == "r2_hidden")
        return scores

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self.results = self._finish("test")
