"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

INSTALLED = Path(__file__).resolve().parent / "conf"  # in a wheel
CONFIG_DIR = INSTALLED if INSTALLED.is_dir() else Path(__file__).resolve().parents[1] / "conf"


def cache_root(cache: str | Path | None = None) -> Path:
    """The folder of the stores: given, else $ASTROM3_CACHE, else ~/.cache/astrom3."""
    return Path(cache or os.environ.get("ASTROM3_CACHE") or "~/.cache/astrom3").expanduser()
