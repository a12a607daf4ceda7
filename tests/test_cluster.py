"""A job of submitit that is told to make way: the signal of SLURM may come twice."""

import os
import signal
import time

import pytest
import submitit
from submitit.core import job_environment, utils

from astrom3.launch import Job
from astrom3.training import cluster

SIGNAL = signal.SIGUSR2


class Environment:
    """What submitit's handler asks of the cluster."""

    global_rank = 0

    def __init__(self):
        self.requeued = 0

    def _requeue(self, countdown):
        self.requeued += 1


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """A running job, as submitit sets it up, whose state takes a moment to be written."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    paths = utils.JobPaths(tmp_path, job_id="7")
    delayed = submitit.helpers.DelayedSubmission(Job("meta-42", ("mode=meta",)))
    delayed.set_timeout(60, 3)
    made = Environment()
    handler = job_environment.SignalHandler(made, paths, delayed)
    write = submitit.helpers.DelayedSubmission.dump

    def dump(self, path):
        write(self, path)
        os.kill(os.getpid(), SIGNAL)
        time.sleep(0.01)  # Python runs the handler here

    monkeypatch.setattr(submitit.helpers.DelayedSubmission, "dump", dump)
    before = signal.signal(SIGNAL, handler.checkpoint_and_try_requeue)
    yield made, paths
    signal.signal(SIGNAL, before)


def test_without_us_a_second_signal_ends_the_job_as_failed(environment):
    """If this fails, submitit has mended it, and `obey_one_signal` can go."""
    with pytest.raises(AssertionError, match="temporary saved file"):
        os.kill(os.getpid(), SIGNAL)


def test_a_signal_that_comes_twice_is_obeyed_once(environment):
    made, paths = environment
    cluster.obey_one_signal()
    cluster.obey_one_signal()  # every run of a job asks for it
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), SIGNAL)
    assert made.requeued == 1
    kept = submitit.helpers.DelayedSubmission.load(paths.submitted_pickle)
    assert kept.function == Job("meta-42", ("mode=meta",))
