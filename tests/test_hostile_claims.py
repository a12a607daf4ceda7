"""Data sets that read other files, claim what they have not, or name what they do not say: each is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from galaxy_files import galaxies, write_paired_file
from hostile_files import altered, faults, with_bytes, with_text
from test_hostile_data import GALAXIES, parquet_bytes, reading
from test_hostile_embeddings import embeddings

from astrom3.data.layouts.arrow import saved_files
from astrom3.data.layouts.bands import Bands
from astrom3.data.layouts.ours import LAYOUT, VERSIONS, read_about
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("claims")


# --- galaxies in HDF5 -------------------------------------------------------------------------------------------------


def foreign(path: Path) -> Path:
    """A file of somebody else, with datasets of the names and shapes of ours."""
    with h5py.File(path, "w") as file:
        file["images"] = np.ones((5, 152, 152, 3), np.float32)
        file["spectra"] = np.ones((5, 7781, 1), np.float32)
    return path


def virtual(path: Path, old: np.ndarray) -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource(str(path), "spectra", old.shape)
    return layout


def test_files_of_galaxies_that_read_other_files_or_claim_more_than_they_have(place):
    path = write_paired_file(place / "pairs.h5", [galaxies(5, 2)])
    other = foreign(place / "other.h5")
    read = reading(path, GALAXIES, place)
    name = "0/spectra"
    to_end = h5py.h5f.UNLIMITED
    datasets: dict[str, Callable[[Any, np.ndarray], Any]] = {
        "a link to a file": lambda file, old: file.__setitem__(name, h5py.ExternalLink(str(other), "spectra")),
        "a link in the file": lambda file, old: file.__setitem__(name, h5py.SoftLink("/0/images")),
        "raw numbers elsewhere": lambda file, old: file.create_dataset(
            name, old.shape, old.dtype, external=[("/etc/passwd", 0, to_end)]
        ),
        "a view of a file": lambda file, old: file.create_virtual_dataset(name, virtual(other, old)),
        "pieces of gigabytes": lambda file, old: file.create_dataset(
            name, old.shape, old.dtype, maxshape=(None, None, None), chunks=(128, 8192, 256)
        ),
        "billions of rows": lambda file, old: file.create_dataset(
            name, (10**12, *old.shape[1:]), old.dtype, chunks=(1, *old.shape[1:])
        ),
        "never written": lambda file, old: file.create_dataset(name, old.shape, old.dtype),
        "references": lambda file, old: file.create_dataset(name, (len(old),), h5py.ref_dtype),
        "complex numbers": lambda file, old: file.create_dataset(name, data=old.astype(np.complex64)),
    }
    cases = {}
    for kind, make in datasets.items():
        cases[kind] = with_bytes(path, altered(path, place / "altered.h5", name, make), read)
    shutil.copyfile(path, place / "altered.h5")
    with h5py.File(place / "altered.h5", "r+") as file:
        del file["0"]
        file["0"] = h5py.ExternalLink(str(other), "/")
    cases["a group elsewhere"] = with_bytes(path, (place / "altered.h5").read_bytes(), read)
    assert faults(cases, refused=True) == []


@pytest.mark.parametrize("name", ["redshifts", "targetids"])
def test_columns_of_galaxies_have_one_value_a_row(place, name):
    path = write_paired_file(place / f"{name}.h5", [galaxies(3, 2), galaxies(3, 3)])
    wide = altered(path, place / "wide.h5", f"0/{name}", lambda file, old: file.__setitem__(f"0/{name}", old[:, None]))

    def targets() -> np.ndarray:
        source = reading(path, GALAXIES, place)().source
        return source.tables["train"].targets(["redshift"])

    expected = targets()
    np.testing.assert_array_equal(with_bytes(path, wide, targets)(), expected)
    several = altered(
        path, place / "wide.h5", f"0/{name}", lambda file, old: file.__setitem__(f"0/{name}", old[:, None].repeat(2, 1))
    )
    assert faults({"two values a row": with_bytes(path, several, targets)}, refused=True) == []


def test_a_pipe_beside_galaxies_is_not_waited_for(place):
    folder = place / "with a pipe"
    folder.mkdir()
    write_paired_file(folder / "pairs.h5", [galaxies(3, 2)])
    os.mkfifo(folder / "other.h5")
    assert reading(folder, GALAXIES, place)()


# --- bands of a data set ----------------------------------------------------------------------------------------------


def test_bands_in_dataset_json(place):
    folder = place / "bands"
    folder.mkdir()
    path = folder / "dataset.json"
    entry = {"name": "g", "points": 3, "wavelength": 4800.0}
    about = {"layout": LAYOUT, "version": VERSIONS[-1], "classes": []}
    path.write_text(json.dumps(about | {"bands": [entry]}))

    def read() -> Bands | None:
        return Bands.of(read_about(folder, VERSIONS), None, folder)

    found = read()
    assert found is not None and found.names == ("g",)
    values: list[Any] = [5, "g", ["g"], [{}], [None], {"g": 1}, [entry, entry]]
    values += [[entry | change] for change in ({"points": "x"}, {"points": 0.5}, {"wavelength": "blue"}, {"name": 5})]
    values += [[entry | {"wavelength": -4800.0}], [entry | {"wavelength": float("nan")}], [entry | {"points": 10**400}]]
    cases = {}
    for value in values:
        cases[str(value)[:60]] = with_text(path, json.dumps(about | {"bands": value}), read)
    assert faults(cases, refused=True) == []


def test_points_in_a_band_that_is_not_listed_are_not_taken_for_another():
    bands = Bands(("g", "r"), "g", {})
    np.testing.assert_array_equal(bands.codes(pa.array(["r", "g"]).dictionary_encode()), [1, 0])
    for names in (["g", "x"], ["g", None], [1, 2]):
        with pytest.raises(UserError, match="band"):
            bands.codes(pa.array(names))


# --- embeddings and splits that say two things ------------------------------------------------------------------------


def test_embeddings_whose_labels_or_probabilities_are_none_of_theirs(place):
    path = embeddings().write(place / "embeddings" / "test-00000-of-00001.parquet")
    table = pq.read_table(path)
    count = len(table)
    kind = table["probabilities"].type

    def probabilities(row: list[float]) -> pa.Table:
        at = table.column_names.index("probabilities")
        return table.set_column(at, "probabilities", pa.array([row] * count, kind))

    twice = {b"astrom3": b'{"classes": ["A", "A"]}'}
    tables = {
        "a label of no class": table.set_column(1, "label", pa.array(["Z"] * count)),
        "a class twice": table.replace_schema_metadata(twice),
        "classes twice": table.replace_schema_metadata({b"astrom3": b'{"classes": ["A", "B"], "classes": ["B", "A"]}'}),
        "negative": probabilities([-1.0, 2.0]),
        "of a sum of 10": probabilities([5.0, 5.0]),
    }
    read = lambda: Embeddings.read(path.parent)  # noqa: E731
    read()
    cases = {name: with_bytes(path, parquet_bytes(other), read) for name, other in tables.items()}
    assert faults(cases, refused=True) == []


def test_splits_and_files_of_save_to_disk_that_are_named_twice(place):
    folder = place / "saved"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}] * 2}))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    with pytest.raises(UserError, match=r"lists a\.arrow twice"):
        saved_files(folder)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "valid", "validation"]}))
    with pytest.raises(UserError, match="names a split twice"):
        saved_files(folder)
