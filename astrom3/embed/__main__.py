"""Embeddings of a data set, as parquet: python -m astrom3.embed model=runs/clip-full-scratch-42 out=embeddings

Killed and started again by the same command it goes on with the parts that are missing. On SLURM as an array:
sbatch --array=0-15 --wrap "python -m astrom3.embed model=... data=local data.path=... out=..." shares them out.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError
from astrom3.workers import PARENT, follow_parent

log = logging.getLogger(__name__)


def embed(cfg: DictConfig) -> dict[str, Any]:
    """Make the parts that are missing and belong to this job; returns the summary."""
    follow_parent()
    shard, shards = share(cfg)
    if cfg.engine not in ("local", "ray"):
        raise UserError(f"engine={cfg.engine} does not exist: it is local or ray")

    from astrom3.embed.choice import job_of
    from astrom3.hardware import keep_memory, quieten

    quieten()
    keep_memory()
    job = job_of(cfg)
    job.open_folder()
    mine = job.parts[shard::shards]
    todo = [part for part in mine if part in job.missing()]
    log.info("%d of %d parts are this job's, %d of them are there", len(mine), len(job.parts), len(mine) - len(todo))
    if cfg.engine == "ray":
        from astrom3.embed.ray import run

        run(cfg, todo)
    elif cfg.processes > 1 and len(todo) > 1:
        side_by_side(cfg, shard, shards)
    else:
        job.run(todo)

    return job.finish()


def share(cfg: DictConfig) -> tuple[int, int]:
    """Number of this job and of all jobs."""
    given = (cfg.shard, cfg.shards)
    if given == (None, None):
        first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", 0))
        given = (
            int(os.environ.get("SLURM_ARRAY_TASK_ID", first)) - first,
            int(os.environ.get("SLURM_ARRAY_TASK_COUNT", 1)),
        )
    if None in given or not 0 <= given[0] < given[1]:
        raise UserError(f"shard={given[0]} shards={given[1]}: give both, shard from 0 to shards - 1")
    return given


def side_by_side(cfg: DictConfig, shard: int, shards: int) -> None:
    """The same command in several processes, each with its part of this job's parts."""
    n = cfg.processes
    own = []
    for a in sys.argv[1:]:
        if a.partition("=")[0] not in ("processes", "shard", "shards", "overwrite"):
            own.append(a)

    threads = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // n, 1))} | os.environ
    environment = threads | {PARENT: str(os.getpid())}
    command = [sys.executable, "-m", "astrom3.embed", *own, f"shards={shards * n}"]
    processes = []
    for k in range(n):
        processes.append(subprocess.Popen([*command, f"shard={shard + shards * k}"], env=environment))
    try:
        failed = []
        for p in processes:
            if p.wait():
                failed.append(p.returncode)
    except BaseException:
        for process in processes:
            process.terminate()
        raise

    if failed:
        raise UserError(f"{len(failed)} of {n} processes failed, see above; the same command goes on with what is left")


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("embed", embed)


if __name__ == "__main__":
    main()
