"""The objects of one split that a run uses, on top of the packed stores, and the batches made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from astrom3.data.layouts.table import Catalogue, Source
from astrom3.data.sampler import WINDOW, draw
from astrom3.data.schema import (
    META_COLS,
    MODALITIES,
    PHOTO_CHANNELS,
    PHOTO_COLS,
    SEQ_LEN,
    SPECTRUM_CHANNELS,
    UNLABELLED,
    WAVELENGTH_COUNT,
)
from astrom3.data.store import Store, guard
from astrom3.kernel import kernel
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.preprocess import fill_windows
from astrom3.modalities.quality import Decision, check_catalogue, frozen

Batch = dict[str, Any]  # see schema.py


@dataclass(frozen=True)
class Selection:
    """Who is used. positions (m,): places in the split's list of ids; counts and decisions as the run reports them."""

    positions: np.ndarray
    counts: dict[str, Any]
    decisions: list[Decision]


@dataclass(frozen=True)
class Inputs:
    """Catalogue of a split as network inputs: photo (n, 4) and metadata (n, 34) float32, normalised, 0 for missing."""

    photo: np.ndarray
    metadata: np.ndarray
    has_metadata: np.ndarray
    decisions: list[Decision]


def catalogue_inputs(catalogue: Catalogue, normaliser: Normaliser | None, modalities: Sequence[str]) -> Inputs:
    """Check and normalise the catalogue values of a split."""
    values = catalogue.values
    if normaliser is None:
        scaled = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        has = catalogue.has_metadata & (2 * np.isfinite(values[:, len(PHOTO_COLS) :]).sum(axis=1) >= len(META_COLS))
        decisions = _missing_values(values, catalogue.ids, catalogue.has_metadata)
    else:
        scaled = normaliser.apply(values)
        complete, decisions = check_catalogue(values, catalogue.ids)
        has = catalogue.has_metadata & complete
    names = set(catalogue.ids[~catalogue.has_metadata])  # absent is not rejected
    decisions = [d for d in decisions if d.modality in modalities and not (d.modality == "metadata" and d[0] in names)]
    metadata = np.where(has[:, None], scaled[:, len(PHOTO_COLS) :], np.float32(0))
    guard(scaled)
    return Inputs(np.ascontiguousarray(scaled[:, : len(PHOTO_COLS)]), metadata, has, decisions)


def _missing_values(values: np.ndarray, ids: np.ndarray, there: np.ndarray) -> list[Decision]:
    """Decisions on values that came normalised (the hub layouts; processed-2 has no PHOTO_COLS here)."""
    missing, rows = ~np.isfinite(values[:, len(PHOTO_COLS) :]), []
    photo = ~np.isfinite(values[:, : len(PHOTO_COLS)])
    for i in np.flatnonzero(photo.any(axis=1) & (not photo.all())).tolist():
        columns = ", ".join(c for c, gone in zip(PHOTO_COLS, photo[i], strict=True) if gone)
        rows.append(Decision(str(ids[i]), "photometry", "repaired", f"{columns} missing: set to the train mean"))
    for i in np.flatnonzero(missing.any(axis=1) & there).tolist():
        count = int(missing[i].sum())
        if 2 * count > len(META_COLS):
            reason = f"{count} of {len(META_COLS)} catalogue columns missing"
            rows.append(Decision(str(ids[i]), "metadata", "rejected", reason))
        else:
            columns = ", ".join(c for c, gone in zip(META_COLS, missing[i], strict=True) if gone)
            reason = f"{columns} missing: set to the train mean"
            rows.append(Decision(str(ids[i]), "metadata", "repaired", reason))
    return rows


def select(
    catalogue: Catalogue,
    present: dict[str, np.ndarray],
    decisions: list[Decision],
    labelled_only: bool,
    min_modalities: int,
) -> Selection:
    """Leave out unknown classes, unlabelled objects (where labels are needed) and those with too few modalities."""
    n = len(catalogue.ids)
    has = np.stack([present[m] for m in present]).sum(axis=0) if present else np.zeros(n, int)
    unlabelled = (catalogue.labels == UNLABELLED) & ~catalogue.unknown
    keep = ~catalogue.unknown & (has >= min_modalities)
    if labelled_only:
        keep &= ~unlabelled
    # What was repaired of a modality that is not there anyhow (say, the period without a light curve) is no news.
    absent = {m: set(catalogue.ids[~present[m]]) for m in present}
    rows = [d for d in decisions if d.decision != "repaired" or d.object_id not in absent.get(d.modality, ())]
    for i in np.flatnonzero(~keep).tolist():
        if catalogue.unknown[i]:
            reason = f"unknown class {catalogue.unknown_names.get(i, '')}".rstrip()
        elif labelled_only and unlabelled[i]:
            reason = "no label"
        else:
            usable = ", ".join(m for m in present if present[m][i]) or "none"
            reason = f"{min_modalities} of {', '.join(present)} needed, usable: {usable}"
        rows.append(Decision(str(catalogue.ids[i]), "object", "rejected", reason))
    counts: dict[str, Any] = {
        "objects": n,
        "used": int(keep.sum()),
        "left_out": int((~keep).sum()),
        "unlabelled": int(unlabelled.sum()),
        "present": {m: int((present[m] & keep).sum()) for m in present},
        "missing": {m: int((~present[m] & keep).sum()) for m in present},
    }
    for decision in ("rejected", "repaired"):
        counts[decision] = dict(Counter(row.modality for row in rows if row.decision == decision))
    return Selection(np.flatnonzero(keep), counts, rows)


class PackedSplit:
    """m used objects of a split; `batch` fills the batch dict of schema.py for some of them."""

    def __init__(
        self,
        source: Source,
        split: str,
        stores: dict[str, Store],
        modalities: Sequence[str],
        *,
        labelled_only: bool,
        min_modalities: int,
        pad_constants: bool | None = None,
    ) -> None:
        table, rows = source.table(split), source.rows[split]
        catalogue = source.catalogue(split)
        inputs = catalogue_inputs(catalogue, source.normaliser, modalities)
        ids = set(catalogue.ids)
        decisions = [d for store in stores.values() for d in store.decisions() if d.object_id in ids]
        present = {m: stores[m].present[rows] if m in stores else inputs.has_metadata for m in modalities}
        chosen = select(catalogue, present, decisions + inputs.decisions, labelled_only, min_modalities)
        at = chosen.positions
        self.modalities = tuple(m for m in MODALITIES if m in modalities)
        self.ids, self.positions, self.labels = catalogue.ids, at, catalogue.labels[at]
        self.counts, self.decisions = chosen.counts, chosen.decisions
        self.present = {m: np.ascontiguousarray(present[m][at]) for m in self.modalities}
        self.rows = frozen(rows[at], np.int64)
        self.pad_constants = table.pad_constants if pad_constants is None else pad_constants
        if "photometry" in stores:
            arrays = stores["photometry"].arrays
            photo = arrays["photo"][self.rows] if "photo" in arrays else inputs.photo[at]
            self.constants = np.concatenate([photo, arrays["constants"][self.rows]], axis=1)  # (m, 6)
            self.points, self.offsets = frozen(arrays["values"], np.float32), frozen(arrays["offsets"], np.int64)
            self.lengths = np.diff(self.offsets)[self.rows]
        if "spectra" in stores:
            arrays = stores["spectra"].arrays
            self.spectra, self.log_mad = frozen(arrays["values"], np.float32), frozen(arrays["log_mad"], np.float32)
            self.slot = arrays["slot"][self.rows]
        self.metadata = inputs.metadata[at]

    def __len__(self) -> int:
        return len(self.positions)

    def starts(self, members: np.ndarray, seed: int, epoch: int | None) -> np.ndarray:
        """First points of the windows of some used objects, see `window_starts`."""
        return window_starts(self.lengths[members], self.positions[members], seed, epoch)

    def batch(self, members: np.ndarray, seed: int = 0, epoch: int | None = None) -> Batch:
        """Batch dict of used objects `members` (B,), numbers in 0 ... m-1."""
        size = len(members)
        out: Batch = {
            "index": torch.from_numpy(self.positions[members]),
            "label": torch.from_numpy(self.labels[members]),
        }
        if "photometry" in self.modalities:
            x, mask = torch.empty(size, SEQ_LEN, PHOTO_CHANNELS), torch.empty(size, SEQ_LEN)
            rows, starts = self.rows[members], self.starts(members, seed, epoch)
            constants = self.constants[members]
            fill_windows(
                self.points, self.offsets, rows, starts, constants, self.pad_constants, x.numpy(), mask.numpy()
            )
            out["photometry"], out["mask"] = x, mask
        if "spectra" in self.modalities:
            spectra = torch.empty(size, SPECTRUM_CHANNELS, WAVELENGTH_COUNT)
            fill_spectra(self.spectra, self.log_mad, self.slot[members], spectra.numpy())
            out["spectra"] = spectra
        if "metadata" in self.modalities:
            out["metadata"] = torch.from_numpy(self.metadata[members])
        out["present"] = {m: torch.from_numpy(self.present[m][members]) for m in self.modalities}
        return out


def window_starts(lengths: np.ndarray, items: np.ndarray, seed: int, epoch: int | None) -> np.ndarray:
    """First points of windows in curves of `lengths` (B,): drawn for (seed, epoch, item), the centre without epoch."""
    room = np.maximum(lengths - SEQ_LEN, 0)
    if epoch is None:
        return room // 2
    return (draw(seed, epoch, WINDOW, items) % (room + 1).astype(np.uint64)).astype(np.int64)


@kernel
def fill_spectra(values, log_mad, slot, out):
    """values (m, 2, 2575), log_mad (m,), slot (B,) with -1 for none -> out (B, 3, 2575)."""
    for i in range(len(slot)):
        if slot[i] < 0:
            out[i] = 0
        else:
            out[i, :2] = values[slot[i]]
            out[i, 2] = log_mad[slot[i]]
