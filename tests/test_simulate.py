"""The simulated survey: same seed same bytes, catalogue like the published one, physics visible in the observations."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from astrom3.errors import UserError
from astrom3.modalities.features import string_length
from astrom3.modalities.quality import check_light_curves, check_spectra
from astrom3.modalities.schema import ALL_COLS, CLASSES, OBJECT_SCHEMA, SPECTRUM_TYPE
from astrom3.simulate import lightcurves, populations, spectra
from astrom3.simulate.survey import catalogue_columns, light_curves, plan, simulate

pytestmark = pytest.mark.slow

LABEL = {name: i for i, name in enumerate(CLASSES)}

# Published mean and standard deviation in raw units over 17,421 objects (column statistics of the AstroM3 data set).
PUBLISHED = {
    "mean_vmag": (14.0258, 1.3571), "amplitude": (0.4855, 0.4548), "period": (47.4466, 127.4850),
    "phot_g_mean_mag": (13.5296, 1.6706), "e_phot_g_mean_mag": (0.006989, 0.004869), "lksl_statistic": (0.3285, 0.2692),
    "rfr_score": (0.8378, 0.1372), "phot_bp_mean_mag": (14.2562, 1.3824), "e_phot_bp_mean_mag": (0.02366, 0.02939),
    "phot_rp_mean_mag": (12.8276, 1.8963), "e_phot_rp_mean_mag": (0.01743, 0.01428), "bp_rp": (1.4287, 1.1313),
    "parallax": (0.8936, 1.5304), "parallax_error": (0.03693, 0.05215), "parallax_over_error": (40.951, 78.1671),
    "pmra": (-0.9265, 9.1247), "pmra_error": (0.03804, 0.05335), "pmdec": (-4.5888, 8.3031),
    "pmdec_error": (0.03248, 0.04512), "j_mag": (11.8528, 2.4525), "e_j_mag": (0.02751, 0.01371),
    "h_mag": (11.3768, 2.6904), "e_h_mag": (0.03703, 0.14915), "k_mag": (11.2273, 2.7979),
    "e_k_mag": (0.05219, 0.37595), "w1_mag": (11.1441, 2.8333), "e_w1_mag": (0.04237, 0.05338),
    "w2_mag": (11.1455, 2.8717), "e_w2_mag": (0.03608, 0.03517),
    "w3_mag": (10.5093, 2.5344), "w4_mag": (8.1826, 1.5201), "j_k": (0.6255, 0.4262), "w1_w2": (-0.001357, 0.108617),
    "w3_w4": (2.3267, 1.2874), "pm": (8.3721, 10.1993), "ruwe": (1.5391, 2.5336),
}  # fmt: skip


@pytest.fixture(scope="module")
def catalogue() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return catalogue_columns(3000, seed=1)


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    return simulate(tmp_path_factory.mktemp("survey") / "survey", 300, seed=3)


@pytest.fixture(scope="module")
def objects(survey):
    return pq.read_table(survey / "objects")


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_with_one_and_two_workers(tmp_path):
    one = digests(simulate(tmp_path / "one", 700, seed=5, workers=1))
    two = digests(simulate(tmp_path / "two", 700, seed=5, workers=2))
    assert one == two
    assert digests(simulate(tmp_path / "other", 60, seed=6)) != digests(simulate(tmp_path / "another", 60, seed=7))


def test_counts_are_the_published_ones_and_proportional_in_smaller_surveys():
    assert dict(zip(CLASSES, populations.class_counts(21440), strict=True)) == populations.COUNTS
    for n in (30, 100, 2000, 50000):
        counts = populations.class_counts(n)
        assert counts.sum() == n and counts.min() >= 3
    assert populations.class_counts(2144)[LABEL["EW"]] == pytest.approx(617, abs=1)


@pytest.mark.parametrize("column", [c for c in ALL_COLS if c not in ("l", "b")])
def test_column_is_distributed_as_published(catalogue, column):
    values, (mean, deviation) = catalogue[1][column], PUBLISHED[column]
    assert abs(values.mean() - mean) < 0.5 * deviation
    assert 0.5 < values.std() / deviation < 2


def test_catalogue_columns_agree_with_each_other(catalogue):
    c = catalogue[1]
    assert set(c) == set(ALL_COLS)
    assert all(np.isfinite(v).all() for v in c.values())
    np.testing.assert_allclose(c["pm"], np.hypot(c["pmra"], c["pmdec"]))
    np.testing.assert_allclose(c["parallax_over_error"], c["parallax"] / c["parallax_error"])
    for colour, blue, red in (("bp_rp", "phot_bp_mean_mag", "phot_rp_mean_mag"), ("j_k", "j_mag", "k_mag"),
                              ("w1_w2", "w1_mag", "w2_mag"), ("w3_w4", "w3_mag", "w4_mag")):  # fmt: skip
        np.testing.assert_allclose(c[colour], c[blue] - c[red], atol=1e-9)
    assert (c["l"] >= 0).all() and (c["l"] < 360).all() and (np.abs(c["b"]) < 90).all()
    errors = [name for name in ALL_COLS if name.startswith("e_")] + ["parallax_error", "pmra_error", "pmdec_error"]
    assert all((c[name] > 0).all() for name in errors)


def test_luminosity_follows_from_magnitude_and_parallax(catalogue):
    """RR Lyrae near M_V = 0.8, contact binaries near 4, giants far brighter in K than in V."""
    label, c = catalogue
    sure = c["parallax_over_error"] > 10
    absolute = c["mean_vmag"] - 10 + 5 * np.log10(np.where(sure, c["parallax"], 1))
    assert np.median(absolute[sure & (label == LABEL["EW"])]) == pytest.approx(4.4, abs=0.6)
    assert np.median(absolute[sure & (label == LABEL["RRAB"])]) == pytest.approx(1.1, abs=0.6)
    assert np.median((c["mean_vmag"] - c["k_mag"])[label == LABEL["M"]]) > 6


def test_light_curves_have_the_cadence_of_the_survey():
    seasons = []
    for i in range(200):
        time = lightcurves.observing_times(np.random.default_rng(i))
        assert 100 <= len(time) <= 600
        assert 4 <= np.ptp(time) / 365.25 <= 5.5
        assert (np.diff(time) > 0).all() and 2456000 < time[0] < 2457500
        seasons.append((np.diff(time) > 60).sum())
    assert min(seasons) >= 3 and max(seasons) <= 7


def test_errors_grow_with_magnitude():
    error = lightcurves.magnitude_error(np.array([11.0, 13.0, 15.0, 17.0]))
    assert (np.diff(error) > 0).all() and error[0] < 0.03 and 0.1 < error[-1] < 0.4


def test_true_period_gives_a_shorter_string_than_other_periods():
    survey = plan(120, seed=2)
    curves, _ = light_curves(survey, 0)
    shorter = []
    for (time, flux, _), period in zip(curves, survey.stars.period, strict=True):
        strings = [string_length(flux[np.argsort(time / p % 1)]) for p in period * np.array([1.0, 0.813, 1.177, 1.391])]
        shorter.append(strings[0] < min(strings[1:]))
    assert np.mean(shorter) > 0.85  # some SR are almost irregular


def test_catalogue_period_is_the_true_one_for_most_stars_and_an_alias_for_some():
    survey = plan(600, seed=2)
    _, measured = light_curves(survey, 0)
    right = np.isclose(measured["period"], survey.stars.period)
    assert 0.85 < right.mean() < 0.99


def test_shapes_are_those_of_the_classes():
    """Eclipses are narrow dips; RRAB rise fast and fall slowly; Miras change by magnitudes."""
    time = np.linspace(0, 1, 1000, endpoint=False) + lightcurves.FIRST_HJD

    def curve(name, seed):
        return lightcurves.shape(np.random.default_rng(seed), name, time, 1.0, 1.0)

    algol = np.mean([np.mean(curve("EA", s) > curve("EA", s).min() + 0.3) for s in range(20)])
    contact = np.mean([np.mean(curve("EW", s) > curve("EW", s).min() + 0.3) for s in range(20)])
    assert algol < 0.25 < contact
    rising = np.mean([np.mean(np.diff(curve("RRAB", s)) < 0) for s in range(20)])  # brightening: magnitude falls
    assert 0.1 < rising < 0.3
    labels, columns = catalogue_columns(400, 0)
    assert columns["amplitude"][labels == LABEL["M"]].min() > 1.2
    assert np.median(columns["amplitude"][labels == LABEL["DSCT"]]) < 0.35


def band(flux: np.ndarray, low: float, high: float) -> float:
    return float(flux[(low < spectra.WAVELENGTH) & (high > spectra.WAVELENGTH)].mean())


def test_templates_show_the_lines_and_bands_of_their_temperature():
    def depth(flux, centre, width=6.0, away=40.0):
        beside = 0.5 * (band(flux, centre - away - 20, centre - away) + band(flux, centre + away, centre + away + 20))
        return 1 - band(flux, centre - width, centre + width) / beside

    hot, sun, cool = (spectra.template(t, 0.0, 0.0) for t in (8500, 5800, 4500))
    giant = spectra.template(3200, 1.0, 0.0)
    assert depth(hot, 6564.6) > 0.35 and depth(hot, 6564.6) > 2 * depth(sun, 6564.6)  # H alpha in A stars
    assert depth(cool, 5176.0, 12) > 0.25 > depth(hot, 5176.0, 12)  # Mg b
    assert depth(sun, 3934.8, 5, 30) > 0.3  # Ca K
    assert depth(cool, 5894.6) > 2 * depth(hot, 5894.6)  # Na D
    assert band(giant, 7060, 7120) < 0.6 * band(giant, 6990, 7045)  # TiO
    assert abs(band(sun, 7060, 7120) / band(sun, 6990, 7045) - 1) < 0.05


def test_radial_velocity_moves_the_lines():
    quiet = dict(label=LABEL["RRC"], teff=7500.0, giant=0.3, feh=-1.0, a_v=0.1, v_mag=9.0)
    at_rest, receding = (spectra.spectrum(np.random.default_rng(0), rv=rv, **quiet)[0] for rv in (0.0, 400.0))
    shifts = np.arange(-15, 16)
    line = (spectra.WAVELENGTH > 4200) & (spectra.WAVELENGTH < 5000)
    match = [np.corrcoef(np.diff(np.roll(at_rest, s)[line]), np.diff(receding[line]))[0, 1] for s in shifts]
    assert shifts[int(np.argmax(match))] == pytest.approx(400 / spectra.KMS_PER_PIXEL, abs=1.5)


def test_inverse_variance_describes_the_noise():
    hot = dict(label=LABEL["DSCT"], teff=9800.0, giant=0.0, feh=-2.0, a_v=0.2, rv=0.0, v_mag=15.0)  # few lines
    pulls = []
    for seed in range(20):
        flux, ivar = spectra.spectrum(np.random.default_rng(seed), **hot)
        good = (spectra.WAVELENGTH > 5950) & (spectra.WAVELENGTH < 6250) & (ivar > 0)
        against_neighbours = flux - 0.5 * (np.roll(flux, 1) + np.roll(flux, -1))
        pulls.append(np.std((against_neighbours * np.sqrt(ivar / 1.5))[good]))
    assert np.median(pulls) == pytest.approx(1, abs=0.1)


def test_files_hold_the_observations(survey, objects):
    assert objects.schema.equals(OBJECT_SCHEMA) and len(objects) == 300
    spectrum = objects["spectrum"].combine_chunks()
    wavelength = np.asarray(pc.struct_field(spectrum, "wavelength").flatten()).reshape(300, 3909)
    ivar = np.asarray(pc.struct_field(spectrum, "ivar").flatten())
    flux = np.asarray(pc.struct_field(spectrum, "flux").flatten())
    assert (wavelength == wavelength[0]).all()
    assert 3699.9 < wavelength[0, 0] < 3700.1 and 9098 < wavelength[0, -1] < 9100
    np.testing.assert_allclose(np.diff(np.log10(wavelength[0])), 1e-4, atol=2e-8)
    assert np.isfinite(flux).all() and np.isfinite(ivar).all()
    assert (ivar >= 0).all() and (ivar > 0).mean() > 0.99
    assert len(spectrum.type) == len(SPECTRUM_TYPE)
    for row in objects["light_curve"].to_pylist():
        assert all(np.isfinite(v).all() for v in (row["time"], row["flux"], row["flux_err"]))
        assert min(row["flux"]) > 0 and min(row["flux_err"]) > 0


def test_data_set_says_that_it_is_simulated(survey):
    dataset = json.loads((survey / "dataset.json").read_text())
    said = dataset["provenance"]
    assert said["simulated"] is True and said["generator_version"] >= 1
    assert said["seed"] == 3 and said["n_objects"] == 300
    assert dataset["n_objects"] == 300 and "simulated" in dataset["name"]


def test_mean_magnitude_is_that_of_the_light_curve(objects):
    curves, meta = objects["light_curve"].to_pylist(), objects["meta_cols"].to_pylist()
    for curve, columns in zip(curves, meta, strict=True):
        magnitudes = -2.5 * np.log10(np.array(curve["flux"]) / 3.836e6)
        assert columns["mean_vmag"] == pytest.approx(magnitudes.mean(), abs=1e-6)


def test_nothing_is_rejected_or_repaired(survey, objects):
    rows = list(csv.reader((survey / "rejected.csv").open()))
    assert len(rows) == 1
    for name, check in (("light_curve", check_light_curves), ("spectrum", check_spectra)):
        column = objects[name].combine_chunks()
        lists = [column.field(k) for k in range(3)]
        checked = check(lists[0].offsets.to_numpy(), *(np.asarray(values.values) for values in lists))
        assert checked.accepted.all() and not checked.verdict.any() and not checked.repairs.any()


def test_missing_modalities_and_swapped_labels_are_as_asked_and_change_nothing_else(tmp_path, objects):
    root = simulate(tmp_path / "survey", 300, seed=3, missing_spectra=0.4, missing_light_curves=0.2, swapped_labels=0.1)
    table = pq.read_table(root / "objects")
    assert 0.3 < table["spectrum"].null_count / 300 < 0.5
    assert 0.12 < table["light_curve"].null_count / 300 < 0.28
    swapped = {r["object_id"]: r for r in csv.DictReader((root / "swapped.csv").open())}
    before = dict(zip(objects["object_id"].to_pylist(), objects["label"].to_pylist(), strict=True))
    after = dict(zip(table["object_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert 15 <= len(swapped) <= 45
    assert {i for i in before if before[i] != after[i]} == set(swapped)
    assert all(r["true_label"] == before[i] and r["label"] == after[i] for i, r in swapped.items())
    first = next(i for i, s in enumerate(table["spectrum"].is_valid().to_pylist()) if s)
    assert table["spectrum"][first].as_py() == objects["spectrum"][first].as_py()


@pytest.mark.parametrize("bad", [{"n_objects": 5}, {"missing_spectra": 1.5}, {"swapped_labels": -0.1}])
def test_impossible_surveys_are_refused(tmp_path, bad):
    with pytest.raises(UserError, match=r"simulated survey"):
        simulate(tmp_path / "survey", **{"n_objects": 30, **bad})
    assert not (tmp_path / "survey").exists()
