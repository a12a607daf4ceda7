"""The compiled loops over pixels: a logarithm, normal numbers and a blur that are what they say."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest

from astrom3.modalities import crops
from astrom3.modalities.cutout import centre_crop, network_image, stretch
from astrom3.modalities.pixel_kernels import add_normal, arcsinh32, log32


def test_the_logarithm_is_that_of_double_precision():
    for x in np.geomspace(1e-30, 1e30, 301).astype(np.float32):
        assert log32(x) == pytest.approx(np.log(np.float64(x)), rel=4e-7, abs=4e-7)
    for x in np.geomspace(1e-12, 1e12, 201).astype(np.float32):
        assert arcsinh32(x) == pytest.approx(np.arcsinh(np.float64(x)), rel=4e-7)


@pytest.mark.parametrize("count", [60 * 60, 144 * 144, 999])
def test_noise_is_normal_without_correlation_and_repeats(count):
    planes = np.zeros((40, count), np.float32)
    for key, plane in enumerate(planes):
        add_normal(plane, np.float32(2), np.uint64(key))
    assert kstest(planes.ravel() / 2, "norm").pvalue > 1e-3
    assert abs(planes.mean()) < 5 * 2 / np.sqrt(planes.size)
    for shift in (1, 2, count // 2):  # a pair has one radius: its squares would tell, if angles were not even
        for power in (1, 2):
            values = planes**power - (planes**power).mean()
            product = (values[:, :-shift] * values[:, shift:]).mean() / values.var()
            assert abs(product) < 5 / np.sqrt(planes.size), (shift, power)
    again = np.zeros(count, np.float32)
    add_normal(again, np.float32(2), np.uint64(7))
    np.testing.assert_array_equal(again, planes[7])


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 2.3, 20.0])
def test_the_blur_is_that_of_scipy(sigma):
    image = np.random.default_rng(0).random((2, 60, 43)).astype(np.float32)
    expected = np.stack([image[0], gaussian_filter(image[1].astype(np.float64), sigma)])
    crops.blur(image, (0.0, sigma))
    np.testing.assert_allclose(image, expected, atol=3e-6)


def test_the_network_image_is_the_stretch_of_torch():
    flux = torch.randn(2, 3, 61, 58).mul(0.5)
    flux[0, :, 30] = -0.1  # without light
    expected = centre_crop(stretch(flux), 48)
    torch.testing.assert_close(network_image(flux, 48), expected, rtol=2e-6, atol=2e-7)
    torch.testing.assert_close(network_image(flux[:1].double(), 48).float(), expected[:1], rtol=2e-6, atol=2e-7)
    assert torch.equal(network_image(flux, 60), centre_crop(stretch(flux), 60))  # wider than it is: filled with zeros
