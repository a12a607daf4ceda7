"""Contrastive pre-training of curves with a harder task beside it: in which groups of like curves is the whole one?

Two altered forms of a curve are easy to match, since period and brightness alone tell thousands of stars apart, so the
contrastive loss soon teaches nothing. Here the hand-made features of whole training curves, their ranks made normal,
are grouped by k-means many times, every time in a few features drawn at random. Each encoder tells from its altered
form to which group the whole curve belongs in each of these groupings, and what its features are. The idea of tasks
from random features is that of Nam et al. 2023 (STUNT, arXiv:2303.00918). No label is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from astrom3.encoders.towers import FEATURES as ENCODED
from astrom3.encoders.towers import MultimodalModel, encode, taken
from astrom3.errors import UserError
from astrom3.modalities.constants import FEATURES
from astrom3.modalities.variability import NAMES
from astrom3.tasks.contrastive import ContrastiveModule
from astrom3.tasks.distributed import mean_over_ranks, sum_over_ranks, world_size
from astrom3.tasks.optimisers import make_optimizer
from astrom3.tasks.schedules import make_schedule
from astrom3.tasks.task import at_least_float32

LEFT_OUT = ("median", "log_span", "log_points", "known_period")  # of groupings: they tell nothing of the star
SLOT = "features"  # the modality whose reader measures whole curves
CHUNK = 1024  # curves measured together
FEWEST = 2  # features of a grouping, beside the period
MOST = 8
WITH_PERIOD = 0.6  # share of the groupings in which the period takes part for certain
ROUNDS = 10  # of k-means
LIMIT = 3.0  # of a rank made normal


@dataclass
class Ranks:
    """Normal scores of feature columns by their ranks among training curves. ordered: (n, C), each column sorted."""

    ordered: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C) -> (B, C) float32 in [-3, 3]; equal values have one score."""
        columns = features.T.contiguous()
        known = self.ordered.T.contiguous()
        below = torch.searchsorted(known, columns, right=False)
        upto = torch.searchsorted(known, columns, right=True)
        share = (below + upto).T / (2.0 * len(self.ordered))
        scores = math.sqrt(2) * torch.erfinv(2 * share.clamp(1e-4, 1 - 1e-4) - 1)
        return scores.clamp(-LIMIT, LIMIT)


def k_means(points: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Centres (groups, C) of points (n, C), from as many points drawn at random. A group that runs empty stays."""
    centres = points[torch.randperm(len(points), generator=generator)[:groups]].clone()
    for _ in range(ROUNDS):
        members = F.one_hot(torch.cdist(points, centres).argmin(1), len(centres)).to(points.dtype)
        counts = members.sum(0)
        filled = counts > 0
        centres[filled] = (members.T @ points)[filled] / counts[filled, None]
    return centres


def draw_groupings(scores: Tensor, tasks: int, groups: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Columns and centres of `tasks` groupings of training curves by normal scores (n, 58)."""
    generator = torch.Generator().manual_seed(seed)
    telling = torch.tensor([k for k, name in enumerate(NAMES) if name not in LEFT_OUT])
    groupings = []
    for _ in range(tasks):
        count = int(torch.randint(FEWEST, MOST + 1, (1,), generator=generator))
        columns = telling[torch.randperm(len(telling), generator=generator)[:count]]
        if float(torch.rand(1, generator=generator)) < WITH_PERIOD:
            columns = torch.cat([columns, torch.tensor([NAMES.index("log_period")])]).unique()
        groupings.append((columns, k_means(scores[:, columns], groups, generator)))
    return groupings


def numbers_of_groups(scores: Tensor, groupings: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """(n, tasks) int64: the group of each curve in each grouping."""
    numbers = []
    for columns, centres in groupings:
        numbers.append(torch.cdist(scores[:, columns], centres).argmin(1))
    return torch.stack(numbers, dim=1)


class GroupingModule(ContrastiveModule):
    """model: encoders in one space, among them `features`. tasks: groupings. groups: of each. contrast, grouping and
    regression: weights of the three losses. Validation sums them up alike, so the best weights are those of the whole.
    """

    best_metric = "val/loss"
    direction = "min"

    def __init__(
        self,
        model: MultimodalModel,
        classes: Sequence[str],
        optim: Mapping[str, Any],
        schedule: Mapping[str, Any],
        seed: int = 0,
        freeze: Sequence[str] = (),
        tasks: int = 64,
        groups: int = 16,
        contrast: float = 0.1,
        grouping: float = 1.0,
        regression: float = 0.5,
    ):
        super().__init__(model, classes, optim, schedule, seed, freeze)
        self.tasks = tasks
        self.groups = groups
        self.weights = {"contrast": contrast, "grouping": grouping, "regression": regression}
        columns = int(model.encoders[SLOT].measures)  # type: ignore[arg-type]
        self.heads = nn.ModuleDict()
        for slot, encoder in model.encoders.items():
            self.heads[slot] = nn.Linear(encoder.out_features, tasks * groups + columns)  # type: ignore[arg-type]
        self.aims: dict[str, tuple[Tensor, Tensor]] = {}  # by split: groups (n, tasks) and scores (n, C) by position

    def on_fit_start(self) -> None:
        """Measure the whole curves of training and validation, and group them. The same on every rank."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        features = {}
        for split in ("train", "validation"):
            features[split] = measured(data.splits[split])
        ranks = Ranks(features["train"][1].sort(dim=0).values)
        groupings = draw_groupings(ranks(features["train"][1]), self.tasks, self.groups, self.seed)
        for split, (positions, values) in features.items():
            scores = ranks(values)
            size = int(positions.max()) + 1
            numbers = torch.zeros(size, self.tasks, dtype=torch.int64)
            numbers[positions] = numbers_of_groups(scores, groupings)
            targets = torch.zeros(size, scores.shape[1])
            targets[positions] = scores
            self.aims[split] = numbers, targets

    def configure_optimizers(self) -> torch.optim.Optimizer:
        fused = not self.trainer.gradient_clip_val or "mixed" not in str(self.trainer.precision)
        learning = nn.ModuleDict({"model": self.model, "heads": self.heads})
        optimizer = make_optimizer(learning, self.optim, fused)
        self.schedule = make_schedule(optimizer, self.schedule_options)
        if self._schedule_state is not None:
            self.schedule.load_state_dict(self._schedule_state)
        return optimizer

    def encoded(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with what each encoder says of it, (B, out_features), from which both losses start.

        Rows of absent modalities are 0.
        """
        found = dict(batch)
        for slot, encoder in self.model.encoders.items():
            rows = batch["present"][slot].nonzero().squeeze(1)
            said = encode(encoder, taken(encoder, batch, rows))
            everyone = said.new_zeros(len(batch["label"]), said.shape[1])
            found[ENCODED + encoder.inputs[0]] = everyone.index_copy(0, rows, said)  # type: ignore[index]
        return found

    def self_made(self, batch: Mapping[str, Any], split: str) -> Tensor:
        """Weighted loss of groups and scores of an encoded batch, the mean over the encoders of their means over
        present objects of the global batch. Every rank has the same number, and DDP's mean of the gradients is that of
        one process."""
        numbers, targets = self.aims[split]
        at = batch["index"].cpu()
        losses = []
        for slot, encoder in self.model.encoders.items():
            rows = batch["present"][slot].nonzero().squeeze(1)
            answers = at_least_float32(self.heads[slot](encode(encoder, taken(encoder, batch, rows))))
            said, scores = answers.split((self.tasks * self.groups, targets.shape[1]), dim=1)
            there = at[rows.cpu()]
            right = numbers[there].to(said.device).flatten()
            grouped = F.cross_entropy(said.reshape(-1, self.groups), right, reduction="sum") / self.tasks
            aims = targets[there].to(scores)
            regressed = F.smooth_l1_loss(scores, aims, reduction="sum") / targets.shape[1]
            total = self.weights["grouping"] * grouped + self.weights["regression"] * regressed
            count = max(sum_over_ranks(len(rows), total.device), 1.0)
            losses.append(total * world_size() / count)
        return mean_over_ranks(torch.stack(losses).mean())

    def training_step(self, batch: Mapping[str, Any], _: int) -> Tensor:
        batch = self.encoded(batch)
        losses, _unused = self._losses(batch)
        loss = self.weights["contrast"] * losses["loss"] + self.self_made(batch, "train")
        self.log_training_loss(loss, len(batch["label"]))
        return loss

    def validation_step(self, batch: Mapping[str, Any], _: int) -> None:
        batch = self.encoded(batch)
        self._evaluate(batch, "val")
        n = sum_over_ranks(len(batch["label"]), self.device)
        own = float(self.self_made(batch, "validation"))
        self.sums["val"].losses["self-made"] = self.sums["val"].losses.get("self-made", 0.0) + n * own

    def on_validation_epoch_end(self) -> None:
        losses = self.sums["val"].losses
        losses["loss/contrast"] = losses["loss"]
        losses["loss"] = self.weights["contrast"] * losses["loss"] + losses["self-made"]
        super().on_validation_epoch_end()


def measured(split: Any) -> tuple[Tensor, Tensor]:
    """Positions (m,) and features (m, C) of the whole curves of a split; UserError where data are streamed."""
    reader = getattr(split, "readers", {}).get(SLOT)
    if reader is None:
        raise UserError(
            "pre-training with groups of like curves reads the whole data first, which streamed data do not allow: "
            "leave out data.streaming"
        )
    members = torch.arange(len(split.positions))
    parts = []
    for chunk in members.split(CHUNK):
        parts.append(reader.fill(chunk.numpy())[FEATURES])
    return torch.as_tensor(split.positions), torch.cat(parts)
