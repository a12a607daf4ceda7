"""Optimisers by name, with groups of parameters; the group `optim` of the configuration holds their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from astrom3.errors import UserError

KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
DEFAULT_EPS = 1e-8
BLOCK = re.compile(r"(.*?)\b(?:layers|blocks)\.(\d+)\.")  # where the blocks of an encoder are, and a block's number


def make_optimizer(model: nn.Module | Iterable[nn.Parameter], options: Mapping[str, Any], fused: bool) -> Any:
    """The optimiser of `options`: kind, lr, beta1, beta2, weight_decay, eps, no_decay, layer_decay.

    Parameters that do not learn are left out. With `no_decay`, vectors (biases, norms, scales) have no weight decay.
    With `layer_decay` below 1 every block of an encoder learns at that factor of the rate of the block after it.
    """
    kind = options.get("kind", "adam")
    if kind not in KINDS:
        raise UserError(f"optim.kind={kind} does not exist: it is one of {', '.join(KINDS)}")
    layer_decay = options.get("layer_decay", 1.0)
    if not 0 < layer_decay <= 1:
        raise UserError(f"optim.layer_decay={layer_decay} must be above 0 and at most 1")
    named: dict[str, nn.Parameter] = {}
    if isinstance(model, nn.Module):
        named.update(model.named_parameters())
    else:
        named.update((str(number), parameter) for number, parameter in enumerate(model))
    learning = {}
    for name, p in named.items():
        if p.requires_grad:
            learning[name] = p
    if not learning:
        raise UserError("freeze leaves no parameter that learns: name fewer parts")
    return KINDS[kind](
        parameter_groups(learning, layers_below(named), options),
        lr=options["lr"],
        betas=(options["beta1"], options["beta2"]),
        weight_decay=options["weight_decay"],
        eps=options.get("eps", DEFAULT_EPS),
        fused=fused,
    )


def parameter_groups(
    learning: Mapping[str, nn.Parameter], below: Mapping[str, int], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Groups of parameters with equal rate and weight decay, the highest rate first.

    below: how many layers each parameter lies below the end of its encoder.
    """
    layer_decay = options.get("layer_decay", 1.0)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in learning.items():
        depth = 0 if layer_decay == 1 else below[name]
        plain = bool(options.get("no_decay", False)) and parameter.ndim <= 1
        group = groups.setdefault((depth, plain), {"params": []})
        group["params"].append(parameter)
        if plain:
            group["weight_decay"] = 0.0
        if depth:
            group["lr"] = options["lr"] * layer_decay**depth
    return [groups[key] for key in sorted(groups)]


def layers_below(names: Iterable[str]) -> dict[str, int]:
    """How many layers each parameter lies below the end of its encoder, of names in the order of registration.

    The last of n blocks is 1 below, the first n, and what an encoder has before its blocks (embeddings) n + 1. What
    comes after the blocks, and all that belongs to no encoder with blocks, is at the end itself.
    """
    listed = list(names)
    found = {name: BLOCK.match(name) for name in listed}
    blocks: dict[str, int] = {}  # encoder -> number of its blocks
    first: dict[str, int] = {}  # encoder -> place of its first block in the list
    for place, name in enumerate(listed):
        match = found[name]
        if match is not None:
            blocks[match[1]] = max(blocks.get(match[1], 0), int(match[2]) + 1)
            first.setdefault(match[1], place)
    below = {}
    for place, name in enumerate(listed):
        match = found[name]
        before = []
        for encoder in blocks:
            if name.startswith(encoder) and place < first[encoder]:
                before.append(encoder)
        if match is not None:
            below[name] = blocks[match[1]] - int(match[2])
        else:
            below[name] = blocks[before[0]] + 1 if before else 0
    return below


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
