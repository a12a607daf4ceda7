"""The objects of one split that a run uses, on top of the packed stores, and the batches made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from astrom3.data.layouts.table import Source, picked
from astrom3.data.selection import (
    catalogue_inputs,
    columns_of,
    columns_present,
    known_present,
    names_for,
    select,
    view_columns,
)
from astrom3.data.store import Store
from astrom3.errors import UserError
from astrom3.modalities.quality import frozen
from astrom3.modalities.view import Members, View, views_of
from astrom3.modalities.views import readers_of

Batch = dict[str, Any]  # see schema.py


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
        for store in stores.values():
            decisions += [d for d in store.decisions() if d.object_id in ids]
        present = known_present(self.views, catalogue.ids, inputs)
        for slot, view in self.views.items():
            if view.stored:
                present[slot] = stores[view.store].present[rows]

        columns = view_columns(source, split, self.views)
        present |= columns_present(columns)
        aims = source.targets(split, targets) if targets else None
        selection = select(catalogue, present, decisions, labelled_only, min_modalities, aims)

        used = selection.positions
        self.ids = catalogue.ids
        self.positions = used
        self.labels = catalogue.labels[used]
        self.targets = None if aims is None else aims[used].astype(np.float32)
        self.counts = selection.counts
        self.decisions = selection.decisions
        self.present = {slot: np.ascontiguousarray(there[used]) for slot, there in present.items()}
        self.rows = frozen(rows[used], np.int64)
        self.pad_constants = table.pad_constants if pad_constants is None else pad_constants

        photo = picked(inputs.photo, used)
        metadata = picked(inputs.metadata, used)
        periods = picked(inputs.periods, used)
        names = names_for(self.views, self.ids, used)
        members = Members(self.rows, used, photo, metadata, self.pad_constants, periods, ids=names)
        arrays = {name: store.arrays for name, store in stores.items()}
        self.readers = readers_of(self.views, arrays, members, columns_of(columns, used))

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
        most = [reader.windows(everybody).max(initial=1) for reader in self.readers.values()]
        return max(most, default=1) > 1

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
