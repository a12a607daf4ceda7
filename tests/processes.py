"""Real training processes that start at once: forked from a server that has imported everything already."""

import multiprocessing
import os
import sys
import time

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["lightning", "torch.distributed", "astrom3.train", "astrom3.cli.config", "astrom3.tasks.contrastive",
     "astrom3.training.build", "astrom3.training.evaluation", "astrom3.data.datamodule", "processes"]
)  # fmt: skip


def training(overrides, output):
    """A process that trains one run, its output in a file."""
    process = CONTEXT.Process(target=train_run, args=(list(overrides), str(output), dict(os.environ)))
    process.start()
    return process


def train_run(overrides, output, environment):
    os.environ.update(environment)
    with open(output, "a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        import logging

        import torch

        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        torch.set_num_threads(1)
        from astrom3.cli.config import compose
        from astrom3.errors import UserError
        from astrom3.train import train

        try:
            train(compose(overrides))
        except UserError as error:
            print(error, file=sys.stderr)
            sys.exit(2)


def finish(process, seconds=300):
    """Exit status of a process that must end by itself."""
    process.join(seconds)
    assert process.exitcode is not None, "the process does not end"
    return process.exitcode


def wait_for(path, process, seconds=60):
    """Wait until a file is there; False if the process ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists():
            return True
        if process.exitcode is not None:
            return False
    raise AssertionError(f"{path} does not appear")
