"""Splits: 80/10/10 by seed and the published class caps."""

import numpy as np
import pytest

from astrom3.data.splits import cap_subset, class_cap, make_splits, split_80_10_10
from astrom3.errors import UserError
from astrom3.modalities.schema import SPLITS, SUB_FRACTION, SUBS

# Classes EW SR EA RRAB EB ROT RRC HADS M DSCT of the published full splits, seed 42.
PUBLISHED = {
    "train": (4890, 3647, 2343, 1886, 1571, 1454, 624, 226, 216, 206),
    "validation": (597, 479, 272, 231, 207, 189, 93, 29, 30, 25),
    "test": (681, 464, 301, 234, 198, 196, 79, 26, 22, 24),
}
CAPS = {  # (cap, total)
    ("train", "sub50"): (1209, 8526),
    ("train", "sub25"): (516, 4260),
    ("train", "sub10"): (166, 1660),
    ("validation", "sub50"): (149, 1071),
    ("validation", "sub25"): (64, 532),
    ("validation", "sub10"): (21, 210),
    ("test", "sub50"): (160, 1111),
    ("test", "sub25"): (69, 555),
    ("test", "sub10"): (22, 220),
}


@pytest.mark.parametrize(("split", "sub"), CAPS)
def test_caps_are_the_published_ones(split, sub):
    counts = PUBLISHED[split]
    cap = class_cap(counts, sum(counts) / SUB_FRACTION[sub])
    assert (cap, int(np.minimum(counts, cap).sum())) == CAPS[split, sub]


def test_subset_of_the_published_train_split_has_the_published_counts():
    labels = np.repeat([f"class{i}" for i in range(10)], PUBLISHED["train"]).tolist()
    kept = cap_subset(labels, 4, seed=42)
    counts = np.bincount([int(labels[i][5:]) for i in kept])
    assert counts.tolist() == [516] * 7 + [226, 216, 206]


@pytest.mark.parametrize("counts", [(100,) * 10, (1, 1, 1), (5,), (3, 1000), (7, 7), (2, 3, 4, 5)])
def test_caps_of_other_data_sets_stay_close_to_the_target(counts):
    for fraction in (2, 4, 10):
        target = sum(counts) / fraction
        cap = class_cap(counts, target)
        total = np.minimum(counts, cap).sum()
        assert cap >= 1
        assert total <= max(target, len(counts))
        assert cap == max(counts) or np.minimum(counts, cap + 1).sum() > target * 0.95


def test_splits_are_80_10_10_and_follow_the_seed():
    names = split_80_10_10(21440, 42)
    assert [int((names == s).sum()) for s in SPLITS] == [17152, 2144, 2144]
    assert (names == split_80_10_10(21440, 42)).all()
    assert (names != split_80_10_10(21440, 0)).any()


@pytest.mark.parametrize("n", range(8))
def test_tiny_data_sets_have_all_three_splits_from_three_objects_on(n):
    names = split_80_10_10(n, 42).tolist()
    assert len(names) == n
    assert set(names) == (set(SPLITS) if n >= 3 else {"train"} if n else set())


def test_other_fractions():
    names = split_80_10_10(447, 0, (0.7, 0.1, 0.2))
    assert [int((names == s).sum()) for s in SPLITS] == [313, 45, 89]
    for wrong in [(0.8, 0.2), (0.8, 0.1, 0.2), (1.0, 0.0, 0.0)]:
        with pytest.raises(UserError, match="sum to 1"):
            split_80_10_10(10, 0, wrong)


def test_subsets_are_nested_within_the_full_splits():
    rng = np.random.default_rng(1)
    labels = rng.choice(["A", "B", "C", "D"], 3000, p=[0.6, 0.25, 0.1, 0.05]).tolist()
    sets = [{(i, s) for i, s in enumerate(make_splits(labels, sub, 66)) if s} for sub in SUBS]
    assert sets[3] < sets[2] < sets[1] < sets[0]
    assert len(sets[0]) == 3000
    assert [round(len(s) / 3000, 2) for s in sets[1:]] == [0.5, 0.25, 0.1]


def test_unlabelled_objects_are_in_full_only():
    labels = ["A", None] * 50
    assert (make_splits(labels, "full", 0) != "").all()
    sub = make_splits(labels, "sub50", 0)
    assert (sub[1::2] == "").all()
    assert 0 < (sub != "").sum() <= 26
    assert (make_splits([None] * 20, "sub10", 0) == "").all()
