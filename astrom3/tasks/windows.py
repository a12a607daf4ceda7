"""One prediction per object from the predictions of its windows: the mean of their class probabilities.

Donoso-Oliva et al. 2023 and 2026 let every window vote for itself. Both ways of counting are reported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def object_logits(logits: Tensor, window_of: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities (n, C) of n objects, and each object's first row (n,) int64.

    logits (W, C) are those of windows. window_of (W,) int64 is the same number for the windows of one object, which
    follow each other. An object of one window keeps its logits as they are, so that its scores do not move by rounding.
    """
    _, inverse, counts = torch.unique_consecutive(window_of, return_inverse=True, return_counts=True)
    first = counts.cumsum(0) - counts
    if len(counts) == len(logits):
        return logits, first
    total = logits.new_zeros(len(counts), logits.shape[1])
    total.index_add_(0, inverse, logits.softmax(-1))
    probabilities = total / counts.unsqueeze(1)
    smallest = torch.finfo(logits.dtype).tiny
    log_probabilities = probabilities.clamp(min=smallest).log()
    single = (counts == 1).unsqueeze(1)
    return torch.where(single, logits[first], log_probabilities), first


def pieces(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Parts of a batch with as many rows as it has objects, so that long curves do not take more memory."""
    rows = len(batch["index"])
    objects = len(torch.unique_consecutive(batch["index"]))
    size = max(objects, 1)
    for start in range(0, max(rows, 1), size):
        part = slice(start, start + size)
        yield {key: rows_of(value, part) for key, value in batch.items()}


def rows_of(value: Any, part: slice) -> Any:
    """Some rows of an entry of the batch."""
    if isinstance(value, Mapping):
        return {key: rows_of(inner, part) for key, inner in value.items()}
    return value[part]
