"""Photometric features: definitions, periods of known curves, speed."""

import time as clock

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from astrom3.modalities.bands import combined, visits
from astrom3.modalities.features import forest, light_curve_features, string_length
from astrom3.modalities.period_search import find_period, near_daily_alias
from astrom3.modalities.schema import PHOTO_COLS


def cadence(rng, n=400, years=5):
    """ASAS-SN-like times [day]: one or two visits a night around local midnight, seasons of 240 days."""
    nights = rng.permutation(np.arange(int(365.25 * years)))
    nights = nights[(nights % 365.25) < 240][:n]
    return np.sort(nights + 2457000.8 + rng.normal(0, 0.08, len(nights)))


def rr_lyrae(phase):
    return np.where(phase < 0.15, 1 - phase / 0.15, (phase - 0.15) / 0.85) ** 0.7


def contact(phase):
    return 0.6 * (1 - np.abs(np.sin(2 * np.pi * phase)))  # two like eclipses, sharper than the maxima


def detached(phase):
    def eclipse(centre, depth):
        return depth * np.exp(-0.5 * (((phase - centre + 0.5) % 1 - 0.5) / 0.025) ** 2)

    return eclipse(0.0, 0.9) + eclipse(0.5, 0.35)


def sine(phase):
    return 0.5 * np.sin(2 * np.pi * phase)


def curve(shape, period, rng, noise=0.03, n=400):
    """time, flux [mJy], flux_err of a star of mean magnitude 13."""
    time = cadence(rng, n)
    magnitude = 13 + shape(time / period % 1) + rng.normal(0, noise, len(time))
    flux = 3.836e6 * 10 ** (-0.4 * magnitude)
    return time, flux, flux * noise


def test_string_length_is_clarkes_sum():
    values = np.random.default_rng(0).normal(size=50)
    n, mean = 50, values.mean()
    steps = sum((values[(i + 1) % n] - values[i]) ** 2 for i in range(n))
    assert string_length(values) == pytest.approx(steps / sum((v - mean) ** 2 for v in values) * (n - 1) / (2 * n))


def test_string_length_is_one_for_noise_and_small_for_a_smooth_curve():
    noise = [string_length(np.random.default_rng(s).normal(size=400)) for s in range(20)]
    assert np.mean(noise) == pytest.approx(1, abs=0.03)
    assert string_length(np.sin(2 * np.pi * np.arange(400) / 400)) < 1e-3


@pytest.mark.parametrize(("n", "noise"), [(60, 0.3), (500, 0.05), (500, 3.0)])
def test_forest_agrees_with_scikit_learn(n, noise):
    rng = np.random.default_rng(n)
    phase = np.sort(rng.random(n))
    values = np.sin(2 * np.pi * phase) + rng.normal(0, noise, n)
    reference = RandomForestRegressor(50, min_samples_leaf=2, random_state=0).fit(phase[:, None], values)
    expected, found = reference.predict(phase[:, None]), forest(phase, values)

    def score(model):
        return 1 - ((values - model) ** 2).sum() / ((values - values.mean()) ** 2).sum()

    assert score(found) == pytest.approx(score(expected), abs=0.04 if noise < 1 else 0.05)
    assert np.ptp(found) == pytest.approx(np.ptp(expected), rel=0.1)
    assert np.corrcoef(found, expected)[0, 1] > 0.97


def test_rfr_score_is_one_minus_half_the_string_length_as_in_the_catalogue():
    """Published means and deviations: rfr_score 0.838 +- 0.137, lksl_statistic 0.329 +- 0.269."""
    rng = np.random.default_rng(3)
    for noise in (0.02, 0.1, 0.3, 1.0):
        found = light_curve_features(*curve(sine, 0.4, rng, noise), period=0.4)
        assert found["rfr_score"] == pytest.approx(1 - found["lksl_statistic"] / 2, abs=0.07)


@pytest.mark.parametrize(
    ("shape", "period", "amplitude"),
    [(rr_lyrae, 0.5713, 1.0), (rr_lyrae, 0.0874, 1.0), (sine, 0.3121, 1.0), (sine, 12.7, 1.0), (sine, 341.0, 1.0),
     (contact, 0.3437, 0.6), (detached, 2.8713, 0.9), (detached, 7.113, 0.9)],
)  # fmt: skip
def test_periods_and_amplitudes_of_known_curves(shape, period, amplitude):
    right = 0
    for seed in range(5):
        time, flux, error = curve(shape, period, np.random.default_rng(seed))
        found = light_curve_features(time, flux, error)
        if found["period"] == pytest.approx(period, rel=0.02 if period > 100 else 1e-3):
            right += 1
            assert found["amplitude"] == pytest.approx(amplitude, abs=0.2)
            assert found["rfr_score"] > 0.8
    assert right >= 4


def test_slow_irregular_variation_is_not_given_a_daily_alias():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        time = cadence(rng)
        slow = np.interp(time, np.linspace(time[0], time[-1], 40), rng.normal(0, 0.5, 40))
        period = find_period(time, slow + rng.normal(0, 0.03, len(time)), np.full(len(time), 0.03))
        assert not near_daily_alias(1 / period) and period > 20
    assert [near_daily_alias(f) for f in (0.0, 0.5, 0.99, 1.0027, 2.006, 2.03)] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_given_period_is_used_and_units_of_flux_do_not_matter():
    time, flux, error = curve(rr_lyrae, 0.5713, np.random.default_rng(1))
    given = light_curve_features(time, flux, error, period=0.5713)
    assert given["period"] == 0.5713
    order = np.random.default_rng(2).permutation(len(time))
    scaled = light_curve_features(time[order], 1e3 * flux[order], 1e3 * error[order], period=0.5713)
    assert scaled == pytest.approx(given)


def test_features_are_nan_where_they_cannot_be_computed():
    time, flux, error = curve(sine, 0.4, np.random.default_rng(1))
    for bad in [
        (time[:9], flux[:9], error[:9]),
        (0 * time, flux, error),
        (time, 1 + 0 * flux, error),
        (time, -flux, error),
        (np.where(time > time[0], time, -2409998.5), flux, error),  # as two real curves of Catalina have it
    ]:
        assert all(np.isnan(v) for v in light_curve_features(*bad).values())
    flux[::7] = np.nan
    flux[1::7] = -1
    found = light_curve_features(time, flux, error)
    assert set(found) == set(PHOTO_COLS) and all(np.isfinite(v) for v in found.values())


def test_ten_points_are_enough():
    time, flux, error = curve(sine, 0.4, np.random.default_rng(1), n=10)
    assert all(np.isfinite(v) for v in light_curve_features(time, flux, error).values())


def test_twenty_curves_of_500_points_a_second_on_two_cores():
    curves = [curve(rr_lyrae, 0.3 + 0.1 * s, np.random.default_rng(s), n=500) for s in range(6)]
    light_curve_features(*curves[0])  # compile
    start = clock.process_time()
    for one in curves[1:]:
        light_curve_features(*one)
    seconds = (clock.process_time() - start) / 5
    print(f"features: {1000 * seconds:.0f} ms of one core per curve of 500 points, {2 / seconds:.0f}/s on two")
    assert seconds < 0.1


def test_what_one_visit_sees_in_several_bands_is_averaged():
    time = np.array([0.0, 0.001, 0.002, 1.0, 1.001, 1.5, 1.5001])
    band = np.array(["g", "r", "i", "r", "g", "g", "g"])
    assert visits(time, band).tolist() == [0, 0, 0, 1, 1, 2, 3]
    assert visits(np.arange(0, 0.1, 0.004), np.array(["g"] * 25)).tolist() == list(range(25))
    flux = np.array([10.0, 20, 30, 22, 11, 9, 9.5])
    found, light, error = combined(time, flux, np.full(7, 0.1), band)
    assert found == pytest.approx([0.001, 1.0005, 1.5, 1.5001], abs=2e-3)
    assert len(light) == 4 and (error > 0).all() and error[0] < error[2]


@pytest.mark.slow
def test_all_bands_together_find_more_periods_than_the_best_sampled_one():
    """Sixty visits in five bands, whose points differ by more than their errors say, as those of one visit do alike."""
    rng = np.random.default_rng(3)
    right = {"together": 0, "alone": 0}
    for _ in range(20):
        period = rng.uniform(0.4, 0.7)
        visit = np.sort(rng.uniform(0, 2000, 60).round() + rng.uniform(0, 0.3, 60))
        shared = rng.normal(0, 0.05, 60)
        columns = []
        for number, (name, height) in enumerate({"u": 0.6, "g": 0.5, "r": 0.35, "i": 0.3, "z": 0.28}.items()):
            time = visit + 0.0008 * number
            magnitude = height * (rr_lyrae(time / period % 1) + shared) + rng.normal(0, 0.12, 60)
            flux = 10 ** (-0.4 * magnitude)
            columns += [(at, value, 0.02 * value, name) for at, value in zip(time, flux, strict=True)]
        time, flux, error, band = (np.array(column) for column in zip(*columns, strict=True))
        for how, curve in {
            "together": combined(time, flux, error, band),
            "alone": tuple(column[band == "g"] for column in (time, flux, error)),
        }.items():
            right[how] += light_curve_features(*curve)["period"] == pytest.approx(period, rel=1e-3)
    assert right["together"] >= max(right["alone"], 18)
