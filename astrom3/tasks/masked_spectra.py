"""Masked pre-training of spectra: SpecFormer reconstructs runs of hidden tokens (Parker et al. 2024, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from astrom3.encoders.specformer import SpecFormer
from astrom3.modalities.galaxy_views import FLUX
from astrom3.tasks.distributed import sum_over_ranks
from astrom3.tasks.masked_spectrum import Reconstruction, masked_spectrum_loss, reconstruct
from astrom3.tasks.masks import ChunkMasks
from astrom3.tasks.task import TrainingModule


class Sums:
    """What evaluation adds up over the hidden entries of tokens: number, values, their squares, squared errors."""

    names = ("objects", "entries", "values", "squares", "errors")

    def __init__(self) -> None:
        self.totals = dict.fromkeys(self.names, 0.0)

    def add(self, reconstruction: Tensor, tokens: Tensor, masked: Tensor) -> None:
        """Add the hidden tokens of a batch (B, H, W)."""
        hidden = masked != tokens
        truth = tokens.double()[hidden]
        error = reconstruction.double()[hidden] - truth
        sums = []
        for part in (truth, truth.square(), error.square()):
            sums.append(float(part.sum()))
        found = [len(tokens), len(truth), *sums]
        for name, value in zip(self.names, found, strict=True):
            self.totals[name] += value

    def scores(self, device: torch.device) -> dict[str, float]:
        """Mean squared error of the hidden entries, in units of the spectrum's variance, and R2, over all ranks."""
        total = {}
        for name, value in self.totals.items():
            total[name] = sum_over_ranks(value, device)
        count = max(total["entries"], 1.0)
        scatter = total["squares"] - total["values"] ** 2 / count
        r2 = 1 - total["errors"] / max(scatter, 1e-12)
        return {"loss": total["errors"] / count, "r2": r2, "n": int(total["objects"])}


class MaskedSpectraModule(TrainingModule):
    """model: SpecFormer. chunks, width: runs of hidden tokens in a spectrum, and tokens of a run.

    Validation and test hide the same tokens every time, training others in every epoch.
    """

    best_metric = "val/loss"
    direction = "min"
    model: SpecFormer

    def __init__(
        self,
        model: SpecFormer,
        classes: Sequence[str],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
        chunks: int = 6,
        width: int = 50,
    ):
        super().__init__(model, optim, schedule, seed, freeze)
        self.classes = tuple(classes)
        self.masks = ChunkMasks(chunks, width)
        self.sums = Sums()
        self.results: dict[str, Any] = {}

    def forward(self, batch: Mapping[str, Any], epoch: int = 0) -> Reconstruction:
        """Reconstruction, true and masked tokens of what is hidden in a batch, (B, H, W) each, at least float32."""
        return reconstruct(self.model, batch[FLUX], self.masks, batch["index"], (self.seed, epoch))

    def training_step(self, batch: Mapping[str, Any], _: int) -> Tensor:
        found: Reconstruction = self(batch, self.current_epoch + 1)
        loss = masked_spectrum_loss(found.reconstruction, found.tokens, found.masked, over_ranks=True)
        self.log_training_loss(loss, len(batch[FLUX]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch)

    def _evaluate(self, batch: Mapping[str, Any]) -> None:
        if len(batch[FLUX]):  # a rank's part of the last batch may be empty
            self.sums.add(*self(batch))

    def _finish(self, stage: str) -> dict[str, float]:
        scores = self.sums.scores(self.device)
        self.sums = Sums()
        self.log(f"{stage}/loss", scores["loss"], prog_bar=True)
        self.log(f"{stage}/r2", scores["r2"])
        return scores

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self.results = self._finish("test")
