"""Facts about the periodogram, the hand-made features, the altered curves and the encoders of folded curves."""

from __future__ import annotations

import numpy as np
import torch

from astrom3.encoders.ring import RingEncoder
from astrom3.modalities.periodogram import periodogram
from astrom3.modalities.ring_view import alter
from astrom3.modalities.variability import NAMES, variability_features

PERIOD = 0.37


def curve(n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sine of 0.37 d over 500 days with 2 % errors."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 500, n))
    flux = 1 + 0.2 * np.sin(2 * np.pi * time / PERIOD) + rng.normal(0, 0.02, n)
    return time, flux, np.full(n, 0.02)


def test_periodogram_agrees_with_astropy():
    from astropy.timeseries import LombScargle

    time, flux, _error = curve()
    weights = np.full(len(time), 1 / len(time))
    centred = flux - flux.mean()
    step = 1 / (2.5 * np.ptp(time))
    power = periodogram(time - time.mean(), centred, weights, 0.01, step, 5000)
    expected = LombScargle(time, centred, weights**-0.5).power(0.01 + step * np.arange(5000), method="slow")
    np.testing.assert_allclose(power, expected, atol=1e-5)


def test_features_know_the_period_and_a_zero_point_changes_only_the_median():
    time, flux, error = curve()
    one = variability_features(time, flux, error, PERIOD)
    ten = variability_features(time, 10 * flux, 10 * error, PERIOD)
    assert one[NAMES.index("explained")] > 0.9
    assert one[NAMES.index("string_length")] < 0.1 < one[NAMES.index("string_half")]
    differing = [name for name, a, b in zip(NAMES, one, ten, strict=True) if abs(a - b) > 1e-4]
    assert differing == ["median"]


def test_an_altered_curve_is_a_thinner_one_and_the_same_for_the_same_number():
    time, flux, error = curve()
    out = np.zeros((2, 3, len(time)))
    found = [alter(time, flux, error, PERIOD, np.array([7], dtype=np.uint64), part) for part in out]
    assert found[0] == found[1]
    assert 20 <= found[0][0] < len(time)
    assert np.array_equal(out[0], out[1])


def test_a_shift_in_phase_changes_the_encoding_little():
    torch.manual_seed(0)
    encoder = RingEncoder(width=8, out_features=16).eval()
    ring = torch.randn(2, 4, 64)
    scalars = torch.zeros(2, 5)
    with torch.inference_mode():
        difference = encoder(ring, scalars) - encoder(ring.roll(4, dims=2), scalars)
    assert difference.abs().max() < 1e-5
