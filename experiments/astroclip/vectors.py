"""Embeddings of every galaxy by every encoder, with what is to be told of it; computed once and kept as .npz."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.astroclip.settings import SPLITS, TARGETS

BATCH = 64
BANDS = ("mag_g", "mag_r", "mag_z")
RAW = "photometry"  # magnitudes themselves


@dataclass(frozen=True)
class Vectors:
    """One split: vectors by name (n, D), targets (n, T) float64, ids (n,) text, members (n,) of the split."""

    vectors: dict[str, np.ndarray]
    targets: np.ndarray
    ids: np.ndarray


def open_data(common: Sequence[str]) -> Any:
    """The data module of images and spectra, all splits set up."""
    from astrom3.cli.config import compose
    from astrom3.training.build import build

    data, _ = build(compose([*plain(common), "mode=clip", "init=stages", "keep=false"]))
    data.setup("test")
    return data


def plain(common: Sequence[str]) -> list[str]:
    """Without the settings of a launcher, which only `-m` takes."""
    return [text for text in common if not text.startswith("hydra")]


def folder_of(common: Sequence[str], mode: str) -> Path:
    """The run folder of a stage."""
    from astrom3.cli.config import compose

    start = "init=stages" if mode == "clip" else "init=scratch"
    return Path(compose([*plain(common), f"mode={mode}", start]).run)


def all_vectors(common: Sequence[str], data: Any, folder: Path) -> dict[str, Vectors]:
    """Split -> vectors, read from `folder` where they are of these weights."""
    from astrom3.published import native

    networks = {mode: native.load(folder_of(common, mode) / "model") for mode in ("masked", "distil", "clip")}
    stamp = str([(folder_of(common, mode) / "metrics.json").read_text() for mode in networks])
    found = {}
    for split in SPLITS:
        path = folder / f"{split}.npz"
        found[split] = read(path, stamp) or write(path, stamp, split_vectors(networks, data, split))
    return found


@torch.inference_mode()
def split_vectors(networks: dict[str, Any], data: Any, split: str) -> Vectors:
    """Vectors of the used galaxies of a split in their order."""
    members = data.splits[split]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parts: dict[str, list[np.ndarray]] = {}
    for network in networks.values():
        network.to(device)
    for first in range(0, len(members), BATCH):
        batch = members.batch(np.arange(first, min(first + BATCH, len(members))))
        moved = {key: value.to(device) for key, value in batch.items() if isinstance(value, torch.Tensor)}
        for name, part in of_batch(networks, moved).items():
            parts.setdefault(name, []).append(part.float().cpu().numpy())
    rows = data.source.rows[split][members.positions]
    table = data.source.table(split)
    vectors = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    vectors[RAW] = table.targets(BANDS)[rows]
    ids = np.array(data.object_ids(split)[members.positions], dtype=str)
    return Vectors(vectors, table.targets(TARGETS)[rows], ids)


def of_batch(networks: dict[str, Any], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name -> embedding (B, D) of a batch."""
    aligned = networks["clip"](batch)
    found = {
        "image, AstroCLIP": aligned["images"],
        "image, image encoder": networks["distil"](batch["cutout/flux"]),
        "spectrum, AstroCLIP": aligned["spectra"],
        "spectrum, spectrum encoder": networks["masked"](batch["specformer/flux"]),
    }
    if "photometry" in aligned:
        found["photometry, AstroCLIP"] = aligned["photometry"]
    return found


def read(path: Path, stamp: str) -> Vectors | None:
    """Vectors written before, None where there are none of these weights."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["stamp"]) != stamp:
                return None
            vectors = {name[2:]: file[name] for name in file.files if name.startswith("v:")}
            return Vectors(vectors, file["targets"], file["ids"])
    except (OSError, ValueError, KeyError):
        return None


def write(path: Path, stamp: str, found: Vectors) -> Vectors:
    """Keep vectors; a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    arrays: dict[str, Any] = {"stamp": np.array(stamp), "targets": found.targets, "ids": found.ids}
    for name, array in found.vectors.items():
        arrays[f"v:{name}"] = array
    np.savez(part, **arrays)
    os.replace(part, path)
    return found
