"""What users hold in their hands: LightCurves of lightkurve, several bands, ids that are numbers, results as tables."""

import csv
import importlib.util
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from astropy import units as u
from astropy.time import Time
from astropy.timeseries import TimeSeries
from astropy.utils.masked import Masked

from astrom3.data.bands import WAVELENGTHS
from astrom3.data.readers import Spectrum
from astrom3.data.readers.tables import LightCurveColumns
from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.astromer import Astromer
from astrom3.encoders.magnitudes import MagnitudeMLP
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.towers import Classifier
from astrom3.errors import UserError
from astrom3.inference.light_curves import Curves, light_curve_of
from astrom3.inference.observations import Options, uncovered
from astrom3.inference.trained import TrainedModel

COUNT_RATE = u.electron / u.s


class LightCurve(TimeSeries):
    """The form of lightkurve's: a TimeSeries whose required columns are time, flux and flux_err."""

    _required_columns: ClassVar = ["time", "flux", "flux_err"]


def light_curve_class():
    """lightkurve's own where it is installed."""
    if importlib.util.find_spec("lightkurve"):
        import lightkurve

        return lightkurve.LightCurve
    return LightCurve


def arrays(n=150, seed=0):
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, 27, n)) + 2459000
    return time, 1200 + 100 * np.sin(time) + rng.normal(0, 5, n), np.full(n, 5.0)


def kepler_like(mission=None, masked=False):
    time, flux, error = arrays()
    values = flux * COUNT_RATE
    if masked:
        values = Masked(values, mask=np.arange(len(flux)) < 3)
    curve = light_curve_class()({"time": Time(time, format="jd", scale="tdb"), "flux": values,
                                 "flux_err": error * COUNT_RATE})  # fmt: skip
    if mission is not None:
        curve.meta["MISSION"] = mission
    return curve


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    encoder = Astromer(1, layers=1, d_model=16, n_heads=2, d_ff=16).eval()
    return TrainedModel("made up", encoder, (), None)


def test_counts_of_a_known_mission_are_what_convert_makes_of_its_files(tmp_path):
    time, flux, error = arrays()
    path = tmp_path / "tess.csv"
    rows = zip(time.tolist(), flux.tolist(), error.tolist(), strict=True)
    lines = [f"{t},{f},{e},0" for t, f, e in rows]
    path.write_text("\n".join(["time,pdcsap_flux,pdcsap_flux_err,quality", *lines]) + "\n")
    of_file = LightCurveColumns().read(path)
    handed = light_curve_of(kepler_like("TESS"), Options())
    np.testing.assert_allclose(handed.flux, of_file.flux, rtol=1e-12)
    np.testing.assert_allclose(handed.flux_err, of_file.flux_err, rtol=1e-12)
    np.testing.assert_allclose(handed.time, time, atol=1e-8)
    assert handed.notes == ("flux in electron / s has no zero point, made relative as fluxes of TESS are",)


def test_counts_of_nobody_are_relative_to_their_median_and_masked_points_are_lost():
    _, flux, error = arrays()
    handed = light_curve_of(kepler_like(masked=True), Options())
    assert np.isnan(handed.flux[:3]).all() and np.nanmedian(handed.flux) == pytest.approx(1)
    np.testing.assert_allclose(handed.flux[3:], flux[3:] / np.median(flux[3:]), rtol=1e-12)
    np.testing.assert_allclose(handed.flux_err, error / np.median(flux[3:]), rtol=1e-12)
    assert "made relative to its median" in handed.notes[0]


def test_units_that_are_no_counts_are_still_refused():
    time, flux, error = arrays()
    series = TimeSeries(time=Time(time, format="jd"), data={"flux": flux * u.m, "flux_err": error * u.m})
    with pytest.raises(UserError, match="flux is in m, which cannot be converted to mJy"):
        light_curve_of(series, Options())


def test_a_model_takes_them_with_ids_that_are_numbers(model, tmp_path):
    time, flux, error = arrays()
    curves = [kepler_like("TESS"), (time, flux, error)]
    found = model.embed(light_curve=curves, ids=np.array([4112, 77]))
    np.testing.assert_allclose(found.mean[0], found.mean[1], atol=1e-5)  # Astromer reads no zero point
    assert found.ids == (4112, 77) and {d.object_id for d in found.decisions} == {"4112"}
    table = found.to_arrow()
    assert table["object_id"].to_pylist() == [4112, 77] and pa.types.is_fixed_size_list(table["mean"].type)
    with open(found.to_csv(tmp_path / "e.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["object_id"] == "4112" and float(rows[1]["mean_3"]) == pytest.approx(found.mean[1, 3], rel=1e-5)
    with pytest.raises(UserError, match="ids= names 1 objects, and 2 were handed in"):
        model.embed(light_curve=curves, ids=[1])


def test_classes_as_a_frame_and_a_csv(model, tmp_path):
    torch.manual_seed(1)
    classifier = TrainedModel("made up", Classifier(Astromer(1, layers=1, d_model=16, n_heads=2, d_ff=16), 2).eval(),
                              ("EA", "RR"), None)  # fmt: skip
    found = classifier.classify(light_curve=[arrays(), arrays(seed=1)], ids=["a", "b"])
    with open(found.to_csv(tmp_path / "c.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["object_id", "predicted", "p(EA)", "p(RR)"]
    assert [row["predicted"] for row in rows] == found.labels
    assert float(rows[0]["p(EA)"]) + float(rows[0]["p(RR)"]) == pytest.approx(1, abs=1e-5)
    if importlib.util.find_spec("pandas"):
        frame = found.to_pandas()
        assert frame["object_id"].tolist() == ["a", "b"] and frame["predicted"].tolist() == found.labels


def in_bands():
    """A table of two bands, 100 points in r and 50 in g."""
    time, flux, error = arrays()
    band = np.where(np.arange(len(time)) % 3 == 0, "g", "r")
    return {"time": time, "flux": np.where(band == "g", 0.5 * flux, flux), "flux_err": error, "band": band}


def test_the_best_sampled_band_is_taken_unless_another_is_asked_for(model):
    table = in_bands()
    chosen = {name: tuple(table[c][table["band"] == name] for c in ("time", "flux", "flux_err")) for name in "gr"}
    both = model.embed(light_curve=table)
    np.testing.assert_array_equal(both.mean, model.embed(light_curve=chosen["r"]).mean)
    assert [d.reason for d in both.decisions] == ["of the bands g, r the best sampled, r, is taken"]
    green = model.embed(light_curve=table, band="g")
    np.testing.assert_array_equal(green.mean, model.embed(light_curve=chosen["g"]).mean)
    assert not green.decisions
    with pytest.raises(UserError, match="band=i: the light curve has the bands g, r"):
        model.embed(light_curve=table, band="i")
    with pytest.raises(UserError, match="no column of bands"):
        model.embed(light_curve=chosen["g"], band="g")
    with pytest.raises(UserError, match="the options are system, zero_point, air, features, band, wavelengths"):
        model.embed(light_curve=table, passband="g")


def test_networks_of_several_bands_get_the_wavelength_of_every_point():
    curves = Curves([light_curve_of(in_bands(), Options()), light_curve_of(arrays(), Options())])
    offsets, _, _, _, lengths = curves.columns(True)
    assert offsets.tolist() == [0, 150, 300] and (lengths[150:] == 0).all()
    assert set(lengths[:150].tolist()) == {WAVELENGTHS["g"], WAVELENGTHS["r"]}
    one = curves.columns(False)
    assert one[0].tolist() == [0, 100, 250] and len(one) == 4
    odd = in_bands() | {"band": np.full(150, "b1")}
    with pytest.raises(UserError, match="wavelength of the band b1 is not known"):
        Curves([light_curve_of(odd, Options())]).columns(True)
    known = Curves([light_curve_of(odd, Options())], {"b1": 4500.0})
    assert set(known.columns(True)[4].tolist()) == {4500.0}


def test_a_spectrum_that_covers_a_part_is_said():
    def told(first, last):
        pixels = np.linspace(first, last, 2000)
        return [d.reason for d in uncovered("0", Spectrum(pixels[::-1], np.ones(2000), np.ones(2000)))]

    assert told(3700, 9100) == []
    assert len(told(3700, 6000)) == 1 and "covers a part of 3850-8998 Angstrom" in told(3700, 6000)[0]
    assert uncovered("0", Spectrum(np.empty(0), np.empty(0), np.empty(0))) == []


MAGNITUDES = {"mag_g": 18.0, "mag_r": 17.5, "mag_z": 17.1}
FLUX = 1 + 0.1 * np.sin(np.arange(7781) / 50)


def galaxies(network, classes=()):
    torch.manual_seed(0)
    return TrainedModel("galaxies", network().eval(), classes, None)


def test_magnitudes_of_galaxies_stand_in_rows_of_a_catalogue():
    model = galaxies(lambda: AlignedTowers({"spectra": SpecFormer(8, 1, 2), "photometry": MagnitudeMLP(8, 1)}, 8, 2))
    found = model.embed(spectrum=[FLUX, FLUX, None], metadata=[MAGNITUDES, None, MAGNITUDES])
    assert {name: there.tolist() for name, there in found.present.items()} == {
        "spectra": [True, True, False],
        "photometry": [True, False, True],
    }
    alone = model.embed(metadata=MAGNITUDES).mean[0]
    np.testing.assert_allclose(alone, found.mean[2], atol=1e-6)
    row = MAGNITUDES | {"mag_g": None}
    with pytest.raises(UserError, match="the photometry cannot be used"):
        model.embed(metadata=row)
    for wrong, sentence in (
        ({"u": 1}, "u is no column that the model reads: there are mag_g, mag_r, mag_z"),
        (MAGNITUDES | {"mag_z": "faint"}, "mag_z='faint' of the catalogue is no number"),
        (["faint"], "a row of the catalogue is a str"),
    ):
        with pytest.raises(UserError, match=sentence):
            model.embed(metadata=wrong)


def test_a_classifier_of_galaxies_takes_what_embed_takes():
    model = galaxies(lambda: Classifier(SpecFormer(8, 1, 2), 2), ("elliptical", "spiral"))
    found = model.classify(spectrum=[FLUX, None], ids=["A", "B"])
    assert found.labels[0] in model.classes and found.labels[1] is None
    assert found.probabilities[0].sum() == pytest.approx(1)
    np.testing.assert_array_equal(model.classify(spectra=FLUX).probabilities[0], found.probabilities[0])
    with pytest.raises(UserError, match="knows spectra, not metadata"):
        model.classify(metadata=MAGNITUDES)
    with pytest.raises(UserError, match="two names of one argument"):
        model.classify(spectrum=FLUX, spectra=FLUX)
