"""`convert` reads tables whose rows hold light curves as lists, and magnitudes without a zero point."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.data.readers import ReadError
from astrom3.data.readers.nested import NestedReader, is_nested
from astrom3.data.readers.tables import LightCurveColumns
from astrom3.errors import UserError

CURVES = 7
LABELS = ["EW", "M", "EW", None, "M", "EW", "M"]


def curves():
    """Times, magnitudes and errors of some stars, 20 points and more."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(CURVES):
        time = 50000 + np.sort(rng.uniform(0, 1000, 20 + i))
        rows.append((time, rng.normal(14, 0.3, 20 + i), rng.uniform(0.01, 0.05, 20 + i)))
    return rows


def write_table(path, rows, names=("time", "mag", "mag_err")):
    columns = {
        "id": [f"star {i}" for i in range(len(rows))],
        "label": LABELS[: len(rows)],
        "period": [0.5 + i for i in range(len(rows))],
    }
    for k, name in enumerate(names):
        columns[name] = pa.array([None if row is None else row[k] for row in rows], pa.list_(pa.float64()))
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def converted(table, out, *overrides):
    arguments = [f"table={table}", f"out={out}", "id=id", "label=label", "workers=1", "features=none", *overrides]
    convert(compose(arguments, "convert"))
    return pq.read_table(out / "objects")


def test_lists_of_a_row_are_its_light_curve(tmp_path):
    rows = curves()
    objects = converted(write_table(tmp_path / "table.parquet", rows), tmp_path / "out", "light_curves.system=AB")
    assert objects["object_id"].to_pylist() == [f"star {i}" for i in range(CURVES)]
    assert objects["label"].to_pylist() == LABELS
    for found, (time, magnitude, _) in zip(objects["light_curve"].to_pylist(), rows, strict=True):
        np.testing.assert_allclose(found["time"], time)
        np.testing.assert_allclose(found["flux"], 3.631e6 * 10 ** (-0.4 * magnitude))
    assert [row["period"] for row in objects["photo_cols"].to_pylist()] == [0.5 + i for i in range(CURVES)]


def test_magnitudes_without_a_zero_point_become_relative_fluxes(tmp_path, caplog):
    rows = curves()
    with caplog.at_level("WARNING"):
        objects = converted(write_table(tmp_path / "table.parquet", rows), tmp_path / "out")
    assert "weights trained on mJy" in caplog.text
    provenance = json.loads((tmp_path / "out" / "dataset.json").read_text())["provenance"]
    assert provenance["flux_unit"] == "relative: 10^(-0.4 (magnitude - 15))"
    for found, (_, magnitude, error) in zip(objects["light_curve"].to_pylist(), rows, strict=True):
        flux = np.array(found["flux"])
        np.testing.assert_allclose(flux, 10 ** (-0.4 * (magnitude - 15)))
        np.testing.assert_allclose(2.5 / np.log(10) * np.array(found["flux_err"]) / flux, error)


def test_a_known_zero_point_is_not_called_relative(tmp_path, caplog):
    table = write_table(tmp_path / "table.parquet", curves())
    converted(table, tmp_path / "out", "light_curves.zero_point=3.64e6")
    assert "flux_unit" not in json.loads((tmp_path / "out" / "dataset.json").read_text())["provenance"]
    assert "relative" not in caplog.text


def test_columns_may_have_other_names(tmp_path):
    rows = curves()
    table = write_table(tmp_path / "table.parquet", rows, ("when", "V", "e_V"))
    columns = "light_curves.columns={time:when,mag:V,mag_err:e_V}"
    objects = converted(table, tmp_path / "out", columns)
    np.testing.assert_allclose(objects["light_curve"][6].as_py()["time"], rows[6][0])


def test_a_row_without_a_light_curve_is_listed(tmp_path):
    rows = [*curves()[:2], None]
    objects = converted(write_table(tmp_path / "table.parquet", rows), tmp_path / "out")
    assert len(objects) == 2
    assert "star 2,photometry,rejected,row 3 has no light curve" in (tmp_path / "out" / "rejected.csv").read_text()


def test_lists_of_unequal_length_are_refused_by_row(tmp_path):
    time, magnitude, error = curves()[0]
    table = write_table(tmp_path / "table.parquet", [(time, magnitude[:-1], error)])
    with pytest.raises(ReadError, match=r"unequal length \(time 20, mag 19, mag_err 20\) in row 1"):
        NestedReader(table)(0)


def test_any_row_can_be_read_in_any_order(tmp_path):
    rows = curves()
    reader = NestedReader(write_table(tmp_path / "table.parquet", rows), LightCurveColumns(system="AB"))
    for i in (6, 0, 3, 2):
        np.testing.assert_allclose(reader(i).time, rows[i][0])


def test_plain_tables_are_not_nested(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "time": [1.0]}), tmp_path / "plain.parquet")
    assert not is_nested(tmp_path / "plain.parquet", {})
    (tmp_path / "table.csv").write_text("id,time\na,1\n")
    assert not is_nested(tmp_path / "table.csv", {})
    with pytest.raises(UserError, match="need a parquet file"):
        NestedReader(tmp_path / "table.csv")


def test_a_damaged_table_is_refused(tmp_path):
    table = write_table(tmp_path / "table.parquet", curves())
    table.write_bytes(table.read_bytes()[:-40])
    with pytest.raises(ReadError, match="cannot be read as a table"):
        is_nested(table, {})
