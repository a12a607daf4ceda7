"""Classes of one object: counted and named where a split lacks them, and never lost without a word."""

import logging

import numpy as np
from data_files import make_rows

from astrom3.convert.__main__ import warn_of_rare_classes
from astrom3.data.layouts import open_source
from astrom3.data.rare import rare_classes, sentence
from astrom3.data.writer import DatasetWriter
from astrom3.files import read_json
from astrom3.training.build import warn_of_classes


def test_a_class_of_one_object_is_listed_and_said(tmp_path, caplog):
    rows = [row | {"label": "EW"} for row in make_rows(40)]
    rows[7]["label"] = "NOVA"
    with DatasetWriter(tmp_path / "d", classes=("EW", "NOVA", "M"), name="t", provenance={}) as writer:
        writer.write(rows)
        writer.finish([42, 0])
    listed = read_json(tmp_path / "d" / "dataset.json")["rare_classes"]
    assert [entry["class"] for entry in listed] == ["NOVA"] and listed[0]["objects"] == 1
    for stem, seed in (("full_42", 42), ("full_0", 0)):
        source = open_source(tmp_path / "d", "full", seed)
        for split in ("train", "validation", "test"):
            there = (source.catalogue(split).labels == 1).any()
            assert (stem in listed[0]["absent"].get(split, [])) == (not there)
    with caplog.at_level(logging.WARNING):
        warn_of_rare_classes(tmp_path / "d")
    assert "class NOVA has 1 object, and none in" in caplog.text and "full_42" in caplog.text


def test_classes_that_every_part_has_are_not_listed():
    full = {split: {"a": 2, "b": 1, "c": 0} for split in ("train", "validation", "test")}
    assert rare_classes(("a", "b", "c"), {"full_1": full, "sub10_1": {}}) == []
    lacking = full | {"test": {"a": 0, "b": 1, "c": 0}}
    listed = rare_classes(("a", "b", "c"), {"full_1": full, "full_2": lacking})
    assert listed == [{"class": "a", "objects": 6, "absent": {"test": ["full_2"]}}]
    assert sentence(listed[0]) == "class a has 6 objects, and none in test of full_2"


def test_a_class_without_training_objects_is_said_before_training(caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_classes(["a", "b"], np.array([0, 0, -1]), True)
        warn_of_classes(["a", "b"], np.array([0, 0]), False)
    assert caplog.messages == ["no object of class b is in the train split: it cannot be learnt"]
