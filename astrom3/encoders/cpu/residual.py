"""LayerNorm of a sum, x + dropout(branch).

On the CPU a compiled loop goes over the numbers once, forward and backward, where torch takes one pass each for
dropout, sum, norm and, under autocast, casts; memory traffic is what they cost. Elsewhere they are torch's own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numba import uint32
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from astrom3.encoders import layers
from astrom3.encoders.cpu.bfloat16 import array, stored, wide
from astrom3.encoders.cpu.dropout import draw_key, kept, loop_arguments
from astrom3.encoders.cpu.threads import share
from astrom3.encoders.layers import for_products
from astrom3.kernel import summing_kernel

ROWS = 2048  # a thread takes at a time
BRANCHES = (torch.float32, torch.bfloat16)


class ResidualNorm(layers.ResidualNorm):
    """LayerNorm over the last dimension of x + dropout(branch), the dropout being that of `cpu.dropout`."""

    def forward(self, x: Tensor, branch: Tensor, dropout: nn.Dropout) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        if not self._compiled(x, branch):
            return super().forward(x, branch, dropout)
        how = How(
            eps=self.eps,
            p=dropout.p if dropout.training else 0.0,
            lowered=for_products(x[:0]).dtype == torch.bfloat16,
            differentiable=torch.is_grad_enabled(),
        )
        out, low = _ResidualNorm.apply(x, branch, self.weight, self.bias, how)
        return out, low if how.lowered else out

    def _compiled(self, x: Tensor, branch: Tensor) -> bool:
        ours = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32 and branch.dtype in BRANCHES
        known = for_products(x[:0]).dtype in BRANCHES
        return ours and known and not torch.compiler.is_compiling()


class How(NamedTuple):
    """p: of the dropout; lowered: bfloat16 is wanted too; differentiable: what the backward pass needs is kept."""

    eps: float
    p: float
    lowered: bool
    differentiable: bool


class _ResidualNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor, how: How
    ) -> tuple[Tensor, Tensor | None]:
        """out, and its bfloat16 where `how.lowered`."""
        x, branch, n = x.contiguous(), branch.contiguous(), x.shape[-1]
        out = torch.empty_like(x)
        low = torch.empty_like(x, dtype=torch.bfloat16) if how.lowered else None
        total = torch.empty_like(x) if how.differentiable else out
        moments = torch.empty(x.numel() // n, 2)
        key = draw_key() if how.p else (0, 0)
        tensors = (x, branch, total, out, out if low is None else low)
        arrays = [array(t).reshape(-1, n) for t in tensors] + [array(moments)]
        rest: list[Any] = [array(weight), array(bias), np.float32(how.eps), how.differentiable, how.lowered, how.p > 0]
        rest += loop_arguments(key, how.p)

        def part(start: int, stop: int) -> None:
            _forward(np.uint32(start * n), *[a[start:stop] for a in arrays], *rest)

        share(part, len(moments), ROWS)
        if how.differentiable:
            ctx.save_for_backward(total, moments, weight)
            ctx.key = key
            ctx.p = how.p
            ctx.branch = branch.dtype
        ctx.set_materialize_grads(False)
        return out, low

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_out: Tensor | None, of_low: Tensor | None) -> tuple:  # type: ignore[override]
        total, moments, weight = ctx.saved_tensors
        n = total.shape[-1]
        given = []
        for g in (of_out, of_low):
            if g is not None:
                given.append(g)
        if not given:
            return (None,) * 5
        first = given[0]
        second = given[-1]
        of_x = torch.empty_like(total)
        of_branch = torch.empty_like(total, dtype=ctx.branch)
        arrays = [array(t).reshape(-1, n) for t in (first, second, total, of_x, of_branch)] + [array(moments)]
        # One row of sums for each share of the rows, added up in order: the same digits whichever thread takes which.
        sums = torch.zeros(-(-len(moments) // ROWS), 2, n)
        each = array(sums)
        rest = [array(weight), len(given) == 2, ctx.p > 0, *loop_arguments(ctx.key, ctx.p)]

        def part(start: int, stop: int) -> None:
            _backward(np.uint32(start * n), each[start // ROWS], *[a[start:stop] for a in arrays], *rest)

        share(part, len(moments), ROWS)
        of_weight, of_bias = sums.sum(0)
        return of_x, of_branch, of_weight, of_bias, None


@summing_kernel
def _forward(
    first: np.uint32,
    x: np.ndarray,
    branch: np.ndarray,
    total: np.ndarray,
    out: np.ndarray,
    low: np.ndarray,
    moments: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: np.float32,
    differentiable: bool,
    lowered: bool,
    dropping: bool,
    a: np.uint32,
    b: np.uint32,
    threshold: np.uint32,
    factor: np.float32,
) -> None:
    rows, n = x.shape
    line = np.empty(n, np.float32)
    for i in range(rows):
        if dropping:
            at = uint32(first + uint32(i * n))
            for j in range(n):
                line[j] = (
                    wide(branch[i, j]) * factor if kept(uint32(at + uint32(j)), a, b, threshold) else np.float32(0)
                )
        else:
            for j in range(n):
                line[j] = wide(branch[i, j])
        mean = np.float32(0)
        for j in range(n):
            line[j] += x[i, j]
            mean += line[j]
        mean /= np.float32(n)
        variance = np.float32(0)
        for j in range(n):
            variance += (line[j] - mean) * (line[j] - mean)
        inverse = np.float32(1) / np.sqrt(variance / np.float32(n) + eps)
        if differentiable:
            moments[i, 0], moments[i, 1] = mean, inverse
            for j in range(n):
                total[i, j] = line[j]
        for j in range(n):
            line[j] = (line[j] - mean) * inverse * weight[j] + bias[j]
        for j in range(n):
            out[i, j] = line[j]
        if lowered:
            for j in range(n):
                low[i, j] = stored(line[j], low[i, j])


@summing_kernel
def _backward(
    first: np.uint32,
    sums: np.ndarray,
    of_out: np.ndarray,
    of_low: np.ndarray,
    total: np.ndarray,
    of_x: np.ndarray,
    of_branch: np.ndarray,
    moments: np.ndarray,
    weight: np.ndarray,
    both: bool,
    dropping: bool,
    a: np.uint32,
    b: np.uint32,
    threshold: np.uint32,
    factor: np.float32,
) -> None:
    rows, n = total.shape
    line = np.empty(n, np.float32)
    gradient = np.empty(n, np.float32)
    for i in range(rows):
        mean = moments[i, 0]
        inverse = moments[i, 1]
        for j in range(n):
            gradient[j] = wide(of_out[i, j])
        if both:
            for j in range(n):
                gradient[j] += wide(of_low[i, j])
        for j in range(n):
            line[j] = (total[i, j] - mean) * inverse
            sums[0, j] += gradient[j] * line[j]
            sums[1, j] += gradient[j]
        plain = np.float32(0)
        along = np.float32(0)
        for j in range(n):
            gradient[j] *= weight[j]
            plain += gradient[j]
            along += gradient[j] * line[j]
        plain, along = plain / np.float32(n), along / np.float32(n)
        for j in range(n):
            gradient[j] = (gradient[j] - plain - line[j] * along) * inverse
        for j in range(n):
            of_x[i, j] = gradient[j]
        if dropping:
            at = uint32(first + uint32(i * n))
            for j in range(n):
                whole = gradient[j] * factor
                gradient[j] = whole if kept(uint32(at + uint32(j)), a, b, threshold) else np.float32(0)
        for j in range(n):
            of_branch[i, j] = stored(gradient[j], of_branch[i, j])
