"""Spectra of SDSS and DESI, and other wavelength grids."""

import numpy as np
import pytest
from astropy.io import fits

from astrom3.data.readers import ReadError
from astrom3.data.readers.desi import is_desi, read_desi, targets_of
from astrom3.data.readers.sdss import is_sdss, read_sdss
from astrom3.errors import UserError
from astrom3.modalities.resampling import coverage, resample


def overlaps(wavelength, flux, ivar, grid):
    """Carnall 2017 as a dense matrix, for pixels of equal width."""
    half = (wavelength[1] - wavelength[0]) / 2
    wide = (grid[1] - grid[0]) / 2
    high = np.minimum(wavelength[None] + half, grid[:, None] + wide)
    low = np.maximum(wavelength[None] - half, grid[:, None] - wide)
    weights = np.clip(high - low, 0, None)
    total = weights.sum(1)
    return weights @ flux / total, total**2 / (weights**2 @ (1 / ivar))


def test_a_coarser_grid_conserves_flux_and_propagates_errors():
    rng = np.random.default_rng(0)
    wavelength = 4000 + 0.8 * np.arange(2000)
    flux = rng.normal(5, 1, 2000)
    ivar = rng.uniform(1, 4, 2000)
    grid = np.arange(4100.3, 5500, 2.0)
    found = resample(wavelength, flux, ivar, grid)
    expected_flux, expected_ivar = overlaps(wavelength, flux, ivar, grid)
    np.testing.assert_allclose(found.flux, expected_flux, rtol=1e-9)
    np.testing.assert_allclose(found.ivar, expected_ivar, rtol=1e-9)
    assert found.coverage == 1


def test_an_equal_or_finer_grid_is_interpolated():
    wavelength = 10 ** (3.58 + 1e-4 * np.arange(3900))
    flux = np.sin(wavelength / 300)
    grid = np.arange(3850.0, 9000, 2)
    found = resample(wavelength, flux, np.full(3900, 4.0), grid)
    np.testing.assert_allclose(found.flux, np.interp(grid, wavelength, flux), rtol=1e-12, atol=1e-12)
    assert found.ivar.min() >= 4 - 1e-9
    assert found.ivar.max() <= 8 + 1e-9  # half-way between two pixels the variance is halved


def test_what_was_not_observed_is_reported():
    wavelength = np.arange(4000.0, 5001, 1)
    flux = np.ones(1001)
    ivar = np.ones(1001)
    ivar[(wavelength > 4400) & (wavelength < 4600)] = 0
    flux[500] = np.nan
    for grid, method in ((np.arange(3500.0, 5500, 4), "conserving"), (np.arange(3500.0, 5500, 0.5), "linear")):
        found = resample(wavelength, flux, ivar, grid)
        np.testing.assert_array_equal(found.flux, resample(wavelength, flux, ivar, grid, method).flux)
        seen = (grid >= 4000) & (grid <= 5000) & ~((grid > 4400.5) & (grid < 4599.5))
        assert abs(found.coverage - seen.mean()) < 0.01
        assert not found.flux[~found.covered].any()
        assert not found.ivar[~found.covered].any()
        np.testing.assert_allclose(found.flux[found.covered], 1, rtol=1e-12)


def test_no_overlap_and_wrong_requests():
    wavelength = np.arange(4000.0, 4100)
    assert resample(wavelength, wavelength, None, np.arange(5000.0, 5100)).coverage == 0
    assert resample(wavelength[:1], wavelength[:1], None, np.arange(5000.0, 5100)).coverage == 0
    assert coverage(wavelength, np.arange(4000.0, 4200)) == 0.5
    with pytest.raises(UserError, match="auto, conserving, linear"):
        resample(wavelength, wavelength, None, wavelength, "cubic")
    with pytest.raises(UserError, match="increasing"):
        resample(wavelength, wavelength, None, wavelength[::-1])


def write_spec(path, flux, loglam, ivar):
    names = {"flux": flux, "loglam": loglam, "ivar": ivar, "and_mask": np.zeros(len(flux))}
    columns = [fits.Column(name, "E", array=values) for name, values in names.items()]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="COADD")]).writeto(path)


def test_sdss_files_old_and_new(tmp_path):
    loglam = 3.58 + 1e-4 * np.arange(1000)
    flux = np.linspace(1, 2, 1000)
    ivar = np.full(1000, 4.0)
    ivar[10:13] = 0
    write_spec(tmp_path / "spec-1.fits", flux, loglam, ivar)
    image = np.stack([flux, flux, np.where(ivar > 0, 0.5, 0), 0 * flux, 0 * flux])
    old = fits.PrimaryHDU(image.astype(np.float32))
    old.header.update(TELESCOP="SDSS 2.5-M", COEFF0=3.58, COEFF1=1e-4)
    old.writeto(tmp_path / "spSpec-1.fit")
    for name in ("spec-1.fits", "spSpec-1.fit"):
        assert is_sdss(tmp_path / name)
        found = read_sdss(tmp_path / name)
        assert len(found.flux) == 997
        assert found.notes == ("3 pixels without information left out",)
        np.testing.assert_allclose(found.wavelength, np.delete(10**loglam, [10, 11, 12]), rtol=1e-6)
        np.testing.assert_allclose(found.ivar, 4, rtol=1e-6)
    (tmp_path / "short.fits").write_bytes((tmp_path / "spec-1.fits").read_bytes()[:9000])
    with pytest.raises(ReadError, match="corrupt or truncated"):
        read_sdss(tmp_path / "short.fits")


def test_lamost_is_not_taken_for_sdss(real_dir):
    for path in sorted((real_dir / "lamost-formats").iterdir()):
        assert not is_sdss(path)
        assert not is_desi(path)


def test_a_desi_coadd_is_read_as_published(real_dir):
    path = real_dir / "galaxies" / "desi" / "coadd-4-80613-thru20210324.fits"
    assert is_desi(path)
    target = int(targets_of(path)[0])
    found = read_desi(path)
    named = read_desi(f"{path}#{target}")
    np.testing.assert_array_equal(found.flux, named.flux)
    published = np.load(real_dir / "galaxies" / "desi" / "desi_spectra_7781.npz")
    row = np.flatnonzero(published["targetid"] == target)[0]
    onto = resample(found.wavelength, found.flux, found.ivar, published["wavelength"])
    same = onto.covered & (published["ivar"][row] > 0)
    assert onto.coverage > 0.99
    np.testing.assert_allclose(onto.flux[same], published["flux"][row][same], rtol=1e-3, atol=1e-3)
    with pytest.raises(ReadError, match="no target 5"):
        read_desi(f"{path}#5")
