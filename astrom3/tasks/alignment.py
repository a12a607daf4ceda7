"""Objective of AstroCLIP: the two embeddings of a galaxy agree, others do not (Parker et al. 2024, section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PUBLISHED_SCALE = 15.5  # multiplies the cosines, although it is called a temperature
SHORTEST = 1e-3  # length that shorter embeddings are divided by


def alignment_logits(images: Tensor, spectra: Tensor, scale: Tensor | float = PUBLISHED_SCALE) -> Tensor:
    """Embeddings (B, D) and (C, D) -> scaled cosines, float32 (B, C), a row for each image."""
    unit_images = F.normalize(images.float(), eps=SHORTEST)
    unit_spectra = F.normalize(spectra.float(), eps=SHORTEST)
    return scale * unit_images @ unit_spectra.T


def alignment_loss(
    images: Tensor,
    spectra: Tensor,
    scale: Tensor | float = PUBLISHED_SCALE,
    all_images: Tensor | None = None,
    all_spectra: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Mean of the two cross-entropies of paired embeddings (B, D).

    Negatives are the other pairs of the batch, or those of all ranks where `all_images` and `all_spectra` (C, D) are
    given; own pair i is then row first + i of them. The published model used those of its own GPU.
    """
    candidates_images = images if all_images is None else all_images
    candidates_spectra = spectra if all_spectra is None else all_spectra
    target = torch.arange(first, first + len(images), device=images.device)
    by_image = F.cross_entropy(alignment_logits(images, candidates_spectra, scale), target)
    by_spectrum = F.cross_entropy(alignment_logits(spectra, candidates_images, scale), target)
    return (by_image + by_spectrum) / 2
