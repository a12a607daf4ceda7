"""Contrastive pre-training: the modalities of one object near each other, those of different objects apart.

Rizhko & Bloom 2024 (arXiv:2411.08842), section 3.4. The objective is `losses.contrastive_loss`; this module applies
it to batches, and measures on the test split how well frozen embeddings tell the classes apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from astrom3.encoders.towers import MultimodalModel
from astrom3.tasks.distributed import gather_all, gather_rows, sum_over_ranks
from astrom3.tasks.losses import contrastive_loss, matching_accuracy
from astrom3.tasks.metrics import centroid_accuracy, classification_scores
from astrom3.tasks.task import TrainingModule, at_least_float32


@dataclass
class Sums:
    """What evaluation adds up over batches: losses, each as often as its batch has objects, and matched objects."""

    losses: dict[str, float] = field(default_factory=dict)
    objects: int = 0
    right: int = 0
    of: int = 0

    def add(self, losses: Mapping[str, float], n: int, right: int, of: int) -> None:
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + n * loss
        self.objects += n
        self.right += right
        self.of += of

    def means(self) -> dict[str, float]:
        return {name: total / self.objects for name, total in self.losses.items()}

    @property
    def accuracy(self) -> float:
        """Share of the objects with every modality that were matched with themselves."""
        return self.right / max(self.of, 1)


class ContrastiveModule(TrainingModule):
    """model: encoders in one space; classes: names of the labels, used for measuring only."""

    model: MultimodalModel

    def __init__(
        self,
        model: MultimodalModel,
        classes: Sequence[str],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
    ):
        super().__init__(model, optim, schedule, seed, freeze)
        self.classes = tuple(classes)
        self.sums = {"val": Sums(), "test": Sums()}
        self.results: dict[str, Any] = {}

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Unit embeddings, modality -> (B, hidden_dim), float32; zero rows where a modality is absent."""
        return {m: at_least_float32(e) for m, e in self.model(batch).items()}

    def _losses(self, batch: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
        """Over the global batch: every rank has the same numbers."""
        embeddings, present = gather_all(self(batch), batch.get("present", {}))
        scales = {}
        for pair in self.model.pairs:
            scales[pair] = self.model.scale(*pair)
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
        assert matched is not None
        n = sum_over_ranks(len(batch["label"]), self.device)
        right, of = map(int, matched)
        self.sums[stage].add({name: float(loss) for name, loss in losses.items()}, int(n), right, of)

    def _finish(self, stage: str) -> Sums:
        """Means over the epoch; every rank has summed up the same numbers of the global batches."""
        sums, self.sums[stage] = self.sums[stage], Sums()
        for name, loss in sums.means().items():
            self.log(f"{stage}/{name}", loss)
        self.log(f"{stage}/accuracy", sums.accuracy, prog_bar=True)
        return sums

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        sums = self._finish("test")
        losses = sums.means()
        by_pair = {}
        for name, loss in losses.items():  # a masked task beside has one of its own
            if name != "loss":
                by_pair[name.removeprefix("loss/")] = loss
        scales = {}
        for a, b in self.model.pairs:
            scales[f"{a}_{b}"] = float(self.model.scale(a, b))
        self.results = {
            "loss": losses["loss"],
            "loss_per_pair": by_pair,
            "clip_accuracy": sums.accuracy,
            "logit_scales": scales,
            **self._centroids(),
        }

    def _centroids(self) -> dict[str, Any]:
        """Class centroids of the training embeddings, and how often a test object's nearest one is its own class's."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        train = self.embed(data.split_dataloader("train"))
        test = self.embed(data.test_dataloader())
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
        whole = {}
        for key, pieces in parts.items():
            whole[key] = gather_rows(torch.cat(pieces).to(self.device)).cpu()
        return whole
