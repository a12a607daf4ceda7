"""Objects of other packages and of no package, handed in from Python: read, or refused with the true reason."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.table import Table
from data_files import make_rows, write_ours
from hostile_files import answer
from small_models import save_model

import astrom3
from astrom3.data.readers import ReadError
from astrom3.data.readers.objects import _fields
from astrom3.data.readers.table_files import read_table
from astrom3.encoders.astromer import Astromer
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError
from astrom3.inference.trained import TrainedModel
from astrom3.published import native

N = 60
TIME = np.arange(N) * 1.3 + 2457000
FLUX = 10 + np.sin(TIME)
ERROR = np.full(N, 0.1)
GRID = np.ones(7781) + np.arange(7781) * 1e-4
IMAGE = np.random.default_rng(0).normal(size=(3, 152, 152))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def model(place) -> TrainedModel:
    return astrom3.load(save_model(place / "model", write_ours(place / "survey", make_rows(30))), device="cpu")


@pytest.fixture(scope="module")
def windows(place) -> TrainedModel:
    return astrom3.load(
        native.save(Astromer(layers=1, d_model=16, n_heads=2, d_ff=32), place / "windows"), device="cpu"
    )


@pytest.fixture(scope="module")
def galaxies(place) -> dict[str, TrainedModel]:
    vit = VisionTransformer(img_size=144, patch_size=12, embed_dim=24, depth=1, num_heads=2)
    spectra = SpecFormer(embed_dim=32, num_layers=1, num_heads=2)
    made = {"images": vit, "spectra": spectra}
    return {name: astrom3.load(native.save(network, place / name), device="cpu") for name, network in made.items()}


class Unwilling:
    """Raises what nobody expects where numpy asks for its numbers."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("no numbers today")


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


CURVES: list[tuple[str, Any, str]] = [
    ("dates", (np.datetime64("2020-01-01") + np.arange(N), FLUX, ERROR), "it holds dates"),
    ("spans", (TIME.astype("timedelta64[D]"), FLUX, ERROR), "spans of time"),
    ("complex", (TIME, FLUX.astype(complex), ERROR), "complex numbers"),
    ("too large", (TIME, [10**400] * N, ERROR), "int too large"),
    ("gradients", (torch.tensor(TIME, requires_grad=True), FLUX, ERROR), "requires grad"),
    ("unwilling", (Unwilling(), FLUX, ERROR), "no numbers today"),
    ("a circle", (circle(), FLUX, ERROR), "time is not all numbers"),
    ("missing", (TIME, FLUX, None), "flux error is not all numbers (it is None)"),
    ("words", (["x"] * N, FLUX, ERROR), "could not convert string to float: 'x'"),
    ("float32", (TIME.astype(np.float32), FLUX, ERROR), "rounded to 0.25 days"),
    ("a column twice", {"time": TIME, "Time": TIME, "flux": FLUX, "flux_err": ERROR}, "has the column time twice"),
    ("NUL", "a\0b", "a\\x00b"),
    ("fine", ([Decimal(str(t)) for t in TIME], [Fraction(f) for f in FLUX], ERROR), ""),
]


@pytest.mark.parametrize(("name", "given", "words"), CURVES, ids=[case[0] for case in CURVES])
def test_light_curves(model, name, given, words):
    said = answer(lambda: model.classify(light_curve=given))
    assert words in said and bool(words) == bool(said)


def test_magnitudes_of_non_detections_are_left_out(windows):
    bright = np.where(np.arange(N) == 3, 99.99, FLUX)
    found = windows.embed(light_curve={"time": TIME, "mag": bright, "mag_err": ERROR})
    without = np.arange(N) != 3
    other = windows.embed(light_curve={"time": TIME[without], "mag": FLUX[without], "mag_err": ERROR[without]})
    np.testing.assert_allclose(found.mean, other.mean, atol=1e-6)
    assert "1 non-detections left out" in [decision.reason for decision in found.decisions]


METADATA: list[tuple[Any, str]] = [
    ({"period": [1.0, 2.0]}, "holds 2 numbers"), ({"period": []}, "holds 0 numbers"),
    ({"mean_vmag": datetime(2020, 1, 1)}, "mean_vmag is not all numbers"),
    ({"period": 1.0}, "give the light curve too"),
    ({}, "nothing is given of it"), ({"PERIOD": 1.0}, "did you mean period"), ([None], "nothing is given of it"),
    ({"mean_vmag": 1j}, "complex"), ({"mean_vmag": 1 * u.kg}, "cannot be converted to mag"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words"), METADATA)
def test_catalogue_values(model, given, words):
    assert words in answer(lambda: model.classify(metadata=given))


def test_tables_of_catalogue_values(model):
    import pyarrow as pa

    polars = pytest.importorskip("polars")
    columns = {"period": [1.0, 2.0], "mean_vmag": [12.0, 13.0]}
    curves = [(TIME, FLUX, ERROR)] * 2
    wanted = model.embed(light_curve=curves, metadata=[{name: v[i] for name, v in columns.items()} for i in range(2)])
    for table in (pa.table(columns), polars.DataFrame(columns), Table(columns)):
        np.testing.assert_allclose(model.embed(light_curve=curves, metadata=table).mean, wanted.mean)


IDS: list[tuple[Any, str]] = [
    ("ab", "ids= is a str"), ({"a", "b"}, "ids= is a set"), (5, "ids= is a int"), ([1.5, 2.5], "holds a float"),
    ([None, "b"], "holds a NoneType"), (["a", 1], "text and whole numbers"), ([b"a", b"b"], "holds a bytes"),
    ([10**30, 1], "too large a number"), (["\ud800", "b"], "no text in UTF-8"), (np.array([[1], [2]]), "holds a list"),
    ([True, False], "holds a bool"), (["a"], "names 1 objects, and 2"),
]  # fmt: skip


@pytest.mark.parametrize(("ids", "words"), IDS)
def test_names_of_objects(model, ids, words):
    assert words in answer(lambda: model.embed(light_curve=[(TIME, FLUX, ERROR)] * 2, ids=ids))


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"zero_point": "3"}, "zero_point is '3', not a number"), ({"zero_point": True}, "zero_point is true"),
    ({"zero_point": 1e300}, "at most 1e+12"), ({"zero_point": 1e-300}, "at least 1e-12"), ({"air": 1}, "air is 1"),
    ({"band": ["g"]}, "band is a list"), ({"features": None}, "features is null"), ({"system": 5}, "system is 5"),
    ({"wavelengths": {"g": -1}}, "wavelength of band g is -1"), ({"wavelengths": {5: 5}}, "by the names of bands"),
    ({"wavelengths": [1]}, "by the names of bands"), ({"coverage": "0.9"}, "is no number"),
    ({"coverage": np.float32(0.9)}, "has no confidence.json"), ({"coverage": 2}, "must lie between 0 and 1"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), OPTIONS)
def test_options(model, options, words):
    assert words in answer(lambda: model.classify(light_curve=(TIME, FLUX, ERROR), **options))


LOADING: list[tuple[dict[str, Any], str]] = [
    ({"device": 5}, "device=5 does not exist"), ({"device": ""}, "device= does not exist"),
    ({"device": "meta"}, "device=meta does not exist"), ({"device": None}, "device=None does not exist"),
    ({"device": "cuda:x"}, "device=cuda:x does not exist"), ({"statistics": 5}, "statistics is a int"),
    ({"statistics": []}, "statistics is a list"), ({"device": torch.device("cpu")}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("options", "words"), LOADING)
def test_loading(place, model, options, words):
    said = answer(lambda: astrom3.load(place / "model", **{"device": "cpu", **options}))
    assert words in said and bool(words) == bool(said)


IMAGES: list[tuple[str, Any, str]] = [
    ("sparse", torch.ones(3, 152, 152).to_sparse(), ""), ("bfloat16", torch.ones(3, 152, 152).bfloat16(), ""),
    ("of nothing", torch.ones(3, 152, 152, device="meta"), "no array of numbers"),
    ("ragged", {band: [[1.0, 2.0], [3.0]] for band in "grz"}, "no array of numbers"),
    ("mixed", [IMAGE, [IMAGE, None, "x"]], "no array of numbers"), ("a circle", [circle()], "the image"),
    ("a picture", np.full((152, 152, 3), 200, np.uint8), "a picture of 8 bits"),
    ("in Jy", IMAGE * u.Jy, "it is in Jy"), ("all masked", np.ma.masked_all((3, 152, 152)), "more than half"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "words"), IMAGES, ids=[case[0] for case in IMAGES])
def test_images(galaxies, name, given, words):
    if name == "mixed":
        given = given[1]
        found = [decision.reason for decision in galaxies["images"].embed(images=[IMAGE, given]).decisions]
        assert words in " ".join(found)
        return
    said = answer(lambda: galaxies["images"].embed(images=given))
    assert words in said and bool(words) == bool(said)


def test_masked_pixels_are_lost(galaxies):
    mask = np.broadcast_to(np.arange(152) < 20, IMAGE.shape)
    masked = galaxies["images"].embed(images=np.ma.array(IMAGE, mask=mask))
    lost = galaxies["images"].embed(images=np.where(mask, np.nan, IMAGE))
    np.testing.assert_array_equal(masked.mean, lost.mean)
    assert masked.decisions
    flux = np.ma.array(GRID, mask=np.arange(7781) < 2000)
    spectrum = galaxies["spectra"].embed(spectra=flux)
    assert "2000 lost pixels" in spectrum.decisions[0].reason


SPECTRA: list[tuple[str, Any, str]] = [
    ("words", np.array(["x"] * 7781), "not of numbers"), ("complex", GRID.astype(complex), "not of numbers"),
    ("truths", GRID > 1, "not of numbers"), ("of nothing", torch.ones(7781, device="meta"), "no array of numbers"),
    ("in Jy", GRID * u.Jy, "cannot be converted"), ("in seconds", GRID * u.s, "cannot be converted"),
    ("few pixels", (np.arange(3600, 9900, 200.0), np.ones(32), np.ones(32)), "fewer than 100 pixels"),
    ("bfloat16", torch.from_numpy(GRID).bfloat16(), ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "words"), SPECTRA, ids=[case[0] for case in SPECTRA])
def test_spectra_of_galaxies(galaxies, name, given, words):
    said = answer(lambda: galaxies["spectra"].embed(spectra=given))
    assert words in said and bool(words) == bool(said)


def test_units_of_flux_are_those_of_the_published_networks(galaxies):
    unit = u.Unit("1e-17 erg / (s cm2 Angstrom)")
    plain = galaxies["spectra"].embed(spectra=GRID)
    other = galaxies["spectra"].embed(spectra=(GRID * unit).to("erg / (s cm2 nm)"))
    np.testing.assert_allclose(plain.mean, other.mean, rtol=1e-4, atol=1e-5)


# --- tables of users ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "words"), [
    (b"PAR1", "a file of parquet"), (b"SIMPLE  =", "a FITS file"), (b"PK\x03\x04", "a zip archive"),
    (b"BZh9", "packed with bzip2"), (b"\xfd7zXZ\x00", "packed with xz"), (b"\xff\xfei\x00", "UTF-16"),
    (b"\x89HDF\r\n", "HDF5"), (b"<html>", "a web page"),
])  # fmt: skip
def test_a_file_that_is_no_text_is_called_what_it_is(place, start, words):
    for ending in (".csv", ".dat", ".txt"):
        path = place / f"table{ending}"
        path.write_bytes(start + b"a,b\n1,2\n" * 20)
        with pytest.raises(ReadError, match=words):
            read_table(path)


def test_patterns_of_names_are_not_wide():
    assert _fields("curves/{id:05}.dat") == ["id"]
    for pattern in ("{id:>1000000000}", "{id:100}", "{id", "{id:{id}}"):
        with pytest.raises(UserError, match="is not a pattern like"):
            _fields(pattern)
