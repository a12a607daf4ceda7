"""Objective of masked spectra (Parker et al. 2024, section 4.1)."""

from __future__ import annotations

from torch import Tensor


def masked_spectrum_loss(reconstruction: Tensor, tokens: Tensor, masked: Tensor) -> Tensor:
    """Mean squared error over the entries that masking changed, all (B, T, W).

    Entries whose true value is exactly zero do not count, so the two leading zeros of a token never do. The mean is
    over the entries of the whole batch.
    """
    changed = masked != tokens
    error = (reconstruction - tokens).float().square() * changed
    return error.sum() / changed.sum().clamp(min=1)
