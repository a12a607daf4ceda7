"""Losses of self-distillation: DINO on class tokens, iBOT on masked patches, KoLeo to spread them.

Caron et al. 2021 (arXiv:2104.14294), Zhou et al. 2022 (arXiv:2111.07832), Sablayrolles et al. 2019 (arXiv:1806.03198),
put together as DINOv2 does (arXiv:2304.07193). Logits are float (rows, prototypes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-8  # of the KoLeo distances


class Centre(nn.Module):
    """Running mean of the teacher's logits, subtracted from them; it starts at zero.

    The mean of a step counts from the next step on. `value` has the published shape, (1, K) or (1, 1, K).
    """

    value: Tensor

    def __init__(self, prototypes: int, momentum: float = 0.9, per_patch: bool = False) -> None:
        super().__init__()
        self.momentum = momentum
        shape = (1, 1, prototypes) if per_patch else (1, prototypes)
        self.register_buffer("value", torch.zeros(shape))

    @torch.no_grad()
    def targets(self, logits: Tensor, temperature: float) -> Tensor:
        """Teacher logits (rows, K) -> float32 probabilities (rows, K), softmax((logits - centre) / temperature)."""
        centred = logits.float() - self.value.reshape(1, -1)
        return centred.div_(temperature).softmax(dim=-1)

    @torch.no_grad()
    def update(self, mean: Tensor) -> None:
        """Move towards this step's mean logit, (K,), which is the mean over all ranks where there are several."""
        self.value.lerp_(mean.to(self.value).reshape(self.value.shape), 1 - self.momentum)


@torch.no_grad()
def sinkhorn_targets(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """The other centring: teacher logits (rows, K) -> probabilities that use every prototype alike (rows, K).

    Sinkhorn-Knopp in logarithms, because the reference's exponential overflows to NaN for logits above
    88 * temperature.
    """
    logarithm = logits.double() / temperature
    rows, prototypes = logarithm.shape
    for _ in range(iterations):
        logarithm = logarithm - logarithm.logsumexp(dim=0, keepdim=True) - math.log(prototypes)
        logarithm = logarithm - logarithm.logsumexp(dim=1, keepdim=True) - math.log(rows)
    return (logarithm + math.log(rows)).exp().float()


def dino_loss(student: Sequence[Tensor], teacher: Iterable[Tensor], temperature: float = 0.1) -> Tensor:
    """Sum over all pairs of a student and a teacher crop of the cross-entropy, mean over the batch.

    student are logits (B, K) and teacher probabilities (B, K), one for each crop. As the cross-entropy is linear in the
    target, the targets are summed first.
    """
    target = torch.stack(list(teacher)).sum(dim=0)  # (B, K)
    total = target.new_zeros(())
    for logits in student:
        log_probability = F.log_softmax(logits.float() / temperature, dim=-1)
        total = total - (target * log_probability).sum(dim=-1).mean()
    return total


def ibot_loss(student: Tensor, target: Tensor, weight: Tensor, crops: int, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of masked patches: student logits and teacher probabilities (patches, K) -> a number.

    weight (patches,) is one over the number of masked patches of the crop. The sum is divided by the number of crops,
    masked or not.
    """
    log_probability = F.log_softmax(student.float() / temperature, dim=-1)
    of_patches = (target * log_probability).sum(dim=-1) * weight
    return -of_patches.sum() / crops


def patch_weights(mask: Tensor) -> Tensor:
    """One over the number of masked patches of its crop, for every masked patch of mask, bool (crops, N), in order."""
    masked = mask.sum(dim=1).clamp(min=1)  # patches of each crop
    weight = 1 / masked.float()
    return weight.unsqueeze(1).expand_as(mask)[mask]


def koleo_loss(tokens: Tensor) -> Tensor:
    """Minus the mean logarithm of the distance to the nearest other row, for tokens (B, D) scaled to length 1."""
    with torch.autocast(tokens.device.type, enabled=False):
        unit = F.normalize(tokens.float(), eps=EPSILON)
        with torch.no_grad():
            similarity = unit @ unit.T
            nearest = similarity.fill_diagonal_(-1).argmax(dim=1)
        distance = (unit - unit[nearest] + EPSILON).norm(dim=1)
        return -(distance + EPSILON).log().mean()


@torch.no_grad()
def update_teacher(teacher: Iterable[Tensor], student: Iterable[Tensor], momentum: float) -> None:
    """Move the teacher's weights in place: t <- momentum * t + (1 - momentum) * s."""
    averaged = list(teacher)
    torch._foreach_mul_(averaged, momentum)
    torch._foreach_add_(averaged, list(student), alpha=1 - momentum)
