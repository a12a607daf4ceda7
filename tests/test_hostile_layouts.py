"""More kinds of files, damaged in many ways: magnitudes, HATS, long and nested tables, confidence, studies of maps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_files import damaged, faults, instead, tables, texts, with_bytes, with_text
from test_hostile_data import cases_of, data_of, parquet_bytes, small_files
from test_long_tables import rows as long_rows
from test_nested_tables import curves, write_table

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.files import read_json


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
    read = lambda: data_of(root, {"photometry": "astromer"}, place)  # noqa: E731
    read()
    cases = small_files(root / "dataset.json", read, 3)
    cases |= cases_of(next((root / "objects").glob("*.parquet")), read, 3)
    assert faults(cases) == []


def test_tables_with_a_row_for_each_observation(place):
    path = place / "long.parquet"
    pq.write_table(pa.table(long_rows()), path, row_group_size=100)
    read = converting(place, f"observations={path}", "light_curves.system=AB")
    read()
    cases = instead(path, read)
    for name, content in damaged(path.read_bytes()):
        cases[name] = with_bytes(path, content, read)
    for name, table in tables(pq.read_table(path)):
        cases[name] = with_bytes(path, parquet_bytes(table), read)
    assert faults(cases) == []


def test_tables_with_light_curves_as_lists(place):
    path = write_table(place / "nested.parquet", curves())
    read = converting(place, f"table={path}", "id=id", "label=label", "light_curves.system=AB")
    read()
    cases = instead(path, read)
    for name, content in damaged(path.read_bytes()):
        cases[name] = with_bytes(path, content, read)
    for name, table in tables(pq.read_table(path)):
        cases[name] = with_bytes(path, parquet_bytes(table), read)
    assert faults(cases) == []


def test_catalogues_of_hats(place):
    pytest.importorskip("lsdb")
    from hats_files import write_catalogue

    from astrom3.data.layouts.hats import HatsCatalogue
    from astrom3.data.origins import Hats

    root = place / "sky"
    write_catalogue(root, 60)

    def read():
        HatsCatalogue.open(root)
        source = Hats(root, label="type").open("full", 42)
        for table in source.splits.values():
            next(iter(table.batches(("photometry",)))) if hasattr(table, "batches") else len(table)

    read()
    cases = {}
    for path in [path for path in sorted(root.rglob("*")) if path.is_file()]:
        cases |= {f"{path.parent.name}/{name}": call for name, call in instead(path, read).items()}
        for name, content in damaged(path.read_bytes()):
            cases[f"{path.name} {name}"] = with_bytes(path, content, read)
        if path.name.startswith("Npix"):
            for number, (name, table) in enumerate(tables(pq.read_table(path, partitioning=None))):
                if number % 4 == 0:
                    cases[f"{path.name} {name}"] = with_bytes(path, parquet_bytes(table), read)
    assert faults(cases) == []


def test_a_large_map(place):
    from astrom3.explore.stored_map import Shown, StoredMap
    from test_large_maps import made_up
    from data_files import write_ours
    from small_models import rows_with_gaps
    from astrom3.explore.__main__ import explore

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
        if path.suffix == ".npy":
            import io

            for name, other in {"short": np.zeros(3), "empty": np.zeros(0), "objects": np.array([{}]), "text": np.array(["a"] * 400), "square": np.zeros((400, 400)), "NaN": np.full(400, np.nan)}.items():
                buffer = io.BytesIO()
                np.save(buffer, other, allow_pickle=True)
                cases[f"{path.name} {name}"] = with_bytes(path, buffer.getvalue(), read)
    for path in root.glob("*.json"):
        if path.name.startswith("."):
            continue
        cases |= small_files(path, read, 2)
    assert faults(cases) == []
