"""Training the alignment of images and spectra (Parker et al. 2024, section 4.3), or of any encoders with tokens.

The objective is the mean of the two cross-entropies of a pair, over all objects that have both modalities, on all
ranks; AstroM3's is their sum. With tasks=[contrastive,masked] the spectrum encoder reconstructs hidden tokens in the
same step, so one run is both pre-trainings. A galaxy with one modality is then of use too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.specformer import SpecFormer
from astrom3.errors import UserError
from astrom3.modalities.kinds import of_argument
from astrom3.tasks.contrastive import ContrastiveModule
from astrom3.tasks.masked_spectrum import masked_spectrum_loss, reconstruct
from astrom3.tasks.masks import ChunkMasks

CONTRASTIVE = "contrastive"
MASKED = "masked"
LOSS_OF_MASKED = "loss/masked"
SPECTRA = of_argument("spectrum")


class AlignmentModule(ContrastiveModule):
    """model: AlignedTowers. The weights of the lowest validation loss are kept, as published.

    tasks: "contrastive", and "masked" beside it; masked_weight: of its loss. chunks, width: runs of hidden tokens.
    """

    best_metric = "val/loss"
    direction = "min"
    model: AlignedTowers

    def __init__(
        self,
        model: AlignedTowers,
        classes: Sequence[str],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
        tasks: Sequence[str] = (CONTRASTIVE,),
        masked_weight: float = 1.0,
        chunks: int = 6,
        width: int = 50,
    ):
        self.tasks = tuple(tasks)
        self.masked_weight = masked_weight
        self.masks = ChunkMasks(chunks, width)
        if CONTRASTIVE not in self.tasks or set(self.tasks) - {CONTRASTIVE, MASKED}:
            raise UserError(
                f"tasks=[{','.join(self.tasks)}] of mode=clip: it is [contrastive] or [contrastive,masked]; "
                "mode=masked reconstructs alone"
            )
        if MASKED in self.tasks:
            spectrum_encoder(model).head.requires_grad_(True)
        super().__init__(model, classes, optim, schedule, seed, freeze)

    def _losses(self, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
        losses, matched = super()._losses(batch)
        losses = {name: loss / 2 for name, loss in losses.items()}
        if MASKED in self.tasks:
            losses[LOSS_OF_MASKED] = self.masked_loss(batch)
            losses["loss"] = losses["loss"] + self.masked_weight * losses[LOSS_OF_MASKED]
        return losses, matched

    def masked_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean squared error of the hidden tokens of the spectra that are there, over all ranks."""
        encoder = spectrum_encoder(self.model)
        flux = batch[encoder.inputs[0]]
        objects = batch["index"]
        present = batch.get("present", {}).get(SPECTRA)
        if present is not None:
            flux = flux[present]
            objects = objects[present]
        epoch = self.current_epoch + 1 if self.training else 0
        return masked_spectrum_loss(
            *reconstruct(encoder, flux, self.masks, objects, (self.seed, epoch)), over_ranks=True
        )

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        if MASKED in self.tasks:
            self.results[LOSS_OF_MASKED] = self.results["loss_per_pair"].pop(MASKED)


def spectrum_encoder(model: AlignedTowers) -> SpecFormer:
    """The encoder of spectra, which must learn; UserError where there is none or it is frozen."""
    tower: Any = dict(model.encoders.items()).get(SPECTRA)
    if tower is None or not isinstance(tower.backbone, SpecFormer):
        raise UserError("tasks=[contrastive,masked] reconstructs spectra: modalities must have spectra of SpecFormer")
    if tower.freeze:
        raise UserError(
            "tasks=[contrastive,masked] teaches the encoder of spectra, which is frozen: add model.frozen=false, or "
            "model.frozen=[images]"
        )
    return tower.backbone
