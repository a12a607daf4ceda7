"""The test of a run's best weights on its subset's test split; what `train` does last and `evaluate` repeats."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from torch import nn

from astrom3 import plots
from astrom3.errors import UserError
from astrom3.files import read_json, write_json
from astrom3.published import astrom3 as published
from astrom3.published import native
from astrom3.tasks import regression
from astrom3.tasks.classification import ClassificationModule
from astrom3.tasks.sharding import is_sharded, load_whole
from astrom3.training import confidence
from astrom3.training.checkpoints import check_weights, load_weights
from astrom3.training.run import BEST, INFO, METRICS, describe_data

log = logging.getLogger(__name__)


def load_best(module: L.LightningModule, run: Path) -> None:
    """Put the weights of the best validation accuracy into `module`."""
    path = run / "checkpoints" / BEST
    state = load_weights(path)
    if not is_sharded(module):
        check_weights(module, state, path)
    load_whole(module, state)


def test_best(trainer: L.Trainer, module: Any, data: L.LightningDataModule, seed: int) -> dict[str, Any]:
    """Scores on the test split. Sampled attention draws keys, so the seed is set: same weights, same numbers."""
    L.seed_everything(seed, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    scores = {"seed": seed, "stage": "test", **module.results}
    for name in ("loss", "accuracy", "clip_accuracy"):
        value = scores.get(name, 0.0)
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(
                f"the test gives {name}={value}: the best weights are of no use, train again with a lower optim.lr"
            )
    return scores


def save_results(
    run: Path,
    module: L.LightningModule,
    data: Any,
    scores: dict[str, Any],
    title: str,
    allow: Sequence[str] | str | None = None,
) -> None:
    """model/, plots and, last because it marks the run as finished, metrics.json.

    A classifier gets its confidence.json, and `scores` what the test split says of it.
    """
    save_model(module.model, run / "model")  # type: ignore[arg-type]
    statistics = data.normaliser.to_dict() if data.normaliser is not None else None  # None: normalised already
    known = {
        "classes": list(data.classes),
        "normaliser": statistics,
        "pad_constants": data.splits["train"].pad_constants,
        "views": {slot: view.name for slot, view in data.views.items()},
    }
    describe: Any = getattr(module, "described_targets", None)
    if describe is not None:
        known["targets"] = describe()
    write_json(run / "model" / "preprocessing.json", known)
    if isinstance(module, ClassificationModule) and confidence.fit(run, data, allow) is not None:
        scores["confidence"] = confidence.measure(run, data, allow=allow)
    plots.curves(run / "metrics.csv", run / "curves.png", title)
    if "confusion" in scores:
        plots.confusion(scores, run / "confusion.png", title)
    if getattr(module, "predictions", None):
        plots.regression(module.predictions, scores, run / "regression.png", title)  # type: ignore[arg-type]
    if getattr(module, "examples", None):
        plots.reconstruction(module.examples, run / "reconstruction.png", title)  # type: ignore[arg-type]
    write_json(run / INFO, read_json(run / INFO) | {"data": describe_data(data)})  # the test split too
    data.write_rejected(run / "rejected.csv")
    write_json(run / METRICS, scores)


def save_model(model: nn.Module, folder: Path) -> None:
    """The native form, and the published one beside it where there is one."""
    native.save(model, folder)
    if published.has_form(model):
        published.save(model, folder)


def headline(scores: dict[str, Any]) -> str:
    """One line for the terminal."""
    if "clip_accuracy" in scores:
        mean = scores["centroid_accuracy"].get("mean")
        centroid = f", class centroids {100 * mean:.2f} %" if mean is not None else ""
        return f"test loss {scores['loss']:.4f}, CLIP accuracy {100 * scores['clip_accuracy']:.2f} %{centroid}"
    if "targets" in scores:
        return regression.headline(scores)
    if "r2_hidden" in scores:
        return (
            f"test RMSE {scores['rmse_hidden']:.4f} mag, R2 {scores['r2_hidden']:.3f} on hidden points; "
            f"RMSE {scores['rmse_probed']:.4f} mag, R2 {scores['r2_probed']:.3f} on probed points"
        )
    if "accuracy" not in scores:
        found = [f"{name} {value:.4f}" for name, value in scores.items() if isinstance(value, float)]
        return f"test {', '.join(found)}, n {scores['n']}"

    text = f"test accuracy {100 * scores['accuracy']:.2f} %, macro F1 {100 * scores['macro_f1']:.2f} %, n {scores['n']}"
    if scores.get("confidence"):
        text += f"; {confidence.sentence(scores['confidence'])}"
    return text
