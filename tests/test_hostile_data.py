"""Data sets of every layout, damaged in many ways, in one process: each is read, or refused with one sentence."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import make_rows, write_current, write_first, write_ours
from galaxy_files import galaxies, table_of, write_paired_file, write_pairs
from hostile_files import damaged, faults, instead, tables, texts, with_bytes, with_text
from raw_layout import write_raw

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Local
from astrom3.errors import UserError
from astrom3.files import read_json
from astrom3.modalities.catalogue_quality import possible, possible_targets
from astrom3.modalities.schema import ALL_COLS

pytestmark = pytest.mark.slow

STARS = {"photometry": "photometry", "spectra": "spectra", "metadata": "metadata"}
GALAXIES = {"spectra": "specformer", "images": "cutout"}
ONE = 20  # objects


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


def data_of(root: Path, views: dict[str, str], place: Path) -> AstroM3DataModule:
    """The data module, with the first batch of every split read."""
    of_stars = "metadata" in views
    data = AstroM3DataModule(
        Local(root), modalities=list(views), views=views, batch_size=2, cache=place / "cache", labelled_only=of_stars
    )
    data.prepare_data()
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        next(iter(loader))
    return data


def reading(root: Path, views: dict[str, str], place: Path) -> Callable[[], Any]:
    return lambda: data_of(root, views, place)


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def cases_of(path: Path, read: Callable[[], Any], every: int = 1) -> dict[str, Callable[[], Any]]:
    """Everything that may be wrong with a file of columns."""
    found = instead(path, read)
    for name, content in damaged(path.read_bytes()):
        found[f"{path.name} {name}"] = with_bytes(path, content, read)
    for number, (name, table) in enumerate(tables(pq.read_table(path, partitioning=None))):
        if number % every == 0:
            found[f"{path.name} {name}"] = with_bytes(path, parquet_bytes(table), read)
    return found


def small_files(path: Path, read: Callable[[], Any], every: int = 1) -> dict[str, Callable[[], Any]]:
    found = instead(path, read)
    for name, text in texts(read_json(path), every):
        found[f"{path.name} {name}"] = with_text(path, text, read)
    return found


def test_our_own_layout(place):
    root = write_ours(place / "ours", make_rows(ONE))
    read = reading(root, STARS, place)
    read()
    cases = small_files(root / "dataset.json", read) | small_files(root / "splits" / "full_42.json", read, 9)
    for path in (root / "objects" / "objects-00000.parquet", root / "splits" / "full_42.parquet"):
        cases |= cases_of(path, read)
    assert len(cases) > 250
    assert faults(cases) == []


@pytest.mark.parametrize("write", [write_first, write_current])
def test_the_layouts_of_the_hub(place, write):
    root = write(place / write.__name__, make_rows(ONE))
    read = reading(root, STARS, place)
    read()
    cases: dict[str, Callable[[], Any]] = {}
    for split in ("train", "validation"):
        cases |= cases_of(root / "full_42" / f"{split}-00000-of-00001.parquet", read)
    assert faults(cases) == []


def test_files_of_save_to_disk(place):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    source = write_first(place / "source", make_rows(ONE)) / "full_42"
    splits = {path.stem.partition("-")[0]: datasets.Dataset(pq.read_table(path)) for path in source.glob("*.parquet")}
    root = place / "saved"
    datasets.DatasetDict(splits).save_to_disk(str(root))
    read = reading(root, STARS, place)
    read()
    cases = small_files(root / "dataset_dict.json", read) | small_files(root / "train" / "state.json", read)
    path = next((root / "train").glob("*.arrow"))
    content = path.read_bytes()
    cases |= instead(path, read)
    flips = {f"byte {i}": content[:i] + bytes([255 - content[i]]) + content[i + 1 :] for i in range(8, 3000, 211)}
    for name, other in (dict(damaged(content)) | flips).items():
        cases[f"{path.name} {name}"] = with_bytes(path, other, read)
    assert faults(cases) == []


def test_pairs_of_galaxies_in_parquet(place):
    root = write_pairs(place / "pairs", galaxies(4), galaxies(2, 1), shards=1)
    read = reading(root, GALAXIES, place)
    read()
    path = root / "data" / "train-00000-of-00001.parquet"
    assert faults(cases_of(path, read)) == []


def test_galaxies_in_hdf5(place):
    path = write_paired_file(place / "pairs.h5", [galaxies(5, 2)])
    read = reading(path, GALAXIES, place)
    read()
    content = path.read_bytes()
    cases = instead(path, read)
    flips = {f"byte {i}": content[:i] + bytes([255 - content[i]]) + content[i + 1 :] for i in range(0, 3000, 101)}
    for name, other in (dict(damaged(content)) | flips).items():
        cases[name] = with_bytes(path, other, read)
    for name in ("images", "spectra", "targetids"):
        for kind, change in CHANGES.items():
            cases[f"{name} {kind}"] = with_bytes(path, changed_file(path, place / "copy.h5", name, change), read)
    assert faults(cases) == []


CHANGES: dict[str, Callable[[np.ndarray], Any]] = {
    "gone": lambda old: None,
    "of text": lambda old: np.array([b"x"] * len(old)),
    "shorter": lambda old: old[:-1],
    "empty": lambda old: old[:0],
    "one number": lambda old: np.float32(1),
    "of NaN": lambda old: np.full(old.shape, np.nan, np.float32),
    "flat": lambda old: old.reshape(-1),
    "of records": lambda old: np.zeros(len(old), dtype=[("a", "f4")]),
    "of complex numbers": lambda old: old.astype(np.complex64),
    "of 1e300": lambda old: np.full(old.shape, 1e300),
}


def changed_file(path: Path, other: Path, name: str, change: Callable[[np.ndarray], Any]) -> bytes:
    shutil.copyfile(path, other)
    with h5py.File(other, "r+") as file:
        old = file[f"0/{name}"][...]
        del file[f"0/{name}"]
        new = change(old)
        if new is not None:
            file[f"0/{name}"] = new
    return other.read_bytes()


# --- the files of AstroM3Dataset --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(place) -> Path:
    return write_raw(place / "raw", make_rows(ONE))


def edited(path: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> bytes:
    """A CSV with other rows; the first is its header."""
    rows = change(list(csv.reader(path.read_text().splitlines())))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def test_raw_files(place, raw):
    every = reading(raw, STARS, place)
    every()
    folder = raw / "splits" / "full" / "42"
    read = reading(raw, {"metadata": "metadata"}, place)  # without opening forty files
    cases = small_files(folder / "info.json", read, 3)
    archive = raw / "photometry.zip"
    cases |= instead(archive, every)
    for name, content in damaged(archive.read_bytes()):
        cases[f"{archive.name} {name}"] = with_bytes(archive, content, every)
    for path in (folder / "train.csv",):
        cases |= instead(path, read)
        for name, content in damaged(path.read_bytes()):
            cases[f"{path.name} {name}"] = with_bytes(path, content, read)
    table = folder / "train.csv"
    for name, change in EDITS.items():
        cases[name] = with_bytes(table, edited(table, change), read)
    spectrum = next((raw / "spectra").rglob("*.fits.gz"))
    for name, content in damaged(spectrum.read_bytes()):
        cases[f"{spectrum.name} {name}"] = with_bytes(spectrum, content, every)
    assert faults(cases) == []


EDITS: dict[str, Callable[[list[list[str]]], list[list[str]]]] = {
    "header alone": lambda rows: rows[:1],
    "no header": lambda rows: rows[1:],
    "header twice": lambda rows: [rows[0], *rows],
    "a column twice": lambda rows: [[*row, row[0]] for row in rows],
    "a column gone": lambda rows: [row[1:] for row in rows],
    "rows cut": lambda rows: [rows[0], *(row[:5] for row in rows[1:])],
    "words for numbers": lambda rows: [rows[0], *(["x", *row[1:]] for row in rows[1:])],
    "no ids": lambda rows: blank(rows, "id"),
    "no labels": lambda rows: blank(rows, "target"),
    "no names": lambda rows: blank(rows, "name"),
}


def blank(rows: list[list[str]], column: str) -> list[list[str]]:
    at = rows[0].index(column)
    return [rows[0], *([*row[:at], "", *row[at + 1 :]] for row in rows[1:])]


# --- nothing lost, nothing twice, in silence ------------------------------------------------------------------------


def test_an_object_in_two_splits_of_raw_files_is_left_out_of_training_and_listed(place, raw):
    folder = raw / "splits" / "full" / "42"
    train = folder / "train.csv"
    before = train.read_bytes()
    extra = (folder / "test.csv").read_text().splitlines()[1]
    first = before.decode().splitlines()[1]
    train.write_bytes(before + f"{extra}\n{first}\n".encode())
    try:
        data = data_of(raw, STARS, place)
    finally:
        train.write_bytes(before)
    listed = {(d.object_id, d.reason) for d in data.rejected if d.decision == "left out"}
    assert {reason for _, reason in listed} == {"the same object is in test", "the same object is in train twice"}
    assert len(listed) == 2
    assert len(data.splits["train"]) == len(before.decode().splitlines()) - 1


def test_copies_in_files_of_the_hub_are_known_by_their_catalogue_values(place):
    root = write_first(place / "copies", make_rows(ONE))
    train, test = (root / "full_42" / f"{split}-00000-of-00001.parquet" for split in ("train", "test"))
    rows = pq.read_table(train)
    pq.write_table(pa.concat_tables([rows, rows.slice(1, 1), pq.read_table(test).slice(0, 2)]), train)
    data = data_of(root, STARS, place)
    reasons = [d.reason for d in data.rejected if d.decision == "left out"]
    assert sorted(reasons) == ["the same object is in test"] * 2 + ["the same object is in train twice"]
    assert len(data.source.rows["train"]) == len(rows)


def test_catalogue_values_that_all_share_make_no_copies(place):
    rows = make_rows(ONE)
    for row in rows:
        row["meta_cols"] = rows[0]["meta_cols"]
        row["photo_cols"] = rows[0]["photo_cols"]
    data = data_of(write_first(place / "shared values", rows), STARS, place)
    assert not [d for d in data.rejected if d.decision == "left out"]


def test_copies_of_galaxies_are_known_by_their_ids(place):
    columns = galaxies(6, 3)
    columns["targetid"][3] = columns["targetid"][0]
    root = write_pairs(place / "galaxy copies", columns, galaxies(2, 4), shards=1)
    data = data_of(root, GALAXIES, place)
    assert [d.reason for d in data.rejected if d.decision == "left out"]


@pytest.mark.parametrize("name", ["trian", "tets", "valdiation", "backup"])
def test_a_misspelt_split_is_refused_in_every_layout(place, raw, name):
    hub = write_first(place / f"misspelt-{name}", make_rows(ONE))
    some = hub / "full_42" / "test-00000-of-00001.parquet"
    some.rename(some.with_name(f"{name}-00000-of-00001.parquet"))
    with pytest.raises(UserError, match=rf"{name}.*none of the splits"):
        data_of(hub, STARS, place)
    copy = raw / "splits" / "full" / "42" / f"{name}.csv"
    copy.write_text("")
    try:
        with pytest.raises(UserError, match=rf"{name}\.csv, which is none of the splits"):
            data_of(raw, STARS, place)
    finally:
        copy.unlink()
    pairs = place / f"pairs-{name}"
    (pairs / "data").mkdir(parents=True)
    for split in ("train", name):
        pq.write_table(table_of(galaxies(3)), pairs / "data" / f"{split}-00000-of-00001.parquet")
    with pytest.raises(UserError, match=rf"{name}.*none of the splits"):
        data_of(pairs, GALAXIES, place)


@pytest.mark.parametrize("column", ["mean_vmag", "e_j_mag", "bp_rp", "parallax", "pmra"])
@pytest.mark.parametrize("value", [-9999.0, -999.0, 1e39, 1e300, 99.99, -99.99])
def test_values_that_stand_for_unknown_are_unknown(column, value):
    values = np.ones((1, len(ALL_COLS)))
    values[0, ALL_COLS.index(column)] = value
    is_unknown = np.isnan(possible(values))[0, ALL_COLS.index(column)]
    assert is_unknown == (abs(value) > 100 or column not in ("parallax", "pmra"))


def test_a_sentinel_in_raw_files_and_on_the_hub_is_listed(place, raw):
    train = raw / "splits" / "full" / "42" / "train.csv"

    def spoil(rows: list[list[str]]) -> list[list[str]]:
        rows[1][rows[0].index("j_mag")] = "-9999"
        rows[2][rows[0].index("mean_vmag")] = "99.99"
        return rows

    before = train.read_bytes()
    train.write_bytes(edited(train, spoil))
    try:
        data = data_of(raw, STARS, place)
    finally:
        train.write_bytes(before)
    reasons = " ".join(d.reason for d in data.rejected)
    assert "j_mag missing" in reasons and "mean_vmag missing" in reasons
    rows = make_rows(ONE)
    for row in rows:
        row["meta_cols"]["parallax_error"] = 1e39
    hub = data_of(write_first(place / "sentinels", rows), STARS, place)
    assert "parallax_error missing" in " ".join(d.reason for d in hub.rejected)


def test_targets_that_stand_for_unknown_are_unknown():
    values = np.array([[-9999.0, 99.99, 1e300, 0.3, 9999.0]])
    names = ["redshift", "mag_g", "mass", "redshift", "teff"]
    np.testing.assert_array_equal(np.isnan(possible_targets(values, names)), [[True, True, True, False, False]])
