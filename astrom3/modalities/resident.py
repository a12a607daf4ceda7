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

from astrom3.modalities.ragged import offsets_of
from astrom3.modalities.schema import PHOTO_CHANNELS, SEQ_LEN

POINT = 3  # time, flux, error; the other channels are constants of the star
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
        # The members' curves are put behind each other; the store has others between them.
        in_store = reader.offsets[reader.rows]
        self.first = offsets_of(reader.lengths)[:-1]
        rows = np.repeat(in_store - self.first, reader.lengths)
        rows = rows + np.arange(len(rows))
        self.points = take(reader.points[rows])
        self.lengths = take(reader.lengths)
        self.constants = take(reader.constants)
        self.step = take(np.arange(SEQ_LEN))
        self._epoch: tuple[int, int | None] | None = None  # seed and epoch of the windows that are drawn
        self._starts = self.step[:0]
        self._begins = self.step[:0]

    def _draw_windows(self, seed: int, epoch: int | None) -> None:
        """First points of all windows of an epoch, in their curves and among all points."""
        starts = self.reader.starts(np.arange(len(self.reader.rows)), seed, epoch)
        self._starts = self.take(starts)
        self._begins = self.take(self.first + starts)
        self._epoch = seed, epoch

    def fill(self, at: Tensor, seed: int, epoch: int | None) -> dict[str, Tensor]:
        """(B, 200, 9) and (B, 200), as `preprocess.fill_windows` writes them."""
        if self._epoch != (seed, epoch):
            self._draw_windows(seed, epoch)
        lengths = self.lengths[at]
        left = lengths - self._starts[at]  # points from the start of the window on
        is_point = self.step < left.unsqueeze(1)  # (B, 200)
        curves = torch.zeros(len(at), SEQ_LEN, PHOTO_CHANNELS, device=is_point.device)
        if len(self.points):
            rows = self._begins[at].unsqueeze(1) + self.step  # (B, 200)
            rows = rows.clamp(max=len(self.points) - 1)
            curves[..., :POINT] = self.points[rows] * is_point.unsqueeze(-1)
        has_constants = is_point
        if self.reader.pad_constants:
            has_constants = (lengths > 0).unsqueeze(1).expand_as(is_point)
        curves[..., POINT:] = self.constants[at].unsqueeze(1) * has_constants.unsqueeze(-1)
        return dict(zip(self.keys, (curves, is_point.float()), strict=True))


class ResidentSpectra:
    """Spectra of the members that have one."""

    def __init__(self, key: str, reader: Any, take: Take) -> None:
        self.key = key
        there = reader.slot >= 0
        slots = reader.slot[there]
        self.spectra = take(reader.spectra[slots] if len(slots) else reader.spectra[:0])
        self.log_mad = take(reader.log_mad[slots])
        place = np.cumsum(there) - 1  # among the spectra that are copied
        self.slot = take(np.where(there, place, -1))

    def fill(self, at: Tensor, seed: int, epoch: int | None) -> dict[str, Tensor]:
        """(B, 3, 2575), as `views.fill_spectra` writes them."""
        width = self.spectra.shape[-1]
        if not len(self.spectra):
            return {self.key: torch.zeros(len(at), 3, width, device=at.device)}
        slot = self.slot[at]
        there = (slot >= 0).view(-1, 1, 1)
        rows = slot.clamp(min=0)
        log_mad = self.log_mad[rows].view(-1, 1, 1).expand(-1, 1, width)
        channels = torch.cat([self.spectra[rows], log_mad], dim=1)  # (B, 3, 2575)
        return {self.key: channels * there}
