"""Loggers beside the metrics.csv that every run folder holds; the group `logger` chooses one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from astrom3.registry import constructible

PATIENCE = 30  # seconds that an unreachable server is waited for, of 90 that are usual


@constructible
def no_logger() -> bool:
    """Lightning's word for none."""
    return False


@constructible
def wandb_logger(project: str, name: str, folder: str, offline: bool) -> Any:
    """Weights & Biases; the id is that of the run folder, so that a resumed run goes on in the same place."""
    from lightning.pytorch.loggers import WandbLogger

    Path(folder).mkdir(parents=True, exist_ok=True)
    run_id = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:12]
    settings = {"init_timeout": PATIENCE}
    return WandbLogger(
        project=project, name=name, id=run_id, save_dir=folder, offline=offline, log_model=False, settings=settings
    )
