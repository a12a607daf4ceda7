"""Gathering embeddings over processes, so that the contrastive loss sees the global batch.

Every rank computes the whole loss from all embeddings, with gradients through the gathering; after DDP has averaged
over ranks, the gradient of every parameter is that of one process with the global batch.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def leave() -> None:
    """End the process group and its threads once a run has succeeded and its Trainer is gone.

    A thread of gloo that lets go of a tensor while the interpreter ends aborts the process
    (github.com/pytorch/pytorch/pull/179291). Not for a run that failed: another rank may wait in a collective, and so
    would this.
    """
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # DDP's wrapper of the model is in a cycle
        dist.destroy_process_group()


def sum_over_ranks(x: float, device: torch.device) -> float:
    if world_size() == 1:
        return x
    total = torch.tensor(x, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total)


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of a number () over ranks, with this rank's own gradient.

    DDP averages the gradients of all ranks, so what follows is differentiated as in one process with the global batch.
    """
    if world_size() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return x + (total / world_size() - x.detach())


def gather_rows(x: Tensor) -> Tensor:
    """(n_rank, ...) on each rank -> (sum of n_rank, ...), ranks in order, differentiable; n_rank may differ."""
    if world_size() == 1:
        return x
    sizes = _sizes(x)
    longest = max(sizes)
    if len(x) < longest:
        x = torch.cat([x, x.new_zeros(longest - len(x), *x.shape[1:])])
    parts = AllGather.apply(x.contiguous())
    return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])


class AllGather(torch.autograd.Function):
    """Tensors of equal shape from all ranks; backward adds up what every rank's loss says of this rank's tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # type: ignore[override]
        total = torch.stack(gradients)
        dist.all_reduce(total)
        return total[dist.get_rank()]


def _sizes(x: Tensor) -> list[int]:
    own = torch.tensor([len(x)], device=x.device)
    found = [torch.zeros_like(own) for _ in range(world_size())]
    dist.all_gather(found, own)
    return [int(n) for n in found]


def gather_all(embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> tuple[dict, dict]:
    """Embeddings (n, D) and presence (n,) of every modality, over all ranks."""
    if world_size() == 1:
        return dict(embeddings), dict(present)
    there = {m: gather_rows(p.to(torch.uint8)).bool() for m, p in present.items()}
    return {m: gather_rows(e) for m, e in embeddings.items()}, there
