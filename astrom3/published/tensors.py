"""Weights in safetensors, checked when they are read; and networks that are sized before they are made.

A file may come from anywhere. Its tensors must be finite real numbers, and a description may not ask for a network
that is much larger than the weights beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from astrom3.errors import UserError, shown
from astrom3.files import check_regular

REAL = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
WHOLE = (torch.int64, torch.int32, torch.bool)  # of counters and masks, where a network has any
SLACK = 2  # of a description over its weights: constants are made anew
SMALL = 10**6  # numbers that any network may have


def read_tensors(path: Path, advice: str) -> dict[str, Tensor]:
    """Name -> tensor of a file. advice: what to do where there is none."""
    check_regular(path)
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{shown(path.parent)} holds no {path.name}: {advice}") from None
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{shown(path)} is damaged or not a safetensors file ({error}): fetch it again") from None
    check_values(state, shown(path))
    return state


def is_plain(value: object) -> bool:
    """Whether this is a tensor with all its numbers in memory: not sparse, quantised, nested or without any."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type == "meta":
        return False
    return not value.is_quantized and not value.is_nested


def check_values(state: Mapping[str, Tensor], source: str) -> None:
    """UserError where a tensor holds anything but finite real numbers (or whole ones, where a network counts), or all
    of them hold zeros alone."""
    for name, tensor in state.items():
        if not is_plain(tensor):
            raise UserError(f"{source}: tensor {name} does not hold its numbers one by one: fetch it again")
        if tensor.dtype not in (*REAL, *WHOLE):
            raise UserError(f"{source}: tensor {name} is of type {kind_of(tensor)}, not real numbers: fetch it again")
        if tensor.dtype in REAL and not tensor.float().isfinite().all():
            raise UserError(
                f"{source}: tensor {name} holds numbers that are not finite, or none of float32: fetch it again"
            )
        if name.endswith("running_var") and (tensor < 0).any():
            raise UserError(f"{source}: tensor {name} holds variances below zero: fetch it again")
    if state and not any(tensor.any() for tensor in state.values()):
        raise UserError(f"{source} holds zeros alone, as a file that was not written to its end: fetch it again")


def check_kinds(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """UserError where whole numbers stand in place of real ones."""
    for name, tensor in state.items():
        if name in own and own[name].is_floating_point() and not tensor.is_floating_point():
            raise UserError(f"{source}: tensor {name} is of type {kind_of(tensor)}, not real numbers: fetch it again")


def numbers_in(state: Mapping[str, Tensor]) -> int:
    """How many numbers all tensors hold together."""
    return sum(tensor.numel() for tensor in state.values())


def kind_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def made(make: Callable[[], nn.Module], state: Mapping[str, Tensor] | None, source: str) -> nn.Module:
    """The network that `make` makes, after a look at its size without its memory.

    UserError where it cannot be made, or has far more numbers than `state`, the weights that go into it.
    """
    try:
        with torch.device("meta"):
            skeleton = make()
        size = numbers_in(skeleton.state_dict())
        held = size if state is None else numbers_in(state)
        if size > SMALL + SLACK * held:
            raise UserError(
                f"{source} describes a network of {size:,} numbers, the weights are {held:,}: fetch it again"
            )
        return make()
    except UserError as error:
        raise UserError(str(error) if source in str(error) else f"{source}: {error}") from None
    except (TypeError, ValueError, RuntimeError, MemoryError, ArithmeticError, LookupError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source} describes a network that cannot be made ({reason})") from None
