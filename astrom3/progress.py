"""Something to see while a long step works: a bar on a terminal or in a notebook, elsewhere a line every 30 seconds.

    with progress("converting", len(objects)) as advance:
        for chunk in chunks:
            advance(len(chunk))

The line comes from a thread, so that it is there even where one piece of work takes longer than that.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

log = logging.getLogger(__name__)
Advance = Callable[[int], None]
EVERY = 30.0  # seconds between two lines
REDRAWN = 0.2  # seconds between two states of a bar in a notebook


@contextmanager
def progress(title: str, total: int | None = None, unit: str = "objects") -> Iterator[Advance]:
    """What the block calls with the number of objects that are done. total: how many there are, None: not known."""
    if in_notebook() and total:
        with notebook_bar(title, total) as advance:
            yield advance
        return
    if sys.stderr.isatty():
        with bar(title, total) as advance:
            yield advance
        return
    lines = Lines(title, total, unit)
    thread = threading.Thread(target=lines.run, name=f"progress of {title}", daemon=True)
    thread.start()
    try:
        yield lines.advance
    finally:
        lines.ended.set()
        thread.join()


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook. IPython is not imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def notebook_bar(title: str, total: int) -> Iterator[Advance]:
    """A bar below the cell, which goes when the block ends."""
    from IPython.display import HTML, display

    def drawn(count: int) -> HTML:
        return HTML(f'{escape(title)} <progress max="{total}" value="{count}"></progress> {count:,} of {total:,}')

    handle = display(drawn(0), display_id=True)
    done = 0
    shown = time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, shown
        done += count
        if time.monotonic() - shown > REDRAWN:
            shown = time.monotonic()
            handle.update(drawn(done))

    try:
        yield advance
    finally:
        handle.update(HTML(""))


@contextmanager
def bar(title: str, total: int | None) -> Iterator[Advance]:
    """A bar on the terminal, which goes when the block ends."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=total, visible=False)
        yield lambda count: shown.update(task, advance=count, visible=True)


def ignored(count: int) -> None:
    """What is called where nobody looks on."""


class Lines:
    """Counts what is done and says it from time to time, until `ended` is set."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = 0
        self.start = time.monotonic()
        self.ended = threading.Event()

    def advance(self, count: int) -> None:
        self.done += count

    def run(self) -> None:
        """In a thread of its own."""
        while not self.ended.wait(EVERY):
            log.info("%s", self.line(time.monotonic() - self.start))

    def line(self, seconds: float) -> str:
        """What is said after so many seconds."""
        of = "" if self.total is None else f" of {self.total:,}"
        text = f"{self.title}: {self.done:,}{of} {self.unit} after {spoken(seconds)}"
        if not self.done:
            return text
        rate = self.done / max(seconds, 1e-9)
        text += f", {rate:.3g} per second"
        if self.total is None:
            return text
        return f"{text}, about {spoken(max(self.total - self.done, 0) / rate)} left"


def spoken(seconds: float) -> str:
    """40 s, 12 min or 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
