"""Losses, scores and the learning-rate schedule of masked pre-training, as published with ASTROMER.

Donoso-Oliva et al. 2023 (A&A 670, A54), section 3.4, and 2026 (A&A 707, A170). All tensors are (B, L): predicted and
true magnitudes [mag], `probed` 1 where a point enters, and weights from errors, if any.
"""

from __future__ import annotations

from torch import Tensor

SMALLEST = 1e-24  # mag^2: below it the root's slope is taken as 0


def masked_mse(
    predicted: Tensor,
    target: Tensor,
    probed: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean over windows of sum(weight residual^2) / number of probed points; a window without any counts as 0.

    The sum of the weights does not enter, as in the original.
    """
    squares = (target - predicted).square() * probed
    if weights is not None:
        squares = squares * weights
    return (squares.sum(1) / probed.sum(1).clamp(min=1)).mean()


def masked_rmse(
    predicted: Tensor,
    target: Tensor,
    probed: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Square root of `masked_mse`, the published loss [mag]."""
    return root(masked_mse(predicted, target, probed, weights))


def root(mean_square: Tensor) -> Tensor:
    """The published loss [mag] of a mean square [mag^2], with a finite slope at 0."""
    return mean_square.clamp(min=SMALLEST).sqrt()


def masked_r2(predicted: Tensor, target: Tensor, probed: Tensor) -> Tensor:
    """1 - sum(residual^2) / sum((target - mean of its window)^2) over probed points, sums over the whole batch."""
    residual, scatter = r2_sums(predicted, target, probed)
    return 1 - residual / scatter


def r2_sums(predicted: Tensor, target: Tensor, probed: Tensor) -> tuple[Tensor, Tensor]:
    """Both sums of R2, to be added up over batches: the published value is the mean of the batches' R2 instead."""
    mean = (target * probed).sum(1, keepdim=True) / probed.sum(1, keepdim=True).clamp(min=1)
    residual = ((target - predicted).square() * probed).sum()
    scatter = ((target - mean).square() * probed).sum()
    return residual, scatter


def noam_rate(step: int, d_model: int, warmup: int = 4000) -> float:
    """Learning rate of Vaswani et al. 2017, equation 3: d^-1/2 min(step^-1/2, step warmup^-3/2).

    Steps are counted from 0, as in the original, so the first update has rate 0.
    """
    if step == 0:
        return 0.0
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
