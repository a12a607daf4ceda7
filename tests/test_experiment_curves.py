"""What the experiments on real curves and missing modalities compute of their runs, on numbers that are known."""

from __future__ import annotations

import numpy as np
import pytest

from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from experiments import converter, early, missing, rrlyrae


def test_the_range_of_the_forest_follows_the_noise_and_that_of_the_series_does_not():
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 900, 240))
    wave = 15 + 0.2 * np.sin(2 * np.pi * time / 0.61)
    error = np.full(len(time), 0.1)
    quiet = converter.amplitudes(time, wave + rng.normal(0, 0.002, 240), error, 0.61, 0)
    noisy = converter.amplitudes(time, wave + rng.normal(0, 0.1, 240), error, 0.61, 0)
    assert quiet["series"] == pytest.approx(0.4, rel=0.02) and quiet["forest"] == pytest.approx(0.4, rel=0.05)
    assert noisy["series"] == pytest.approx(0.4, rel=0.15)
    assert noisy["forest"] > 1.25 * noisy["series"] and noisy["drawn"] > 1.25 * noisy["series"]
    assert quiet["for_half"] < 0  # one wave a period is no wave at half of it
    twice = converter.amplitudes(time, wave + rng.normal(0, 0.02, 240), error, 1.22, 0)
    assert twice["for_half"] > 0  # two like waves a period are one at half of it


def test_the_search_is_timed_and_another_periodogram_takes_its_place():
    rng = np.random.default_rng(1)
    time = np.sort(rng.uniform(0, 60, 150))
    magnitude = 15 + 0.3 * np.sin(2 * np.pi * time / 0.77) + rng.normal(0, 0.01, 150)
    seen = []

    def other(*arguments):
        seen.append(len(arguments))
        return converter.periodogram(*arguments)

    told: dict = {}
    with converter.searched_by(other, told):
        found = converter.period_search.find_period(time, magnitude, np.full(150, 0.01))
    assert seen == [6] and told["seconds"] >= 0 and converter.same(found, 0.77)
    assert abs(told["highest"] - 1 / 0.77) < 2 * told["step"]
    assert converter.period_search.periodogram is converter.periodogram


def test_coverage_of_early_curves_is_that_of_all_test_curves():
    row = {"axis": "points", "seen": 5, "training": "whole curves", "cut": 1.0, "accuracy": 0.5, "macro_f1": 0.4}
    rows = [
        row | {"seed": 42, "n": 100, "size": 2.0, "coverage": 0.9, "least_coverage": 0.8, "least_class": "EA"},
        row | {"seed": 0, "n": 300, "size": 4.0, "coverage": 1.0, "least_coverage": 0.9, "least_class": "EW"},
    ]
    (line,) = early.lines_of(rows)
    assert line == "| whole curves | 5 | 100.0 | 50.0 | 40.0 | 3.00 | 97.5 | 0.8 | 80.0 (EA) |"


def test_what_is_lost_is_a_difference_by_seed():
    rows = []
    for survey, values in (("complete", {42: 0.9, 0: 0.7}), ("absent", {42: 0.8, 0: 0.6})):
        for seed, value in values.items():
            rows.append({"survey": survey, "seed": seed, "measure": "accuracy", "of": "spectra", "value": value})
    assert missing.lines_of(rows)[2:] == ["| accuracy | spectra | 80.0 ± 10.0 | 70.0 ± 10.0 | 10.0 ± 0.0 |"]


def test_a_blue_spectrum_fills_the_range_and_keeps_its_numbers():
    wavelength = np.arange(3957.0, 4895.0, 1.4)
    flux = 1 + 0.1 * np.sin(wavelength / 7)
    whole = rrlyrae.continued(wavelength, flux, np.full(len(flux), 4.0))
    assert whole[0][0] <= 3850 and whole[0][-1] >= 9000 and np.allclose(np.diff(whole[0]), 1.4)
    inside = (whole[0] > 3956) & (whole[0] < 4895)
    assert np.array_equal(whole[1][inside], flux) and abs(np.median(whole[1]) - np.median(flux)) < 0.02
    assert np.ptp(whole[1][~inside]) > 0.19 and (whole[2] == 4.0).all()


def test_a_star_is_looked_for_among_those_that_have_what_is_asked_for():
    vectors = np.eye(4, dtype=np.float32)
    stars = Embeddings(
        ids=np.array(list("abcd")),
        labels=np.array([0, 0, 1, 1]),
        splits=np.array(["test"] * 4),
        present={"photometry": np.array([1, 1, 1, 0], bool), "spectra": np.array([0, 1, 1, 1], bool)},
        vectors={"photometry": vectors, "spectra": vectors[[0, 2, 2, 3]]},
        probabilities=None,
        classes=("RRAB", "RRC"),
    )
    # b's curve is equally far from all three spectra, and c's as near to that of b as to its own: ties count against
    assert rrlyrae.found_ranks(stars, "photometry", "spectra").tolist() == [3, 2]
    assert rrlyrae.told_type(stars, "photometry", "photometry", stars) == (3, 3)


def test_a_folder_without_the_surveys_is_refused(tmp_path):
    with pytest.raises(UserError, match="folder of real observations"):
        converter.sample(tmp_path, "crts-sss", 10)
    with pytest.raises(UserError, match="folder of real observations"):
        rrlyrae.real_stars(tmp_path, tmp_path / "out")
