"""What the machine at hand can do, and keeping libraries quiet about it."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import warnings
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from astrom3.bounds import DEVICE
from astrom3.errors import UserError, printable

M_TRIM_THRESHOLD = -1  # mallopt(3)
M_MMAP_MAX = -4


def first_process() -> bool:
    """Whether this is the first of a run's processes, over all nodes.

    torchrun and the launcher set RANK; Lightning sets LOCAL_RANK for the processes that it starts itself.
    """
    env = os.environ
    if "RANK" in env:
        return int(env["RANK"]) == 0
    return int(env.get("LOCAL_RANK", 0)) == 0 and int(env.get("NODE_RANK", 0)) == 0


def check_device(device: Any) -> None:
    """UserError where this machine has no such device."""
    if not isinstance(device, str) or DEVICE.fullmatch(device) is None:
        raise UserError(f"device={device} does not exist: it is auto, cpu, cuda or cuda:<number>")
    import torch

    kind, _, number = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise UserError(f"device={device}: this machine has no CUDA device that torch can use; say device=cpu")
        if number and int(number) >= count:
            raise UserError(f"device={device}: this machine has {count} CUDA devices, numbered from 0")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("device=mps: this machine has no Apple GPU that torch can use; say device=cpu")


def precision(trainer: DictConfig) -> str:
    """trainer.precision, with "auto" meaning bf16-mixed where the hardware computes it fast and 32-true elsewhere."""
    if trainer.precision != "auto":
        return trainer.precision
    return "bf16-mixed" if fast_bfloat16(trainer.accelerator) else "32-true"


def fast_bfloat16(accelerator: str) -> bool:
    """A GPU of Ampere or later, or a CPU with AVX-512 BF16 or AMX."""
    import torch

    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    if accelerator == "gpu":
        return False
    cpu = torch.cpu
    return bool(
        getattr(cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(cpu, "_is_amx_tile_supported", lambda: False)()
    )


def keep_memory() -> None:
    """Let this process keep the memory it has freed (glibc).

    Otherwise every tensor over 32 MB is given back to the system and its successor comes as pages to be zeroed: a
    quarter of a training step of the light-curve encoder on the CPU (measured: 22 against 30 objects/s and core).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)


def check_strategy(strategy: Any) -> None:
    """UserError where trainer.strategy is no name that Lightning knows, before data are read for it."""
    from lightning.pytorch.strategies import StrategyRegistry

    known = ("auto", *StrategyRegistry.available_strategies())
    if isinstance(strategy, Mapping) or (isinstance(strategy, str) and strategy.lower() in known):
        return
    said = "null" if strategy is None else printable(str(strategy), 80)
    raise UserError(f"trainer.strategy={said} does not exist: give auto, ddp, fsdp or another name of Lightning's")


ADVICE = (
    ".*does not have many workers.*",
    ".*The number of training batches.*",
    ".*lr_scheduler.step.*",
    ".*Checkpoint directory .* exists.*",
    ".*recommended to use .self.log.*sync_dist.*",
    ".*LeafSpec.*",
    ".*treespec.*",
    ".*`srun` command is available.*",
    ".*in eval mode at the start of training.*",  # frozen parts are
)


def quieten() -> None:
    """Lightning's advice that does not apply here (our loaders fill whole batches; they need no workers)."""
    if not first_process():
        logging.getLogger().setLevel(logging.WARNING)  # one process of a node speaks
    for pattern in ADVICE:
        warnings.filterwarnings("ignore", pattern)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()  # the root logger says it already
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_news)


NOT_NEWS = re.compile(
    "litlogger|TPU available|GPU available: False|used: False|Tip:|checkpoint path|checkpoint at|already configured"
)


def _is_news(record: logging.LogRecord) -> bool:
    return not NOT_NEWS.search(record.getMessage())
