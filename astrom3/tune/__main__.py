"""Search hyper-parameters: python -m astrom3.tune mode=photo sub=sub10 (configuration: conf/tune.yaml).

The study as in the paper: 100 trials by Optuna, lowest validation loss. The same command goes on with an interrupted
search; given several times at once, its processes share the trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig


def tune(cfg: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """Search; returns best.yaml. cfg: compose(overrides, "tune"); each trial is composed from the overrides again."""
    from astrom3.tune.space import check_search, read_space

    space = read_space(cfg)
    check_search(cfg, overrides, space)
    from astrom3.tune.study import Search  # imports Optuna: what can be refused was refused before

    return Search(cfg, overrides, space).run()


def as_given(cfg: DictConfig) -> dict[str, Any]:
    from hydra.core.hydra_config import HydraConfig

    return tune(cfg, HydraConfig.get().overrides.task)


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("tune", as_given)


if __name__ == "__main__":
    main()
