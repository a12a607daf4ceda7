"""Contrastive pre-training: the modalities of one object near each other, those of different objects apart.

Rizhko & Bloom 2024 (arXiv:2411.08842), section 3.4. The objective is `losses.contrastive_loss`; this module applies
it to batches, and measures on the test split how well frozen embeddings tell the classes apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from astrom3.models.multimodal import MultimodalModel
from astrom3.training.distributed import gather_all, gather_rows
from astrom3.training.losses import contrastive_loss, matching_accuracy
from astrom3.training.metrics import centroid_accuracy, classification_scores
from astrom3.training.module import TrainingModule, at_least_float32


class ContrastiveModule(TrainingModule):
    """model: encoders in one space; classes: names of the labels, used for measuring only."""

    model: MultimodalModel

    def __init__(
        self,
        model: MultimodalModel,
        classes: Sequence[str],
        optim: Mapping[str, float],
        schedule: Mapping[str, Any],
        seed: int = 0,
    ):
        super().__init__(model, optim, schedule, seed)
        self.classes = tuple(classes)
        self.matched = {"val": [0, 0], "test": [0, 0]}  # right, of
        self.results: dict[str, Any] = {}

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Unit embeddings, modality -> (B, hidden_dim), float32; zero rows where a modality is absent."""
        return {m: at_least_float32(e) for m, e in self.model(batch).items()}

    def _losses(self, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
        """Over the global batch: every rank has the same numbers."""
        embeddings, present = gather_all(self(batch), batch.get("present", {}))
        scales = {pair: self.model.scale(*pair) for pair in self.model.pairs}
        losses = contrastive_loss(embeddings, present, scales)
        return losses, None if self.training else matching_accuracy(embeddings, present, scales)

    def training_step(self, batch: Mapping[str, Any], _: int) -> Tensor:
        losses, _unused = self._losses(batch)
        self.log_training_loss(losses["loss"], len(batch["label"]))
        return losses["loss"]

    def on_before_zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        self.model.clamp_parameters()  # after the step of the batch before

    def validation_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Mapping[str, Any], stage: str) -> None:
        losses, matched = self._losses(batch)
        for name, loss in losses.items():
            self.log(f"{stage}/{name}", loss, batch_size=len(batch["label"]), sync_dist=True)
        assert matched is not None
        self.matched[stage][0] += int(matched[0])
        self.matched[stage][1] += int(matched[1])

    def _finish(self, stage: str) -> float:
        right, of = self.matched[stage]
        self.matched[stage] = [0, 0]
        accuracy = right / max(of, 1)
        self.log(f"{stage}/accuracy", accuracy, prog_bar=True)
        return accuracy

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        accuracy = self._finish("test")
        metrics = {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("test/")}
        per_pair = {k.removeprefix("test/loss/"): v for k, v in metrics.items() if k.startswith("test/loss/")}
        self.results = {
            "loss": metrics["test/loss"],
            "loss_per_pair": per_pair,
            "clip_accuracy": accuracy,
            "logit_scales": {f"{a}_{b}": float(self.model.scale(a, b)) for a, b in self.model.pairs},
        } | self._centroids()

    def _centroids(self) -> dict[str, Any]:
        """Class centroids of the training embeddings, and how often a test object's nearest one is its own class's."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        train, test = self.embed(data.split_dataloader("train")), self.embed(data.test_dataloader())
        out: dict[str, Any] = {"centroid_accuracy": {}}
        for name in [*self.model.modalities, "mean"]:
            confusion = centroid_accuracy(train, test, name, len(self.classes))
            if confusion is not None:
                scores = classification_scores(confusion, self.classes)
                out["centroid_accuracy"][name] = scores["accuracy"]
                out.setdefault("centroid_macro_recall", {})[name] = scores["macro_recall"]
        return out

    @torch.no_grad()
    def embed(self, loader: Any) -> dict[str, Tensor]:
        """Embeddings, presence and labels of a whole loader, on the CPU: modality (N, D), present/<m> (N,), label."""
        parts: dict[str, list[Tensor]] = {}
        for batch in loader:
            batch = self.trainer.strategy.batch_to_device(batch, self.device, 0)
            batch = self.trainer.precision_plugin.convert_input(batch)
            with self.trainer.precision_plugin.forward_context():
                embeddings = self(batch)
            present = batch.get("present", {})
            for m, e in embeddings.items():
                parts.setdefault(m, []).append(e.cpu())
                there = present.get(m, torch.ones(len(e), dtype=torch.bool))
                parts.setdefault(f"present/{m}", []).append(there.cpu().to(torch.uint8))
            parts.setdefault("label", []).append(batch["label"].cpu())
        return {k: gather_rows(torch.cat(v).to(self.device)).cpu() for k, v in parts.items()}
