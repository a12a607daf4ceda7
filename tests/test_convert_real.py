"""The converter on real files, where they are: ASAS, LAMOST and ASAS-SN."""

import json
import tarfile
import time as clock

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import recall_score
from survey_files import objects, rejected, run

from astrom3.modalities.schema import PHOTO_COLS


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


@pytest.mark.slow
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
