"""Train one run: python -m astrom3.train mode=clip sub=full seed=42 (configuration: conf/train.yaml).

The run folder keeps everything; an unfinished run goes on where it was, a finished one is not repeated.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> dict[str, Any]:
    """Train, test the best weights, write the run folder; returns the test scores (metrics.json)."""
    from astrom3.training import cluster
    from astrom3.training.run import check_processes, failure_recorded, open_run, read_scores, sole_training

    check_processes(cfg.trainer)
    plugins = cluster.plugins()
    with sole_training(cfg):
        run, state = open_run(cfg)
        if state == "finished":
            log.info("%s is finished; overwrite=true trains it again", run)
            return read_scores(run)
        with failure_recorded(run):
            scores = fit_and_test(cfg, run, state, plugins)
    from astrom3.tasks.distributed import leave

    leave()
    return scores


def fit_and_test(cfg: DictConfig, run: Path, state: str, plugins: Sequence[Any]) -> dict[str, Any]:
    """The run itself. plugins: what a cluster's job needs to say to the Trainer."""
    from astrom3 import registry
    from astrom3.files import write_json
    from astrom3.training.run import INFO, describe_run

    allow = cfg.get("allow")
    registry.check(cfg, allow)
    start = registry.instantiate(cfg.init.start, allow)
    start.check()

    import lightning as L  # takes seconds: what can be refused was refused before

    from astrom3.hardware import check_strategy, first_process, keep_memory, precision, quieten
    from astrom3.tasks.sharding import gather
    from astrom3.training import evaluation
    from astrom3.training.build import build
    from astrom3.training.callbacks import on_terminal, standard_callbacks
    from astrom3.training.checkpoints import AtomicCheckpointIO, newest_sound
    from astrom3.training.frozen import KeepFrozen
    from astrom3.training.probe import probes

    quieten()
    keep_memory()
    check_strategy(cfg.trainer.get("strategy", "auto"))
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    asked = probes(cfg)
    data, module = build(cfg, allow)
    checkpoint = newest_sound(run) if state == "resume" else None
    if checkpoint is None:
        start.apply(module.model)
    log.info("%s: %s with %s parameters", run, state, f"{sum(p.numel() for p in module.parameters()):,}")
    if first_process():
        write_json(run / INFO, describe_run(cfg, data))

    progress = cfg.trainer.enable_progress_bar and on_terminal()
    standard = standard_callbacks(run, module.best_metric, cfg.early_stopping.patience, progress, module.direction)
    callbacks = [KeepFrozen(cfg.get("keep", "auto")), *asked, *standard]
    logger = registry.instantiate(cfg.logger, allow)
    trainer = registry.instantiate(
        cfg.trainer,
        allow,
        precision=precision(cfg.trainer),
        callbacks=callbacks,
        logger=logger,
        default_root_dir=str(run),
        enable_progress_bar=progress,
        enable_model_summary=progress,
        plugins=[AtomicCheckpointIO(), *plugins],
    )
    with ended_as_asked(logger):
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
        evaluation.load_best(module, run)
        scores = evaluation.test_best(trainer, module, data, cfg.seed)
        gather(module)
        if trainer.is_global_zero:
            evaluation.save_results(run, module, data, scores, run.name, allow)
    log.info("%s: %s", run, evaluation.headline(scores))
    return scores


@contextmanager
def ended_as_asked(logger: Any) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the process as elsewhere, whatever Lightning makes of them. The logger always ends."""
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        yield
    except SIGTERMException:  # a SystemExit that says 0, as if all were done
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit as end:
        if end.code == 1:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
        raise
    finally:
        if logger:
            logger.experiment.finish()


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("train", train)


if __name__ == "__main__":
    main()
