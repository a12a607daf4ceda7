"""Training a regression: numbers such as a redshift, a metallicity or a period from one modality or several together.

Targets are standardised with the statistics of the train split, a target that is not known (NaN) takes no part in the
loss or the scores, and all scores are in the units of the survey.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from astrom3.errors import UserError
from astrom3.tasks.distributed import gather_rows
from astrom3.tasks.task import TrainingModule, at_least_float32

OUTLIER = 0.15  # |dz| / (1 + z) beyond which a redshift counts as an outlier (Hildebrandt et al. 2010)
NMAD = 1.4826  # a Gaussian's standard deviation over its median absolute deviation
REDSHIFTS = ("z", "redshift", "zspec", "z_spec", "specz", "spec_z")
EXAMPLES = 20_000  # test objects in the plot, at most


class RegressionModule(TrainingModule):
    """model: makes the network for a number of outputs (its `num_classes`). targets: names of the numbers. mean, std:
    (T,) of the train split, by which targets are standardised. units: target -> unit, where it is known."""

    best_metric = "val/r2"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Callable[..., nn.Module],
        targets: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
        units: Mapping[str, str] | None = None,
    ):
        super().__init__(model(num_classes=len(targets)), optim, schedule, seed, freeze)
        self.targets = tuple(targets)
        self.units = dict(units or {})
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.predicted: list[Tensor] = []  # of the evaluation that is going on
        self.true: list[Tensor] = []
        self.results: dict[str, Any] = {}
        self.predictions: dict[str, np.ndarray] = {}  # of the test: `predicted` and `true`, (n, T) each

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Standardised targets (B, T), float32."""
        return at_least_float32(self.model(batch))

    def standardised(self, target: Tensor) -> Tensor:
        """Targets (B, T) with mean 0 and deviation 1 over the train split."""
        return (target - self.mean) / self.std

    def training_step(self, batch: Mapping[str, Any], _: int) -> Tensor:
        loss = masked_mse(self(batch), self.standardised(batch["target"]))
        self.log_training_loss(loss, len(batch["target"]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: Mapping[str, Any], _: int) -> None:
        self._evaluate(batch)

    def _evaluate(self, batch: Mapping[str, Any]) -> None:
        self.predicted.append((self(batch) * self.std + self.mean).double())
        self.true.append(batch["target"].double())

    def _finish(self, stage: str) -> dict[str, Any]:
        """Scores over all ranks, of whose numbers every rank has a copy."""
        predicted = gather_rows(torch.cat(self.predicted))
        true = gather_rows(torch.cat(self.true))
        self.predicted = []
        self.true = []
        loss = masked_mse((predicted - self.mean) / self.std, (true - self.mean) / self.std)
        scores = regression_scores(predicted.cpu().numpy(), true.cpu().numpy(), self.targets)
        self.log(f"{stage}/loss", float(loss))
        self.log(f"{stage}/r2", scores["r2"], prog_bar=True)
        for name, score in scores["targets"].items():
            self.log(f"{stage}/mae_{name}", score["mae"])
        if stage == "test":
            kept = slice(0, EXAMPLES)
            self.predictions = {"predicted": predicted[kept].cpu().numpy(), "true": true[kept].cpu().numpy()}
        return scores

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        scores = self._finish("test")
        for name, unit in self.units.items():
            if name in scores["targets"]:
                scores["targets"][name]["unit"] = unit
        self.results = scores

    def described_targets(self) -> list[dict[str, Any]]:
        """What turns the network's outputs into numbers: name, unit, mean and std of every target."""
        rows = zip(self.targets, self.mean.tolist(), self.std.tolist(), strict=True)
        return [
            {
                "name": name,
                "unit": self.units.get(name),
                "mean": mean,
                "std": std,
            }
            for name, mean, std in rows
        ]


def masked_mse(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean square of the differences (B, T) where `true` is known; 0 where nothing is."""
    known = ~true.isnan()
    difference = torch.where(known, predicted - true.nan_to_num(), torch.zeros_like(predicted))
    return difference.square().sum() / known.sum().clamp(min=1)


def train_statistics(values: np.ndarray, names: Sequence[str]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation (ddof 0) of the known targets (n, T). UserError for one that is never known, or
    always the same."""
    means = []
    deviations = []
    for name, column in zip(names, np.asarray(values, np.float64).T, strict=True):
        known = column[np.isfinite(column)]
        if not len(known):
            raise UserError(f"target={name} is not known for any training object, so it cannot be learned.")
        if np.ptp(known) == 0:
            raise UserError(f"target={name} is {known[0]:g} for every training object, so there is nothing to learn.")
        means.append(float(known.mean()))
        deviations.append(float(known.std()))
    return means, deviations


def regression_scores(predicted: np.ndarray, true: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Scores of predictions (n, T), as plain numbers: per target, and r2, the mean over the targets that have one."""
    per_target = {}
    for i, name in enumerate(names):
        known = np.isfinite(true[:, i])
        per_target[name] = target_scores(predicted[known, i], true[known, i], name)
    known_r2 = [score["r2"] for score in per_target.values() if score["r2"] is not None]
    mean_r2 = float(np.mean(known_r2)) if known_r2 else 0.0
    return {"n": len(true), "r2": mean_r2, "targets": per_target}


def target_scores(predicted: np.ndarray, true: np.ndarray, name: str) -> dict[str, Any]:
    """n, r2 (None where the truth does not vary), mae, rmse and, of a redshift, sigma_nmad, outliers and bias."""
    n = len(true)
    if not n:
        return {"n": 0, "r2": None, "mae": 0.0, "rmse": 0.0}
    difference = predicted - true
    squared = np.square(difference)
    variance = float(np.square(true - true.mean()).sum())
    scores: dict[str, Any] = {
        "n": n,
        "r2": 1 - float(squared.sum()) / variance if variance > 0 else None,
        "mae": float(np.abs(difference).mean()),
        "rmse": float(np.sqrt(squared.mean())),
    }
    if is_redshift(name):
        scaled = difference / (1 + true)
        deviation = np.median(np.abs(scaled - np.median(scaled)))
        scores["sigma_nmad"] = float(NMAD * deviation)
        scores["outliers"] = float((np.abs(scaled) > OUTLIER).mean())
        scores["bias"] = float(scaled.mean())
    return scores


def is_redshift(name: str) -> bool:
    """Whether a target is a redshift, by its name."""
    return name.lower() in REDSHIFTS or name.lower().startswith("redshift")


def headline(scores: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    parts = []
    for name, score in scores["targets"].items():
        unit = f" {score['unit']}" if score.get("unit") else ""
        r2 = "none" if score["r2"] is None else f"{score['r2']:.3f}"
        part = f"{name} R2 {r2}, MAE {score['mae']:.4g}{unit}"
        if "sigma_nmad" in score:
            part += f", sigma_NMAD {score['sigma_nmad']:.4f}, outliers {100 * score['outliers']:.1f} %"
        parts.append(part)
    return f"test {'; '.join(parts)}; n {scores['n']}"
