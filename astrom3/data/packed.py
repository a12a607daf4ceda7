"""The objects of one split that a run uses, on top of the packed stores, and the batches made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from astrom3.data.layouts.table import Catalogue, Source, picked
from astrom3.data.store import Store, guard
from astrom3.errors import UserError
from astrom3.modalities.catalogue import PERIOD, Normaliser
from astrom3.modalities.catalogue_quality import check_catalogue
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, frozen
from astrom3.modalities.schema import META_COLS, PHOTO_COLS, UNLABELLED
from astrom3.modalities.view import Members, View, views_of
from astrom3.modalities.views import readers_of

LIGHT = of_argument("light_curve")
CATALOGUE = of_argument("metadata")
Batch = dict[str, Any]  # see schema.py


@dataclass(frozen=True)
class Selection:
    """Who is used. positions (m,): places in the split's list of ids; counts and decisions as the run reports them."""

    positions: np.ndarray
    counts: dict[str, Any]
    decisions: list[Decision]


@dataclass(frozen=True)
class Inputs:
    """Catalogue of a split as network inputs: photo (n, 4) and metadata (n, 34) float32, normalised, 0 for missing.

    periods (n,) float64 [day], NaN where unknown or where the layout has only z-scores.
    """

    photo: np.ndarray
    metadata: np.ndarray
    has_metadata: np.ndarray
    decisions: list[Decision]
    periods: np.ndarray


def catalogue_inputs(catalogue: Catalogue, normaliser: Normaliser | None, views: Mapping[str, View]) -> Inputs:
    """Check and normalise the catalogue values of a split; decisions are those that concern the views."""
    modalities = set()
    for view in views.values():
        if view.uses_features or view.uses_metadata:
            modalities.add(view.modality)
    values = catalogue.values
    if not modalities and values.strides[0] == 0:  # galaxies: no columns and nobody who reads them
        return no_inputs(len(values))
    periods = np.full(len(values), np.nan) if normaliser is None else values[:, PERIOD]
    if normaliser is None:
        scaled = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
        has = catalogue.has_metadata & (2 * np.isfinite(values[:, len(PHOTO_COLS) :]).sum(axis=1) >= len(META_COLS))
        decisions = _missing_values(values, catalogue.ids, catalogue.has_metadata)
    else:
        scaled = normaliser.apply(values)
        complete, decisions = check_catalogue(values, catalogue.ids)
        has = catalogue.has_metadata & complete
    names = set(catalogue.ids[~catalogue.has_metadata])  # absent is not rejected
    decisions = [d for d in decisions if d.modality in modalities and not (d.modality == CATALOGUE and d[0] in names)]
    metadata = np.where(has[:, None], scaled[:, len(PHOTO_COLS) :], np.float32(0))
    guard(scaled)
    return Inputs(np.ascontiguousarray(scaled[:, : len(PHOTO_COLS)]), metadata, has, decisions, periods)


def no_inputs(n: int) -> Inputs:
    """Of n objects without catalogue columns; one row that stands for all."""
    photo = np.zeros((1, len(PHOTO_COLS)), np.float32)[0]
    metadata = np.zeros((1, len(META_COLS)), np.float32)[0]
    return Inputs(
        np.broadcast_to(photo, (n, len(PHOTO_COLS))),
        np.broadcast_to(metadata, (n, len(META_COLS))),
        np.broadcast_to(np.bool_(False), (n,)),
        [],
        np.broadcast_to(np.float64(np.nan), (n,)),
    )


def _missing_values(values: np.ndarray, ids: np.ndarray, there: np.ndarray) -> list[Decision]:
    """Decisions on values that came normalised (the hub layouts; processed-2 has no PHOTO_COLS here)."""
    missing = ~np.isfinite(values[:, len(PHOTO_COLS) :])
    rows = []
    photo = ~np.isfinite(values[:, : len(PHOTO_COLS)])
    for i in np.flatnonzero(photo.any(axis=1) & (not photo.all())).tolist():
        columns = ", ".join(c for c, gone in zip(PHOTO_COLS, photo[i], strict=True) if gone)
        rows.append(Decision(str(ids[i]), LIGHT, "repaired", f"{columns} missing: set to the train mean"))
    for i in np.flatnonzero(missing.any(axis=1) & there).tolist():
        count = int(missing[i].sum())
        if 2 * count > len(META_COLS):
            reason = f"{count} of {len(META_COLS)} catalogue columns missing"
            rows.append(Decision(str(ids[i]), CATALOGUE, "rejected", reason))
        else:
            columns = ", ".join(c for c, gone in zip(META_COLS, missing[i], strict=True) if gone)
            reason = f"{columns} missing: set to the train mean"
            rows.append(Decision(str(ids[i]), CATALOGUE, "repaired", reason))
    return rows


def known_present(views: Mapping[str, View], ids: np.ndarray, inputs: Inputs) -> dict[str, np.ndarray]:
    """Slot -> (n,) bool: which objects have an observation, as far as the catalogue and the views' own files say.

    Of views that the store keeps nothing is known here, so every object counts.
    """
    found: dict[str, np.ndarray] = {}
    for slot, view in views.items():
        if view.stored:
            found[slot] = np.ones(len(ids), dtype=bool)
        elif view.has_own_files:
            found[slot] = view.available(ids.astype(str))
        else:
            found[slot] = inputs.has_metadata
    return found


def names_for(views: Mapping[str, View], ids: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """Ids (m,) str of some objects, where a view looks them up in files of its own."""
    wanted = any(view.has_own_files for view in views.values())
    return ids[rows].astype(str) if wanted else None


def view_columns(source: Source, split: str, views: Mapping[str, View]) -> dict[str, np.ndarray]:
    """Slot -> catalogue columns (n, c) float64 that its view names, NaN where unknown; slots without such are left out.

    UserError where the data have no such column.
    """
    found = {}
    for slot, view in views.items():
        absent = []
        for name in view.columns:
            if name not in source.table(split).target_names:
                absent.append(name)
        if absent:
            raise UserError(
                f"{source.root} has no column {absent[0]}, which {slot} (view {view.name}) reads: leave {slot} away "
                "from modalities"
            )
        if view.columns:
            found[slot] = source.targets(split, view.columns)
    return found


def select(
    catalogue: Catalogue,
    present: dict[str, np.ndarray],
    decisions: list[Decision],
    labelled_only: bool,
    min_modalities: int,
    targets: np.ndarray | None = None,
) -> Selection:
    """Leave out unknown classes, unlabelled objects (where labels are needed), those without any target (n, T), where
    there are targets, and those with too few modalities."""
    n = len(catalogue.ids)
    has = np.stack([present[m] for m in present]).sum(axis=0) if present else np.zeros(n, int)
    unlabelled = (catalogue.labels == UNLABELLED) & ~catalogue.unknown
    keep = ~catalogue.unknown & (has >= min_modalities)
    if labelled_only:
        keep &= ~unlabelled
    aimless = np.zeros(n, bool) if targets is None else ~np.isfinite(targets).any(axis=1)
    keep &= ~aimless
    # What was repaired of a modality that is not there anyhow (say, the period without a light curve) is no news.
    absent = {m: set(catalogue.ids[~present[m]]) for m in present}
    rows = []
    for d in decisions:
        if d.decision != "repaired" or d.object_id not in absent.get(d.modality, ()):
            rows.append(d)
    for i in np.flatnonzero(~keep).tolist():
        if catalogue.unknown[i]:
            reason = f"unknown class {catalogue.unknown_names.get(i, '')}".rstrip()
        elif labelled_only and unlabelled[i]:
            reason = "no label"
        elif aimless[i]:
            reason = "no target"
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
    """m used objects of a split; `batch` fills the batch dict of schema.py for some of them.

    views: the slots by name, or slot -> view. stores: by name of the view's store.
    """

    def __init__(
        self,
        source: Source,
        split: str,
        stores: Mapping[str, Store],
        views: Sequence[str] | Mapping[str, str | View],
        *,
        labelled_only: bool,
        min_modalities: int,
        pad_constants: bool | None = None,
        targets: Sequence[str] = (),
    ) -> None:
        table = source.table(split)
        rows = source.rows[split]
        catalogue = source.catalogue(split)
        self.views = views_of(views)
        self.modalities = tuple(self.views)
        inputs = catalogue_inputs(catalogue, source.normaliser, self.views)
        ids = set(catalogue.ids)
        decisions = [*source.repeated.get(split, ()), *inputs.decisions]
        decisions += [d for store in stores.values() for d in store.decisions() if d.object_id in ids]
        present = known_present(self.views, catalogue.ids, inputs)
        present |= {slot: stores[view.store].present[rows] for slot, view in self.views.items() if view.stored}
        columns = view_columns(source, split, self.views)
        present |= {slot: np.isfinite(values).all(axis=1) for slot, values in columns.items()}
        aims = source.targets(split, targets) if targets else None
        chosen = select(catalogue, present, decisions, labelled_only, min_modalities, aims)
        at = chosen.positions
        self.ids = catalogue.ids
        self.positions = at
        self.labels = catalogue.labels[at]
        self.targets = None if aims is None else aims[at].astype(np.float32)
        self.counts = chosen.counts
        self.decisions = chosen.decisions
        self.present = {slot: np.ascontiguousarray(there[at]) for slot, there in present.items()}
        self.rows = frozen(rows[at], np.int64)
        self.pad_constants = table.pad_constants if pad_constants is None else pad_constants
        photo = picked(inputs.photo, at)
        metadata = picked(inputs.metadata, at)
        periods = picked(inputs.periods, at)
        members = Members(
            self.rows, at, photo, metadata, self.pad_constants, periods, ids=names_for(self.views, self.ids, at)
        )
        arrays = {name: store.arrays for name, store in stores.items()}
        own = {slot: np.nan_to_num(values[at]).astype(np.float32) for slot, values in columns.items()}
        self.readers = readers_of(self.views, arrays, members, own)

    def __len__(self) -> int:
        return len(self.positions)

    def truncate(self, share: float) -> None:
        """In training, cut this share of the light curves to their first points. UserError where no view can."""
        able = [reader for reader in self.readers.values() if reader.can_truncate]
        if share and not able:
            names = ", ".join(view.name for view in self.views.values())
            raise UserError(
                f"data.truncation={share} cuts light curves, which the views {names} do not: choose recipe=survey or "
                "an Astromer, or leave it away"
            )
        for reader in able:
            reader.truncation = share

    @property
    def has_windows(self) -> bool:
        """Whether an object has several windows in some view."""
        everybody = np.arange(len(self))
        return any(bool((reader.windows(everybody) > 1).any()) for reader in self.readers.values())

    def every_window(self, members: np.ndarray, seed: int = 0) -> Batch:
        """Batch dict of all windows of used objects `members` (B,), for evaluation.

        The windows of an object follow each other with the same `index`. Views that hold an object in one window repeat
        it.
        """
        counts = np.stack([reader.windows(members) for reader in self.readers.values()])  # (views, B)
        most = counts.max(axis=0)
        rows = np.repeat(members, most)
        number = np.arange(len(rows)) - np.repeat(most.cumsum() - most, most)
        out = self._labels(rows)
        for reader, own in zip(self.readers.values(), counts, strict=True):
            latest = np.repeat(own, most) - 1
            out.update(reader.fill_window(rows, np.minimum(number, latest), seed))
        return out

    def batch(self, members: np.ndarray, seed: int = 0, epoch: int | None = None) -> Batch:
        """Batch dict of used objects `members` (B,), numbers in 0 ... m-1."""
        out = self._labels(members)
        for reader in self.readers.values():
            out.update(reader.fill(members, seed, epoch))
        return out

    def _labels(self, members: np.ndarray) -> Batch:
        """What a batch says of its objects beside their observations."""
        out: Batch = {
            "index": torch.from_numpy(self.positions[members]),
            "label": torch.from_numpy(self.labels[members]),
            "present": {slot: torch.from_numpy(there[members]) for slot, there in self.present.items()},
        }
        if self.targets is not None:
            out["target"] = torch.from_numpy(self.targets[members])
        return out
