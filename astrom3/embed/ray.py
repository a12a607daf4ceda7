"""The parts of catalogue.py over a Ray cluster: `map_batches` of Ray Data, an actor with the model on each worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3.embed.choice import job_of
from astrom3.extras import need


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
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    rows = ray.data.from_items([{"name": part.name} for part in parts], override_num_blocks=len(parts))
    # Half a core each on paper: Ray's own tasks must find room beside the workers, or all wait for ever.
    arguments = {"fn_constructor_args": (OmegaConf.to_container(cfg),), "batch_size": 1, "num_cpus": 0.5}
    done = rows.map_batches(Embedder, concurrency=cfg.workers, **arguments)
    # Ray's own sum would start processes that shuffle rows; these are few.
    return sum(int(row["objects"]) for row in done.iter_rows())
