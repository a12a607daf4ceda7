"""A run inside a job of a submitit launcher (hydra/launcher=slurm or local): the job's tasks are its processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


def plugins() -> list[Any]:
    """What the Trainer has to be told; called before anything asks which process this is. Nothing outside of a job.

    submitit owns the signals of its jobs (time-out, preemption), so Lightning must not take them for its own.
    """
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return []
    obey_one_signal()
    import submitit
    from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    if submitit.JobEnvironment().num_tasks == 1:
        return [LightningEnvironment()]
    if "RANK" not in os.environ:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    return [TorchElasticEnvironment()]


def obey_one_signal() -> None:
    """Make submitit's handlers of time-out and preemption deaf once they have begun.

    SLURM may deliver one signal twice within milliseconds. The second delivery used to interrupt submitit while it
    wrote the job's state for the next start, and ended the job as failed ("A temporary saved file already exists").
    """
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        handler = signal.getsignal(number)
        if callable(handler) and not getattr(handler, "obeys_once", False):
            signal.signal(number, once(handler))


def once(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
    """The same handler, which has its signal ignored from its first call on."""

    def handle(number: int, frame: FrameType | None) -> Any:
        signal.signal(number, signal.SIG_IGN)
        return handler(number, frame)

    handle.obeys_once = True  # type: ignore[attr-defined]
    return handle
