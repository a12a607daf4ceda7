"""The converter: from files to our layout, with every bad input listed and counted; on real files where they are."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
import time as clock
from pathlib import Path

import numpy as np
import processes
import pyarrow.parquet as pq
import pytest
from raw_layout import build_raw, lamost_arrays, lamost_bytes
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import recall_score

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.data.layouts import open_source
from astrom3.errors import UserError
from astrom3.modalities.schema import META_COLS, OBJECT_SCHEMA, PHOTO_COLS


def run(*overrides):
    """The verb, as its command line calls it."""
    return convert(
        compose([*overrides, "workers=1"] if not any("workers" in o for o in overrides) else overrides, "convert")
    )


def objects(root):
    return {row["object_id"]: row for row in pq.read_table(root / "objects").to_pylist()}


def rejected(root):
    with (root / "rejected.csv").open() as file:
        return [(r["object_id"], r["modality"], r["decision"], r["reason"]) for r in csv.DictReader(file)]


def curve_text(period=0.57, n=60, seed=0):
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, 1000, n))
    flux = 10 + 3 * np.sin(2 * np.pi * time / period) + rng.normal(0, 0.1, n)
    return "time,flux,flux_err\n" + "".join(f"{t:.5f},{f:.5f},0.1\n" for t, f in zip(time, flux, strict=True))


def survey(folder: Path, n=12):
    """A folder with a table of n good objects: light curve, spectrum, every catalogue column."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for i in range(n):
        (folder / f"lc{i}.csv").write_text(curve_text(0.3 + 0.05 * i, seed=i))
        data = lamost_bytes(*lamost_arrays(rng), layout=("image", "table")[i % 2])
        (folder / f"s{i}.fits.gz").write_bytes(gzip.compress(data, 1))
        row = {"object_id": f"star{i}", "class": ("EW", "RRAB")[i % 2], "lc": f"lc{i}.csv", "sp": f"s{i}.fits.gz"}
        rows.append(row | {c: round(float(rng.uniform(1, 15)), 4) for c in META_COLS})
    save(folder, rows)
    return rows


def save(folder, rows):
    with (folder / "stars.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


def columns(tmp_path):
    return (f"table={tmp_path}/in/stars.csv", f"out={tmp_path}/out", "label=class", "light_curve=lc", "spectrum=sp")


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
    command = [sys.executable, "-m", "astrom3.convert", *columns(tmp_path), "workers=2", "features=none"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tmp_path / "in", text=True
    )
    deadline = clock.monotonic() + 60
    while not list(tmp_path.glob(".out.*.tmp/objects/*")) and clock.monotonic() < deadline:
        clock.sleep(0.2)
    assert list(tmp_path.glob(".out.*.tmp/objects/*")), "it never began to write"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in errors, errors
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_mistakes_on_the_command_line_are_one_sentence_and_status_2(tmp_path):
    command = [
        sys.executable,
        "-m",
        "astrom3.convert",
        f"table={tmp_path}/none.csv",
        f"out={tmp_path}/out",
        "light_curve=lc",
    ]
    done = processes.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (
        done.returncode == 2
        and done.stderr.strip().endswith("none.csv: no such file")
        and "\n" not in done.stderr.strip()
    )


# --- real files -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asas(real_dir, tmp_path_factory):
    """The ASAS V-band sample, unpacked and converted: 447 objects of 9 classes."""
    folder = tmp_path_factory.mktemp("asas")
    with tarfile.open(real_dir / "asas-v/asas_training_set.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    table = f"table={real_dir}/asas-v/asas_training_set_classes.dat"
    options = ("survey=asas_v", table, f"root={folder}/asas_training_set")
    start = clock.monotonic()
    summary = run(*options, f"out={folder}/out", "split_fractions=[0.7,0.1,0.2]", "workers=2")
    print(f"asas-v: {summary['objects']} objects in {clock.monotonic() - start:.0f} s with 2 processes")
    return folder, options, summary


@pytest.mark.real
@pytest.mark.slow
def test_asas_sample_converts_and_its_periods_are_those_of_its_classes(asas):
    folder, _, summary = asas
    assert summary["objects"] == 447 and summary["decisions"]["rejected"]["object"]["unknown class"] == 363
    periods = {}
    for star in objects(folder / "out").values():
        assert all(np.isfinite(v) for v in star["photo_cols"].values())
        periods.setdefault(star["label"], []).append(star["photo_cols"]["period"])
    ranges = {"RRAB": (0.4, 0.8), "RRC": (0.2, 0.5), "M": (80, 1000), "DSCT": (0.02, 0.3), "EW": (0.2, 1.0),
              "SR": (20, 1001), "EA": (0.5, 60), "EB": (0.3, 60)}  # fmt: skip
    shares = {c: np.mean([low < p < high for p in periods[c]]) for c, (low, high) in ranges.items()}
    print("share of periods in the range of their class:", {c: round(float(s), 2) for c, s in shares.items()})
    assert min(shares.values()) > 0.85
    assert len(periods["RRAB"]) == 86 and 0.5 < np.median(periods["RRAB"]) < 0.62
    assert 0.33 < np.median(periods["EW"]) < 0.45 and 250 < np.median(periods["M"]) < 400


@pytest.mark.real
@pytest.mark.slow
def test_random_forest_on_the_four_features_reaches_the_known_accuracy(asas):
    rows = list(objects(asas[0] / "out").values())
    features = np.array([[r["photo_cols"][c] for c in PHOTO_COLS] for r in rows])
    labels = np.array([r["label"] for r in rows])
    accuracy, recall = [], []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(labels))
        train, test = order[:313], order[357:]
        forest = RandomForestClassifier(300, random_state=seed).fit(features[train], labels[train])
        predicted = forest.predict(features[test])
        accuracy.append((predicted == labels[test]).mean())
        recall.append(recall_score(labels[test], predicted, average="macro", zero_division=0))
    print(
        f"random forest: accuracy {np.mean(accuracy):.3f} +- {np.std(accuracy):.3f}, macro recall {np.mean(recall):.3f}"
    )
    assert np.mean(accuracy) > 0.72  # 0.735 +- 0.035 with another implementation of the features


@pytest.mark.real
@pytest.mark.slow
def test_all_asas_objects_convert_with_the_other_classes_unlabelled(asas):
    folder, options, _ = asas
    summary = run(*options, f"out={folder}/all", "unknown=unlabelled", "features=none", "workers=2")
    assert summary["objects"] == 810 and summary["unlabelled"] == 363
    own = run(*options, f"out={folder}/own", "classes=all", "features=none", "workers=2")
    assert own["objects"] == 810 and len([n for n in own["classes"].values() if n]) == 28


@pytest.mark.real
def test_lamost_spectra_convert_without_labels_and_light_curves(real_dir, tmp_path):
    files = sorted((real_dir / "lamost-dr7").glob("*.fits")) + sorted((real_dir / "lamost-formats").glob("*.fits.gz"))
    (tmp_path / "list.csv").write_text("id,file\n" + "".join(f"{f.name.split('.')[0]},{f}\n" for f in files))
    summary = run(f"table={tmp_path}/list.csv", f"out={tmp_path}/out", "id=id", "spectrum=file", "seeds=[42]")
    assert summary["objects"] == summary["present"]["spectrum"] == summary["unlabelled"] == 102
    assert [p.stem for p in (tmp_path / "out/splits").glob("*.parquet")] == ["full_42"]


@pytest.mark.real
def test_asassn_files_convert_in_one_band_or_keep_both(real_dir, tmp_path):
    folder = real_dir / "asas-sn-csv"
    names = sorted(p.name for p in folder.glob("*.csv"))
    (tmp_path / "list.csv").write_text("object_id,file\n" + "".join(f"{n[:-4]},{n}\n" for n in names))
    options = (
        f"table={tmp_path}/list.csv",
        f"root={folder}",
        "light_curve=file",
        "light_curves.format=asassn",
        "seeds=[42]",
    )
    summary = run(*options, f"out={tmp_path}/g", "band=g")
    assert summary["present"]["light_curve"] == 4
    assert summary["decisions"]["repaired"]["photometry"]["non-detections left out"] == 3
    summary = run(*options, f"out={tmp_path}/v", "light_curves.band=V")
    assert summary["objects"] == 1 and sum(summary["decisions"]["rejected"]["photometry"].values()) == 3
    run(*options, f"out={tmp_path}/mix")
    bands = json.loads((tmp_path / "mix" / "dataset.json").read_text())["bands"]
    assert [(band["name"], band["objects"]) for band in bands] == [("g", 4), ("V", 1)]
    assert not [r for r in rejected(tmp_path / "mix") if r[1] == "photometry" and r[2] == "rejected"]


# --- numbers to predict -----------------------------------------------------------------------------------------------


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


def test_a_seed_that_convert_was_given_is_the_one_that_is_drawn(tmp_path):
    survey(tmp_path / "in")
    run(*columns(tmp_path), "seeds=[7]", "split_fractions=[0.5,0.25,0.25]")
    written = open_source(tmp_path / "out", "full", 7)
    (tmp_path / "out/splits/full_7.parquet").unlink()
    drawn = open_source(tmp_path / "out", "full", 7)
    for split in ("train", "validation", "test"):
        assert drawn.catalogue(split).ids.tolist() == written.catalogue(split).ids.tolist()
    assert len(open_source(tmp_path / "out", "full", 123456).catalogue("train").ids) == 6
