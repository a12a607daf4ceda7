"""embed, search, analyse and explore on galaxies: what they write are the numbers of the data and the model."""

import io
import json

import numpy as np
import pytest
import torch
from browser import Browser, executable, outside

from astrom3.analyse.__main__ import analyse
from astrom3.cli.config import compose
from astrom3.data.layouts import open_source
from astrom3.data.observed import locate, observations
from astrom3.embed.__main__ import embed
from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.vit import VisionTransformer
from astrom3.explore.__main__ import explore
from astrom3.explore.crossing import nearest_across
from astrom3.explore.pictures import picture
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.cutout import stretch
from astrom3.published import native
from astrom3.search.__main__ import search
from astrom3.simulate.galaxies.survey import draw, write

pytestmark = pytest.mark.slow

N = 64
FOUR = [("images", "images"), ("images", "spectra"), ("spectra", "images"), ("spectra", "spectra")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A simulated survey, an untrained model, its embeddings."""
    root = tmp_path_factory.mktemp("galaxies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROM3_CACHE", str(root / "cache"))
        write(root / "survey", N, seed=4, image_size=32)
        torch.manual_seed(0)
        encoders = {
            "spectra": SpecFormer(embed_dim=16, num_layers=1, num_heads=2),
            "images": VisionTransformer(embed_dim=16, depth=1, num_heads=2),
        }
        native.save(AlignedTowers(encoders, 16), root / "model")
        embed(compose([*common(root), f"model={root}/model", f"out={root}/embeddings", "part=256"], "embed"))
        yield root


def common(root):
    return ["data=local", f"data.path={root}/survey", "device=cpu"]


def test_embeddings_are_those_of_the_network(place):
    found = Embeddings.read(place / "embeddings")
    assert len(found) == N and found.modalities == ("spectra", "images") and set(found.splits) == {
        "train", "validation", "test"}  # fmt: skip
    network = native.load(place / "model")
    truth = draw(4, 0, 3, 32)
    rows = [found.ids.tolist().index(name) for name in truth["object_id"].tolist()]
    flux = np.zeros((3, 3, 152, 152), np.float32)
    flux[:, :, 60:92, 60:92] = truth["image"].transpose(0, 3, 2, 1)
    with torch.inference_mode():
        images = network.embed("images", {"cutout/flux": torch.from_numpy(flux)})
    np.testing.assert_allclose(found.vectors["images"][rows], images, atol=1e-6)


@pytest.mark.parametrize(("by", "find"), FOUR)
def test_search_in_four_directions(place, by, find):
    pytest.importorskip("lancedb")
    found = Embeddings.read(place / "embeddings")
    query = found.ids[7]
    options = [f"index={place}/index", f"by={by}", f"find={find}", "top=4"]
    shown = search(compose([*options, f"embeddings={place}/embeddings", f"id={query}"], "search"))
    asked = found.vectors[by][7] / np.linalg.norm(found.vectors[by][7])
    told = found.vectors[find] / np.linalg.norm(found.vectors[find], axis=1, keepdims=True)
    cosine = told @ asked
    cosine[7] = -2
    expected = found.ids[np.argsort(-cosine)[:4]]
    assert [row["object_id"] for row in shown] == expected.tolist()
    index, _ = nearest_across(found.vectors[by], found.vectors[find], found.present[by], found.present[find], 4)
    assert found.ids[index[7]].tolist() == expected.tolist()


def test_search_by_a_file_of_an_image(place, tmp_path):
    pytest.importorskip("lancedb")
    found = Embeddings.read(place / "embeddings")
    truth = draw(4, 11, 12, 32)
    np.save(tmp_path / "cutout.npy", truth["image"][0].transpose(2, 1, 0))
    options = [f"index={place}/index", f"embeddings={place}/embeddings", "by=images", f"image={tmp_path}/cutout.npy"]
    (best,) = search(compose([*options, "top=1"], "search"))
    assert best["object_id"] == truth["object_id"][0] and best["similarity"] > 1 - 1e-4
    assert len(found) == N


def test_properties_are_told_by_neighbours(place):
    out = place / "analysis"
    names = "what=[fewshot,retrieval,properties]"
    numbers = analyse(compose([*common(place), f"model={place}/model", f"out={out}", names], "analyse"))
    assert numbers["left_out"] == {}
    scores = numbers["properties"]["r2"]
    assert set(scores) == {"spectra", "images", "mean", "g, r, z magnitudes"}
    assert set(scores["images"]) == {"redshift", "log_mass", "log_ssfr", "metallicity", "age"}
    assert scores["g, r, z magnitudes"]["redshift"] > 0.2  # an untrained network promises nothing, magnitudes do
    assert set(numbers["properties"]["redshift"]["images"]) == {"r2", "bias", "scatter", "outliers"}
    assert set(numbers["retrieval"]) == {"spectra -> images", "images -> spectra"}
    assert (out / "properties.png").stat().st_size > 1000
    assert "simulated data" in (out / "report.md").read_text()


@pytest.mark.slow
def test_both_embeddings_side_by_side(place):
    out = place / "panels"
    numbers = analyse(compose([*common(place), f"model={place}/model", f"out={out}", "what=[panels]"], "analyse"))
    assert numbers["panels"]["maps"][0] == "PCA" and numbers["panels"]["coloured_by"] == "redshift"
    assert 0 < numbers["panels"]["pca_share"]["images"] <= 1 and (out / "panels.png").stat().st_size > 5000


def test_observations_of_galaxies_are_decoded(place):
    source = open_source(place / "survey")
    tables, where = locate(source)
    truth = draw(4, 0, 9, 32)
    rows = np.array([where[name][1] for name in truth["object_id"].tolist()])
    for number, one in enumerate(observations(tables[0], rows)):
        assert one.row == rows[number] and one.light_curve is None and one.problems == ()
        np.testing.assert_array_equal(one.image[:, 60:92, 60:92], truth["image"][number].T)
        wavelength, flux, _ = one.spectrum
        good = truth["ivar"][number] > 0
        np.testing.assert_array_equal(flux[good], truth["spectrum"][number][good])
        assert wavelength[0] == 3600 and wavelength[-1] == pytest.approx(9824)


def test_a_picture_has_the_colours_of_the_network_image(place):
    from PIL import Image

    flux = np.zeros((3, 152, 152), np.float32)
    flux[:, 60:92, 60:92] = draw(4, 0, 1, 32)["image"][0].T
    pixels = np.asarray(Image.open(io.BytesIO(picture(flux)))) / 255
    expected = stretch(torch.from_numpy(flux)).numpy().transpose(1, 2, 0)[::-1]
    assert np.abs(pixels - expected).mean() < 0.02


@pytest.fixture(scope="module")
def page(place):
    executable()
    explore(compose([*common(place), f"model={place}/model", "map=pca", f"out={place}/page.html"], "explore"))
    with Browser() as browser:
        browser.open(place / "page.html")
        yield browser


def chosen(page, name):
    page.js(f"astrom3.select(astrom3.number.get({json.dumps(name)}))")
    page.js("astrom3.details.show(astrom3.selected)")


def test_the_page_shows_image_spectrum_and_lines_at_the_redshift(page):
    truth = draw(4, 0, 6, 32)
    name = truth["object_id"][5]
    chosen(page, name)
    assert page.errors == [] and outside(page.requests) == []
    hidden = page.js("[document.getElementById('picture-box').hidden, document.getElementById('curves-box').hidden]")
    assert hidden == [False, True]
    size = page.js("astrom3.data.image(astrom3.selected).then((image) => [image.width, image.height])")
    assert size == [152, 152]
    spectrum = page.js("astrom3.data.spectrum(astrom3.selected).then((s) => [[...s.wavelength], [...s.flux]])")
    good = truth["ivar"][5] > 0
    np.testing.assert_allclose(spectrum[0], 3600 + 0.8 * np.arange(7781), atol=0.02)
    flux = truth["spectrum"][5]
    np.testing.assert_allclose(np.array(spectrum[1])[good], flux[good], atol=np.ptp(flux) / 1000)
    z = truth["redshift"][5]
    marks = page.js("astrom3.details.spectrum.data.marks.map((m) => [m.name, m.wavelength])")
    assert dict(marks)["Hα"] == pytest.approx(6564.6 * (1 + z), abs=0.1)
    assert dict(marks)["⊕ A"] == pytest.approx(7595.8)
    assert f"lines at z = {z:.4f}" in page.js("document.getElementById('spectrum-note').textContent")
    colours = page.js("""(() => { const c = document.getElementById('picture');
        const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return new Set(new Uint32Array(pixels.buffer)).size; })()""")
    assert colours > 100


def test_the_page_has_neighbours_across_modalities(page, place):
    found = Embeddings.read(place / "embeddings")
    row = found.ids.tolist().index("GAL-4-000005")
    asked = found.vectors["images"][row]
    cosine = found.vectors["spectra"] @ asked
    cosine[row] = -2
    page.js("document.getElementById('near-of').value = 'images → spectra'")
    chosen(page, "GAL-4-000005")
    shown = page.js("[...document.querySelectorAll('#near button')].map((e) => astrom3.about.ids[e.dataset.index])")
    assert shown == found.ids[np.argsort(-cosine)[:5]].tolist()
    values = page.js("""Object.fromEntries([...document.querySelectorAll('#catalogue dt')].map((e) =>
        [e.textContent, e.nextElementSibling.textContent]))""")
    assert values["log_mass"].endswith("log10 M_sun") and "period" not in values
    page.js("document.getElementById('near-of').value = 'mean'")
    assert page.errors == []
