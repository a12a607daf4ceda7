"""Models of galaxies in Python and as folders: raw observations in, released files converted to the native form."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from safetensors.torch import load_file

import astrom3
from astrom3.cli.config import compose
from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError
from astrom3.export.__main__ import export
from astrom3.modalities.cutout import from_paired
from astrom3.published import native

CHECKPOINTS = Path(__file__).parent / "conformance" / "astroclip" / "checkpoints"
GRID = 3600 + 0.8 * np.arange(7781)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small aligned model in a folder, and loaded."""
    torch.manual_seed(0)
    spectra = SpecFormer(embed_dim=24, num_layers=1, num_heads=2)
    images = VisionTransformer(embed_dim=24, depth=1, num_heads=2)
    folder = native.save(AlignedTowers({"spectra": spectra, "images": images}, 24), tmp_path_factory.mktemp("model"))
    return astrom3.load(folder, device="cpu")


def observations(n=3, seed=0):
    random = np.random.default_rng(seed)
    images = random.normal(0.2, 1, (n, 3, 152, 152)).astype(np.float32)
    spectra = random.normal(3, 1, (n, 7781)).astype(np.float32)
    return images, spectra


def test_arrays_are_embedded_as_the_network_does(model):
    images, spectra = observations()
    found = model.embed(images=images, spectra=spectra)
    batch = {"cutout/flux": torch.from_numpy(images), "specformer/flux": torch.from_numpy(spectra)}
    with torch.inference_mode():
        expected = model.network(batch)
    for slot in ("images", "spectra"):
        np.testing.assert_allclose(found.embeddings[slot], expected[slot], atol=1e-6)
        assert found.present[slot].all() and found.decisions == []
    assert model.classes == () and model.modalities == ("spectra", "images")


def test_one_object_in_every_form_gives_one_embedding(model, tmp_path):
    images, spectra = observations(1)
    fits.PrimaryHDU(images[0], fits.Header({"BANDS": "grz"})).writeto(tmp_path / "cutout.fits")
    fits.PrimaryHDU(images[0][::-1], fits.Header({"BANDS": "zrg"})).writeto(tmp_path / "turned.fits")
    np.save(tmp_path / "cutout.npy", images[0].transpose(1, 2, 0))
    planes = dict(zip("grz", images[0], strict=True))
    expected = model.embed(images=images[0]).embeddings["images"]
    for given in (images, torch.from_numpy(images), [images[0]], planes, tmp_path / "cutout.fits",
                  tmp_path / "turned.fits", str(tmp_path / "cutout.npy")):  # fmt: skip
        np.testing.assert_allclose(model.embed(images=given).embeddings["images"], expected, atol=1e-6)
    expected = model.embed(spectra=spectra[0]).embeddings["spectra"]
    for given in (spectra, spectra[..., None], [spectra[0]], (GRID, spectra[0], np.ones(7781))):
        np.testing.assert_allclose(model.embed(spectrum=given).embeddings["spectra"], expected, atol=1e-5)


def test_gaps_and_bad_objects_are_listed(model, tmp_path):
    images, spectra = observations(4)
    images[1, 2, 5, 5] = np.nan
    found = model.embed(images=[images[0], images[1], np.zeros((2, 152, 152)), None], spectra=[None, *spectra[:3]])
    assert found.present["images"].tolist() == [True, True, False, False]
    assert found.present["spectra"].tolist() == [False, True, True, True]
    reasons = {(d.object_id, d.decision): d.reason for d in found.decisions}
    assert reasons["1", "repaired"] == "1 lost pixels set to 0"
    assert "missing band: 2 planes" in reasons["2", "rejected"]
    assert not found.embeddings["images"][2:].any()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"images": np.zeros((3, 152, 152))}, "the images cannot be used: all-zero flux"),
        ({"images": np.ones((152, 152))}, r"has the shape \(3, H, W\)"),
        ({"images": {"g": np.ones((64, 64)), "z": np.ones((64, 64))}}, "missing band: r"),
        ({"spectra": np.ones(5000)}, "5000 numbers without wavelengths"),
        ({"spectra": (GRID[:3000], np.ones(3000), np.ones(3000))}, "covers less than half of 3600-9824"),
        ({"light_curve": "x.csv"}, "reads images and spectra of galaxies"),
        ({"images": np.ones((3, 64, 64)), "zero_point": 1.0}, "zero_point is no option for galaxies"),
        ({}, "nothing to work on"),
        ({"images": [None, None], "spectra": [None]}, "2 images and 1 spectra"),
    ],
)
def test_what_does_not_fit_is_said(model, given, sentence):
    with pytest.raises(UserError, match=sentence):
        model.embed(**given)


def test_a_real_desi_file_and_real_cutouts_are_embedded(model, real_dir):
    folder = real_dir / "galaxies"
    cutouts = np.load(folder / "cutouts" / "legacy_cutouts.npz")
    spectrum = folder / "desi" / "coadd-4-80613-thru20210324.fits"
    found = model.embed(images=[cutouts["mzlsbass2"], cutouts["mzlsbass3"]], spectra=[spectrum, None])
    assert found.present["images"].all() and found.present["spectra"].tolist() == [True, False]
    assert np.isfinite(found.mean).all()


@pytest.mark.parametrize(
    ("name", "heads"), [("astroclip", None), ("astrodino", 3), ("specformer", None), ("specformer_trainer", None)]
)
def test_released_files_become_native_by_one_command(name, heads, tmp_path):
    out = tmp_path / "native"
    export(compose([f"model={CHECKPOINTS}/{name}.ckpt", f"out={out}", f"num_heads={heads or 'null'}"], "export"))
    assert native.is_native(out) and "galaxies" in (out / "README.md").read_text()
    assert json.loads((out / "preprocessing.json").read_text())["classes"] == []
    expected = load_file(CHECKPOINTS / "expected.safetensors")
    converted = astrom3.load(out, device="cpu")
    assert converted.classes == ()
    released = astrom3.load(CHECKPOINTS / f"{name}.ckpt", device="cpu", num_heads=heads)
    for key, tensor in released.network.state_dict().items():
        torch.testing.assert_close(converted.network.state_dict()[key], tensor, rtol=0, atol=0)
    spectra = expected["spectrum"][..., 0] if expected["spectrum"].ndim == 3 else expected["spectrum"]
    if name == "astroclip":
        flux = from_paired(expected["flux"])
        with torch.inference_mode():
            towers = converted.network.encoders
            torch.testing.assert_close(towers["images"](flux), expected["astroclip.image"], rtol=1e-4, atol=1e-4)
            found = towers["spectra"](spectra)
            torch.testing.assert_close(found, expected["astroclip.spectrum"], rtol=1e-4, atol=1e-4)
    elif name.startswith("specformer"):
        with torch.inference_mode():
            found = converted.network(spectra)
            torch.testing.assert_close(found, expected[f"{name}.mean"], rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="export of another model"):
        other = "specformer" if name != "specformer" else "astroclip"
        export(compose([f"model={CHECKPOINTS}/{other}.ckpt", f"out={out}"], "export"))
