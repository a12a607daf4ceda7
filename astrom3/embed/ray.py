"""The parts of job.py over a Ray cluster: `map_batches` of Ray Data, an actor with the model on each worker."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from astrom3.embed.choice import job_of
from astrom3.errors import UserError, first_line, printable
from astrom3.extras import need

# Of a worker, on paper: Ray's own tasks must find room beside the workers, or all wait for ever.
CORES = 0.5
PATIENCE = 10  # seconds for a connection to the cluster


class Embedder:
    """One worker: opens model and data once, writes the parts it is given."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        config = OmegaConf.create(cfg)
        assert isinstance(config, DictConfig)
        self.job = job_of(config)

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        known = {part.name: part for part in self.job.parts}
        return {"objects": [self.job.make(known[str(name)]) for name in rows["name"]]}


def run(cfg: DictConfig, parts: Sequence[Any]) -> int:
    """Write the parts on cfg.workers workers; returns the number of objects. The folders must be seen by all."""
    ray = need("ray.data", "scale", "engine=ray")
    if not parts:
        return 0
    start(ray)
    workers = (1, max(min(cfg.workers, len(parts)), 1))  # as many as find a core: nobody waits for the last of them
    rows = ray.data.from_items([{"name": part.name} for part in parts], override_num_blocks=len(parts))
    arguments = {"fn_constructor_args": (OmegaConf.to_container(cfg),), "batch_size": 1, "num_cpus": CORES}
    done = rows.map_batches(Embedder, concurrency=workers, **arguments)
    try:
        # Ray's own sum would start processes that shuffle rows; these are few.
        return sum(int(row["objects"]) for row in done.iter_rows())
    except ray.exceptions.RayError as error:
        raise cause_of(error) from None


def start(ray: Any) -> None:
    """Ray of this machine, or the cluster that $RAY_ADDRESS names; UserError where it cannot be had."""
    if ray.is_initialized():
        return
    check_address(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(log_to_driver=False, include_dashboard=False)
    except Exception as error:  # Ray has no class for them
        reason = f"Ray cannot be started ({first_line(error)})"
        raise UserError(f"{reason}: check $RAY_ADDRESS, or use engine=local") from None


def check_address(address: str) -> None:
    """UserError where nobody listens at the host and port of a cluster: Ray would try again for minutes."""
    try:
        place = urlsplit(address if "://" in address else f"ray://{address}")
        port = place.port
    except ValueError:  # no number, or beyond 65535
        raise UserError(f"RAY_ADDRESS={printable(address)} has no port: it is <host>:<port> of the cluster") from None
    if place.hostname is None or port is None:  # auto, local, or an address that Ray looks up by itself
        return
    try:
        socket.create_connection((place.hostname, port), timeout=PATIENCE).close()
    except (OSError, UnicodeError) as error:
        reason = f"RAY_ADDRESS={printable(address)} cannot be reached ({first_line(error)})"
        raise UserError(f"{reason}: start the cluster, give its address, or use engine=local") from None


def cause_of(error: BaseException) -> BaseException:
    """What went wrong on a worker, out of what Ray has wrapped it in."""
    inner = getattr(error, "cause", None) or error.__cause__
    if isinstance(inner, BaseException) and inner is not error:
        return cause_of(inner)
    return error
