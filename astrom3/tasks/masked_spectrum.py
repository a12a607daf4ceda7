"""Objective of masked spectra (Parker et al. 2024, section 4.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.transformer import some_tokens
from astrom3.tasks.distributed import mean_over_ranks
from astrom3.tasks.masks import ChunkMasks


class Reconstruction(NamedTuple):
    """What a network makes of the hidden tokens of spectra: reconstruction, true and masked tokens, (B, H, W) each."""

    reconstruction: Tensor
    tokens: Tensor
    masked: Tensor


def reconstruct(
    model: SpecFormer, flux: Tensor, masks: ChunkMasks, objects: Tensor, key: tuple[int, int]
) -> Reconstruction:
    """Hide tokens of spectra, flux (B, L), and let `model` reconstruct them; all at least float32.

    The hidden tokens are drawn for (seed, epoch, object), so they do not depend on the number of processes. The others
    do not enter the loss, so the last block of the network leaves them out. key: seed and epoch.
    """
    tokens = model.prepare(flux)
    offsets = masks.draw_for(objects, tokens.shape[1], *key).to(tokens.device)
    masked = masks.apply(tokens, offsets)
    rows = masks.positions(offsets, tokens.shape[1])
    parts = (model.reconstruct(masked, rows), some_tokens(tokens, rows), some_tokens(masked, rows))
    return Reconstruction(*(part.to(torch.promote_types(part.dtype, torch.float32)) for part in parts))


def masked_spectrum_loss(reconstruction: Tensor, tokens: Tensor, masked: Tensor, over_ranks: bool = False) -> Tensor:
    """Mean squared error over the entries that masking changed, all (B, T, W).

    Entries whose true value is exactly zero do not count, so the two leading zeros of a token never do. The mean is
    over the entries of the whole batch. over_ranks: of the global batch; the mean of this number over the processes is
    then the mean over all entries, and so are its gradients.
    """
    changed = masked != tokens
    error = (reconstruction - tokens).float().square() * changed
    count = changed.sum()
    if over_ranks:
        count = mean_over_ranks(count.float())
    return error.sum() / count.clamp(min=1)
