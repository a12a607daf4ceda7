"""Tables of objects: every format, what follows from their columns, and wrong columns by name."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from data_files import put

from astrom3.data.readers.objects import read_objects
from astrom3.data.readers.table_files import read_table
from astrom3.errors import UserError
from astrom3.modalities.schema import ALL_COLS, CLASSES


@pytest.mark.parametrize("kind", ["csv", "fits", "vot", "ecsv", "parquet", "dat"])
def test_object_tables_of_every_format(tmp_path, kind):
    table = Table({
        "name": ["007", "8", "9"], "type": ["EW", "Mira", ""], "lc": ["a.csv", "b.csv", ""],
        "PER": [0.3, 300.0, np.nan], "parallax": [1.0, np.nan, -2.0], "ra": [10.0, 20, 30], "dec": [1.0, 2, 3],
    })  # fmt: skip
    path = tmp_path / f"stars.{kind}"
    formats = {"csv": "csv", "fits": "fits", "vot": "votable", "ecsv": "ascii.ecsv", "dat": "csv"}
    if kind == "parquet":
        pq.write_table(pa.table({n: np.asarray(table[n]).tolist() for n in table.colnames}), path)
    else:
        table.write(path, format=formats[kind])
    found = read_objects(
        path, id="name", label="type", light_curve="lc", columns={"period": "PER"}, labels={"Mira": "M"}
    )
    assert found.ids == ["007", "8", "9"] and found.labels == ["EW", "M", None] and found.classes == CLASSES
    assert found.light_curves == [tmp_path / "a.csv", tmp_path / "b.csv", None] and found.spectra == [None] * 3
    values = dict(zip(ALL_COLS, found.values.T, strict=True))
    np.testing.assert_array_equal(values["period"], [0.3, 300, np.nan])
    np.testing.assert_array_equal(values["parallax"], [1, np.nan, -2])
    np.testing.assert_allclose([values["l"][0], values["b"][0]], [116.885, -61.737], atol=0.01)
    assert np.isnan(values["w1_mag"]).all()


def test_columns_that_follow_from_others_are_computed(tmp_path):
    path = put(
        tmp_path / "s.csv",
        "id,j_mag,k_mag,j_k,pmra,pmdec,parallax,parallax_error\n1,12,11,,3,4,2,0\n2,12,11,5,3,4,2,0.5\n",
    )
    values = dict(zip(ALL_COLS, read_objects(path, id="id", columns={"ra": None}).values.T, strict=True))
    assert values["j_k"].tolist() == [1, 5] and values["pm"].tolist() == [5, 5]
    np.testing.assert_array_equal(values["parallax_over_error"], [np.nan, 4])


def test_paths_may_be_patterns_under_a_root(tmp_path):
    path = put(tmp_path / "s.csv", "id,field\n007,F1\n8,\n")
    found = read_objects(path, id="id", light_curve="{field}/{id}.dat", root=tmp_path / "data")
    assert found.light_curves == [tmp_path / "data/F1/007.dat", None]


def test_unknown_classes_are_left_out_or_lose_their_label(tmp_path):
    path = put(tmp_path / "s.csv", "id,type,lc\n1,EW,a\n2,QSO,b\n")
    reject = read_objects(path, id="id", label="type", light_curve="lc")
    assert reject.ids == ["1"] and reject.n_left_out == 1
    assert [tuple(d) for d in reject.decisions] == [("2", "object", "rejected", "unknown class: QSO")]
    kept = read_objects(path, id="id", label="type", light_curve="lc", unknown="unlabelled")
    assert kept.labels == ["EW", None] and kept.decisions[0].decision == "repaired"
    assert read_objects(path, id="id", label="type", light_curve="lc", classes="all").classes == ("EW", "QSO")
    own = read_objects(path, id="id", label="type", light_curve="lc", classes=["QSO"])
    assert own.ids == ["2"] and own.classes == ("QSO",)


def test_wrong_columns_of_the_object_table_are_named(tmp_path):
    path = put(tmp_path / "s.csv", "id,type,lc\n1,EW,a\n")
    cases = [
        ({"id": "name"}, r"s.csv has no column name \(id=name\); it has id, type, lc"),
        ({"label": "class"}, "no column class"),
        ({"light_curve": "curves/{file}.dat"}, "no column file"),
        ({"columns": {"period": "PER"}}, r"no column PER \(columns.period=PER\)"),
        ({"columns": {"perido": "lc"}}, r"columns.perido is no catalogue column"),
        ({"columns": {"period": "type"}}, "column type is not all numbers"),
        ({"unknown": "drop"}, "unknown=drop"),
        ({"classes": "some"}, "classes=some"),
    ]
    for change, message in cases:
        with pytest.raises(UserError, match=message):
            read_objects(path, **({"id": "id", "light_curve": "lc"} | change))
    with pytest.raises(UserError, match="no such file"):
        read_objects(tmp_path / "none.csv", id="id", light_curve="lc")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_table(put(tmp_path / "bad.parquet", b"PAR1 not really"))
