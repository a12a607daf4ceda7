"""Test a run's best weights again: python -m astrom3.evaluate run=runs/photo-full-scratch-42

Prints the scores, compares them with the run's metrics.json and writes evaluation.json beside it. A classifier's
prediction sets are measured with coverage=0.9. calibrate=true fits confidence.json anew, for runs of before 0.2.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3.errors import UserError, first_line, shown
from astrom3.places import expanded

log = logging.getLogger(__name__)
# Keys of folders that data are written to -> what is there where that was done before.
WRITTEN = {"datamodule.cache": ("*/manifest.json",), "datamodule.origin.root": ("simulated-*/dataset.json",)}


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """The same numbers as at the end of training, on one device."""
    from astrom3 import registry
    from astrom3.files import write_json
    from astrom3.hardware import keep_memory, precision, quieten
    from astrom3.inference.conformal import check_coverage
    from astrom3.inference.results import no_confidence
    from astrom3.training import confidence, evaluation
    from astrom3.training.build import build
    from astrom3.training.callbacks import on_terminal
    from astrom3.training.run import CONFIG, METRICS, read_run, read_scores

    quieten()
    keep_memory()
    check_coverage(cfg.coverage)
    run, trained, _ = read_run(cfg.run, cfg.allow)
    keep_to_own_folders(trained)
    with of_the_configuration(run / CONFIG):
        data, module = build(trained, cfg.allow)
        evaluation.load_best(module, run)
        trainer = registry.instantiate(
            trained.trainer,
            cfg.allow,
            devices=1,
            num_nodes=1,
            strategy="auto",
            precision=precision(trained.trainer),
            logger=False,
            enable_progress_bar=on_terminal(),
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        scores = evaluation.test_best(trainer, module, data, trained.seed)
    if "accuracy" in scores:
        if cfg.calibrate and confidence.fit(run, data, cfg.allow) is None:
            raise UserError(f"{run} has no validation objects to fit a temperature on: leave calibrate=true away")
        measured = confidence.measure(run, data, cfg.coverage, cfg.allow)
        if measured is None:
            log.warning("%s", no_confidence(str(run)))
        else:
            scores["confidence"] = measured
    write_json(run / "evaluation.json", scores)
    log.info("%s: %s", run, evaluation.headline(scores))
    before = run / METRICS
    if before.is_file() and not same(read_scores(run), json.loads(json.dumps(scores))):
        log.warning("these differ from the scores in %s", before)
    return scores


@contextmanager
def of_the_configuration(path: Path) -> Iterator[None]:
    """UserError where a value of a stored configuration is of a kind that the program was never given by itself."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(
            f"{shown(path)} holds a value that cannot be used ({first_line(error)}): put back what the training wrote, "
            "or train the run again"
        ) from error


def keep_to_own_folders(trained: DictConfig) -> None:
    """A run from elsewhere must not choose where prepared data and simulated surveys are written: a folder that it
    names is used where such data are there already, else that of this machine."""
    for key, signs in WRITTEN.items():
        named = OmegaConf.select(trained, key)
        if named is None or any(any(expanded(str(named)).glob(sign)) for sign in signs):
            continue
        log.info("%s=%s of the run holds no prepared data: the folder of this machine is used", key, shown(str(named)))
        OmegaConf.update(trained, key, None)


def same(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two results agree; what only one of them says of confidence, or for another coverage, does not count."""
    asked = []
    for scores in (before, now):
        asked.append((scores.get("confidence") or {}).get("asked"))
    if asked[0] != asked[1]:
        before = before | {"confidence": None}
        now = now | {"confidence": None}
    return before == now


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("evaluate", evaluate)


if __name__ == "__main__":
    main()
