"""Analyses of data and models that do not fit each other: each is made, left out with its reason, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import make_rows
from made_up_embeddings import clusters, embeddings
from small_models import save_model, trimodal

from astrom3.analyse import calibration, comparison, fewshot
from astrom3.analyse.__main__ import analyse
from astrom3.analyse.section import Context, NotPossible
from astrom3.cli.config import compose
from astrom3.data.writer import DatasetWriter
from astrom3.encoders.towers import Classifier
from astrom3.errors import UserError
from astrom3.files import read_json
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import CLASSES
from astrom3.published import astrom3 as published
from astrom3.strict_json import without_nan

GONE = {
    "spectra alone": ("light_curve", "photo_cols", "meta_cols"),
    "catalogue alone": ("light_curve", "spectrum"),
}


def made_up(label: int | None = None, head: int = 0, there: bool = True) -> Embeddings:
    """Thirty objects of three classes. label: of all of them; head: classes that the model knows; there: not absent."""
    vectors, labels = clusters(per_class=10)
    chosen = labels if label is None else np.full(len(labels), label)
    odds = np.full((len(labels), head), 1 / head) if head else None
    present = {"photometry": np.full(len(labels), there)}
    return embeddings({"photometry": vectors.astype(np.float32)}, chosen, present, odds)


@pytest.mark.parametrize(("section", "train", "test", "words"), [
    (fewshot.section, {"there": False}, {}, "with the same modality"),
    (fewshot.section, {}, {"there": False}, "with the same modality"),
    (calibration.section, {}, {"label": 2, "head": 2}, "classes that the model knows"),
    (comparison.section, {"label": -1}, {}, "a class head or labelled training objects"),
    (comparison.section, {"there": False}, {}, "a class head or labelled training objects"),
])  # fmt: skip
def test_what_a_section_lacks_is_said(tmp_path, section, train, test, words):
    splits = {"train": made_up(**train), "test": made_up(**test)}
    with pytest.raises(NotPossible, match=words):
        section(Context(splits, tmp_path, other=splits))


def test_numbers_that_json_does_not_have_are_null():
    numbers = {"a": [1.5, float("nan"), (float("inf"), np.float64("nan"))], "b": {"c": "nan", "d": 3, "e": True}}
    assert without_nan(numbers) == {"a": [1.5, None, [None, None]], "b": {"c": "nan", "d": 3, "e": True}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", GONE)
def test_a_survey_that_lacks_modalities_of_the_model(tmp_path, monkeypatch, survey_of_30, kind):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    rows = make_rows(40)
    for row in rows:
        row |= dict.fromkeys(GONE[kind])
    with DatasetWriter(tmp_path / "set", classes=CLASSES, name="t", provenance={}) as writer:
        writer.write(rows)
        writer.finish([42])
    model = save_model(tmp_path / "model", survey_of_30, head=False)
    numbers = analysed(tmp_path, model, "what=[retrieval,outliers,attention,sensitivity]")
    assert {"retrieval", "attention"} <= set(numbers["left_out"]) and "outliers" in numbers
    assert ("sensitivity" in numbers) == (kind == "catalogue alone")


@pytest.mark.slow
def test_early_curves_of_classes_that_the_model_does_not_know(tmp_path, monkeypatch, survey_of_30):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    rows = make_rows(30)
    for number, row in enumerate(rows):
        row["label"] = "AB"[number % 2]
    with DatasetWriter(tmp_path / "set", classes=("A", "B"), name="t", provenance={}) as writer:
        writer.write(rows)
        writer.finish([42])
    model = save_model(tmp_path / "model", survey_of_30)
    published.save(Classifier(trimodal().encoders["photometry"], len(CLASSES)), model)
    with pytest.raises(UserError, match="early needs labelled test objects of the classes that the model knows"):
        analysed(tmp_path, model, "what=[early]", "early.points=[5]", "early.days=[]")


def analysed(place: Path, model: Path, *options: str) -> dict[str, Any]:
    given = ["data=local", f"data.path={place}/set", f"model={model}", f"out={place}/out", "device=cpu", *options]
    analyse(compose(given, "analyse"))
    return read_json(place / "out" / "analysis.json")
