"""Which layers are exchanged for faster ones, by the kind of the processor.

It is decided by the kind alone and never measured at run time, so that a run gives the same numbers whenever it is
started. On other devices than the CPU every layer does what torch's own does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from llvmlite.binding import get_host_cpu_name
from torch import nn

from astrom3.encoders import informer, layers
from astrom3.encoders.cpu.distinctive import Distinctiveness
from astrom3.encoders.cpu.dropout import Dropout, TransientDropout
from astrom3.encoders.cpu.linear import Linear
from astrom3.encoders.cpu.residual import ResidualNorm
from astrom3.encoders.cpu.tanh import Tanh

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Processor:
    """kind: as LLVM calls it, such as znver4 or haswell. wide: it has AVX-512. onednn: torch has oneDNN here."""

    kind: str
    wide: bool
    onednn: bool

    @property
    def convolutions_win(self) -> bool:
        """Whether float32 products are faster as convolutions, by oneDNN, than by MKL: on AMD, where MKL uses half the
        width of AVX-512."""
        return self.kind.startswith("znver") and self.wide and self.onednn


@cache
def this_processor() -> Processor:
    """The processor that this program runs on."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return Processor(get_host_cpu_name(), wide, torch.backends.mkldnn.is_available())


def faster_layers(processor: Processor) -> dict[type[nn.Module], type[nn.Module]]:
    """Layer -> the one that takes its place."""
    chosen: dict[type[nn.Module], type[nn.Module]] = {
        nn.Dropout: Dropout,
        layers.TransientDropout: TransientDropout,
        layers.ResidualNorm: ResidualNorm,
        informer.Distinctiveness: Distinctiveness,
        nn.Tanh: Tanh,
    }
    if processor.convolutions_win:
        chosen[nn.Linear] = Linear
    return chosen


def accelerate(model: Network, processor: Processor | None = None) -> Network:
    """Exchange the layers of `model` that have a faster form on this processor, in place; returns the model.

    A layer keeps its tensors and everything else about it, as only its class is another. Classes that are derived from
    a layer of torch are left alone, since they may do something else.
    """
    chosen = faster_layers(processor or this_processor())
    for module in model.modules():
        faster = chosen.get(type(module))
        if faster is not None:
            module.__class__ = faster
    return model
