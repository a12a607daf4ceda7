"""A real process of a verb that serves, forked from a server that has imported torch already, and clients for it."""

import contextlib
import os
import re
import signal
import sys
import time

from processes import CONTEXT


def run(verb, arguments, output, environment):
    os.environ.update(environment)
    with open(output, "a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        import importlib

        import torch

        from astrom3.cli.verbs import run_verb

        torch.set_num_threads(1)
        sys.argv = [f"astrom3-{verb}"]
        run_verb(verb, getattr(importlib.import_module(f"astrom3.{verb}.__main__"), verb), arguments)


@contextlib.contextmanager
def server(verb, arguments, output):
    """Address and process, from the moment at which it answers; stopped by SIGTERM."""
    process = CONTEXT.Process(target=run, args=(verb, [*arguments, "port=0"], str(output), dict(os.environ)))
    process.start()
    try:
        yield address(process, output), process
    finally:
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGTERM)
            process.join(30)
        assert process.exitcode is not None, "the server does not stop"


def address(process, output, seconds=400):
    """What the server has printed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = output.read_text() if output.exists() else ""
        found = re.search(r"answers? at (http://\S+)", text)
        if found:
            return found[1]
        assert process.exitcode is None, f"the server has ended: {text}"
        time.sleep(0.05)
    raise AssertionError(f"the server does not start: {text}")
