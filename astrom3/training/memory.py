"""Whether a network fits into memory, asked before it is made: its sizes are those of a skeleton without numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from astrom3.errors import UserError

COPIES = 4  # of the weights in training: the weights, their gradients, and two averages of Adam
BYTES = 4  # of a number


def check_fits(make: Callable[[], Any]) -> None:
    """UserError where the weights of what `make` makes, and what training adds to them, are larger than this
    machine's memory. make returns a network, or a partial whose arguments hold networks."""
    total = memory()
    if total is None:
        return
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        made = make()
    size = sum(parameter.numel() for module in modules_of(made) for parameter in module.parameters())
    needed = COPIES * BYTES * size
    if needed > total:
        raise UserError(
            f"the network has {size:,} weights, and training it takes {needed / 1e9:,.0f} GB where this machine has "
            f"{total / 1e9:,.0f}: make it smaller (size=small, or fewer and narrower layers)"
        )


def modules_of(made: Any) -> Iterator[nn.Module]:
    """The networks in what a configuration constructs."""
    if isinstance(made, nn.Module):
        yield made
    elif isinstance(made, partial):
        for value in (*made.args, *made.keywords.values()):
            yield from modules_of(value)
    elif isinstance(made, dict):
        for value in made.values():
            yield from modules_of(value)


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
