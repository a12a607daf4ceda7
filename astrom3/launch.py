"""Sub-sweeps as jobs of submitit: on SLURM with dependencies between jobs, or as local processes, a few at a time.

A job trains run after run in one process, so it starts once; Hydra's own launcher makes every run a job. Requeued
after a time-out or preemption, it skips what is finished and goes on with the run that was interrupted.
"""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrom3.errors import UserError
from astrom3.files import read_json, write_text
from astrom3.typed import check

log = logging.getLogger(__name__)
SHARED = ("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "stderr_to_stdout")
OURS = ("_target_", "submitit_folder", "max_num_timeout", "name")
SUBMITTED = "jobs.json"  # name -> id of what was handed to SLURM


@dataclass(frozen=True)
class Job:
    """arguments: of `python -m astrom3.train`; after: names of the jobs that must have ended before."""

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()

    def __call__(self) -> dict[str, str]:
        """Train; returns run -> reason of those that failed."""
        from astrom3.cli import verbs as cli
        from astrom3.train import train
        from astrom3.training import cluster

        cluster.obey_one_signal()
        try:
            cli.run("train", train, list(self.arguments))
        except cli.SweepError as error:
            return error.failed
        except UserError as error:
            return {self.name: str(error)}
        except SystemExit as end:
            if end.code == 1:  # Hydra has printed the traceback
                return {self.name: "an error that is no user's: see the log of the job"}
            raise  # submitit, which puts the job into the queue again
        return {}

    def checkpoint(self) -> Any:
        """What submitit puts into the queue again: the same arguments, since finished runs are skipped."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def executor(settings: dict[str, Any], folder: Path, name: str, after: Sequence[str] = ()) -> Any:
    """settings: the keys of conf/hydra/launcher/slurm.yaml or local.yaml. after: SLURM job ids."""
    import submitit

    kind = "slurm" if on_slurm(settings) else "local"
    first = {"slurm_max_num_timeout": settings["max_num_timeout"]} if kind == "slurm" else {}
    try:
        made = submitit.AutoExecutor(folder=folder / "%j", cluster=kind, **first)
    except RuntimeError:
        raise UserError("there is no SLURM here (no sbatch on the PATH): use hydra/launcher=local or packed") from None
    given = {k: v for k, v in settings.items() if v is not None and k not in OURS}
    if kind == "local":
        given = {k: v for k, v in given.items() if k in SHARED}
    if after:
        # afterany: what a failed pre-training leaves without a start says so itself, run by run
        extra = given.get("additional_parameters") or {}
        given["additional_parameters"] = {**extra, "dependency": "afterany:" + ":".join(after)}
    made.update_parameters(name=name, **{k if k in SHARED else f"{kind}_{k}": v for k, v in given.items()})
    return made


def on_slurm(settings: dict[str, Any]) -> bool:
    return "Slurm" in settings["_target_"]


def submit(jobs: Sequence[Job], settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Hand everything to SLURM at once, dependencies included; name -> submitit job.

    What an earlier call handed over and SLURM still has is not submitted again.
    """
    import submitit

    record = folder / SUBMITTED
    earlier = read_json(record) if record.is_file() else {}
    check(earlier, dict[str, str], record, "remove it; what SLURM still has is then submitted again")
    waiting = in_queue()
    ids = {name: id for name, id in earlier.items() if id in waiting}
    tasks = list(range(settings["tasks_per_node"] * settings["nodes"]))
    submitted: dict[str, Any] = {}
    for job in jobs:
        if job.name in ids:
            log.info("job %s: %s, in the queue already", ids[job.name], job.name)
            submitted[job.name] = submitit.SlurmJob(folder / "%j", ids[job.name], tasks)
            continue
        after = [ids[name] for name in job.after if name in ids]
        submitted[job.name] = executor(settings, folder, job.name, after).submit(job)
        ids[job.name] = submitted[job.name].job_id
        write_text(record, json.dumps(ids))
        log.info("job %s: %s%s", ids[job.name], job.name, f", after {', '.join(after)}" if after else "")
    return submitted


def in_queue() -> set[str]:
    """Ids of the jobs of this user that SLURM has not ended."""
    try:
        listed = subprocess.run(["squeue", "--me", "--noheader", "-o", "%A"], capture_output=True, text=True)
    except OSError:
        raise UserError("there is no SLURM here (no squeue on the PATH): use hydra/launcher=local or packed") from None
    if listed.returncode:
        raise UserError(f"SLURM does not answer: {listed.stderr.strip()}")
    return set(listed.stdout.split())


def wait(submitted: dict[str, Any], every: float = 5.0) -> None:
    """Until SLURM has ended all jobs; needs no accounting, which submitit would ask."""
    ended: set[str] = set()
    while len(ended) < len(submitted):
        try:
            waiting = in_queue()
        except UserError as error:  # restarted, most likely
            log.warning("%s", error)
            waiting = {job.job_id for job in submitted.values()}
        for name, job in submitted.items():
            if name not in ended and job.job_id not in waiting:
                ended.add(name)
                log.info("job %s ended: %s (%d of %d)", job.job_id, name, len(ended), len(submitted))
        if len(ended) < len(submitted):
            time.sleep(every)


def run_local(jobs: Sequence[Job], settings: dict[str, Any], folder: Path, at_once: int) -> dict[str, Any]:
    """Start local processes, at most `at_once` jobs at a time, each after those it waits for; wait for all."""
    started: dict[str, Any] = {}
    ended: set[str] = set()
    waiting = list(jobs)
    known = {job.name for job in jobs}
    start = time.monotonic()
    try:
        while len(ended) < len(jobs):
            for name in [n for n, j in started.items() if n not in ended and j.done()]:
                ended.add(name)
                left = (time.monotonic() - start) / len(ended) * (len(jobs) - len(ended)) / 60
                log.info("job ended: %s (%d of %d, about %.1f min left)", name, len(ended), len(jobs), left)
            ready = [job for job in waiting if all(a in ended or a not in known for a in job.after)]
            for job in ready[: at_once - (len(started) - len(ended))]:
                started[job.name] = executor(settings, folder, job.name).submit(job)
                waiting.remove(job)
            time.sleep(0.2)
    finally:  # Ctrl-C
        for name in started.keys() - ended:
            started[name].cancel()
    return started


def outcome(job: Any) -> dict[str, str]:
    """Run -> reason of what failed in an ended job."""
    result = job.paths.result_pickle  # of the first task; asking the job itself would need SLURM's accounting
    if not result.exists():
        time.sleep(1)  # a network file system
    if not result.exists():
        return {f"job {job.job_id}": f"it was killed before its end, see {job.paths.stderr}"}
    status, said = plain_pickle(result)
    return said if status == "success" else {f"job {job.job_id}": said.strip().splitlines()[-1]}


class PlainUnpickler(pickle.Unpickler):
    """Reads text, numbers, lists and dicts, and nothing that a class or a function would have to make."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def plain_pickle(path: Path) -> tuple[str, Any]:
    """What submitit keeps of an ended job: `success` with the answer of `Job`, or another word with a traceback."""
    try:
        with path.open("rb") as file:
            status, said = PlainUnpickler(file).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        return "error", f"{path} is damaged or not of astrom3 ({error})"
    return str(status), said
