"""Numbers to predict, which the converter keeps beside labels or in their place."""

import json

import numpy as np
import pytest
from survey_files import columns, curve_text, objects, run, save, survey

from astrom3.data.layouts import open_source
from astrom3.errors import UserError


def with_numbers(tmp_path):
    """The survey with a metallicity, unknown for two objects, and a count that nobody asks for."""
    rows = survey(tmp_path / "in")
    for i, row in enumerate(rows):
        row["feh"] = {3: "", 4: "nan"}.get(i, round(-0.1 * i - 0.05, 3))
        row["visits"] = 10 + i
    save(tmp_path / "in", rows)
    return rows


def test_targets_are_kept_and_a_survey_with_targets_needs_no_classes(tmp_path):
    rows = with_numbers(tmp_path)
    given = [option for option in columns(tmp_path) if not option.startswith("label")]
    run(*given, "targets={feh: dex, ruwe: null}")
    about = json.loads((tmp_path / "out/dataset.json").read_text())
    assert about["version"] == 2
    assert about["classes"] == []
    assert about["targets"] == [{"name": "feh", "unit": "dex"}, {"name": "ruwe", "unit": None}]
    assert about["further_columns"] == ["visits"]
    assert about["modalities"] == ["photometry", "spectra", "metadata"]
    found = objects(tmp_path / "out")
    for i, row in enumerate(rows):
        feh = None if i in (3, 4) else row["feh"]
        assert found[row["object_id"]]["targets"] == {"feh": feh, "ruwe": row["ruwe"]}
    source = open_source(tmp_path / "out")
    values = source.targets("train", ["feh", "ruwe"])
    assert values.shape == (len(source.rows["train"]), 2)


@pytest.mark.slow
def test_targets_stand_beside_labels(tmp_path):
    with_numbers(tmp_path)
    run(*columns(tmp_path), "targets=[feh]", "classes=all")
    about = json.loads((tmp_path / "out/dataset.json").read_text())
    assert about["classes"] == ["EW", "RRAB"]
    assert [target["name"] for target in about["targets"]] == ["feh"]


def test_a_unit_comes_from_the_file_of_the_table(tmp_path):
    from astropy.table import Table

    table = Table({"object_id": ["a", "b", "c"], "z": [0.1, 0.2, 0.3], "age": [1.0, 2.0, 3.0], "ruwe": [1.0, 1.1, 1.2]})
    table["age"].unit = "Gyr"
    table.write(tmp_path / "stars.ecsv")
    rng = np.random.default_rng(0)
    for name in table["object_id"]:
        (tmp_path / f"{name}.csv").write_text(curve_text(seed=int(rng.integers(9))))
    run(f"table={tmp_path}/stars.ecsv", f"out={tmp_path}/out", "light_curve='{object_id}.csv'", "targets=[z,age]")
    about = json.loads((tmp_path / "out/dataset.json").read_text())
    assert about["targets"] == [{"name": "z", "unit": None}, {"name": "age", "unit": "Gyr"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["label=feh", "classes=all"],
            r"column feh holds numbers \(-0\.05\), which are no class names.*targets=\[feh\]",
        ),
        (["label=feh"], "column feh holds numbers"),
        (["label=class", "targets=[mass]"], "has no column mass .targets=mass.; it has object_id, class"),
        (["label=class", "targets=[lc]"], "column lc is not all numbers"),
    ],
)
def test_numbers_are_never_taken_for_class_names(tmp_path, options, message):
    with_numbers(tmp_path)
    given = [option for option in columns(tmp_path) if not option.startswith("label")]
    with pytest.raises(UserError, match=message):
        run(*given, *options)


def test_numbers_are_class_names_where_the_user_says_so(tmp_path):
    with_numbers(tmp_path)
    given = [option for option in columns(tmp_path) if not option.startswith("label")]
    classes = [str(10 + i) for i in range(12)]
    run(*given, "label=visits", f"classes=[{','.join(classes)}]")
    assert objects(tmp_path / "out")["star3"]["label"] == "13"
