"""One step of self-distillation on images: student, teacher, crops and masks in, losses out (DINOv2, AstroDINO).

The Lightning task calls `distillation_losses`, then clips, steps and averages with `clip_gradients`, its optimiser and
`update_teacher`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from astrom3.encoders.dino_head import Branch
from astrom3.tasks.dino import Centre, dino_loss, ibot_loss, koleo_loss, patch_weights

GLOBAL_CROPS = 2


class Centres(nn.Module):
    """The running means of the teacher's logits, one of class tokens and one of patches."""

    def __init__(self, prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.dino = Centre(prototypes, momentum)
        self.ibot = Centre(prototypes, momentum, per_patch=True)


@dataclass(frozen=True)
class Crops:
    """The crops of B images, as network images; all first crops come first, then all second crops, and so on.

    global_crops (2 B, 3, H, W); local_crops (n B, 3, h, w); masks bool (2 B, N), the patches hidden from the student.
    """

    global_crops: Tensor
    local_crops: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Orders:
    """Random orders of stochastic depth, 2 * depth of each kind of crop (attention and MLP of every block in turn)."""

    global_crops: Sequence[Tensor]
    local_crops: Sequence[Tensor]


@dataclass(frozen=True)
class Weights:
    """Settings of the objective, with the published values."""

    student_temperature: float = 0.1
    koleo: float = 0.1


def itself(x: Tensor) -> Tensor:
    """The mean over processes, or the rows of all of them, where there is one process."""
    return x


@torch.no_grad()
def teacher_targets(
    teacher: Branch,
    crops: Crops,
    centres: Centres,
    temperature: float,
    mean_over_ranks: Callable[[Tensor], Tensor] = itself,
) -> tuple[Tensor, Tensor]:
    """What the student shall predict: probabilities of class tokens (2 B, K) and of masked patches (patches, K).

    Class rows are in swapped order, those of the second crop first, so that each student crop faces the other crop.
    The centres are used as they stand, then moved with this step's logits.
    """
    teacher_backbone: Any = teacher.backbone
    features = teacher_backbone.features(crops.global_crops)
    first, second = features.cls.chunk(GLOBAL_CROPS)
    rows = torch.cat([second, first, features.patches[crops.masks]])
    logits = teacher.dino_head(rows)
    count = len(crops.global_crops)
    of_classes = logits[:count]
    of_patches = logits[count:]
    classes = centres.dino.targets(of_classes, temperature)
    patches = centres.ibot.targets(of_patches, temperature)
    centres.dino.update(mean_over_ranks(of_classes.float().mean(dim=0)))
    # Every process has its own number of masked patches, and maybe none.
    hidden = mean_over_ranks(of_patches.new_tensor(float(len(of_patches)), dtype=torch.float32))
    total = mean_over_ranks(of_patches.float().sum(dim=0))
    if hidden > 0:
        centres.ibot.update(total / hidden)
    return classes, patches


def distillation_losses(
    student: Branch,
    teacher: Branch,
    crops: Crops,
    centres: Centres,
    teacher_temperature: float,
    weights: Weights = Weights(),
    orders: Orders | None = None,
    mean_over_ranks: Callable[[Tensor], Tensor] = itself,
    gather: Callable[[Tensor], Tensor] = itself,
) -> dict[str, Tensor]:
    """Losses of one step; `loss` is the one to differentiate, the others are what the reference logs.

    `loss/dino_local` and `loss/dino_global` are as they add up. `loss/koleo` and `loss/ibot` are halved, as the
    reference logs them. The centres move. `mean_over_ranks` is the mean of a tensor over the processes, `gather` the
    rows of all processes, among which the loss that spreads the embeddings looks for neighbours.
    """
    class_targets, patch_targets = teacher_targets(teacher, crops, centres, teacher_temperature, mean_over_ranks)
    images = len(crops.global_crops) // GLOBAL_CROPS
    local_count = len(crops.local_crops) // images
    global_orders = None if orders is None else orders.global_crops
    local_orders = None if orders is None else orders.local_crops
    backbone: Any = student.backbone
    seen = backbone.features(crops.global_crops, crops.masks, global_orders)
    rows = [seen.cls, seen.patches[crops.masks]]
    if local_count:
        rows.append(backbone.features(crops.local_crops, orders=local_orders).cls)
    logits = student.dino_head(torch.cat(rows))
    sizes = [len(seen.cls), len(patch_targets), local_count * images]
    of_global, of_patches, of_local = logits.split(sizes)

    terms = max(local_count * GLOBAL_CROPS, 1) + GLOBAL_CROPS
    temperature = weights.student_temperature
    groups = of_local.split(images) if local_count else ()
    dino_local = dino_loss(groups, class_targets.chunk(GLOBAL_CROPS), temperature) / terms
    dino_global = GLOBAL_CROPS * dino_loss([of_global], [class_targets], temperature) / terms
    koleo = weights.koleo * torch.stack([koleo_loss(gather(group)) for group in seen.cls.chunk(GLOBAL_CROPS)]).sum()
    ibot = ibot_loss(of_patches, patch_targets, patch_weights(crops.masks), len(crops.masks), temperature)
    return {
        "loss": dino_local + dino_global + koleo + ibot,
        "loss/dino_local": dino_local.detach(),
        "loss/dino_global": dino_global.detach(),
        "loss/koleo": koleo.detach() / GLOBAL_CROPS,
        "loss/ibot": ibot.detach() / GLOBAL_CROPS,
    }


def clip_gradients(modules: Iterable[nn.Module], largest: float = 3.0) -> list[Tensor]:
    """Clip the gradient norm of each module on its own, as published for backbone and head; returns the norms."""
    return [nn.utils.clip_grad_norm_(module.parameters(), largest) for module in modules]
