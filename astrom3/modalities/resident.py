"""AstroM3's views on a device: what a reader holds, copied there once, and batches gathered from it.

`View.resident` gives one of these for a reader, or None where a view cannot be gathered on a device. The numbers are
those of the readers, one for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from astrom3.modalities.schema import PHOTO_CHANNELS, SEQ_LEN

POINT = PHOTO_CHANNELS - 6  # time, flux, error; the rest are constants
Take = Callable[[np.ndarray], Tensor]  # an array -> a tensor on the device


class Resident(Protocol):
    """A reader's observations on a device."""

    def fill(self, at: Tensor, seed: int, epoch: int | None) -> dict[str, Tensor]:
        """Batch keys of the members `at` (B,) int64, on the device."""


class ResidentRows:
    """One row for each member."""

    def __init__(self, key: str, values: np.ndarray, take: Take) -> None:
        self.key = key
        self.values = take(values)

    def fill(self, at: Tensor, seed: int, epoch: int | None) -> dict[str, Tensor]:
        return {self.key: self.values[at]}


class ResidentCurves:
    """Light curves behind each other, and the windows cut out of them."""

    def __init__(self, keys: tuple[str, ...], reader: Any, take: Take) -> None:
        self.keys = keys
        self.reader = reader
        self.take = take
        first = reader.offsets[reader.rows]
        self.first = np.concatenate([[0], np.cumsum(reader.lengths)[:-1]]).astype(np.int64)
        rows = np.repeat(first - self.first, reader.lengths)
        self.points = take(reader.points[rows + np.arange(len(rows))])  # curve after curve
        self.lengths = take(reader.lengths)
        self.constants = take(reader.constants)
        self.step = take(np.arange(SEQ_LEN))
        self._drawn: tuple[tuple[int, int | None], Tensor, Tensor] | None = None

    def fill(self, at: Tensor, seed: int, epoch: int | None) -> dict[str, Tensor]:
        """(B, 200, 9) and (B, 200), as `preprocess.fill_windows` writes them."""
        if self._drawn is None or self._drawn[0] != (seed, epoch):  # once per epoch, for all objects
            starts = self.reader.starts(np.arange(len(self.reader.rows)), seed, epoch)
            self._drawn = (seed, epoch), self.take(self.first + starts), self.take(starts)
        _, begins, starts_there = self._drawn
        point = self.step < (self.lengths[at] - starts_there[at]).unsqueeze(1)  # (B, 200)
        x = torch.zeros(len(at), SEQ_LEN, PHOTO_CHANNELS, device=point.device)
        if len(self.points):
            rows = (begins[at].unsqueeze(1) + self.step).clamp(max=len(self.points) - 1)  # (B, 200)
            x[..., :POINT] = self.points[rows] * point.unsqueeze(-1)
        written = (self.lengths[at] > 0).unsqueeze(1).expand_as(point) if self.reader.pad_constants else point
        x[..., POINT:] = self.constants[at].unsqueeze(1) * written.unsqueeze(-1)
        return dict(zip(self.keys, (x, point.float()), strict=True))


class ResidentSpectra:
    """Spectra of the members that have one."""

    def __init__(self, key: str, reader: Any, take: Take) -> None:
        there = reader.slot >= 0
        self.key = key
        self.spectra = take(reader.spectra[reader.slot[there]] if there.any() else reader.spectra[:0])
        self.log_mad = take(reader.log_mad[reader.slot[there]])
        self.slot = take(np.where(there, np.cumsum(there) - 1, -1))

    def fill(self, at: Tensor, seed: int, epoch: int | None) -> dict[str, Tensor]:
        """(B, 3, 2575), as `views.fill_spectra` writes them."""
        slot = self.slot[at]
        there = (slot >= 0).view(-1, 1, 1)
        rows = slot.clamp(min=0)
        width = self.spectra.shape[-1]
        if not len(self.spectra):
            return {self.key: torch.zeros(len(at), 3, width, device=at.device)}
        third = self.log_mad[rows].view(-1, 1, 1).expand(-1, 1, width)
        return {self.key: torch.cat([self.spectra[rows], third], dim=1) * there}
