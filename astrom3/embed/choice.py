"""Which kind of job a configuration of embed asks for: parquet in parts of batches, or a HATS catalogue."""

from __future__ import annotations

from omegaconf import DictConfig

from astrom3.embed.job import Job
from astrom3.errors import UserError


def job_of(cfg: DictConfig) -> Job:
    """The job, with its model and data opened."""
    if cfg.format == "parquet":
        return Job(cfg)
    if cfg.format == "hats":
        from astrom3.embed.hats_job import HatsJob

        return HatsJob(cfg)
    raise UserError(f"format={cfg.format} does not exist: it is parquet or hats")
