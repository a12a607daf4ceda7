"""Preprocessing and normalisation against plain numpy, object by object. Published vectors: tests/conformance."""

import numpy as np
import pytest

from astrom3.errors import UserError
from astrom3.modalities import preprocess
from astrom3.modalities.catalogue import Normaliser, transform
from astrom3.modalities.schema import ABS_COLS, ALL_COLS


def test_light_curve_equals_ten_lines_of_numpy():
    rng = np.random.default_rng(0)
    time, flux, error = np.sort(rng.uniform(0, 1500, 301)), rng.normal(5, 2, 301), rng.uniform(0.1, 0.2, 301)
    mad = np.median(np.abs(flux - np.median(flux)))
    table = np.stack([(time - time[0]) / (time[-1] - time[0]), (flux - flux.mean()) / mad, error / mad], axis=1)
    constants = [1.0, 2.0, 3.0, 4.0, np.log10(mad), (time[-1] - time[0]) / 365]
    for start in (None, 0, 101):
        x, mask = preprocess.light_curve(time, flux, error, np.array([1, 2, 3, 4]), start)
        begin = 50 if start is None else start
        np.testing.assert_allclose(x[:, :3], table[begin : begin + 200], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(x[:, 3:], np.tile(constants, (200, 1)), rtol=1e-6)
        assert mask.all()


def test_short_curves_are_padded_with_mask_0_and_constants_in_padded_rows():
    time, flux = np.arange(30.0), np.random.default_rng(0).normal(size=30)
    x, mask = preprocess.light_curve(time, flux, np.ones(30), np.array([1, 2, 3, 4]))
    assert mask.sum() == 30 and not x[30:, :3].any()
    np.testing.assert_array_equal(x[30:, 3:], np.tile(x[0, 3:], (170, 1)))


def test_spectrum_equals_np_interp():
    rng = np.random.default_rng(0)
    wavelength = np.sort(rng.uniform(3900, 8900, 900))  # starts after and ends before the grid
    flux, third = rng.normal(10, 3, 900), rng.uniform(0, 1, 900)
    flux[300:330] = 0
    grid = np.arange(3850, 9000, 2)
    f, t = np.interp(grid, wavelength, flux), np.interp(grid, wavelength, third)
    mad = np.median(np.abs(f[f != 0] - np.median(f[f != 0])))
    expected = np.stack([(f - f.mean()) / mad, t / mad, np.full(2575, np.log10(mad))])
    np.testing.assert_allclose(preprocess.spectrum(wavelength, flux, third), expected, rtol=1e-5, atol=1e-6)


def test_an_unusable_object_is_an_error_that_says_why():
    with pytest.raises(UserError, match="fewer than 10 usable points"):
        preprocess.light_curve(np.arange(5.0), np.arange(5.0), np.ones(5), np.zeros(4))
    with pytest.raises(UserError, match="all-zero flux"):
        preprocess.spectrum(np.linspace(3700, 9100, 500), np.zeros(500), np.ones(500))
    with pytest.raises(UserError, match="all inverse variances 0"):
        preprocess.spectrum(np.linspace(3700, 9100, 500), np.arange(500.0), np.zeros(500))


def test_transforms_are_the_published_ones():
    values = np.random.default_rng(0).uniform(1, 20, (6, 38))
    at = {name: i for i, name in enumerate(ALL_COLS)}
    values[0, at["parallax"]] = -3.0
    out = transform(values)
    parallax = np.where(values[:, at["parallax"]] <= 0, 1, values[:, at["parallax"]])
    for name in ABS_COLS:
        np.testing.assert_allclose(out[:, at[name]], values[:, at[name]] - 10 + 5 * np.log10(parallax))
    np.testing.assert_allclose(out[:, at["l"]], np.cos(np.radians(values[:, at["l"]])))
    np.testing.assert_allclose(out[:, at["b"]], np.sin(np.radians(values[:, at["b"]])))
    np.testing.assert_allclose(out[:, at["period"]], np.log10(values[:, at["period"]]))
    assert out[0, at["parallax"]] == -3.0


def test_missing_values_become_exactly_the_train_mean():
    values = np.random.default_rng(0).uniform(1, 20, (50, 38))
    at = {name: i for i, name in enumerate(ALL_COLS)}
    values[3, at["parallax"]], values[4, at["period"]], values[5, at["ruwe"]] = np.nan, -1.0, np.inf
    scaled = Normaliser.fit(values).apply(values)
    assert scaled.dtype == np.float32 and np.isfinite(scaled).all()
    assert scaled[3, at["parallax"]] == 0 and all(scaled[3, at[c]] == 0 for c in ABS_COLS)
    assert scaled[4, at["period"]] == 0 and scaled[5, at["ruwe"]] == 0
    complete = np.delete(scaled, [3, 4, 5], axis=0)
    assert abs(scaled.mean(axis=0)).max() < 1e-6 and (complete != 0).all()


def test_statistics_survive_the_way_through_info_json_in_any_order():
    values = np.random.default_rng(0).uniform(1, 20, (50, 38))
    normaliser = Normaliser.fit(values)
    info = normaliser.to_dict()
    order = np.random.default_rng(1).permutation(38)
    shuffled = info | {k: [info[k][i] for i in order] for k in ("all_cols", "mean", "std")}
    np.testing.assert_array_equal(Normaliser.from_dict(shuffled).apply(values), normaliser.apply(values))
    with pytest.raises(UserError, match="lack std"):
        Normaliser.from_dict({k: v for k, v in info.items() if k != "std"})
    with pytest.raises(UserError, match="metadata_func"):
        Normaliser.from_dict(info | {"metadata_func": {"log": ["period"]}})


def test_a_constant_column_becomes_zero():
    values = np.random.default_rng(0).uniform(1, 20, (50, 38))
    values[:, ALL_COLS.index("ruwe")] = 1.1
    assert abs(Normaliser.fit(values).apply(values)[:, ALL_COLS.index("ruwe")]).max() < 1e-12


@pytest.mark.real
def test_real_spectra_are_usable(real_dir):
    from astrom3.data.readers.lamost import read_lamost

    files = sorted((real_dir / "lamost-dr7").glob("**/*.fits*")) + sorted((real_dir / "lamost-formats").glob("*.fits*"))
    assert len(files) >= 102
    for path in files:
        found = read_lamost(path)
        prepared = preprocess.spectrum(found.wavelength, found.flux, found.ivar)
        assert prepared.shape == (3, 2575) and np.isfinite(prepared).all()


@pytest.mark.real
def test_real_light_curves_are_usable(real_dir):
    import tarfile

    with tarfile.open(real_dir / "asas-v" / "asas_training_set.tar.gz") as archive:
        names = [name for name in archive.getnames() if name.endswith(".dat")][:60]
        for name in names:
            table = np.loadtxt(archive.extractfile(name), delimiter=",")
            flux = 3.836e6 * 10 ** (-0.4 * table[:, 1])
            x, mask = preprocess.light_curve(table[:, 0], flux, flux * table[:, 2] / 1.0857, np.zeros(4))
            assert np.isfinite(x).all() and mask.sum() == min(len(np.unique(table, axis=0)), 200)
