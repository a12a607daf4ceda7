"""Training a classifier: cross-entropy on class labels, for one modality or several together.

In evaluation a batch may hold several windows of an object, with the same `index`. Their probabilities are averaged, so
that scores count objects; `per_window` in the results counts every window, as the ASTROMER papers do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from astrom3.modalities.schema import UNLABELLED
from astrom3.tasks.distributed import sum_over_ranks
from astrom3.tasks.metrics import classification_scores
from astrom3.tasks.task import TrainingModule, at_least_float32
from astrom3.tasks.windows import object_logits, pieces


def balanced_weights(labels: np.ndarray, num_classes: int) -> list[float]:
    """Weights of the classes with which all count alike: n / (classes * n of the class); 0 for a class without objects.

    labels: ids of the training objects (n,), negative ones are unlabelled.
    """
    counts = np.bincount(labels[labels >= 0], minlength=num_classes)
    present = int((counts > 0).sum())
    return [counts.sum() / (present * count) if count else 0.0 for count in counts.tolist()]


class ClassificationModule(TrainingModule):
    """model: makes the network for a number of classes; classes: their names, label id = position. class_weights:
    weights of the classes in the training loss, evaluation is never weighted."""

    class_weights: Tensor | None

    def __init__(
        self,
        model: Callable[..., nn.Module],
        classes: Sequence[str],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__(model(num_classes=len(classes)), optim, schedule, seed, freeze)
        self.classes = tuple(classes)
        self.confusion = nn.ModuleDict({s: MulticlassConfusionMatrix(len(classes)) for s in ("val_", "test_")})
        self.per_window = nn.ModuleDict({s: MulticlassConfusionMatrix(len(classes)) for s in ("val_", "test_")})
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self.loss_sum = 0.0  # of the evaluation that is going on
        self.results: dict[str, Any] = {}

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits (B, num_classes), float32."""
        return at_least_float32(self.model(batch))

    def training_step(self, batch: Mapping[str, Any], _: int) -> Tensor:
        loss = F.cross_entropy(self(batch), batch["label"], self.class_weights, ignore_index=UNLABELLED)
        self.log_training_loss(loss, len(batch["label"]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Mapping[str, Any], stage: str) -> None:
        labelled = batch["label"] != UNLABELLED
        label = batch["label"][labelled]
        logits = torch.cat([self(part) for part in pieces(batch)])[labelled]
        if not len(label):  # a rank's part of the last batch may be empty
            return
        self.per_window[f"{stage}_"].update(logits.argmax(-1), label)  # type: ignore[operator]
        logits, first = object_logits(logits, batch["index"][labelled])
        label = label[first]
        self.loss_sum += float(F.cross_entropy(logits, label, reduction="sum"))
        self.confusion[f"{stage}_"].update(logits.argmax(-1), label)  # type: ignore[operator]

    def _finish(self, stage: str) -> dict[str, Any]:
        scores = self._scores(self.confusion[f"{stage}_"])
        per_window = self._scores(self.per_window[f"{stage}_"])
        if per_window["n"] != scores["n"]:
            scores["per_window"] = per_window
        # The confusion matrix is summed over ranks already.
        self.log(f"{stage}/loss", sum_over_ranks(self.loss_sum, self.device) / max(scores["n"], 1))
        self.loss_sum = 0.0
        self.log(f"{stage}/accuracy", scores["accuracy"], prog_bar=True)
        self.log(f"{stage}/macro_f1", scores["macro_f1"])
        return scores

    def _scores(self, metric: Any) -> dict[str, Any]:
        """Scores of a confusion matrix over all ranks, which begins anew."""
        scores = classification_scores(metric.compute().cpu(), self.classes)
        metric.reset()
        return scores

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self.results = self._finish("test")
