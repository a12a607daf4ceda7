"""Worker processes that end with the process that started them, even where that was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

PARENT = "ASTROM3_PARENT"  # process id of whoever started a command as a part of its own
EVERY = 0.5  # seconds between two looks at the parent
LOST = 1  # exit status of a worker without a parent


def pool(workers: int, initializer: Callable[..., None] | None = None, arguments: tuple = ()) -> ProcessPoolExecutor:
    """Processes that are started afresh, since forked ones would copy the locks of the threads of Arrow and torch.

    initializer is called with the arguments in every worker.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=begin, initargs=(initializer, arguments))


def begin(initializer: Callable[..., None] | None, arguments: tuple) -> None:
    """The first thing that a worker does. Ctrl-C is left to the parent, which then stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch(lambda: wait([parent.sentinel]))
    if initializer is not None:
        initializer(*arguments)


def follow_parent() -> None:
    """End this command when the one that started it does, where that one has put its id into the environment."""
    number = os.environ.get(PARENT, "")
    if number.isdigit():
        watch(lambda: wait_until_adopted(int(number)))


def wait_until_adopted(parent: int) -> None:
    """Return once this process has another parent than that one, since that one has ended."""
    while os.getppid() == parent:
        time.sleep(EVERY)


def watch(until: Callable[[], Any]) -> None:
    """End this process at once when `until` returns. A worker blocks in a read that no signal of the parent ends."""

    def run() -> None:
        until()
        os._exit(LOST)

    threading.Thread(target=run, name="parent", daemon=True).start()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C does, so that its temporary folder goes. Main thread only."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
