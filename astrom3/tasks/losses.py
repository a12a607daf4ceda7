"""The contrastive objective over pairs of modalities, and what is measured with it.

Rizhko & Bloom 2024 (arXiv:2411.08842), equation 1, after CLIP (Radford et al. 2021): for each pair the row and the
column cross-entropy of scale * A B^T are added (not halved), and the pairs are summed. Pure torch; float32 or wider.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[str, str]


def pair_logits(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """scale * a b^T for unit vectors a (N, D), b (N, D) -> (N, N), at least float32 whatever the autocast."""
    with torch.autocast(a.device.type, enabled=False):
        wide = torch.promote_types(a.dtype, torch.float32)
        return scale.to(wide) * a.to(wide) @ b.to(wide).T


def contrastive_loss(
    embeddings: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    scales: Mapping[Pair, Tensor],
) -> dict[str, Tensor]:
    """Sum over pairs of row plus column cross-entropy over the objects that have both modalities of the pair.

    embeddings: modality -> (N, D) unit vectors; present: modality -> (N,) bool, may be empty (all there);
    scales: pair -> scalar. Returns {"loss": sum, "loss/<a>_<b>": ...}; a pair that no object has contributes 0.
    """
    losses: dict[str, Tensor] = {}
    for (a, b), scale in scales.items():
        left, right = both_present(embeddings, present, a, b)
        logits = pair_logits(left, right, scale)  # (n, n)
        if len(logits) == 0:
            losses[f"loss/{a}_{b}"] = logits.sum() + 0 * scale
            continue
        target = torch.arange(len(logits), device=logits.device)
        rows = F.cross_entropy(logits, target)
        columns = F.cross_entropy(logits.T, target)
        losses[f"loss/{a}_{b}"] = rows + columns
    total = torch.stack(list(losses.values())).sum()
    return {"loss": total, **losses}


def both_present(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor], a: str, b: str
) -> tuple[Tensor, Tensor]:
    """The embeddings of the objects that have both modalities, (n, D) each."""
    if not present:
        return embeddings[a], embeddings[b]
    both = present[a] & present[b]
    if bool(both.all()):
        return embeddings[a], embeddings[b]
    return embeddings[a][both], embeddings[b][both]


@torch.no_grad()
def matching_accuracy(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor], scales: Mapping[Pair, Tensor]
) -> tuple[Tensor, Tensor]:
    """ "CLIP accuracy": how many objects of the batch the mean of the six softmaxes matches with themselves.

    Over the objects that have every modality. Returns (number right, number of objects), scalars.
    """
    rows: Tensor | slice = slice(None)
    if present:
        rows = torch.stack([present[name] for name in embeddings]).all(0)
    total: Tensor | float = 0.0  # of the softmaxes, whose mean has its maxima at the same places
    for (a, b), scale in scales.items():
        logits = pair_logits(embeddings[a][rows], embeddings[b][rows], scale)
        total = total + logits.softmax(-1) + logits.T.softmax(-1)
    assert isinstance(total, Tensor)
    n = len(total)
    if not n:
        return total.new_zeros(()).long(), torch.tensor(0, device=total.device)
    target = torch.arange(n, device=total.device)
    right = (total.argmax(-1) == target).sum()
    return right, torch.tensor(n, device=total.device)
