"""Readers of light curves and spectra: every format we take, and what a bad file says."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from data_files import put
from raw_layout import lamost_arrays, lamost_bytes

from astrom3.data.readers import ColumnError, ReadError
from astrom3.data.readers.asassn import read_asassn
from astrom3.data.readers.auto import LightCurveReader, SpectrumReader
from astrom3.data.readers.lamost import is_lamost, read_lamost
from astrom3.data.readers.tables import LightCurveColumns, SpectrumColumns, vacuum_wavelength
from astrom3.errors import UserError

HEADER = "HJD,UT Date,Camera,FWHM,Limit,mag,mag_err,flux(mJy),flux_err,Filter"
OLD_HEADER = "JD,HJD,UT_date,FWHM,Diff,Limit,mag,mag_err,Filter"
SERVER = f"""{HEADER}
2458817.82200,2019-11-30.3189394,bi,1.42,16.827,14.418,0.024,6.204,0.135,g
2458817.82322,2019-11-30.3201611,bi,1.39,16.812,13.442,0.025,16.109,0.137,V
2458821.65266,2019-12-04.1495219,bE,1.64,14.513,>14.513,99.990,5.575,1.141,g
2456590.00586,2013-10-24.5041408,ba,2.13,99.990,99.990,99.990,99.990,99.990,V
2458822.00000,2019-12-04.5,bE,1.64,14.513,14.4,0.02,99.990,0.2,V
"""
OLD = f"""{OLD_HEADER}
2458020.899,2458020.901,2017-09-24.3987082,1.54,-1.45,17.053,14.217,0.016,g
2458021.895,2458021.896,2017-09-25.3954324,1.4,-1.45,17.025,14.190,0.016,g
"""


# --- ASAS-SN ----------------------------------------------------------------------------------------------------------


def test_asassn_band_is_chosen_and_non_detections_are_left_out(tmp_path):
    path = put(tmp_path / "lc.csv", SERVER)
    g = read_asassn(path, "g")
    assert g.time.tolist() == [2458817.822] and g.flux.tolist() == [6.204] and g.flux_err.tolist() == [0.135]
    assert g.notes == ("1 non-detections left out",)
    v = read_asassn(path, "V")
    assert v.flux.tolist() == [16.109, 99.99]  # a star of 99.99 mJy is one, with an error that is none of the sentinels


def test_asassn_mix_of_bands_is_refused_and_counted(tmp_path):
    path = put(tmp_path / "lc.csv", SERVER)
    with pytest.raises(ReadError, match=r"lc.csv: a mix of bands, V \(3\), g \(2\): choose one with band="):
        read_asassn(path)
    with pytest.raises(ReadError, match=r"no observations in band r, it has V \(3\), g \(2\)"):
        read_asassn(path, "r")


def test_asassn_header_without_flux_uses_the_measured_zero_points_and_hjd(tmp_path):
    curve = read_asassn(put(tmp_path / "lc.csv", OLD))
    assert curve.time.tolist() == [2458020.901, 2458021.896]
    np.testing.assert_allclose(curve.flux, 3.631e6 * 10 ** (-0.4 * np.array([14.217, 14.190])))
    np.testing.assert_allclose(curve.flux_err / curve.flux, 0.016 * np.log(10) / 2.5)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        ("", ReadError, "file is empty"),
        (b"\x00\xff\xfe\x80garbage", ReadError, "not a text file"),
        (HEADER + "\n", ReadError, "no observations"),
        (SERVER[:-5], ReadError, "corrupt or truncated: row 5 has 9 of 10 columns"),
        (SERVER.replace("14.418", "1x.418"), ReadError, "corrupt: mag is not a number"),
        ("time,brightness\n1,2\n", ColumnError, "not an ASAS-SN server file"),
        (gzip.compress(SERVER.encode())[:-30], ReadError, "corrupt or truncated gzip"),
    ],
)
def test_bad_asassn_files(tmp_path, content, kind, message):
    path = put(tmp_path / "lc.csv", content)
    with pytest.raises(kind, match=message) as error:
        read_asassn(path, "g")
    assert str(error.value).startswith(f"{path}: ")
    with pytest.raises(ReadError, match="no such file"):
        read_asassn(tmp_path / "none.csv")


# --- LAMOST -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", ["image", "coefficients", "table"])
def test_both_lamost_layouts_gzipped_or_not(tmp_path, layout, zipped):
    arrays = lamost_arrays(np.random.default_rng(0))
    data = lamost_bytes(*arrays, layout)
    path = put(tmp_path / ("s.fits.gz" if zipped else "s.fits"), gzip.compress(data) if zipped else data)
    assert is_lamost(path)
    spectrum = read_lamost(path)
    assert all(a.dtype == np.float64 and a.shape == (3909,) for a in spectrum[:3])
    np.testing.assert_allclose(spectrum.wavelength, arrays[0], rtol=1e-7)
    np.testing.assert_array_equal(spectrum.flux, arrays[1].astype(float))
    np.testing.assert_array_equal(spectrum.ivar, arrays[2].astype(float))


def lamost_data(layout="image"):
    return lamost_bytes(*lamost_arrays(np.random.default_rng(0)), layout)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"", "file is empty"),
        (lambda: b"<html>404 not found</html>", "not a FITS file"),
        (lambda: lamost_data()[:40000], "corrupt or truncated FITS"),
        (lambda: lamost_data("table")[:40000], "corrupt or truncated FITS"),
        (lambda: lamost_data()[:1000], "corrupt or truncated FITS"),
        (lambda: gzip.compress(lamost_data())[:-500], "corrupt or truncated gzip"),
        (lambda: gzip.compress(lamost_data())[:200] + b"x" * 500, "corrupt or truncated gzip"),
    ],
)
def test_bad_lamost_files(tmp_path, content, message):
    path = put(tmp_path / "s.fits", content())
    with pytest.raises(ReadError, match=message) as error:
        read_lamost(path)
    assert str(error.value).startswith(f"{path}: ")


def test_fits_that_is_no_spectrum_says_what_is_in_it(tmp_path):
    fits.BinTableHDU(Table({"a": [1, 2]})).writeto(tmp_path / "s.fits")
    with pytest.raises(ColumnError, match=r"no LAMOST spectrum in it.*\['a'\]"):
        read_lamost(tmp_path / "s.fits")
    with pytest.raises(ReadError, match="no such file"):
        read_lamost(tmp_path / "none.fits")


# --- plain columns ----------------------------------------------------------------------------------------------------


def test_columns_without_header_by_position_with_offset_and_named_system(tmp_path):
    path = put(tmp_path / "215153.dat", "1868.57131,11.769,0.024\n1869.55804,11.014,0.024\n1870.5,99.999,0.1\n")
    curve = LightCurveColumns(time=0, mag=1, mag_err=2, time_offset=2450000, system="asas-sn-V").read(path)
    np.testing.assert_allclose(curve.time, [2451868.57131, 2451869.55804], rtol=0, atol=1e-8)
    np.testing.assert_allclose(curve.flux, 3.836e6 * 10 ** (-0.4 * np.array([11.769, 11.014])))
    assert curve.notes == ("1 non-detections left out",)
    zero = LightCurveColumns(time=0, mag=1, mag_err=2, zero_point=3.836e6, time_offset=2450000).read(path)
    np.testing.assert_array_equal(zero.flux, curve.flux)


@pytest.mark.parametrize("kind", ["csv", "txt", "fits", "vot", "ecsv", "parquet", "csv.gz"])
def test_columns_of_every_format_by_their_usual_names(tmp_path, kind):
    table = Table({"HJD": [1.5, 2.5, 3.5], "flux": [1.0, 2.0, np.nan], "flux_err": [0.1, 0.2, 0.3]})
    path = tmp_path / f"lc.{kind}"
    formats = {"csv": "csv", "txt": "ascii.basic", "fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv"}
    if kind == "parquet":
        pq.write_table(pa.table({n: np.asarray(table[n]) for n in table.colnames}), path)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(b"HJD,flux,flux_err\n1.5,1,0.1\n2.5,2,0.2\n3.5,,0.3\n"))
    else:
        table.write(path, format=formats[kind])
    curve = LightCurveReader()(path)
    assert curve.time.tolist() == [1.5, 2.5, 3.5] and curve.flux_err.tolist() == [0.1, 0.2, 0.3]
    np.testing.assert_array_equal(curve.flux, [1, 2, np.nan])


def test_flux_units_are_converted(tmp_path):
    path = put(tmp_path / "lc.csv", "time,flux,flux_err\n1,0.5,0.1\n")
    assert LightCurveColumns(flux_unit="Jy").read(path).flux.tolist() == [500]
    with pytest.raises(UserError, match=r"light_curves.flux_unit=parsec is no unit"):
        LightCurveColumns(flux_unit="parsec").read(path)


def test_missing_columns_are_named_with_those_there_are(tmp_path):
    path = put(tmp_path / "lc.csv", "t,brightness,err\n1,0.5,0.1\n")
    with pytest.raises(
        ColumnError, match=r"lc.csv: no column known as mag; set columns.mag to one of t, brightness, err"
    ):
        LightCurveColumns().read(path)
    with pytest.raises(ColumnError, match="no column flx"):
        LightCurveColumns(flux="flx").read(path)
    with pytest.raises(ColumnError, match="no column 7"):
        LightCurveColumns(flux=7).read(path)
    relative = LightCurveColumns(mag="brightness").read(path)  # no zero point: magnitude 15 has flux 1
    magnitude = LightCurveColumns(flux="brightness", flux_err="err").read(path).flux
    np.testing.assert_allclose(relative.flux, 10 ** (-0.4 * (magnitude - 15)))
    with pytest.raises(UserError, match="system=vega is not known"):
        LightCurveColumns(mag="brightness", system="vega").read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "empty"), ("time,flux,flux_err\n", "no observations"), ("1,2,3\n1,2\n", "row 2 has 2 of 3"),
     ("time,flux,flux_err\n1,2,bad\n", "column flux_err is not all numbers"), (b"\xff\xfe\x00", "not a text")],
)  # fmt: skip
def test_bad_plain_files(tmp_path, content, message):
    with pytest.raises(ReadError, match=message):
        LightCurveColumns(time=0, flux=1, flux_err=2).read(put(tmp_path / "lc.csv", content))


def test_spectrum_columns_with_inverse_variance_or_error_in_any_unit(tmp_path):
    path = put(tmp_path / "s.csv", "wave,flux,flux_err\n400,1,0.5\n401,2,0\n402,3,nan\n")
    spectrum = SpectrumReader(columns=SpectrumColumns(wavelength_unit="nm"))(path)
    np.testing.assert_allclose(spectrum.wavelength, [4000, 4010, 4020])
    np.testing.assert_array_equal(spectrum.ivar, [4, 0, np.nan])
    with pytest.raises(ColumnError, match="neither an inverse variance nor a flux error"):
        SpectrumColumns().read(put(tmp_path / "t.csv", "wave,flux\n400,1\n"))
    with pytest.raises(UserError, match="wavelength_unit=mag"):
        SpectrumColumns(wavelength_unit="mag").read(path)


def test_air_wavelengths_become_vacuum():
    np.testing.assert_allclose(vacuum_wavelength(np.array([6562.80])), [6564.61], atol=0.01)  # H alpha


def test_formats_are_detected(tmp_path):
    assert len(LightCurveReader(band="g")(put(tmp_path / "a.csv", SERVER)).time) == 1
    with pytest.raises(ColumnError, match="band=V was asked for, but this is no ASAS-SN file"):
        LightCurveReader(band="V")(put(tmp_path / "b.csv", "time,flux,flux_err\n1,2,3\n"))
    assert len(SpectrumReader()(put(tmp_path / "s.fits.gz", gzip.compress(lamost_data()))).flux) == 3909
    with pytest.raises(UserError, match=r"light_curves.format=asasn is none of auto, asassn, columns"):
        LightCurveReader("asasn")
    with pytest.raises(UserError, match=r"spectra.format=hst is none of"):
        SpectrumReader("hst")


# --- real files -------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_real_asassn_files(real_dir):
    files = sorted((real_dir / "asas-sn-csv").glob("*.csv"))
    assert len(files) == 4
    kept = []
    for path in files:
        for band in "Vg":
            try:
                curve = read_asassn(path, band)
            except ReadError as error:
                assert "no observations in band V" in str(error)
                continue
            kept.append((path.name[:14], band, len(curve.time)))
            assert (curve.flux_err > 0).all() and 1 < np.median(curve.flux) < 30 and (curve.flux < 50).all()
    assert [k[1:] for k in kept] == [("g", 84), ("g", 244), ("V", 1159), ("g", 1560), ("g", 577)]
    with pytest.raises(ReadError, match=r"a mix of bands, V \(1166\), g \(1630\)"):
        read_asassn(files[2])


@pytest.mark.real
def test_real_lamost_files(real_dir):
    files = sorted((real_dir / "lamost-dr7").glob("*.fits")) + sorted((real_dir / "lamost-formats").glob("*.fits.gz"))
    assert len(files) == 102
    for path in files:
        spectrum = read_lamost(path)
        assert len(spectrum.flux) in (3908, 3909)
        assert 3690 < spectrum.wavelength[0] < 3710 and 9080 < spectrum.wavelength[-1] < 9110
