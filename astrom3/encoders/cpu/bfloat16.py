"""bfloat16 in compiled loops, where it is the 16 bits of an unsigned integer: the upper half of a float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import types, uint32
from numba.extending import intrinsic, overload
from torch import Tensor

from astrom3.kernel import kernel


def array(x: Tensor) -> np.ndarray:
    """A tensor of the CPU for a compiled loop, its memory shared; bfloat16 becomes uint16."""
    x = x.detach().contiguous()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _reinterpreted(source: Any, target: Any) -> Any:
    """A numba function that reads the bits of one type as those of another."""

    def bitcast(context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), generate

    return intrinsic(bitcast)


_float_of: Any = _reinterpreted(types.uint32, types.float32)
_bits_of: Any = _reinterpreted(types.float32, types.uint32)


def wide(x: np.uint16 | np.floating) -> np.floating:
    """The float32 that an element of `array` stands for; floats as they are. Compiled in compiled loops."""
    return (np.uint32(x) << np.uint32(16)).view(np.float32) if isinstance(x, np.uint16) else x


@overload(wide)
def _wide(x):  # type: ignore[no-untyped-def]  # numba compares the parameters with those of the lambdas
    if isinstance(x, types.Integer):
        return lambda x: _float_of(uint32(uint32(x) << uint32(16)))  # type: ignore[operator]
    return lambda x: x


@kernel
def narrow(x: np.floating) -> np.uint32:
    """The bits of float32 `x` rounded to bfloat16, to the nearest, ties to even."""
    bits = _bits_of(x)
    return uint32(bits + uint32(uint32(0x7FFF) + uint32(uint32(bits >> uint32(16)) & uint32(1)))) >> uint32(16)


def stored(x: np.floating, element: np.uint16 | np.floating) -> np.uint16 | np.floating:
    """float32 `x` as it is stored where `element` is, an element of `array`. Compiled in compiled loops."""
    return np.uint16(narrow(x)) if isinstance(element, np.uint16) else x


@overload(stored)
def _stored(x, element):  # type: ignore[no-untyped-def]
    if isinstance(element, types.Integer):
        return lambda x, element: narrow(x)
    return lambda x, element: x
