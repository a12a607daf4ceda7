"""AstroCLIP's benchmark: the plain variant computes the same, and the rows of the GPU script run at tiny size."""

import numpy as np
import pytest
import torch

from astrom3.encoders.specformer import SpecFormer
from astrom3.modalities.crops import CropSettings, crop_image
from astrom3.modalities.cutout import network_image
from experiments.bench import galaxies, plain_galaxies
from experiments.bench.rows import galaxy_rows

pytestmark = pytest.mark.slow


def test_plain_images_and_crops_are_ours():
    flux = galaxies.images(2)
    expected = network_image(torch.from_numpy(flux))
    torch.testing.assert_close(plain_galaxies.cutouts(flux), expected, rtol=1e-4, atol=1e-5)
    drawn = CropSettings(added_noise=(0, 0, 0)).draw(np.random.Generator(np.random.Philox(3)))
    random = np.random.default_rng(0)
    assert any(crop.blur for crop in drawn)
    for crop in drawn:
        ours = crop_image(flux[0], crop, random=random)
        np.testing.assert_allclose(plain_galaxies.crop(flux[0], crop, random), ours, rtol=1e-3, atol=1e-4)


def test_plain_specformer_is_ours():
    ours = SpecFormer(16, 2, 2).eval()
    tokens = ours.prepare(torch.randn(2, 7781))
    plain = plain_galaxies.PlainSpecFormer(ours)
    torch.testing.assert_close(plain.reconstruct(tokens), ours.reconstruct(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", galaxy_rows(True, "cuda"), ids=lambda row: row.name)
def test_rows_of_the_gpu_script_run(row):
    case = galaxies.CASES[row.case](ours=True, **(row.options | {"device": "cpu", "size": "tiny", "batch": 4}))
    case.once()
    assert case.objects == 4 and case.flops > 1e6
