"""A run inside a job of a submitit launcher (hydra/launcher=slurm or local): the job's tasks are its processes."""

from __future__ import annotations

import os
from typing import Any


def plugins() -> list[Any]:
    """What the Trainer has to be told; called before anything asks which process this is. Nothing outside of a job.

    submitit owns the signals of its jobs (time-out, preemption), so Lightning must not take them for its own.
    """
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return []
    import submitit
    from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    if submitit.JobEnvironment().num_tasks == 1:
        return [LightningEnvironment()]
    if "RANK" not in os.environ:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    return [TorchElasticEnvironment()]
