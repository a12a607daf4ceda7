"""Compiled loops on as many threads as torch uses, for the few steps of a network that torch does slowly on the CPU."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def share(part: Callable[[int, int], None], n: int, chunk: int) -> None:
    """Call part(start, stop) over the chunks of range(n), on as many threads as torch uses.

    Whoever is free takes the next chunk, since torch's own threads still spin for a while after their work.
    """
    starts = itertools.count(0, chunk)  # next() is atomic

    def work() -> None:
        while (start := next(starts)) < n:
            part(start, min(n, start + chunk))

    helpers = min(torch.get_num_threads(), -(-n // chunk)) - 1
    futures = [pool().submit(work) for _ in range(helpers)]
    work()
    for future in futures:
        future.result()


@cache
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(torch.get_num_threads(), 1), "astrom3")


os.register_at_fork(after_in_child=pool.cache_clear)  # threads do not survive a fork
