"""Stored files against their typed descriptions, and constructors against their annotations."""

import pytest

from astrom3 import stored, typed
from astrom3.encoders.informer import InformerEncoder
from astrom3.errors import UserError

GOOD = {"classes": ["a"], "normaliser": None, "pad_constants": True, "targets": [{"name": "z", "mean": 0, "std": 1.0}]}


def test_what_is_written_passes():
    typed.check(GOOD, stored.Preprocessing, "x.json")


@pytest.mark.parametrize(("key", "value"), [
    ("classes", None), ("classes", "ab"), ("classes", [1]), ("classes", {"a": 1}), ("normaliser", []),
    ("normaliser", {"mean": 1}), ("pad_constants", 1), ("targets", [1]), ("targets", [{"name": "z"}]),
    ("targets", [{"name": "z", "mean": float("nan"), "std": 1}]), ("views", []), ("views", {"a": 1}),
])  # fmt: skip
def test_a_wrong_value_is_refused_with_its_key(key, value):
    with pytest.raises(UserError, match=rf"x\.json is damaged.*{key}"):
        typed.check(GOOD | {key: value}, stored.Preprocessing, "x.json")


@pytest.mark.parametrize("value", [None, "x", [1], {}, -3, 0, 10**12, 2.5, float("nan"), True])
def test_an_argument_is_compared_with_the_annotation_and_the_range(value):
    with pytest.raises(UserError, match="d_model"):
        typed.check_arguments(InformerEncoder, {"d_model": value}, "native.json")
