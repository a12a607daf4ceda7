"""Rows that are whole commands: the first step, a whole run, one process against two, peak memory; on a GPU the
pre-training and the grid."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.bench import surveys
from experiments.bench.measure import spread

PYTHON = [sys.executable, "-m"]
CLIP = ["mode=clip", "data=simulated", "size=published", "early_stopping.patience=1000"]


def rows(size: str, device: str, only: str) -> Iterator[dict[str, Any]]:
    full = size == "full"
    cpu: dict[str, Callable[[], dict[str, Any]]] = {
        "command to first training step": lambda: first_step(5 if full else 3),
        "whole run": lambda: whole_run(3 if full else 1),
        "two processes against one": lambda: two_processes(3 if full else 1),
        "peak memory of preparing": lambda: memory(21440 if full else 4000),
    }
    gpu: dict[str, Callable[[], dict[str, Any]]] = {
        "clip pre-training, 100 epochs of 17,063 objects": lambda: timed(
            [
                *PYTHON,
                "astrom3.train",
                *CLIP,
                "data.objects=21440",
                "trainer=gpu",
                "trainer.precision=bf16-mixed",
                "data.on_device=true",
                "compile=true",
            ],
            60.0,
        ),
        "the whole grid, 165 runs": lambda: timed(
            [
                *PYTHON,
                "experiments.grid",
                "data=simulated",
                "data.objects=21440",
                "trainer=gpu",
                "trainer.precision=bf16-mixed",
                "data.on_device=true",
                "compile=true",
            ],
            1200.0,
        ),
    }
    for name, function in (cpu if device == "cpu" else gpu).items():
        if only in name:
            yield {"name": name} | function()


def first_step(repetitions: int) -> dict[str, Any]:
    """Seconds from the command to the end of the first training step, data prepared, published network, batch 64."""
    surveys.survey(1000)
    arguments = [*CLIP, "data.objects=1000", "trainer=cpu", "data.batch_size=64"]
    seconds = [stamps(arguments, steps=1)[0] for _ in range(repetitions + 1)][1:]  # the first prepares the data
    found = spread(seconds)
    return {
        "seconds": found,
        "text": f"{found['median']:.1f} s ({found['min']:.1f} to {found['max']:.1f})",
        "target": {"seconds": 8},
        "reached": found["median"] <= 8,
    }


def stamps(arguments: list[str], steps: int, command: list[str] | None = None, **environment: str) -> list[float]:
    """Seconds after the command at which each training step had ended."""
    with tempfile.TemporaryDirectory(prefix="astrom3-bench-") as folder:
        file = Path(folder) / "stamps"
        start = time.time()
        done = subprocess.run(
            [*(command or PYTHON), "experiments.bench.stamp", str(file), str(steps), *arguments, f"root={folder}/runs"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
        if not file.is_file() or done.returncode:
            raise RuntimeError(f"the run failed: {done.stderr[-2000:]}")
        return [float(line) - start for line in file.read_text().split()]


def whole_run(repetitions: int) -> dict[str, Any]:
    """A pre-training of two epochs on 1,000 objects in float32, validation and test included, against the plain one
    (plain_run.py: plain loader, plain network, a plain loop over the same splits and batches)."""
    surveys.survey(1000), surveys.first_layout(1000)
    options = ["data.objects=1000", "data.batch_size=64", "data.eval_batch_size=64", "epochs=2"]
    ours = []
    plain = []
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory(prefix="astrom3-bench-") as folder:
            command = [*PYTHON, "astrom3.train", *CLIP, *options, "trainer=cpu", f"root={folder}"]
            ours.append(timed(command)["seconds"])
        plain.append(timed([*PYTHON, "experiments.bench.plain_run", "1000", "2"])["seconds"])
    found = spread(ours)
    return {
        "seconds": found,
        "plain_seconds": spread(plain),
        "text": f"{found['median']:.0f} s",
        "ratio": spread([b / a for a, b in zip(ours, plain, strict=True)]),
    }


def timed(command: list[str], target: float | None = None) -> dict[str, Any]:
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: {done.stderr[-2000:]}")
    found = {"seconds": seconds, "text": f"{seconds:.0f} s"}
    return found if target is None else found | {"target": {"seconds": target}, "reached": seconds <= target}


def two_processes(repetitions: int) -> dict[str, Any]:
    """Objects/s of two gloo processes with one thread each, over those of one process with two threads."""
    objects = 1000
    batch = 128
    steps = 6
    arguments = [*CLIP, f"data.objects={objects}", f"data.batch_size={batch}", "epochs=1"]
    surveys.survey(objects)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]

    def rate(times: list[float]) -> float:
        times = times[1:steps]  # the first step waits for what is made once
        return batch * (len(times) - 1) / (times[-1] - times[0])

    one = []
    two = []
    for _ in range(repetitions):
        one.append(rate(stamps([*arguments, "trainer=cpu"], 0, OMP_NUM_THREADS="2")))
        ddp = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
        two.append(rate(stamps([*arguments, *ddp], 0, torchrun, OMP_NUM_THREADS="1")))
    ratio = spread([b / a for a, b in zip(one, two, strict=True)])
    return {
        "ratio": ratio,
        "rate": spread(two),
        "plain_rate": spread(one),
        "target": {"ratio": 0.85},
        "reached": ratio["median"] >= 0.85,
        "note": "plain: one process",
    }


def memory(objects: int) -> dict[str, Any]:
    """Peak memory of a process that prepares first-layout parquet with the default number of threads."""
    folder = surveys.first_layout(objects)
    with tempfile.TemporaryDirectory(prefix="astrom3-bench-") as cache:
        code = (
            "import sys; from astrom3.data.layouts import open_source; from astrom3.data.store import open_store\n"
            "table = open_source(sys.argv[1], 'full', 42).table('train')\n"
            "for modality in ('photometry', 'spectra'): open_store(table, modality, sys.argv[2])\n"
            "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", code, str(folder), cache]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    gb = int(printed.split()[-1]) * 1024 / 1e9
    text = f"{gb:.2f} GB for {objects:,} objects"
    return {"gb": gb, "peak_gb": gb, "text": text, "target": {"gb": 1.5}, "reached": gb <= 1.5}
