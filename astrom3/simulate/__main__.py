"""Write a simulated survey in our parquet layout: python -m astrom3.simulate out=my_survey objects=21440

For installing, testing, benchmarks and teaching; the physics is in astrom3/simulate/.
"""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

log = logging.getLogger(__name__)


def simulate(cfg: DictConfig) -> Path:
    """Returns the folder, ready for data=local data.path=<folder>."""
    from astrom3.simulate.survey import simulate as write_survey

    path = write_survey(
        Path(cfg.out), n_objects=cfg.objects, seed=cfg.seed, workers=cfg.workers, missing_spectra=cfg.missing_spectra,
        missing_light_curves=cfg.missing_light_curves, swapped_labels=cfg.swapped_labels, overwrite=cfg.overwrite,
    )  # fmt: skip
    log.info("%d simulated objects in %s; train on them with data=local data.path=%s", cfg.objects, path, path)
    return path


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("simulate", simulate)


if __name__ == "__main__":
    main()
