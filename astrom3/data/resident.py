"""A whole prepared split on the device: batches are gathered there, nothing is copied from the host but indices.

The full training split of AstroM3 takes 0.4 GB. The batches are those of packed.py, number for number; `present` is
left empty where no object of the split lacks a modality, so that no step waits for the device to say so.
"""

from __future__ import annotations

import numpy as np
import torch

from astrom3.data.packed import Batch, PackedSplit
from astrom3.modalities.schema import PHOTO_CHANNELS, SEQ_LEN

RESIDENT = ("photometry", "spectra", "metadata")
POINT = PHOTO_CHANNELS - 6  # time, flux, error; the rest are constants


class ResidentSplit:
    """Stands in for a `PackedSplit` in a loader. Only what the used objects need is taken to the device."""

    def __init__(self, split: PackedSplit, device: torch.device) -> None:
        self.split = split
        self.device = device
        self.complete = all(bool(p.all()) for p in split.present.values())
        self.index = self._take(split.positions)
        self.labels = self._take(split.labels)
        self.present = {m: self._take(p) for m, p in split.present.items()}
        self.targets = None if split.targets is None else self._take(split.targets)
        readers = split.readers
        if "metadata" in readers:
            self.metadata = self._take(readers["metadata"].metadata)
        if "photometry" in readers:
            curves = readers["photometry"]
            first = curves.offsets[curves.rows]
            rows = np.repeat(first - np.concatenate([[0], np.cumsum(curves.lengths)[:-1]]), curves.lengths)
            self.points = self._take(curves.points[rows + np.arange(len(rows))])  # curve after curve
            self.first = np.concatenate([[0], np.cumsum(curves.lengths)[:-1]]).astype(np.int64)
            self.lengths = self._take(curves.lengths)
            self.constants = self._take(curves.constants)
        if "spectra" in readers:
            grid = readers["spectra"]
            there = grid.slot >= 0
            self.spectra = self._take(grid.spectra[grid.slot[there]] if there.any() else grid.spectra[:0])
            self.log_mad = self._take(grid.log_mad[grid.slot[there]])
            self.slot = self._take(np.where(there, np.cumsum(there) - 1, -1))
        self._drawn: tuple[tuple[int, int | None], torch.Tensor, torch.Tensor] | None = None

    def __len__(self) -> int:
        return len(self.split)

    def _take(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.asarray(array), device=self.device)

    def batch(self, members: np.ndarray, seed: int = 0, epoch: int | None = None) -> Batch:
        """Batch dict of used objects `members` (B,), on the device."""
        at = torch.from_numpy(members).to(self.device, non_blocking=True)
        modalities = self.split.modalities
        out: Batch = {"index": self.index[at], "label": self.labels[at]}
        if self.targets is not None:
            out["target"] = self.targets[at]
        if "photometry" in modalities:
            out["photometry"], out["mask"] = self._windows(at, seed, epoch)
        if "spectra" in modalities:
            out["spectra"] = self._spectra(at)
        if "metadata" in modalities:
            out["metadata"] = self.metadata[at]
        out["present"] = {} if self.complete else {m: p[at] for m, p in self.present.items()}
        return out

    def _windows(self, at: torch.Tensor, seed: int, epoch: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 200, 9) and (B, 200), as `preprocess.fill_windows` writes them."""
        if self._drawn is None or self._drawn[0] != (seed, epoch):  # once per epoch, for all objects
            starts = self.split.readers["photometry"].starts(np.arange(len(self)), seed, epoch)
            self._drawn = (seed, epoch), self._take(self.first + starts), self._take(starts)
        _, begins, starts_there = self._drawn
        step = torch.arange(SEQ_LEN, device=self.device)
        point = step < (self.lengths[at] - starts_there[at]).unsqueeze(1)  # (B, 200)
        x = torch.zeros(len(at), SEQ_LEN, PHOTO_CHANNELS, device=self.device)
        if len(self.points):
            rows = (begins[at].unsqueeze(1) + step).clamp(max=len(self.points) - 1)  # (B, 200)
            x[..., :POINT] = self.points[rows] * point.unsqueeze(-1)
        written = (self.lengths[at] > 0).unsqueeze(1).expand_as(point) if self.split.pad_constants else point
        x[..., POINT:] = self.constants[at].unsqueeze(1) * written.unsqueeze(-1)
        return x, point.float()

    def _spectra(self, at: torch.Tensor) -> torch.Tensor:
        """(B, 3, 2575), as `views.fill_spectra` writes them."""
        slot = self.slot[at]
        there = (slot >= 0).view(-1, 1, 1)
        rows = slot.clamp(min=0)
        if not len(self.spectra):
            return torch.zeros(len(at), 3, self.spectra.shape[-1], device=self.device)
        third = self.log_mad[rows].view(-1, 1, 1).expand(-1, 1, self.spectra.shape[-1])
        return torch.cat([self.spectra[rows], third], dim=1) * there


def can_reside(split: PackedSplit) -> bool:
    """Whether every view of the split can be gathered on the device; so far those of AstroM3 can."""
    from astrom3.data.kept import KeptReader

    if any(isinstance(reader, KeptReader) for reader in split.readers.values()):
        return False
    return all(slot == view.name and slot in RESIDENT for slot, view in split.views.items())


def fits(split: PackedSplit, device: torch.device) -> bool:
    """Whether the split takes less than a third of the device's free memory."""
    if device.type != "cuda" or not can_reside(split):
        return False
    readers = split.readers
    size = readers["metadata"].metadata.nbytes if "metadata" in readers else 0
    if "photometry" in readers:
        size += 12 * int(readers["photometry"].lengths.sum())
    if "spectra" in readers:
        grid = readers["spectra"]
        size += int((grid.slot >= 0).sum()) * grid.spectra.itemsize * int(np.prod(grid.spectra.shape[1:]))
    return size < torch.cuda.mem_get_info(device)[0] / 3
