"""Absurd times, fluxes and catalogue values, and objects in two splits: rejected, made unknown or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from astrom3.errors import UserError
from astrom3.modalities.catalogue_quality import possible
from astrom3.modalities.quality import check_light_curves


def curve(time: np.ndarray, flux: np.ndarray, error: np.ndarray) -> tuple[bool, str]:
    found = check_light_curves(np.array([0, len(time)]), time, flux, error)
    return bool(found.accepted[0]), " ".join(d.reason for d in found.decisions(["a"]))


def test_mixed_dates_and_absurd_fluxes_are_refused():
    time = np.arange(100.0) + 57000
    flux = 10 + np.sin(time)
    error = np.full(100, 0.1)
    assert curve(time, flux, error) == (True, "")
    mixed = np.where(np.arange(100) < 50, time, time + 2400000.5)
    assert curve(mixed, flux, error)[0] is False and "JD and MJD" in curve(mixed, flux, error)[1]
    assert curve(time, flux * 1e299, error)[0] is False


def test_200000_points_at_one_time_are_ordered_in_a_moment():
    import time as clock

    rng = np.random.default_rng(0)
    time = np.append(np.full(200_000, 5.0), 6.0)
    flux = rng.normal(10, 1, len(time))
    error = np.full(len(time), 0.1)
    curve(time[:50], flux[:50], error[:50])  # compiled
    start = clock.monotonic()
    found = check_light_curves(np.array([0, len(time)]), time, flux, error)
    assert clock.monotonic() - start < 5
    np.testing.assert_array_equal(found.columns[1][:-1], np.sort(flux[:-1]))


def test_values_that_stand_for_unknown_become_unknown():
    values = np.array([[1.0, -9999.0, 1e39, 1e300, -999.0, 12.5, np.inf]])
    np.testing.assert_array_equal(np.isnan(possible(values)), [[False, True, True, True, True, False, True]])


def test_an_object_in_two_splits_and_a_misspelt_split_are_refused():
    from astrom3.data.layouts.ours import check_splits

    path = Path("full_42.parquet")
    check_splits(path, ["a", "b"], np.array(["train", "test"], dtype=object))
    with pytest.raises(UserError, match="'a' is in train and test"):
        check_splits(path, ["a", "a"], np.array(["train", "test"], dtype=object))
    with pytest.raises(UserError, match="'a' is twice in test"):
        check_splits(path, ["a", "a"], np.array(["test", "test"], dtype=object))
    with pytest.raises(UserError, match="1 objects into 'trian'"):
        check_splits(path, ["a", "b"], np.array(["trian", "test"], dtype=object))
