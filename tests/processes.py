"""Real processes that start at once: forked from a server that has imported torch and Lightning already.

`run_module` is `python -m <module>` without the five seconds of imports. What must be seen to start from nothing
(an installed wheel, the list of imported modules) starts from nothing in its test.
"""

import atexit
import multiprocessing
import os
import runpy
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["lightning", "torch.distributed", "astrom3.train", "astrom3.cli.config", "astrom3.tasks.contrastive",
     "astrom3.training.build", "astrom3.training.evaluation", "astrom3.data.datamodule", "processes",
     "matplotlib.pyplot", "sklearn.linear_model", "sklearn.ensemble", "pyarrow.parquet", "numba", "torchmetrics",
     "wandb.sdk.launch.inputs.internal", "warm_start"]
)  # fmt: skip


class Started:
    """A process that runs `python -m module arguments`, with the methods of subprocess.Popen that tests use.

    The module "-c" stands for `python -c`: the first argument is then the code.
    """

    def __init__(self, module, *arguments, cwd=None, env=None):
        self.args = [module, *map(str, arguments)]
        self.folder = tempfile.TemporaryDirectory()
        self.out = Path(self.folder.name) / "stdout"
        self.err = Path(self.folder.name) / "stderr"
        given = (self.args, str(cwd or Path.cwd()), dict(env or os.environ), str(self.out), str(self.err))
        self.process = CONTEXT.Process(target=as_main, args=given)
        self.process.start()
        self.pid = self.process.pid

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout=600):
        """Exit status; after `timeout` seconds the process is killed and subprocess.TimeoutExpired raised."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.process.exitcode

    def output(self):
        """What it has written so far to stdout and to stderr."""
        return [path.read_text(errors="replace") if path.exists() else "" for path in (self.out, self.err)]


def run_module(module, *arguments, cwd=None, env=None, timeout=600):
    """What `python -m module arguments` does: a subprocess.CompletedProcess with its status and its output as text."""
    process = Started(module, *arguments, cwd=cwd, env=env)
    with process.folder:
        status = process.wait(timeout)
        return subprocess.CompletedProcess(process.args, status, *process.output())


def run(command, check=False, capture_output=True, text=True, **given):
    """subprocess.run of [sys.executable, "-m", module, ...] or [sys.executable, "-c", code, ...], output as text."""
    assert command[0] == sys.executable and command[1] in ("-m", "-c"), command
    done = run_module(*command[2 if command[1] == "-m" else 1 :], **given)
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


def run_ranks(world, module, *arguments, cwd=None, env=None, timeout=300):
    """What `torchrun --nproc-per-node=world -m module arguments` does, without its agent: all ranks must end well."""
    together = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(free_port())}  # fmt: skip
    ranks = []
    for rank in range(world):
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment = {**(env or os.environ), **together, **place}
        ranks.append(Started(module, *arguments, cwd=cwd, env=environment))
    ends = [rank.wait(timeout) for rank in ranks]
    assert ends == [0] * world, "\n".join(rank.output()[1][-2000:] for rank in ranks)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run_command(command, cwd, env):
    """A line of a README: `python -m module ...` by run_module, anything else by the shell."""
    words = shlex.split(command)
    if words[:2] == ["python", "-m"] and not set(words) & {"|", "&&", ">", ";"} and "$" not in command:
        return run_module(*words[2:], cwd=cwd, env=env)
    return subprocess.run(command, shell=True, cwd=cwd, env=env, capture_output=True, text=True)


def as_main(command, folder, environment, out, err):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    streams = []
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        streams.append(os.fdopen(number, "w", buffering=1))
    sys.stdout, sys.stderr = streams
    module, *sys.argv[1:] = command
    sys.argv[0] = module
    sys.path.insert(0, folder)
    leave_the_measurement_of_the_server()
    warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
    status = 0
    try:
        if module == "-c":
            code, *sys.argv[1:] = sys.argv[1:]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if status and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # as Python does at its end; multiprocessing would first wait for workers of joblib
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def leave_the_measurement_of_the_server():
    """`make coverage` measures the server and each copy of it. A copy may end its own measurement alone."""
    coverage = sys.modules.get("coverage")
    if coverage is not None:
        for measurement in coverage.Coverage._instances[:-1]:
            atexit.unregister(measurement._atexit)


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
        time.sleep(0.001)
    raise AssertionError(f"{path} does not appear")
