"""Confidence of a trained classifier: fitted on its validation split after training, and measured on its test split.

What is fitted are the probabilities that `embed` and `classify` give, so a light curve counts with its central window,
and sampled attention with fixed keys. training/evaluation.py tests the network in its own way beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.inference.confidence import CONFIDENCE, Calibration, Confidence
from astrom3.inference.conformal import measure_sets, needed, spread, vouched
from astrom3.inference.early import check_model, early_calibrations
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.inference.novelty import Novelty
from astrom3.inference.temperature import calibration
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.schema import UNLABELLED

log = logging.getLogger(__name__)
COVERAGE = 0.9  # that the report of a run is about


def load(run: Path, allow: Sequence[str] | str | None = None) -> TrainedModel:
    """The model of a run folder, as `astrom3.load` gives it."""
    return TrainedModel.load(run / "model", allow=allow)


def fit(run: Path, data: Any, allow: Sequence[str] | str | None = None) -> Confidence | None:
    """Fit temperature, scores and novelty, and write them beside the weights; None where the run has no classes."""
    raw = replace(load(run, allow), confidence=None)
    if not raw.has_head:
        return None

    with whole(data):
        validation = labelled(Embeddings.of_split_of(raw, data, "validation"))
        train = labelled(Embeddings.of_split_of(raw, data, "train"))

    if not len(validation):
        log.warning("the validation split has no labelled objects: probabilities are not calibrated")
        return None

    assert validation.probabilities is not None
    complete = Calibration.fit(validation.probabilities, validation.labels)
    novelty = Novelty.fit(train.vectors[MEAN], train.labels, validation.vectors[MEAN])
    early: tuple[Calibration, ...] = ()
    shortest = 0
    if data.truncation and check_model(raw) is None:
        early, shortest = early_calibrations(raw, data.source)
    confidence = Confidence(raw.classes, complete, early, shortest, novelty)
    confidence.save(run / "model")
    return confidence


def measure(
    run: Path, data: Any, coverage: float = COVERAGE, allow: Sequence[str] | str | None = None
) -> dict[str, Any] | None:
    """What the test split says of the probabilities and sets of a run; None where it has no confidence.json."""
    if not (run / "model" / CONFIDENCE).is_file():
        return None

    model = load(run, allow)
    confidence = model.confidence
    if confidence is None:
        return None

    with whole(data):
        test = labelled(Embeddings.of_split_of(replace(model, confidence=None), data, "test"))
    assert test.probabilities is not None
    complete = confidence.complete
    tempered = complete.probabilities(test.probabilities)
    sets = complete.sets(test.probabilities, coverage)
    counts = dict(zip(confidence.classes, complete.counts, strict=True))
    expected = {}
    too_few = {}
    for name, count in counts.items():
        expected[name] = spread(count, coverage)
        if count < needed(coverage):
            too_few[name] = vouched(count, coverage)

    return {
        "temperature": complete.temperature,
        "before": calibration(test.probabilities.astype(np.float64), test.labels),
        "calibrated": calibration(tempered, test.labels),
        "asked": coverage,
        "sets": measure_sets(sets, test.labels, confidence.classes),
        "validation": counts,
        "expected_spread": expected,
        "too_few": too_few,
    }


def sentence(found: dict[str, Any]) -> str:
    """One line for the terminal."""
    sets = found["sets"]
    least = min(sets["per_class"], key=lambda name: sets["per_class"][name]["coverage"])
    text = (
        f"temperature {found['temperature']:.2f}, calibration error {100 * found['before']['ece']:.1f} -> "
        f"{100 * found['calibrated']['ece']:.1f} %; sets asked to hold {100 * found['asked']:.0f} % of each class hold "
        f"{100 * sets['coverage']:.1f} % with {sets['size']:.2f} classes in the mean, least of {least} "
        f"({100 * sets['per_class'][least]['coverage']:.1f} % of {sets['per_class'][least]['n']})"
    )
    if found["too_few"]:
        few = ", ".join(f"{name} ({found['validation'][name]})" for name in found["too_few"])
        text += (
            f"; too few validation objects to vouch for that: {few}, whose limit is the largest score that they have"
        )

    return text


def labelled(objects: Embeddings) -> Embeddings:
    """Those with a label and something to classify."""
    anything = np.logical_or.reduce(list(objects.present.values()))
    return objects.take((objects.labels != UNLABELLED) & anything)


@contextmanager
def whole(data: Any) -> Iterator[None]:
    """Loaders of all objects, whatever share of them the rank of a training has."""
    trainer = data.trainer
    data.trainer = None
    try:
        yield
    finally:
        data.trainer = trainer
