"""The head of a classifier, fitted before training begins: linear probing, then fine-tuning.

A head as drawn sends gradients of no meaning into pre-trained encoders in its first steps. With few labels they forget
more by that than they learn. Kumar et al. 2022 (arXiv:2202.10054) therefore fit the linear head first, with the
encoders as they are, and train everything from there.
"""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch import Tensor, nn

from astrom3.data.packed import PackedSplit
from astrom3.errors import UserError
from astrom3.modalities.schema import UNLABELLED
from astrom3.progress import progress
from astrom3.tasks.classification import ClassificationModule

log = logging.getLogger(__name__)
COSTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # C of the logistic regression; the larger, the freer
CONSTANT = 1e-6  # a feature with a smaller deviation tells nothing
NO_HEAD = "probe=true fits a linear head of classes, and this run has none: leave probe away"
STREAMED = "probe=true reads the train split before training: leave data.streaming=true away"
BEYOND = 10.0  # how far the logit of a class without training objects lies under the others


def probes(cfg: DictConfig) -> list[Callback]:
    """The callback of a run with probe=true; UserError where its configuration already shows that it cannot be."""
    if not cfg.get("probe"):
        return []
    if not cfg.model.get("_partial_") or cfg.target is not None:
        raise UserError(NO_HEAD)
    if cfg.datamodule.streaming:
        raise UserError(STREAMED)
    return [HeadFirst()]


class HeadFirst(Callback):
    """Fits the head of a fresh run on the train split; its strength is chosen by the loss on the validation split."""

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        check(module, data)
        if trainer.ckpt_path is not None:  # a run that goes on has a head that has learnt
            return
        if trainer.is_global_zero:
            balanced = data.balance != "none"
            fit_head(module, data.splits["train"], data.splits["validation"], data.eval_batch_size, balanced)
        head = module.model.head
        found = trainer.strategy.broadcast({name: value.cpu() for name, value in head.state_dict().items()})
        head.load_state_dict(found)


def check(module: Any, data: Any) -> None:
    """UserError where there is no linear head of classes, or the data are read through."""
    if not isinstance(module, ClassificationModule) or not isinstance(module.model.head, nn.Linear):
        raise UserError(NO_HEAD)
    if data.streaming:
        raise UserError(STREAMED)


def fit_head(
    module: ClassificationModule, train: PackedSplit, validation: PackedSplit, batch_size: int, balanced: bool = False
) -> None:
    """Put weights and biases of the best logistic regression into the head. balanced: all classes count alike."""
    vectors, labels = head_inputs(module, train, batch_size, "Probing")
    if len(np.unique(labels)) < 2:
        log.warning("the head stays as it was drawn: the train split has labels of fewer than two classes")
        return
    queries, answers = head_inputs(module, validation, batch_size, "Validating")
    mean = vectors.mean(axis=0)
    deviation = vectors.std(axis=0)
    deviation[deviation < CONSTANT] = 1.0
    standardised = (vectors - mean) / deviation

    best = None
    for cost in COSTS:
        weight, bias = regression(standardised, labels, len(module.classes), cost, balanced)
        weight = weight / deviation
        bias = bias - weight @ mean
        loss = cross_entropy(queries @ weight.T + bias, answers)
        if best is None or loss < best[0]:
            best = loss, cost, weight, bias
    assert best is not None
    loss, cost, weight, bias = best
    log.info("the head starts from a logistic regression with C = %g (validation loss %.3f)", cost, loss)
    head: Any = module.model.head
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))


@torch.no_grad()
def head_inputs(
    module: ClassificationModule, split: PackedSplit, batch_size: int, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """What the head sees of the labelled objects of a split (n, D) float64, and their labels (n,) int64."""
    members = np.flatnonzero(split.labels != UNLABELLED)
    seen: list[Tensor] = []
    head: Any = module.model.head
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training = module.training
    module.eval()
    try:
        with progress(title, len(members)) as advance:
            for start in range(0, len(members), batch_size):
                batch = module.transfer_batch_to_device(
                    split.batch(members[start : start + batch_size]), module.device, 0
                )
                module(batch)
                advance(len(batch["label"]))
    finally:
        hook.remove()
        module.train(training)
    vectors = torch.cat(seen) if seen else torch.empty(0, head.in_features)
    return vectors.double().cpu().numpy(), split.labels[members]


def regression(
    vectors: np.ndarray, labels: np.ndarray, num_classes: int, cost: float, balanced: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (num_classes, D) and biases (num_classes,) of a logistic regression on standardised vectors."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=cost, class_weight="balanced" if balanced else None, max_iter=500)
    model.fit(vectors, labels)
    found = model.coef_
    biases = model.intercept_
    if len(model.classes_) == 2:  # one row, which tells the second class from the first
        found = np.concatenate([-found / 2, found / 2])
        biases = np.concatenate([-biases / 2, biases / 2])
    weight = np.zeros((num_classes, vectors.shape[1]))
    bias = np.full(num_classes, biases.min() - BEYOND)
    weight[model.classes_] = found
    bias[model.classes_] = biases
    return weight, bias


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the rows; 0 without rows, so that the first of equals is taken."""
    if not len(labels):
        return 0.0
    losses = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    return float(losses)
