"""The log file of a run, which Hydra would open before anything is known about the folder that it lies in."""

from __future__ import annotations

import logging
from pathlib import Path

from astrom3.errors import UserError
from astrom3.files import read_mark

OURS = ("train", "tune")  # verbs that keep a log in their folder


class RunLog(logging.FileHandler):
    """Keeps what is logged in memory until the manifest of the folder says that it is a run's or a search's.

    A folder of somebody else is refused before that, and no log appears in it.
    """

    def __init__(self, filename: str, mode: str = "a", encoding: str | None = "utf-8"):
        super().__init__(filename, mode, encoding, delay=True)
        self.waiting: list[logging.LogRecord] = []
        self.is_known = False

    def format(self, record: logging.LogRecord) -> str:
        """Paths below the home folder begin with ~, so that a log that is handed on does not name its user."""
        home = str(Path.home())
        text = super().format(record)
        return text if home == "/" else text.replace(f"{home}/", "~/")

    def emit(self, record: logging.LogRecord) -> None:
        path = Path(self.baseFilename)
        self.is_known = self.is_known or (is_ours(path.parent) and not path.is_symlink())
        if not self.is_known:
            self.waiting.append(record)
            return
        for earlier in self.waiting:
            super().emit(earlier)
        self.waiting.clear()
        super().emit(record)


def is_ours(folder: Path) -> bool:
    try:
        about = read_mark(folder)
    except (OSError, UserError):  # damaged, which the verb itself says
        return False
    return about is not None and about["made_by"] in OURS
