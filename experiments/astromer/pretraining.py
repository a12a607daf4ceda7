"""Masked pre-training of the experiment's own encoders, and fine-tuning of the released ones, by `astrom3.train`."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretraining:
    """One masked run: a model and size of the configuration, further overrides, and whether it starts from the
    released weights."""

    name: str
    model: str
    size: str
    epochs: int
    overrides: tuple[str, ...] = ()
    from_released: bool = False


def pretrainings(epochs: int, tuning_epochs: int) -> list[Pretraining]:
    """The masked runs of the comparison.

    Astromer 2's published rate of 1e-5 is for millions of curves: the small one learns at Astromer 1's.
    """
    leaky = "encoders.photometry.compat={}"
    rate = "optim.lr=1e-3"
    return [
        Pretraining("astromer1", "astromer1", "small", epochs),
        Pretraining("astromer1-leak", "astromer1", "small", epochs, (leaky.format("v1"),)),
        Pretraining("astromer2", "astromer2", "small", epochs, (rate,)),
        Pretraining("astromer2-leak", "astromer2", "small", epochs, (rate, leaky.format("v2"))),
        Pretraining("macho-tuned", "astromer1", "published", tuning_epochs, ("optim.lr=1e-4",), from_released=True),
    ]


def pretrain(which: Pretraining, data: Path, root: Path, weights: Path | None) -> Path:
    """Train one of them, or find it finished; gives the run folder. Another process that trains it is waited for."""
    folder = root / "pretraining" / which.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "metrics.json").is_file():
            began = time.monotonic()
            train_masked(which, data, root, folder, weights)
            log.info("%s pre-trained in %.0f s", which.name, time.monotonic() - began)
    return folder


def train_masked(which: Pretraining, data: Path, root: Path, folder: Path, weights: Path | None) -> None:
    """The masked run itself; an interrupted one goes on."""
    from astrom3.cli.verbs import run
    from astrom3.train import train

    start = ["init=file", f"init.path={weights}"] if which.from_released else []
    run(
        "train",
        train,
        [
            f"model={which.model}",
            "mode=masked",
            f"size={which.size}",
            "data=local",
            f"data.path={data}",
            "seed=0",
            "trainer=cpu",
            "trainer.enable_progress_bar=false",
            f"epochs={which.epochs}",
            "data.batch_size=32",
            f"data.cache={root / 'cache'}",
            f"run={folder}",
            *start,
            *which.overrides,
        ],
    )
