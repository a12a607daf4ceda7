"""More kinds of files, damaged in many ways: magnitudes, HATS, long and nested tables, large maps."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import write_ours
from hostile_files import damaged, faults, instead, tables, with_bytes
from small_models import rows_with_gaps
from test_hostile_data import cases_of, parquet_bytes, reading, small_files
from test_long_tables import rows as long_rows
from test_nested_tables import curves, write_table

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.explore.__main__ import explore
from astrom3.explore.large import ABOUT
from astrom3.explore.stored_map import Shown, StoredMap

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("layouts")


def converting(place: Path, *overrides: str):
    """A conversion to a folder that is removed after."""

    def call():
        out = place / "converted"
        try:
            convert(compose([f"out={out}", "workers=1", "features=none", *overrides], "convert"))
        finally:
            shutil.rmtree(out, ignore_errors=True)
            assert not [path.name for path in place.iterdir() if path.name.startswith(".converted")]

    return call


def test_a_survey_of_magnitudes(place):
    from astrom3.simulate.macho import write

    root = write(place / "macho", 30, seed=0, workers=1)
    read = reading(root, {"photometry": "astromer"}, place)
    read()
    cases = small_files(root / "dataset.json", read, 9)
    cases |= cases_of(next((root / "objects").glob("*.parquet")), read, 9)
    assert faults(cases) == []


def of_a_table(path: Path, read) -> dict:
    """What may be wrong with a table of parquet; of its columns every ninth case."""
    read()
    cases = instead(path, read)
    for name, content in damaged(path.read_bytes()):
        cases[name] = with_bytes(path, content, read)
    for number, (name, table) in enumerate(tables(pq.read_table(path))):
        if number % 9 == 2:
            cases[name] = with_bytes(path, parquet_bytes(table), read)
    return cases


def test_tables_with_a_row_for_each_observation(place):
    path = place / "long.parquet"
    pq.write_table(pa.table(long_rows()), path, row_group_size=100)
    cases = of_a_table(path, converting(place, f"observations={path}", "light_curves.system=AB"))
    assert faults(cases) == []


def test_tables_with_light_curves_as_lists(place):
    path = write_table(place / "nested.parquet", curves())
    given = ("id=id", "label=label", "light_curves.system=AB")
    cases = of_a_table(path, converting(place, f"table={path}", *given))
    assert faults(cases) == []


def test_catalogues_of_hats(place):
    pytest.importorskip("lsdb")
    from hats_files import write_catalogue

    from astrom3.data.origins import Hats

    root = place / "sky"
    write_catalogue(root, 60)

    def read():
        source = Hats(root, label="type").open("full", 42)
        source.targets("test", ["dec"])

    read()
    cases = {}
    read_at_opening = ("properties", "hats.properties", "partition_info.csv", "_metadata", "_common_metadata")
    files = [path for path in sorted(root.rglob("*")) if path.name in read_at_opening]
    for path in [*files, next(root.rglob("Npix=*.parquet"))]:
        cases |= {f"{path.parent.name}/{name}": call for name, call in instead(path, read).items()}
        for name, content in damaged(path.read_bytes()):
            cases[f"{path.name} {name}"] = with_bytes(path, content, read)
        if path.name.startswith("Npix"):
            for number, (name, table) in enumerate(tables(pq.read_table(path, partitioning=None))):
                if number % 11 == 0:
                    cases[f"{path.name} {name}"] = with_bytes(path, parquet_bytes(table), read)
    last = sorted(root.rglob("Npix=*.parquet"))[-1]
    without = pq.read_table(last, partitioning=None).drop_columns(["type"])
    cases["the last partition without its labels"] = with_bytes(last, parquet_bytes(without), read)
    assert faults(cases) == []


OTHER_COLUMNS = {
    "short": np.zeros(3),
    "empty": np.zeros(0),
    "objects": np.array([{}]),
    "text": np.array(["a"] * 400),
    "square": np.zeros((400, 400)),
    "NaN": np.full(400, np.nan),
}


def test_a_large_map(place):
    made_up = pytest.importorskip("test_large_maps").made_up
    write_ours(place / "survey", rows_with_gaps(90))
    made_up(0, 400).write(place / "embeddings" / "train-00000.parquet")
    explore(compose([f"embeddings={place}/embeddings", "data=local", f"data.path={place}/survey", f"out={place}/map",
                     "map=pca", "one_file=100", "fit=all"], "explore"))  # fmt: skip
    root = place / "map"

    def read():
        found = StoredMap(root)
        found.mask(Shown(frozenset([0]), frozenset([0]), True))
        found.window(-1e9, -1e9, 1e9, 1e9)

    read()
    cases = {}
    for path in [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix in (".npy", ".arrow")]:
        cases |= instead(path, read)
        for name, content in damaged(path.read_bytes()):
            cases[f"{path.name} {name}"] = with_bytes(path, content, read)
        for name, other in OTHER_COLUMNS.items() if path.suffix == ".npy" else ():
            buffer = io.BytesIO()
            np.save(buffer, other, allow_pickle=True)
            cases[f"{path.name} {name}"] = with_bytes(path, buffer.getvalue(), read)
    cases |= small_files(root / ABOUT, read, 2)
    assert faults(cases) == []
