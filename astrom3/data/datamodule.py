"""The Lightning data module: an origin, a subset, a seed and some modalities -> loaders of the batch in schema.py.

Works without a Trainer too: `module.setup("fit"); for batch in module.train_dataloader(): ...`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule

from astrom3 import stored
from astrom3.data.layouts import Source
from astrom3.data.loader import PackedLoader
from astrom3.data.origins import Origin, open_origin
from astrom3.data.packed import PackedSplit
from astrom3.data.resident import ResidentSplit, can_reside, fits
from astrom3.data.sampler import EpochSampler
from astrom3.data.store import Store, open_store
from astrom3.data.streaming import StreamDataset, StreamSplit
from astrom3.data.streaming_loader import StreamingLoader
from astrom3.errors import UserError
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.quality import Decision, write_decisions
from astrom3.modalities.schema import MODALITIES, SPLITS
from astrom3.modalities.view import StoredView, View, views_of
from astrom3.progress import progress

log = logging.getLogger(__name__)
STAGE_SPLITS = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("test",),
}


class AstroM3DataModule(LightningDataModule):
    """batch_size is the global one, over all ranks.

    labelled_only: objects without label are left out (classification). require: "all" leaves out objects that lack any
    of the modalities, "any" those with fewer than min_modalities (1 for classification, 2 for the contrastive loss).
    streaming: parquet is read through every epoch, nothing is stored, and of data on the hub only the parts that are
    read are fetched. pad_constants: the six constants stand in padded
    rows too (default: as the layout has it). statistics: a run folder whose mean and deviation of the catalogue columns
    are used instead of those of this train split; weights that start from that run know its units. on_device: the
    prepared splits stay on the device of the trainer, "auto" where they fit on a GPU. windows: whether validation and
    test see one window of a light curve or every one, where a view cuts curves; streamed data have one, the central.
    targets: names of the numbers that a regression predicts; objects without any of them are left out. balance:
    "sampling" draws every class equally often. truncation: share of the training curves that are cut to their first
    points, anew every epoch.
    """

    def __init__(
        self,
        origin: Origin,
        sub: str = "full",
        seed: int = 42,
        modalities: Sequence[str] = MODALITIES,
        views: Mapping[str, str | View] | None = None,
        batch_size: int = 512,
        eval_batch_size: int | None = None,
        streaming: bool = False,
        cache: str | Path | None = None,
        labelled_only: bool = True,
        require: Literal["any", "all"] = "any",
        min_modalities: int = 1,
        num_workers: int = 0,
        shuffle_buffer: int = 4096,
        drop_last: bool = True,
        pad_constants: bool | None = None,
        statistics: str | Path | None = None,
        on_device: bool | Literal["auto"] = False,
        windows: Literal["one", "every"] = "one",
        targets: str | Sequence[str] | None = None,
        balance: str = "none",
        truncation: float = 0.0,
    ) -> None:
        super().__init__()
        named = dict(views or {})
        unknown = [m for m in modalities if m not in MODALITIES and m not in named]
        if unknown or not modalities:
            raise UserError(f"modalities={list(modalities)}: choose from {', '.join(MODALITIES)}.")
        if require not in ("any", "all"):
            raise UserError(f"require={require!r}: choose any or all.")
        if not 1 <= min_modalities <= len(modalities):
            raise UserError(f"min_modalities={min_modalities} must lie between 1 and {len(modalities)}.")

        self.origin = origin
        self.sub = sub
        self.seed = seed
        ours = [m for m in MODALITIES if m in modalities]
        self.modalities = tuple(ours + [m for m in modalities if m not in MODALITIES])
        self.views = views_of({m: named.get(m, m) for m in self.modalities})
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.cache = cache
        self.num_workers = num_workers
        self.asked_streaming = streaming
        self.shuffle_buffer = shuffle_buffer
        self.drop_last = drop_last
        self.pad_constants = pad_constants
        self.labelled_only = labelled_only
        self.statistics = statistics
        if on_device not in (True, False, "auto"):
            raise UserError(f"data.on_device={on_device} does not exist: it is true, false or auto")
        if on_device is True and streaming:
            raise UserError("data.on_device=true keeps prepared data on the device: leave data.streaming=true away")
        if windows not in ("one", "every"):
            raise UserError(f"windows={windows} does not exist: it is one or every")

        self.windows = windows
        self.on_device: bool | str = on_device
        self.resident: dict[str, ResidentSplit] = {}
        self.targets = (targets,) if isinstance(targets, str) else tuple(targets or ())
        self.balance = balance
        if balance == "sampling" and streaming:
            raise UserError(
                "balance=sampling needs prepared data: leave data.streaming=true away, or say balance=weights"
            )
        if truncation and streaming:
            raise UserError("data.truncation needs prepared data: leave data.streaming=true away")

        self.truncation = truncation
        self.min_modalities = len(self.modalities) if require == "all" else min_modalities
        self.splits: dict[str, PackedSplit | StreamSplit] = {}

    @cached_property
    def source(self) -> Source:
        """Opened on first use: fetches, simulates or finds the data."""
        source = open_origin(self.origin, self.sub, self.seed, self.asked_streaming)
        if self.statistics is None:
            return source
        if source.normaliser is None:
            raise UserError(f"{source.root} is normalised already ({source.layout}): leave data.statistics away.")
        return replace(source, normaliser=read_statistics(Path(self.statistics)))

    @property
    def streaming(self) -> bool:
        """Whether the files are read through every epoch: as asked, and always where they are too large to be copied
        into a store (`Table.reads_in_place`)."""
        tables = self.source.tables.values()
        return self.asked_streaming or any(table.reads_in_place(self.views.values()) for table in tables)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, label id = position."""
        return self.source.classes

    @property
    def num_classes(self) -> int:
        return len(self.source.classes)

    @property
    def normaliser(self) -> Normaliser | None:
        """Statistics of the train split, or those of `statistics`; None where the layout is normalised already."""
        return self.source.normaliser

    @property
    def counts(self) -> dict[str, dict[str, Any]]:
        """Per split that was set up: objects, used, left_out, unlabelled, present, missing, rejected, repaired."""
        return {name: split.counts for name, split in self.splits.items()}

    @property
    def rejected(self) -> list[Decision]:
        """Every decision on the objects of the splits that were set up."""
        return [decision for split in self.splits.values() for decision in split.decisions]

    def write_rejected(self, path: Path) -> None:
        """rejected.csv: object_id, modality, decision, reason."""
        write_decisions(path, self.rejected)

    def object_ids(self, split: str) -> np.ndarray:
        """(n,) ids of all objects of a split; a batch's `index` points into it."""
        return self.source.catalogue(split).ids

    def prepare_data(self) -> None:
        """Fetch the data and build the stores (Lightning: on one process of a node)."""
        if not self.streaming:
            self._stores(SPLITS)

    def setup(self, stage: str | None = None) -> None:
        """Open what the stage needs: "fit", "validate", "test", or all splits for None."""
        needed = STAGE_SPLITS[stage] if stage else SPLITS
        names = [name for name in needed if name not in self.splits]
        stores = {} if self.streaming else self._stores(names)
        options: dict[str, Any] = {
            "labelled_only": self.labelled_only,
            "min_modalities": self.min_modalities,
            "pad_constants": self.pad_constants,
            "targets": self.targets,
        }
        for name in names:
            self.source.table(name)  # one that the data lack is named
            if self.streaming:
                self.splits[name] = StreamSplit(self.source, name, self.views, **options)
            else:
                split = PackedSplit(self.source, name, stores[name], self.views, **options)
                if name == "train":
                    split.truncate(self.truncation)
                self.splits[name] = split
            self._report(name)

    def train_dataloader(self) -> PackedLoader | StreamingLoader:
        return self._loader("train", True)

    def val_dataloader(self) -> PackedLoader | StreamingLoader:
        return self._loader("validation", False, self.windows == "every")

    def test_dataloader(self) -> PackedLoader | StreamingLoader:
        return self._loader("test", False, self.windows == "every")

    def predict_dataloader(self) -> PackedLoader | StreamingLoader:
        return self._loader("test", False)

    def split_dataloader(self, split: str) -> PackedLoader | StreamingLoader:
        """Any split in its order, windows centred: for embeddings and analysis."""
        return self._loader(split, False)

    def _loader(self, split: str, train: bool, every_window: bool = False) -> PackedLoader | StreamingLoader:
        rank, world_size = self._ranks()
        packed = self.splits[split]
        size = self.batch_size if train else self.eval_batch_size
        drop_last = train and self.drop_last
        if isinstance(packed, StreamSplit):
            stream = StreamDataset(
                packed, self.seed, rank, world_size, size, drop_last, train, buffer=self.shuffle_buffer
            )
            return StreamingLoader(stream, self.num_workers)
        labels = packed.labels if train and self.balance == "sampling" else None
        sampler = EpochSampler(len(packed), self.seed, rank, world_size, size, drop_last, shuffle=train, labels=labels)
        return PackedLoader(self._on_device(split, packed), sampler, self.seed, train, every_window)

    def _on_device(self, name: str, split: PackedSplit) -> PackedSplit | ResidentSplit:
        """The split itself, or its copy on the trainer's device."""
        trainer = getattr(self, "trainer", None)
        device = trainer.strategy.root_device if trainer is not None else torch.device("cpu")
        if self.on_device is False or (self.on_device == "auto" and not fits(split, device)):
            return split
        if not can_reside(split):
            names = ", ".join(view.name for view in split.views.values())
            raise UserError(f"data.on_device=true cannot hold the views {names}: leave it away or say false")
        if name not in self.resident or self.resident[name].device != device:
            self.resident[name] = ResidentSplit(split, device)
        return self.resident[name]

    def _ranks(self) -> tuple[int, int]:
        trainer = getattr(self, "trainer", None)
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def _stores(self, names: Sequence[str]) -> dict[str, dict[str, Store]]:
        """Stores by split and name of the view's store; splits that share a table share its stores."""
        opened: dict[tuple[int, str], Store] = {}
        stores: dict[str, dict[str, Store]] = {}
        for name in names:
            if name not in self.source.tables and name == "test" and len(names) > 1:
                continue  # training without a test split is possible
            table = self.source.table(name)
            stores[name] = {}
            for view in self.views.values():
                if not isinstance(view, StoredView):
                    continue
                key = id(table), view.store
                if key not in opened:
                    with progress(f"Preparing {view.store}", len(table)) as advance:
                        opened[key] = open_store(table, view, self.cache, advance)
                stores[name][view.store] = opened[key]

        return stores

    def _report(self, name: str) -> None:
        counts = self.splits[name].counts
        if not counts["used"]:
            example = ""
            for decision in self.splits[name].decisions[-1:]:
                example = f" (first: {decision.object_id}, {decision.reason})"
            raise UserError(f"No object of the {name} split of {self.source.root} can be used{example}.")
        text = f"{name}: {counts['used']} of {counts['objects']} objects used"
        for key in ("missing", "rejected", "repaired"):
            some = [f"{modality} {count}" for modality, count in counts[key].items() if count]
            if some:
                text += f"; {key} {', '.join(some)}"
        log.info("%s", text)


def read_statistics(run: Path) -> Normaliser:
    """The normaliser in the run folder's model/preprocessing.json; UserError where there is none."""
    path = run / "model" / "preprocessing.json"
    found = stored.read(path, stored.Preprocessing, "data.statistics must be the folder of a finished run")[
        "normaliser"
    ]
    if found is None:
        raise UserError(f"{run} was trained on data normalised beforehand: it has no statistics to use.")
    return Normaliser.from_dict(found, str(path))
