"""Small things done to batches on their way through a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from astrom3.modalities.astromer_view import VALID


def magnitudes_or_fluxes(given: Any) -> Any:
    """Arrays (L, 3) of time [day], magnitude and its error, as ASTROMER's users have them, become columns by name."""
    if isinstance(given, list):
        return [one_with_names(item) for item in given]
    return one_with_names(given)


def one_with_names(given: Any) -> Any:
    """The same of one light curve."""
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.shape[1] == 3:
        return {"time": given[:, 0], "mag": given[:, 1], "mag_err": given[:, 2]}
    return given


def to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {k: to_device(v, device) for k, v in value.items()}
    return torch.as_tensor(value).to(device)


def points_of(batch: Mapping[str, Any]) -> np.ndarray | None:
    """Number of points of each light curve in a batch, (B,) int64; None where it has no light curves."""
    for key in ("mask", VALID):
        if key in batch:
            return torch.as_tensor(batch[key]).sum(1).round().long().cpu().numpy()
    return None


def joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Arrays of several pieces as one; None where a piece has none."""
    known = []
    for part in parts:
        if part is not None:
            known.append(part)
    return np.concatenate(known) if known and len(known) == len(parts) else None


def rows_of(batch: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    found = {}
    for key, value in batch.items():
        found[key] = rows_of(value, rows) if isinstance(value, dict) else value[rows]
    return found
