"""Facts about the simulated galaxy survey: bytes, ranges, correlations, lines, breaks, seeing, noise, information."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from astrom3.errors import UserError
from astrom3.simulate.galaxies import discs, images, populations, spectra, stellar, survey

pytestmark = pytest.mark.slow

SMALL = 64


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    return survey.draw(0, 0, 300, SMALL)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_two_workers_write_the_bytes_of_one(tmp_path):
    one = survey.write(tmp_path / "one", objects=70, seed=4, workers=1, image_size=32)
    two = survey.write(tmp_path / "two", objects=70, seed=4, workers=2, image_size=32)
    assert _hashes(one) == _hashes(two)
    other = survey.write(tmp_path / "other", objects=3, seed=5, workers=1, image_size=32)
    first = pq.read_table(one / "objects").slice(0, 3)
    assert not first.equals(pq.read_table(other / "objects"))


def test_a_folder_has_the_layout_that_the_schema_says(tmp_path):
    root = survey.write(tmp_path / "galaxies", objects=20, seed=0, workers=1, image_size=32)
    rows = pq.read_table(root / "objects")
    described = survey.schema(32)
    assert rows.cast(described).num_rows == 20
    assert [field.metadata for field in rows.schema] == [field.metadata for field in described]
    about = rows.schema.field("image").metadata
    shape = json.loads(about[b"shape"])
    image = rows["image"].combine_chunks().values.to_numpy().reshape(-1, *shape)
    assert image.shape == (20, 32, 32, 3)
    np.testing.assert_array_equal(image[7].T, survey.galaxy(0, 7, 32).image)
    dataset = json.loads((root / "dataset.json").read_text())
    assert dataset["provenance"]["simulated"] is True
    splits = pq.read_table(root / "splits" / "full_42.parquet")
    assert splits["object_id"].to_pylist() == rows["object_id"].to_pylist()
    assert set(splits["split"].to_pylist()) == {"train", "validation", "test"}


def test_galaxies_may_lack_an_image_or_a_spectrum_and_nothing_else_changes(tmp_path):
    whole = pq.read_table(survey.write(tmp_path / "whole", 40, image_size=16) / "objects")
    lacking = pq.read_table(
        survey.write(tmp_path / "lacking", 40, image_size=16, missing_images=0.3, missing_spectra=0.5) / "objects"
    )
    assert 4 <= lacking["image"].null_count <= 20 and 10 <= lacking["spectrum"].null_count <= 30
    assert lacking["ivar"].null_count == lacking["spectrum"].null_count and lacking["mag_g"].null_count == 0
    for name in whole.column_names:
        there = lacking[name].is_valid()
        assert lacking[name].filter(there).to_pylist() == whole[name].filter(there).to_pylist(), name


def test_bad_requests_get_one_sentence(tmp_path):
    with pytest.raises(UserError, match="too few"):
        survey.write(tmp_path / "a", objects=2)
    with pytest.raises(UserError, match="image_size=15"):
        survey.write(tmp_path / "a", objects=5, image_size=15)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        survey.write(tmp_path / "mine", objects=3, image_size=32)
    with pytest.raises(UserError, match="not a data set of this program"):
        survey.write(tmp_path / "mine", objects=3, image_size=32, overwrite=True)


def test_every_number_is_finite_and_in_range(table):
    for name, values in table.items():
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), name
    assert table["image"].dtype == np.float32
    assert table["spectrum"].shape == (300, 7781)
    assert (table["ivar"] >= 0).all()
    assert (table["ivar"] == 0).mean() < 0.002
    assert table["redshift"].min() > 0.005
    assert table["redshift"].max() < 0.61
    assert 14 < np.median(table["mag_r"]) < survey.LIMIT
    assert table["log_mass"].min() > 7.5
    assert table["age"].max() < 13.7
    assert set(table["label"]) == set(populations.MORPHOLOGIES)


def test_properties_are_correlated_as_in_nature(table):
    def correlation(a, b):
        return np.corrcoef(a, b)[0, 1]

    colour = table["mag_g"] - table["mag_r"]
    assert correlation(table["redshift"], table["log_mass"]) > 0.3  # the limit in magnitude
    assert correlation(table["log_mass"], table["metallicity"]) > 0.4
    assert correlation(table["log_mass"], table["log_ssfr"]) < -0.2
    assert correlation(colour, table["log_ssfr"]) < -0.3
    assert correlation(colour, table["redshift"]) > 0.3
    assert correlation(table["age"], table["log_ssfr"]) < -0.4
    ellipticals = table["label"] == "elliptical"
    spirals = table["label"] == "spiral"
    assert table["log_ssfr"][ellipticals].mean() < table["log_ssfr"][spirals].mean() - 1


def test_massive_galaxies_of_a_kind_are_larger():
    rng = np.random.default_rng(1)
    members = [populations.draw(rng, survey.LIMIT) for _ in range(400)]
    for kinds in (("elliptical",), ("spiral", "barred_spiral")):
        mass = [member.log_mass for member in members if member.morphology in kinds]
        radius = [np.log(member.radius) for member in members if member.morphology in kinds]
        assert np.corrcoef(mass, radius)[0, 1] > 0.3


def test_emission_lines_stand_at_one_plus_z():
    member = next(g for g in (survey.galaxy(0, i, 32) for i in range(100)) if 0.05 < g.properties.redshift < 0.4
                  and g.properties.log_ssfr > -9.6)  # fmt: skip
    for name in ("H alpha", "[O III] 5008", "H beta"):
        expected = spectra.LINES[name] * (1 + member.properties.redshift)
        near = np.abs(spectra.GRID - expected) < 12
        peak = spectra.GRID[near][np.argmax(member.true_spectrum[near])]
        assert abs(peak - expected) < 2.0, name


def test_a_line_keeps_its_flux_whatever_its_width():
    strength = np.zeros(len(spectra.LINES))
    strength[spectra.NAMES.index("H alpha")] = 5.0
    for width in (25.0, 300.0):
        flux = spectra._emission(strength, width, redshift=0.2)
        assert flux.sum() * 0.8 == pytest.approx(5.0, rel=1e-3)
    assert flux.max() < spectra._emission(strength, 25.0, redshift=0.2).max() / 3


def test_the_break_at_4000_angstrom_grows_with_age_and_metallicity():
    library = stellar.library().flux
    breaks = stellar.break_4000(library)
    solar = breaks[stellar.METALLICITIES == 0.0][0]
    old = stellar.AGES > 0.1
    assert (np.diff(solar[old]) > 0).all()
    assert 1.0 < solar[0] < 1.3
    assert 1.7 < solar[-1] < 2.3
    assert (np.diff(breaks[:, -1]) > 0).all()


def test_old_galaxies_have_the_stronger_break_in_the_noiseless_spectrum():
    ages = []
    breaks = []
    for index in range(120):
        member = survey.galaxy(2, index, 32)
        rest = spectra.GRID / (1 + member.properties.redshift)
        if rest[0] < 3800:
            ages.append(member.properties.age)
            breaks.append(stellar.break_4000(member.true_spectrum, rest))
    assert np.corrcoef(ages, breaks)[0, 1] > 0.5


def test_stars_of_old_populations_outweigh_their_light():
    library = stellar.library()
    light = library.flux[3].sum(-1)
    assert (np.diff(light[5:]) < 0).all()
    assert 0.5 < library.survived[-1] < 0.65  # Chabrier: about 0.57 after a Hubble time


def test_magnitudes_fade_with_distance_and_flat_spectra_have_no_colour():
    wavelength = stellar.WAVELENGTH
    flat = 1e10 / wavelength**2
    near = spectra.band_fluxes(flat, 0.05)
    assert near / near[1] == pytest.approx(np.ones(3), rel=2e-3)
    far = spectra.band_fluxes(flat, 0.10)
    ratio = (populations.luminosity_distance(0.10) / populations.luminosity_distance(0.05)) ** 2 * 1.05 / 1.10
    assert near[1] / far[1] == pytest.approx(ratio, rel=2e-3)
    assert populations.luminosity_distance(0.1) == pytest.approx(460.3, abs=0.5)  # Mpc, astropy's value
    assert populations.universe_age(0.0) == pytest.approx(13.47, abs=0.02)


def test_a_point_source_has_the_width_of_the_seeing():
    air = images.Atmosphere(np.array([2.4, 2.1, 1.9]), np.array([0.003, 0.005, 0.011]))
    blank = np.zeros((2 * SMALL, 2 * SMALL))
    point = np.array([[1.0, 1e-3, 1e-3]])
    form = images.Shape(point, 0.0, blank, blank, np.array([0.3, -0.2]), np.ones(3))
    image = images.noiseless(form, np.array([[10.0, 20.0, 30.0], [0, 0, 0], [0, 0, 0]]), air)
    side = np.arange(SMALL) - (SMALL - 1) / 2
    assert image.sum((1, 2)) == pytest.approx([10, 20, 30], rel=1e-3)
    for band in range(3):
        x = (image[band].sum(0) * side).sum() / image[band].sum()
        y = (image[band].sum(1) * side).sum() / image[band].sum()
        assert (x, y) == pytest.approx((0.3, -0.2), abs=0.01)
        variance = (image[band].sum(0) * (side - x) ** 2).sum() / image[band].sum()
        wide = (1 - images.WINGS) + images.WINGS * images.WING_WIDTH**2
        # A pixel and a sample each add a twelfth of their squared side.
        assert variance == pytest.approx(wide * air.seeing[band] ** 2, rel=0.03)


def test_disc_and_bulge_lie_at_the_same_place_and_keep_their_flux():
    rng = np.random.default_rng(3)
    for kind in populations.MORPHOLOGIES:
        template = next(m for m in (populations.draw(rng, 19.4) for _ in range(2000)) if m.morphology == kind)
        close = dataclasses.replace(template, redshift=0.15)
        form = images.shape(np.random.default_rng(0), close, 152)
        assert form.disc.sum() == pytest.approx(1)
        assert form.young.sum() == pytest.approx(1)
        assert (form.disc >= 0).all()
        assert form.bulge[:, 0].sum() == pytest.approx(1)
        assert ((form.in_fibre > 0) & (form.in_fibre < 1)).all()


@pytest.mark.parametrize(("arms", "pitch"), [(1, 30.0), (2, 12.0), (3, 20.0), (5, 25.0)])
def test_a_disc_has_the_arms_of_its_galaxy(arms, pitch):
    """Along a logarithmic spiral of the drawn pitch the light varies `arms` times in a turn."""
    rng = np.random.default_rng(5)
    members = (populations.draw(rng, survey.LIMIT) for _ in range(2000))
    template = next(member for member in members if member.morphology == "spiral")
    close = dataclasses.replace(template, arms=arms, pitch=pitch, inclination=1.0)
    plane = discs.Plane(120, np.zeros(2), 0.0, 1.0, 14.0)
    found = []
    for seed in range(4):
        ridge = discs.arms(np.random.default_rng(seed), close, plane)
        ring = (plane.radius > 1) & (plane.radius < 3)
        phase = np.log(plane.radius + 0.1) / np.tan(np.radians(pitch))
        power = {}
        for number in range(1, 8):
            for turn in (-1, 1):
                wave = np.exp(-1j * number * (turn * plane.azimuth - phase))
                power[number, turn] = abs((ridge * wave)[ring].mean())
        found.append(max(power, key=power.get)[0])
    assert found == [arms] * 4


def test_noise_of_the_sky_is_that_of_the_field():
    air = images.Atmosphere(np.array([2.4, 2.1, 1.9]), np.array([0.003, 0.005, 0.011]))
    noise = images.noise(np.random.default_rng(0), np.zeros((3, 152, 152)), air)
    assert noise.std((1, 2)) == pytest.approx(air.noise, rel=0.02)
    neighbours = [np.corrcoef(band[:, 1:].ravel(), band[:, :-1].ravel())[0, 1] for band in noise]
    assert neighbours == pytest.approx([0.3] * 3, abs=0.03)


def test_noise_of_the_spectrum_is_what_the_inverse_variance_says():
    flux = np.full(spectra.PIXELS, 3.0)
    pulls = []
    for seed in range(20):
        measured, weight = spectra.observe(np.random.default_rng(seed), flux)
        difference = np.diff(measured) * np.sqrt(weight[1:] * weight[:-1] / np.maximum(weight[1:] + weight[:-1], 1e-9))
        pulls.append(1.4826 * np.median(np.abs(difference)))
        blue = np.median(weight[:100])
        red = np.median(weight[5000:6000])
        assert red > 20 * blue
    assert np.mean(pulls) == pytest.approx(1.0, abs=0.02)


def _r_squared(features: np.ndarray, target: np.ndarray, train: int) -> float:
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(100, random_state=0, min_samples_leaf=2).fit(features[:train], target[:train])
    return model.score(features[train:], target[train:])


def test_a_smaller_image_leaves_the_truth_as_it_is():
    full = survey.galaxy(0, 11)
    small = survey.galaxy(0, 11, 32)
    assert full.image.shape == (3, 152, 152)
    assert full.properties.redshift == small.properties.redshift
    np.testing.assert_array_equal(full.properties.formed, small.properties.formed)
    np.testing.assert_array_equal(full.fluxes, small.fluxes)


def test_the_picture_shows_galaxies_in_the_stretch_of_the_networks(tmp_path):
    from matplotlib.image import imread

    from astrom3.simulate.galaxies import figure

    flat = figure.stretched(np.full((3, 4, 4), 0.1))
    value = 0.1 * np.array([2.2, 3.4, 6.0]) + 0.03  # z, r, g as red, green, blue
    expected = value * np.arcsinh(20 * value.mean()) / np.sqrt(20) / value.mean()
    np.testing.assert_allclose(flat[0, 0], np.clip(expected, 0, 1))
    figure.plot(figure.varied(0, 2, brighter=18.5), tmp_path / "two.png")
    picture = imread(tmp_path / "two.png")
    assert picture.shape[1] == 2080
    assert picture[..., :3].std() > 0.1


@pytest.mark.slow
def test_spectra_tell_redshift_better_than_images_and_magnitudes_which_are_better_than_chance():
    """The order of the published R2: spectra .99, images .79, photometry .68."""
    columns = survey.draw(1, 0, 700, SMALL)
    target = columns["redshift"]
    weight = columns["ivar"][:, :7780].reshape(700, -1, 20)
    binned = (columns["spectrum"][:, :7780].reshape(700, -1, 20) * weight).sum(-1) / np.maximum(weight.sum(-1), 1e-9)
    level = np.abs(np.median(binned, axis=1, keepdims=True)) + 0.01
    _, _, axes = np.linalg.svd(np.arcsinh(binned / level)[:550], full_matrices=False)
    spectrum = np.arcsinh(binned / level) @ axes[:20].T
    side = np.arange(SMALL) - (SMALL - 1) / 2
    distance = np.hypot(side, side[:, None])
    image = np.hstack([np.arcsinh(columns["image"][:, distance < r].sum(1)) for r in (2, 3, 5, 8, 12, 20)])
    from_spectrum = _r_squared(spectrum, target, 550)
    from_image = _r_squared(image, target, 550)
    magnitudes = np.stack([columns["mag_g"], columns["mag_r"], columns["mag_z"]], axis=1)
    from_photometry = _r_squared(np.hstack([magnitudes, np.diff(magnitudes)]), target, 550)
    assert from_spectrum > max(from_image, from_photometry) + 0.05
    assert min(from_image, from_photometry) > 0.3
    assert from_spectrum > 0.6
    shuffled = np.random.default_rng(0).permutation(target)
    assert _r_squared(image, shuffled, 550) < 0.1
