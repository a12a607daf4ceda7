"""Tables with one row per observation, columns of the big surveys, and light curves in several bands."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.data.layouts import open_source
from astrom3.data.readers import ReadError
from astrom3.data.readers.long import read_long
from astrom3.data.readers.surveys import recognise
from astrom3.data.readers.tables import Columns, LightCurveColumns
from astrom3.errors import UserError
from astrom3.modalities.view import stored_view

STARS = 5


def rows(bands=("zg", "zr")):
    """Observations of some stars as ZTF has them, in no order."""
    rng = np.random.default_rng(0)
    n = STARS * len(bands) * 30
    star = np.repeat(np.arange(STARS), n // STARS)
    order = rng.permutation(n)
    columns = {
        "oid": 10**17 + star,
        "hjd": 2458000 + rng.uniform(0, 500, n),
        "mag": 15 + 0.3 * rng.standard_normal(n),
        "magerr": rng.uniform(0.01, 0.03, n),
        "filtercode": np.tile(bands, n // len(bands)),
        "catflags": np.where(np.arange(n) % 50 == 7, 32768, 0),
    }
    return {name: values[order] for name, values in columns.items()}


def write(path, columns):
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=40)
    elif path.suffix == ".fits":
        Table(columns).write(path)
    else:
        text = ",".join(columns) + "\n"
        text += "".join(",".join(map(str, row)) + "\n" for row in zip(*columns.values(), strict=True))
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.fits"])
def test_a_long_table_in_any_order_gives_each_star_its_points(tmp_path, name):
    columns = rows()
    found = read_long([write(tmp_path / name, columns)], LightCurveColumns(), None, tmp_path / "sorted")
    assert sorted(found.places) == [str(10**17 + i) for i in range(STARS)]
    assert found.rows == len(columns["oid"])
    assert sum(found.left_out.values()) == 6
    good = columns["catflags"] == 0
    for i in range(STARS):
        curve = found.reader(found.places[str(10**17 + i)])
        mine = good & (columns["oid"] == 10**17 + i)
        np.testing.assert_allclose(curve.time, columns["hjd"][mine], rtol=1e-12)
        np.testing.assert_allclose(curve.flux, 3.631e6 * 10 ** (-0.4 * columns["mag"][mine]), rtol=1e-9)
        assert curve.band.tolist() == columns["filtercode"][mine].tolist()


def test_many_files_of_sorting_give_the_same(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", rows())
    one = read_long([path], LightCurveColumns(), None, tmp_path / "one")
    monkeypatch.setattr("astrom3.data.readers.long.BYTES_PER_FILE", 2000)
    many = read_long([path], LightCurveColumns(), None, tmp_path / "many")
    assert len(list((tmp_path / "many").iterdir())) > 1
    for name in one.places:
        np.testing.assert_array_equal(one.reader(one.places[name]).time, many.reader(many.places[name]).time)


def test_ids_that_lost_digits_are_refused(tmp_path):
    columns = rows()
    path = write(tmp_path / "a.parquet", columns | {"oid": columns["oid"].astype(float)})
    with pytest.raises(ReadError, match="floating point numbers, which lose digits"):
        read_long([path], LightCurveColumns(), None, tmp_path / "sorted")


@pytest.mark.parametrize(
    ("names", "survey"),
    [
        (("oid", "hjd", "mag", "magerr", "filtercode", "catflags"), "ZTF"),
        (("objectId", "jd", "fid", "magpsf", "sigmapsf"), "ZTF alerts"),
        (("asas_sn_id", "jd", "flux", "flux_err", "phot_filter", "quality"), "ASAS-SN"),
        (("source_id", "band", "time", "mag", "flux", "flux_error"), "Gaia epoch photometry"),
        (("MasterID", "Mag", "Magerr", "RA", "Decl", "MJD", "Blend"), "CRTS"),
        (("diaObjectId", "midpointMjdTai", "psfFlux", "psfFluxErr", "band"), "Rubin"),
        (("TIME", "PDCSAP_FLUX", "PDCSAP_FLUX_ERR", "QUALITY"), "TESS"),
        (("TIME", "PDCSAP_FLUX", "PDCSAP_FLUX_ERR", "SAP_QUALITY"), "Kepler"),
        (("time", "mag", "mag_err"), None),
    ],
)
def test_surveys_are_recognised_by_their_columns(names, survey, tmp_path):
    found = recognise(names)
    assert (found and found.name) == survey
    columns = Columns(tmp_path / "a.csv", names, [np.empty(0)] * len(names))
    assert LightCurveColumns().taken(columns).startswith("taken as")


def test_gaia_errors_come_from_the_flux(tmp_path):
    values = {"time": [1.0, 2], "mag": [15.0, np.nan], "flux": [100.0, 1], "flux_error": [2.0, 1], "band": ["G", "G"]}
    columns = Columns(tmp_path / "a.csv", list(values), [np.array(value) for value in values.values()])
    curve = LightCurveColumns().of(columns)
    np.testing.assert_allclose(curve.flux, [3.22875e6 * 10**-6.0])
    np.testing.assert_allclose(curve.flux_err / curve.flux, 0.02)


def converted(*options):
    """Run the verb in this process; gives its summary."""
    return convert(compose([*options, "seeds=[42]", "workers=1"], "convert"))


def test_a_data_set_keeps_bands_and_networks_of_one_band_take_one(tmp_path):
    curves = write(tmp_path / "curves.parquet", rows())
    (tmp_path / "stars.csv").write_text("star,class\n" + "".join(f"{10**17 + i},EW\n" for i in range(STARS)))
    out = tmp_path / "out"
    converted(f"observations={curves}", f"table={tmp_path}/stars.csv", "id=star", "label=class", f"out={out}")
    listed = json.loads((out / "dataset.json").read_text())["bands"]
    assert [(band["name"], band["wavelength"], band["objects"]) for band in listed] == [
        ("zg", 4720.0, STARS),
        ("zr", 6200.0, STARS),
    ]
    alone = tmp_path / "alone"
    converted(f"observations={curves}", f"table={tmp_path}/stars.csv", "id=star", "label=class", f"out={alone}",
              "band=zr")  # fmt: skip
    one = stored_view("photometry")
    several = open_source(out, band="zr").tables["train"]
    single = open_source(alone).tables["train"]
    for group in single.groups:
        expected = next(iter(single.pieces(group, one))).data
        found = next(iter(several.pieces(group, one))).data
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        both = next(iter(several.pieces(group, "photometry-bands"))).data
        assert len(both.values) > 1.9 * len(expected.values)
        scaled = next(iter(single.pieces(group, "photometry-scaled"))).data
        red = next(iter(single.pieces(group, "photometry-bands"))).data
        np.testing.assert_array_equal(red.values[:, :3], scaled.values)
        np.testing.assert_allclose(red.values[:1, 3], scaled.constants[:1, 0])
    with pytest.raises(UserError, match="have the bands zg, zr"):
        open_source(out, band="V")
    with pytest.raises(UserError, match="do not say their bands"):
        open_source(alone, band="V")


def test_observations_alone_are_a_data_set_without_labels(tmp_path):
    curves = write(tmp_path / "curves.csv", rows(("zg",)))
    summary = converted(f"observations={curves}", f"out={tmp_path}/out")
    assert summary["objects"] == STARS
    assert summary["unlabelled"] == STARS
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]
