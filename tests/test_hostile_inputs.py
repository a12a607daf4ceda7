"""Tables of users, and observations handed in from Python, of every wrong kind: read, or refused with one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import make_rows, write_ours
from hostile_files import damaged, faults
from small_models import save_model

import astrom3
from astrom3.data.readers.table_files import read_table
from astrom3.data.readers.tables import read_columns
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.vit import VisionTransformer
from astrom3.published import native

Call = Callable[[], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture(scope="module")
def model(place) -> Path:
    return save_model(place / "model", write_ours(place / "survey", make_rows(30)))


# --- tables of users ------------------------------------------------------------------------------------------------

CSV = "id,label,time,flux,flux_err\n" + "\n".join(f"a{i},EW,{i}.5,{10 + i % 3},0.1" for i in range(20)) + "\n"


def zipped(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("stars.csv", text)
    return file.getvalue()


TABLES: dict[str, bytes] = {
    "gzip": gzip.compress(CSV.encode()),
    "a bomb": gzip.compress(bytes(40_000_000)),
    "zip": zipped(CSV),
    "bzip2": bz2.compress(CSV.encode()),
    "xz": lzma.compress(CSV.encode()),
    "parquet": b"PAR1" + bytes(100) + b"PAR1",
    "FITS": b"SIMPLE  =                    T" + bytes(2900),
    "a web page": b"<!doctype html><html>404</html>",
    "header twice": ("id,id,time,flux,flux_err\n" + CSV.partition("\n")[2]).encode(),
    "names empty": (",,,,\n" + CSV.partition("\n")[2]).encode(),
    "latin-1": CSV.replace("EW", "\xe9").encode("latin-1"),
    "UTF-16": CSV.encode("utf-16"),
    "a mark of order": b"\xef\xbb\xbf" + CSV.encode(),
    "NUL": CSV.replace("EW", "E\0W").encode(),
    "semicolons": CSV.replace(",", ";").encode(),
    "old line ends": CSV.replace("\n", "\r").encode(),
    "ragged": (CSV + "a,b\n").encode(),
    "a quote": (CSV + '"open,EW,1,2,3\n').encode(),
    "a long cell": (CSV + "x" * 3_000_000 + ",EW,1,2,3\n").encode(),
    "header alone": CSV.partition("\n")[0].encode(),
    "words": CSV.replace(".5,", ".5x,").encode(),
    "one column": b"id\n1\n2\n",
    "many columns": (",".join(f"c{i}" for i in range(3000)) + "\n").encode(),
}


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".dat", ".parquet", ".fits", ".vot", ".ecsv", ".txt", ".xlsx"])
def test_tables_of_users(place, ending):
    cases: dict[str, Call] = {}
    for number, (name, content) in enumerate([*TABLES.items(), *damaged(CSV.encode())]):
        path = place / f"table-{number}{ending}"
        path.write_bytes(content)
        cases[f"table {name}"] = lambda path=path: read_table(path, strings=("id",))
        cases[f"columns {name}"] = lambda path=path: read_columns(path)
    assert faults(cases) == []


# --- curves and spectra in Python -----------------------------------------------------------------------------------

N = 60
TIME = np.arange(N) * 1.3 + 2457000
FLUX = 10 + np.sin(TIME)
ERROR = np.full(N, 0.1)
CURVES: dict[str, Any] = {
    "empty": ([], [], []),
    "unequal": (TIME, FLUX[:-1], ERROR),
    "two columns": (TIME, FLUX),
    "words": (["x"] * N, FLUX, ERROR),
    "of None": ([None] * N, FLUX, ERROR),
    "complex": (TIME.astype(complex), FLUX, ERROR),
    "NaN": (TIME * np.nan, FLUX, ERROR),
    "one time": (TIME * 0, FLUX, ERROR),
    "constant": (TIME, FLUX * 0, ERROR),
    "1e300": (TIME, FLUX * 1e299, ERROR),
    "JD and MJD": (np.where(np.arange(N) % 2, TIME, TIME - 2400000.5), FLUX, ERROR),
    "negative errors": (TIME, FLUX, -ERROR),
    "three dimensions": np.zeros((2, 3, 4)),
    "a matrix": np.zeros((N, 7)),
    "a number": 5,
    "a text": "no such file",
    "a folder": "/tmp",
    "a device": "/dev/zero",
    "bytes": b"x",
    "a set": {1, 2},
    "a dict": {"time": TIME},
    "a dict of words": {"time": "x", "flux": "y", "flux_err": "z"},
    "objects": (np.array([{}] * N, dtype=object), FLUX, ERROR),
    "dates": (np.datetime64("2020-01-01") + np.arange(N), FLUX, ERROR),
    "masked": (np.ma.masked_all(N), FLUX, ERROR),
    "a tensor": torch.zeros(3, N),
    "an iterator": iter([1, 2]),
    "a function": len,
    "no list": [],
}


@pytest.mark.parametrize("argument", ["light_curve", "spectrum"])
def test_observations_in_python(model, argument):
    known = astrom3.load(model, device="cpu")
    cases = {name: lambda v=value: known.embed(**{argument: v}) for name, value in CURVES.items()}
    cases |= {f"{name}, of two": lambda v=value: known.embed(**{argument: [v, v]}) for name, value in CURVES.items()}
    assert faults(cases) == []


@pytest.mark.parametrize("metadata", [
    {}, [], 5, "x", None, {"period": "x"}, {"no_such": 1.0}, {"period": None}, {"period": 1e300}, {"period": [1, 2]},
    [{"period": 1.0}, 5], [None], {5: 1}, {"period": {}}, {"l": float("inf")}, np.zeros(3), {"period": 1j}, [[1]], True,
])  # fmt: skip
def test_catalogue_values_in_python(model, metadata):
    known = astrom3.load(model, device="cpu")
    assert faults({"metadata": lambda: known.embed(metadata=metadata)}) == []


@pytest.mark.parametrize("options", [
    {"coverage": 0}, {"coverage": 1}, {"coverage": float("nan")}, {"coverage": "x"}, {"coverage": -1},
    {"system": "foo"},
    {"zero_point": -1}, {"zero_point": float("nan")}, {"air": "x"}, {"features": "foo"}, {"no_such": 1},
    {"zero_point": "x"}, {"system": 5},
])  # fmt: skip
def test_options_in_python(model, options):
    known = astrom3.load(model, device="cpu")
    assert faults({"options": lambda: known.classify(light_curve=(TIME, FLUX, ERROR), **options)}) == []


IMAGES: dict[str, Any] = {
    "empty": [],
    "a number": 5,
    "a text": "no such file",
    "a folder": "/tmp",
    "two bands": np.zeros((2, 152, 152)),
    "one row": np.zeros((3, 1, 1)),
    "flat": np.zeros(100),
    "four axes": np.zeros((1, 3, 152, 152)),
    "five axes": np.zeros((1, 1, 3, 152, 152)),
    "NaN": np.full((3, 152, 152), np.nan),
    "1e300": np.full((3, 152, 152), 1e300),
    "dark": np.zeros((3, 152, 152)),
    "words": np.array([["x"]]),
    "objects": np.array([{}], dtype=object),
    "complex": np.zeros((3, 152, 152), complex),
    "a dict": {"g": np.zeros((5, 5))},
    "a dict of others": {"a": 1},
    "a function": len,
    "None": [None],
    "a tensor": torch.zeros(3, 10, 10),
}


@pytest.fixture(scope="module")
def galaxy_models(place) -> list[Path]:
    vit = VisionTransformer(img_size=144, patch_size=12, embed_dim=24, depth=1, num_heads=2)
    spectra = SpecFormer(embed_dim=32, num_layers=1, num_heads=2)
    return [native.save(vit, place / "images"), native.save(spectra, place / "spectra")]


def test_galaxies_in_python(galaxy_models):
    of_images, of_spectra = (astrom3.load(folder, device="cpu") for folder in galaxy_models)
    cases = {f"image {name}": lambda v=value: of_images.embed(images=v) for name, value in IMAGES.items()}
    others = IMAGES | CURVES
    cases |= {f"spectrum {name}": lambda v=value: of_spectra.embed(spectra=v) for name, value in others.items()}
    assert faults(cases) == []
