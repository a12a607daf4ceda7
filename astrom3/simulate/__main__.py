"""Write a simulated survey in our parquet layout: python -m astrom3.simulate out=my_survey objects=21440

`survey=` chooses stars, galaxies or macho (light curves in magnitudes). For installing, testing, benchmarks and
teaching; the physics is in astrom3/simulate/.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from astrom3.simulate.origin import KNOWN, check_shares

log = logging.getLogger(__name__)


def simulate(cfg: DictConfig) -> Path:
    """Returns the folder, ready for data=local data.path=<folder>."""
    shares = {key: cfg[key] for key in KNOWN if cfg[key]}
    check_shares(cfg.survey, shares)
    path = write_chosen(cfg, {"seed": cfg.seed, "workers": cfg.workers, "overwrite": cfg.overwrite} | shares)
    log.info("%d simulated objects in %s; train on them with data=local data.path=%s", cfg.objects, path, path)
    return path


def write_chosen(cfg: DictConfig, options: dict) -> Path:
    """Write the survey that the configuration names."""
    if cfg.survey == "galaxies":
        from astrom3.simulate.galaxies.survey import write as write_galaxies

        return write_galaxies(Path(cfg.out), cfg.objects, **options)
    if cfg.survey == "macho":
        from astrom3.simulate.macho import write as write_macho

        return write_macho(Path(cfg.out), cfg.objects, **options)
    from astrom3.simulate.survey import simulate as write_stars

    return write_stars(Path(cfg.out), n_objects=cfg.objects, **options)


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("simulate", simulate)


if __name__ == "__main__":
    main()
