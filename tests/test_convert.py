"""The converter: from files to our layout, with every bad input listed and counted."""

import csv
import gzip
import json
import os
import signal
import time as clock

import numpy as np
import processes
import pyarrow.parquet as pq
import pytest
from raw_layout import build_raw, lamost_arrays, lamost_bytes
from survey_files import columns, curve_text, objects, rejected, run, save, survey

from astrom3.data.layouts import open_source
from astrom3.errors import UserError
from astrom3.modalities.schema import META_COLS, OBJECT_SCHEMA, PHOTO_COLS


def test_good_objects_arrive_whole_with_features_and_splits(tmp_path):
    given = survey(tmp_path / "in")
    summary = run(*columns(tmp_path))
    assert summary["objects"] == summary["features_computed"] == 12 and summary["classes"]["EW"] == 6
    assert summary["decisions"] == {"repaired": {}, "rejected": {}}
    found = objects(tmp_path / "out")
    for i, row in enumerate(given):
        star = found[row["object_id"]]
        assert star["label"] == row["class"] and star["meta_cols"] == {c: row[c] for c in META_COLS}
        lines = (tmp_path / "in" / row["lc"]).read_text().splitlines()[1:]
        assert star["light_curve"]["time"] == [float(line.split(",")[0]) for line in lines]
        assert len(star["spectrum"]["flux"]) == 3909
        assert star["photo_cols"]["period"] == pytest.approx(0.3 + 0.05 * i, rel=1e-3)
    assert pq.read_schema(tmp_path / "out/objects/objects-00000.parquet").equals(OBJECT_SCHEMA)
    dataset = json.loads((tmp_path / "out/dataset.json").read_text())
    assert dataset["name"] == "out" and dataset["provenance"]["converted"]["label"] == "class"
    assert len(list((tmp_path / "out/splits").glob("*.parquet"))) == 20


BAD_CURVES = {  # file content -> (decision, reason)
    "missing": (None, "rejected", "no such file"),
    "empty": ("", "rejected", "file is empty"),
    "garbage": (b"\xff\xfe\x00\x01", "rejected", "not a text file"),
    "header": ("time,flux,flux_err\n", "rejected", "no observations in it"),
    "columns": ("t,f\n1,2\n", "rejected", "no column known as mag"),
    "truncated": (curve_text()[:-10], "rejected", "corrupt or truncated"),
    "short": (curve_text(n=9), "rejected", "fewer than 10 usable points"),
    "constant": ("time,flux,flux_err\n" + "".join(f"{t},5,0.1\n" for t in range(20)), "rejected", "constant flux"),
    "instant": ("time,flux,flux_err\n" + "".join(f"1,{f},0.1\n" for f in range(20)), "rejected", "zero time span"),
    "nan": (curve_text() + "1001,nan,0.1\n1002,inf,0.1\n", "repaired", "2 points with non-finite"),
    "negative": (curve_text() + "1001,5,-0.1\n", "repaired", "1 points with negative error"),
    "unsorted": (curve_text() + "0.5,9,0.1\n", "repaired", "sorted"),
    "repeated": (curve_text() + curve_text().splitlines()[-1] + "\n", "repaired", "1 exact duplicate"),
}


def bad_spectra():
    wavelength, flux, ivar = lamost_arrays(np.random.default_rng(0))
    holes = flux.copy()
    holes[:3] = np.nan
    below = ivar.copy()
    below[5] = -1
    return {
        "missing": (None, "rejected", "no such file"),
        "empty": (b"", "rejected", "file is empty"),
        "garbage": (b"not fits", "rejected", "neither|not a FITS|no column"),
        "truncated": (lamost_bytes(wavelength, flux, ivar)[:30000], "rejected", "corrupt or truncated FITS"),
        "truncated gz": (
            gzip.compress(lamost_bytes(wavelength, flux, ivar))[:-99],
            "rejected",
            "corrupt or truncated gzip",
        ),
        "zero": (lamost_bytes(wavelength, 0 * flux, ivar), "rejected", "all-zero flux"),
        "blind": (lamost_bytes(wavelength, flux, 0 * ivar), "rejected", "all inverse variances 0"),
        "constant": (lamost_bytes(wavelength, 0 * flux + 7, ivar), "rejected", "constant flux"),
        "short": (lamost_bytes(wavelength[:90], flux[:90], ivar[:90]), "rejected", "fewer than 100 usable pixels"),
        "half": (lamost_bytes(wavelength[:1000], flux[:1000], ivar[:1000]), "rejected", "covers less than half"),
        "nan": (lamost_bytes(wavelength, holes, ivar), "repaired", "3 pixels with non-finite"),
        "negative": (lamost_bytes(wavelength, flux, below), "repaired", "1 negative inverse"),
        "backwards": (lamost_bytes(wavelength[::-1], flux[::-1], ivar[::-1]), "repaired", "out of order"),
    }


@pytest.mark.parametrize("modality", ["photometry", "spectra"])
def test_every_bad_file_is_decided_listed_and_counted(tmp_path, modality):
    rows = survey(tmp_path / "in", n=4)
    cases = BAD_CURVES if modality == "photometry" else bad_spectra()
    for name, (content, _, _) in cases.items():
        file = f"{name}.csv" if modality == "photometry" else f"{name}.fits{'.gz' if 'gz' in name else ''}"
        if content is not None:
            (tmp_path / "in" / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        rows.append(rows[0] | {"object_id": name, ("lc" if modality == "photometry" else "sp"): file})
    save(tmp_path / "in", rows)
    summary = run(*columns(tmp_path), "features=none")
    listed = {r[0]: r for r in rejected(tmp_path / "out") if r[1] == modality and "missing: set" not in r[3]}
    found, group = objects(tmp_path / "out"), {"photometry": "light_curve", "spectra": "spectrum"}[modality]
    for name, (_, decision, reason) in cases.items():
        assert listed[name][2] == decision and any(r in listed[name][3] for r in reason.split("|")), listed[name]
        assert (found[name][group] is None) == (decision == "rejected")  # the object keeps its other modalities
        if found[name][group]:
            assert all(np.isfinite(v).all() for v in found[name][group].values())
    assert set(listed) == set(cases)
    counts = summary["decisions"]
    n_rejected = sum(d == "rejected" for _, d, _ in cases.values())
    assert sum(counts["rejected"][modality].values()) == n_rejected
    assert summary["present"][group] == 4 + len(cases) - n_rejected


def test_bad_rows_of_the_table_are_decided_listed_and_counted(tmp_path):
    rows = survey(tmp_path / "in", n=8)
    rows[1]["object_id"] = "star0"
    rows[2]["class"] = "QSO"
    rows[3]["parallax"] = ""
    rows[4]["parallax"] = -1.5
    rows[5] |= dict.fromkeys(META_COLS[:30], "nan")
    rows[6] |= {"object_id": "nothing", "lc": "", "sp": "gone.fits"} | dict.fromkeys(META_COLS, "")
    rows[7]["class"] = ""
    save(tmp_path / "in", rows)
    summary = run(*columns(tmp_path))
    listed = rejected(tmp_path / "out")
    assert ("star0", "object", "rejected", "object_id occurs twice: the first one is kept") in listed
    assert ("star2", "object", "rejected", "unknown class: QSO") in listed
    assert ("star3", "metadata", "repaired", "parallax missing: set to the train mean") in [
        (i, m, d, r.replace(", parallax_over_error", "")) for i, m, d, r in listed
    ]
    assert any(r[0] == "star4" and r[1] == "metadata" and "parallax <= 0" in r[3] for r in listed)
    assert any(r[0] == "star5" and r[1] == "metadata" and r[2] == "rejected" for r in listed)
    assert ("nothing", "object", "rejected", "no usable light curve, spectrum or metadata") in listed
    assert summary["input_objects"] == 8 and summary["objects"] == 5 and summary["unlabelled"] == 1
    found = objects(tmp_path / "out")
    assert set(found) == {"star0", "star3", "star4", "star5", "star7"} and found["star7"]["label"] is None
    assert found["star3"]["meta_cols"]["parallax"] is None


def test_given_features_are_kept_and_missing_ones_follow_the_given_period(tmp_path):
    rows = survey(tmp_path / "in", n=4)
    for row in rows:
        row |= {"PER": 0.123, "rfr_score": 0.5}
    save(tmp_path / "in", rows)
    run(*columns(tmp_path), "columns.period=PER")
    star = objects(tmp_path / "out")["star1"]["photo_cols"]
    assert star["period"] == 0.123 and star["rfr_score"] == 0.5 and star["lksl_statistic"] > 0.5  # wrong period
    run(*columns(tmp_path), "columns.period=PER", "features=all", "overwrite=true")
    assert objects(tmp_path / "out")["star1"]["photo_cols"]["period"] == pytest.approx(0.35, rel=1e-3)
    run(*columns(tmp_path), "columns.period=PER", "features=none", "overwrite=true")
    assert objects(tmp_path / "out")["star1"]["photo_cols"]["amplitude"] is None


def test_a_column_named_wrongly_stops_the_run_and_names_those_there_are(tmp_path):
    survey(tmp_path / "in", n=4)
    cases = [
        ("light_curves.columns.flux=flx", r"lc0.csv: no column flx; set columns.flux to one of time, flux, flux_err"),
        ("light_curve=lightcurve", "has no column lightcurve .*; it has object_id, class, lc, sp"),
        ("columns.period=PER", r"has no column PER \(columns.period=PER\)"),
        ("light_curves.format=asassn", "not an ASAS-SN server file"),
        ("band=V", "band=V was asked for"),
        ("split_fractions=[0.9,0.2,0.1]", "sum to 1"),
        ("features=some", "features=some is none of"),
    ]
    for override, message in cases:
        with pytest.raises(UserError, match=message):
            run(*columns(tmp_path), override)
    with pytest.raises(UserError, match=r"columns.perido"):
        run(*columns(tmp_path), "columns.perido=x")
    with pytest.raises(UserError, match=r"give either table=.* or raw="):
        run(f"out={tmp_path}/out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_options_of_the_command_line(tmp_path):
    """Patterns of paths, label mapping, own classes, columns by position, seeds."""
    rows = survey(tmp_path / "in", n=6)
    save(tmp_path / "in", [{"n": i, "type": ("W UMa", "RRab")[i % 2]} for i in range(len(rows))])
    options = [
        f"table={tmp_path}/in/stars.csv",
        f"out={tmp_path}/out",
        "id=n",
        "label=type",
        "seeds=[7]",
        "features=none",
    ]
    options += [
        "light_curve='lc{n}.csv'",
        "light_curves.columns={time:0,flux:1,flux_err:2}",
        "light_curves.flux_unit=uJy",
    ]
    summary = run(*options, "labels={W UMa: EW}", "unknown=unlabelled")
    assert summary["classes"]["EW"] == 3 and summary["unlabelled"] == 3
    assert [p.stem for p in (tmp_path / "out/splits").glob("full*.json")] == ["full_7"]
    star = objects(tmp_path / "out")["4"]
    first = (tmp_path / "in/lc4.csv").read_text().splitlines()[1].split(",")
    assert star["light_curve"]["flux"][0] == pytest.approx(float(first[1]) / 1000)
    summary = run(*options, "classes=[RRab]", "overwrite=true")
    assert summary["classes"] == {"RRab": 3} and summary["decisions"]["rejected"]["object"] == {"unknown class": 3}


@pytest.mark.slow
def test_several_processes_write_the_same_as_one(tmp_path):
    rows = survey(tmp_path / "in", n=4)
    rows = [rows[i % 4] | {"object_id": f"star{i}"} for i in range(100)]
    save(tmp_path / "in", rows)
    run(*columns(tmp_path), "workers=1", "features=none")
    (tmp_path / "out").rename(tmp_path / "one")
    run(*columns(tmp_path), "workers=2", "features=none")
    for path in sorted((tmp_path / "one").glob("*/*")):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "one")).read_bytes()


def test_raw_data_set_converts_with_its_published_splits(tmp_path):
    given = build_raw(tmp_path / "raw", n=30, seeds=(42, 0))
    summary = run(f"raw={tmp_path}/raw", f"out={tmp_path}/out")
    assert summary["objects"] == 30 and summary["features_computed"] == 0
    assert sorted(p.stem for p in (tmp_path / "out/splits").glob("*.parquet")) == [
        "full_0",
        "full_42",
        "sub10_0",
        "sub10_42",
    ]
    found = objects(tmp_path / "out")
    for row in given[::7]:
        star = found[row["id"]]
        assert star["label"] == row["target"] and star["photo_cols"] == {c: row["values"][c] for c in PHOTO_COLS}
        np.testing.assert_allclose(star["light_curve"]["flux"], row["light_curve"][1])
    ours, theirs = open_source(tmp_path / "out", "full", 0), open_source(tmp_path / "raw", "full", 0)
    for split in ("train", "validation", "test"):
        one, other = ours.catalogue(split), theirs.catalogue(split)
        assert sorted(one.ids) == sorted(other.ids)
        np.testing.assert_array_equal(one.values[np.argsort(one.ids)], other.values[np.argsort(other.ids)])
    for where in ("full/0", "sub10/42"):
        split = pq.read_table(tmp_path / f"out/splits/{where.replace('/', '_')}.parquet").to_pydict()
        ours = dict(zip(split["object_id"], split["split"], strict=True))
        theirs = {}
        for name, file in (("train", "train"), ("validation", "val"), ("test", "test")):
            with (tmp_path / f"raw/splits/{where}/{file}.csv").open() as rows:
                theirs |= {r["id"]: name for r in csv.DictReader(rows)}
        assert ours == theirs
        info = json.loads((tmp_path / f"raw/splits/{where}/info.json").read_text())
        kept = json.loads((tmp_path / f"out/splits/{where.replace('/', '_')}.json").read_text())
        assert kept["mean"] == info["mean"] and kept["std"] == info["std"]


def test_raw_objects_with_bad_files_lose_that_modality(tmp_path):
    given = build_raw(tmp_path / "raw", n=12, subs=("full",), zipped=False)
    (tmp_path / "raw/vardb_files" / f"{given[0]['name']}.dat").unlink()
    bad = tmp_path / "raw/spectra" / given[1]["target"] / given[1]["spec_filename"]
    bad.write_bytes(bad.read_bytes()[:-100])
    os.replace(
        tmp_path / "raw/spectra/EW" / given[2]["spec_filename"],
        tmp_path / "raw/spectra/RRAB" / given[2]["spec_filename"],
    )
    run(f"raw={tmp_path}/raw", f"out={tmp_path}/out")
    found = objects(tmp_path / "out")
    assert found[given[0]["id"]]["light_curve"] is None and found[given[1]["id"]]["spectrum"] is None
    assert found[given[2]["id"]]["spectrum"] is not None  # another folder than its class: still found
    assert {r[0] for r in rejected(tmp_path / "out") if r[2] == "rejected"} == {given[0]["id"], given[1]["id"]}
    with pytest.raises(UserError, match="label is for table="):
        run(f"raw={tmp_path}/raw", f"out={tmp_path}/again", "label=target")
    with pytest.raises(UserError, match="it is not the raw AstroM3Dataset"):
        run(f"raw={tmp_path}/out", f"out={tmp_path}/again")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, number):
    rows = survey(tmp_path / "in", n=4)
    save(tmp_path / "in", [rows[i % 4] | {"object_id": f"star{i}"} for i in range(20000)])
    command = ["astrom3.convert", *columns(tmp_path), "workers=2", "features=none"]
    process = processes.Started(*command, cwd=tmp_path / "in")
    deadline = clock.monotonic() + 60
    while not list(tmp_path.glob(".out.*.tmp/objects/*")) and clock.monotonic() < deadline:
        clock.sleep(0.2)
    assert list(tmp_path.glob(".out.*.tmp/objects/*")), "it never began to write"
    process.send_signal(number)
    status = process.wait(60)
    errors = process.output()[1]
    assert status == 128 + number and "Traceback" not in errors, errors
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_mistakes_on_the_command_line_are_one_sentence_and_status_2(tmp_path):
    options = [f"table={tmp_path}/none.csv", f"out={tmp_path}/out", "light_curve=lc"]
    done = processes.run_module("astrom3.convert", *options, cwd=tmp_path)
    assert (
        done.returncode == 2
        and done.stderr.strip().endswith("none.csv: no such file")
        and "\n" not in done.stderr.strip()
    )


def test_a_seed_that_convert_was_given_is_the_one_that_is_drawn(tmp_path):
    survey(tmp_path / "in")
    run(*columns(tmp_path), "seeds=[7]", "split_fractions=[0.5,0.25,0.25]")
    written = open_source(tmp_path / "out", "full", 7)
    (tmp_path / "out/splits/full_7.parquet").unlink()
    drawn = open_source(tmp_path / "out", "full", 7)
    for split in ("train", "validation", "test"):
        assert drawn.catalogue(split).ids.tolist() == written.catalogue(split).ids.tolist()
    assert len(open_source(tmp_path / "out", "full", 123456).catalogue("train").ids) == 6
