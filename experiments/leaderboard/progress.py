"""A progress bar on a terminal; elsewhere a line in the log for every tenth."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number of steps done."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total)
            yield lambda steps: bar.advance(task, steps)
        return
    began = time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done
        before = 10 * done // max(total, 1)
        done += steps
        if 10 * done // max(total, 1) > before:
            log.info("%s: %d of %d, %.0f s", title, done, total, time.monotonic() - began)

    yield advance
