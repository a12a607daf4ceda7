"""Optimisers by name, with groups of parameters; the group `optim` of the configuration holds their numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from astrom3.errors import UserError

KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
DEFAULT_EPS = 1e-8


def make_optimizer(parameters: Iterable[nn.Parameter], options: Mapping[str, Any], fused: bool) -> Any:
    """The optimiser of `options`: kind, lr, beta1, beta2, weight_decay, eps, no_decay.

    Parameters that do not learn are left out. With `no_decay`, vectors (biases, norms, scales) have no weight decay.
    """
    kind = options.get("kind", "adam")
    if kind not in KINDS:
        raise UserError(f"optim.kind={kind} does not exist: it is one of {', '.join(KINDS)}")
    learning = [p for p in parameters if p.requires_grad]
    if not learning:
        raise UserError("freeze leaves no parameter that learns: name fewer parts")
    groups: list[dict[str, Any]] = [{"params": learning}]
    if options.get("no_decay", False):
        matrices = [p for p in learning if p.ndim > 1]
        vectors = [p for p in learning if p.ndim <= 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return KINDS[kind](
        groups,
        lr=options["lr"],
        betas=(options["beta1"], options["beta2"]),
        weight_decay=options["weight_decay"],
        eps=options.get("eps", DEFAULT_EPS),
        fused=fused,
    )


def freeze(model: nn.Module, names: Iterable[str]) -> list[nn.Module]:
    """Parts of `model` by name (dotted; `encoders` stands for one encoder too), their parameters set not to learn."""
    frozen = []
    for name in names:
        part = find_part(model, name)
        part.requires_grad_(False)
        frozen.append(part)
    return frozen


def find_part(model: nn.Module, name: str) -> nn.Module:
    """The part of this name; UserError that lists the names there are."""
    parts = dict(model.named_modules())
    for candidate in (name, name.replace("encoders", "encoder", 1), f"backbone.{name}"):
        if candidate and candidate in parts:
            return parts[candidate]
    there = ", ".join(sorted({part.partition(".")[0] for part in parts} - {""}))
    raise UserError(f"freeze={name}: the network has no such part; it has {there} and what is in them")
