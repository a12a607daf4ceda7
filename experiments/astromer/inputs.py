"""What the classifiers read of the labelled sample: windows, features of frozen encoders, AstroM3's inputs, a forest's.

Everything is made once per sample. Windows are the sequential ones of 200 points, and `curves` says whose they are.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from astrom3.data.layouts import open_source
from astrom3.data.packed import PackedSplit
from astrom3.data.store import open_store
from astrom3.encoders.astromer import pooled
from astrom3.modalities import astromer_view
from astrom3.modalities.schema import PHOTO_COLS

log = logging.getLogger(__name__)
BATCH = 64  # windows


@dataclass(frozen=True)
class Rows:
    """Inputs of a network by row, and of which object each row is, `curves` (W,). Several rows of an object are its
    windows."""

    arrays: tuple[Tensor, ...]
    curves: np.ndarray


@dataclass(frozen=True)
class Sample:
    """Labelled objects with all that is read of them. labels (n,) int64; features (n, 4), NaN where unknown."""

    labels: np.ndarray
    classes: tuple[str, ...]
    features: np.ndarray
    windows: Rows  # times, magnitudes, valid: (W, 200)
    photometry: Rows  # AstroM3's (n, 200, 9) and mask (n, 200)


def read_sample(folder: Path, cache: Path) -> Sample:
    """The labelled data set at `folder`; labels count the classes that occur."""
    source = open_source(folder, "full", 42)
    table = source.table("train")
    everything = replace(source, rows={"train": np.arange(len(table))}, tables={"train": table})
    stores = {view: open_store(table, view, cache) for view in ("astromer", "photometry")}
    views = {"photometry": "photometry", "curve": "astromer"}
    split = PackedSplit(everything, "train", stores, views, labelled_only=True, min_modalities=2)
    batch = split.batch(np.arange(len(split)))
    present = np.unique(split.labels)
    classes = tuple(source.classes[label] for label in present)
    features = table.catalogue().values[split.positions, : len(PHOTO_COLS)]
    photometry = Rows((batch["photometry"], batch["mask"]), np.arange(len(split)))
    labels = np.searchsorted(present, split.labels)
    return Sample(labels, classes, features, all_windows(split.readers["curve"]), photometry)


def all_windows(reader: Any) -> Rows:
    """Every sequential window of the reader's objects."""
    found = astromer_view.sequential_windows(reader.lengths)
    batch = astromer_view.empty_batch(len(found.curves))
    astromer_view.fill_windows(reader.points, reader.offsets, reader.rows[found.curves], found.starts, batch)
    arrays = tuple(torch.from_numpy(batch[key]) for key in astromer_view.INPUTS)
    return Rows(arrays, found.curves)


def embedded(encoder: nn.Module, windows: Rows, path: Path) -> Rows:
    """Means over the points of the embedding and of every block of a frozen encoder, (W, layers + 1, D), kept."""
    if path.is_file():
        return Rows((torch.from_numpy(np.load(path)),), windows.curves)
    began = time.monotonic()
    encoder.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(windows.curves), BATCH):
            inputs = [array[start : start + BATCH] for array in windows.arrays]
            layers = encoder.every_layer(*inputs)  # type: ignore[operator]
            parts.append(torch.stack([pooled(layer, inputs[-1], "mean") for layer in layers], dim=1))
    means = torch.cat(parts).float()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, means.numpy())
    log.info("%d windows embedded in %.0f s: %s", len(means), time.monotonic() - began, path.stem)
    return Rows((means,), windows.curves)
