"""Where things lie on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from astrom3.errors import UserError, shown

INSTALLED = Path(__file__).resolve().parent / "conf"  # in a wheel
CONFIG_DIR = INSTALLED if INSTALLED.is_dir() else Path(__file__).resolve().parents[1] / "conf"


def expanded(path: str | Path) -> Path:
    """The path with the home folder in place of ~. UserError where ~name stands for nobody on this machine."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{shown(path)}: ~ stands for a home folder that is not here: give the whole path") from None


def cache_root(cache: str | Path | None = None) -> Path:
    """The folder of the stores: given, else $ASTROM3_CACHE, else ~/.cache/astrom3."""
    return expanded(cache or os.environ.get("ASTROM3_CACHE") or "~/.cache/astrom3")


def check_link(path: Path) -> None:
    """UserError where a name stands for a link that leads nowhere: it would be replaced, and not what it names."""
    if path.is_symlink() and not path.exists():
        raise UserError(f"{shown(path)} is a link that leads nowhere: remove it, or give another name")
