"""The three trainings, by `astrom3.train`, in this process or as jobs of a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from experiments.astroclip.settings import MODES, Settings

STARTS = {"masked": "init=scratch", "distil": "init=scratch", "clip": "init=stages"}
OF_CLIP = ("modalities", "tasks", "model.frozen")  # overrides that only the alignment takes


def overrides_of(mode: str, common: Sequence[str], settings: Settings) -> list[str]:
    """Command line of one stage. What is given in `common` wins over the settings of the size."""
    given = [text for text in common if mode == "clip" or text.partition("=")[0] not in OF_CLIP]
    keys = {text.partition("=")[0] for text in given}
    own = [text for text in settings.stages[mode] if text.partition("=")[0] not in keys]
    return [*own, *given, f"mode={mode}", STARTS[mode]]


def train_stages(common: Sequence[str], settings: Settings) -> None:
    """Train what is not finished; an interrupted stage goes on where it was."""
    for mode in MODES:
        overrides = overrides_of(mode, common, settings)
        if any(text.startswith("hydra/launcher") for text in overrides):
            command = [sys.executable, "-m", "astrom3.train", "-m", *overrides]
            subprocess.run(command, check=True)  # submits the job and waits for it
            continue
        from astrom3.cli.config import compose
        from astrom3.train import train

        train(compose(overrides))
