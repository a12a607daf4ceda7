"""Sweeps through a real SLURM: every run, several processes per run, dependencies, jobs put into the queue again."""

import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import slurm_cluster
import torch
from slurm_cluster import ask, wait_until

from astrom3.cli.config import compose
from astrom3.train import train

pytestmark = pytest.mark.slurm
TINY = ["size=tiny", "data=simulated", "data.objects=240", "trainer=cpu"]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1"]


@pytest.fixture(scope="module")
def cluster():
    if reason := slurm_cluster.unavailable():
        pytest.skip(reason)
    with slurm_cluster.slurm() as folder:
        yield folder


@pytest.fixture(autouse=True, scope="module")
def environment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROM3_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def python(module, *arguments):
    return subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)


def epochs(run: Path):
    table = run / "metrics.csv"
    return [int(row["epoch"]) for row in csv.DictReader(table.open())] if table.exists() else []


def restarts(job):
    return int(ask("scontrol", "show", "job", str(job)).partition("Restarts=")[2].split()[0])


def test_a_sweep_goes_through_slurm_and_a_failure_stops_nothing(cluster, tmp_path):
    """Two modes from scratch, and from a CLIP run that is not there."""
    done = python("astrom3.train", "-m", *SLURM, *TINY, "mode=meta,spectra", "init=scratch,clip", f"root={tmp_path}")
    assert done.returncode == 2
    assert "2 of 4 runs failed" in done.stderr and done.stderr.count("holds no finished CLIP run") == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert {p.parent.name for p in tmp_path.glob("*/metrics.json")} == {
        "meta-full-scratch-42",
        "spectra-full-scratch-42",
    }
    again = python("astrom3.train", "-m", *SLURM, *TINY, "mode=meta,spectra", f"root={tmp_path}")
    assert again.returncode == 0, again.stderr


def test_the_grid_goes_through_slurm_and_a_requeued_job_ends_with_the_same_weights(cluster, tmp_path):
    """The pre-training is put back by `scontrol requeue`, a classification told to make way as at its time limit."""
    options = ["epochs=40", "early_stopping.patience=40", "data.objects=240", "optim.lr=0.003"]
    grid = ["tiny", "wait", "mode=meta", "sub=full,sub50", "seed=42", *options]
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.grid", *grid, *SLURM, f"root={tmp_path / 'grid'}"],
            cwd=Path(__file__).parents[1], stdout=out, stderr=out,
        )  # fmt: skip
    clip, plain, submitted = (
        tmp_path / "grid" / n for n in ("clip-full-scratch-42", "meta-full-scratch-42", ".submitit")
    )

    def interrupt(run, job, *command):
        """Once the run has finished three epochs."""
        wait_until(lambda: len(epochs(run)) >= 3, seconds=120)
        number = json.loads((submitted / "jobs.json").read_text())[job]
        subprocess.run([part.format(number) for part in command], check=True)
        return len(epochs(run))

    try:
        with ThreadPoolExecutor() as pool:
            one = pool.submit(interrupt, clip, "clip-42", "scontrol", "requeue", "{}")
            two = pool.submit(interrupt, plain, "meta-scratch-42", "scancel", "--signal=USR2", "{}.0")
            reached = one.result(), two.result()
        jobs = json.loads((submitted / "jobs.json").read_text())
        assert set(jobs) == {"clip-42", "meta-scratch-42", "meta-clip-42"}
        waiting = ask("squeue", "--noheader", "-j", jobs["meta-clip-42"], "-o", "%T %r %E").split(maxsplit=2)
        assert waiting[:2] == ["PENDING", "Dependency"] and f"afterany:{jobs['clip-42']}" in waiting[2]
        assert process.wait(300) == 0, log.read_text()
    finally:
        process.kill()
    assert restarts(jobs["clip-42"]) == 1 and restarts(jobs["meta-scratch-42"]) == 1
    assert restarts(jobs["meta-clip-42"]) == 0
    assert max(reached) < 40 and epochs(clip) == epochs(plain) == list(range(40))

    torch.set_num_threads(1)  # as the jobs (OMP_NUM_THREADS above): another number of threads rounds otherwise
    for name in ("mode=clip", "mode=meta", "mode=meta init=clip"):  # never interrupted
        shared = [*TINY, *options, f"root={tmp_path / 'whole'}", *name.split()]
        train(compose(shared))
    for run in sorted((tmp_path / "whole").iterdir()):
        for name in ("metrics.csv", "model/model.safetensors"):
            assert (run / name).read_bytes() == (tmp_path / "grid" / run.name / name).read_bytes(), f"{run.name}/{name}"
    assert (tmp_path / "grid" / "meta-sub50-clip-42" / "metrics.json").is_file()


@pytest.mark.parametrize("launcher", ["slurm", "local"])
def test_two_processes_per_run(launcher, cluster, tmp_path):
    extra = SLURM if launcher == "slurm" else ["hydra/launcher=local"]
    done = python("astrom3.train", "-m", *extra, *TINY, "trainer=ddp", "trainer.accelerator=cpu", "mode=meta",
                  f"root={tmp_path}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [p.parent.name for p in tmp_path.glob("*/metrics.json")] == ["meta-full-scratch-42"]
    said = "".join(log.read_text() for log in tmp_path.glob(".submitit/*/*_log.*"))
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in said and "distributed_backend=gloo" in said
    assert epochs(tmp_path / "meta-full-scratch-42") == [0, 1]


def test_the_grid_with_two_processes_per_run(cluster, tmp_path):
    """Every run is a job of its own, its tasks in step."""
    options = [
        "tiny",
        "wait",
        "mode=meta",
        "sub=full",
        "init=clip",
        "seed=42",
        "trainer=ddp",
        "trainer.accelerator=cpu",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.grid", *options, *SLURM, f"root={tmp_path}"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(p.parent.name for p in tmp_path.glob("*/metrics.json")) == [
        "clip-full-scratch-42",
        "meta-full-clip-42",
    ]
