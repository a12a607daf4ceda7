"""The leaderboard on a tiny folder in the form of the real one: all of it, held-out curves, the same bytes again."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrom3.errors import UserError
from experiments.leaderboard import classifiers, protocol, rows, shop, surveys, tuned
from experiments.leaderboard.__main__ import kinds_of, main, sizes_of, tasks_of
from experiments.leaderboard.committed import Stamps, read_csv
from experiments.leaderboard.protocol import Cell
from experiments.leaderboard.starembed import read_starembed
from experiments.leaderboard.surveys import read_raw, splits
from experiments.leaderboard.tasks import ASAS, CATALINA, numbers_of

SHAPES = {
    "EW": 0.35,
    "EB": 0.35,
    "EA": 2.3,
    "RRAB": 0.55,
    "RRC": 0.31,
    "M": 210.0,
    "LPV": 190.0,
    "ROT": 7.1,
    "DSCT": 0.07,
}


def a_curve(rng, shape):
    """Time [day], magnitude and error of a sine with harmonics at the period of a class."""
    n = int(rng.integers(60, 90))
    time = 53_000 + np.sort(rng.uniform(0, 900, n))
    phase = 2 * np.pi * (time / (SHAPES[shape] * rng.uniform(0.9, 1.1)))
    magnitude = 14 + 0.3 * np.sin(phase) + 0.1 * np.cos(2 * phase) + rng.normal(0, 0.03, n)
    return time, magnitude, np.full(n, 0.03)


def write_survey(folder, name, labels, per_class, seed):
    """A survey of `per_class` curves of each label in the form of ../shared/real."""
    rng = np.random.default_rng(seed)
    columns = {"id": [], "label": [], "time": [], "mag": [], "mag_err": []}
    for label, shape in labels.items():
        for k in range(per_class):
            time, magnitude, error = a_curve(rng, shape)
            columns["id"].append(f"{seed}-{label}-{k}")
            columns["label"].append(label)
            columns["time"].append(time)
            columns["mag"].append(magnitude)
            columns["mag_err"].append(error)
    (folder / name).mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / name / "light_curves.parquet")


def write_surveys(folder, per_class, seed):
    write_survey(folder, "asas-acvs", ASAS, per_class, seed)
    write_survey(folder, "crts-sss", CATALINA, per_class, seed + 1)
    return folder


@pytest.mark.slow
def test_all_of_it_with_held_out_curves_and_again_with_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(shop, "TASKS", shop.TASKS[:2])
    for name, value in (("TREES", 5), ("COSTS", (0.1,)), ("DECAYS", (0.1,))):
        monkeypatch.setattr(classifiers, name, value)
    real = write_surveys(tmp_path / "real", 5, 0)
    blind = write_surveys(tmp_path / "blind", 2, 10)
    survey = read_raw(real, "asas-acvs", blind)
    assert set(survey.ids[splits(survey, 42) == "test"]) == {name for name in survey.ids if name.startswith("10-")}
    words = [f"real={real}", f"blind={blind}", "epochs=1", "seeds=1", "workers=1", f"work={tmp_path / 'work'}"]
    results = tmp_path / "work" / "all-blind"
    texts = []
    for _ in range(2):
        for only in ("hand-made features", "ours, curve and features", "majority"):
            main([*words, f"only={only}"])
        files = [*(results / "cells").iterdir(), *results.glob("leaderboard.*")]
        texts.append({path.name: path.read_bytes() for path in files})
        for path in files:
            path.unlink()
    assert len(texts[0]) > 40 and texts[0] == texts[1]
    text = texts[0]["leaderboard.md"].decode()
    assert "crts-sss, frozen embedding, logistic regression (`ours, curve and features`) against `hand-made" in text
    cell = json.loads(texts[0]["hand-made_features--asas-acvs--random_forest--all--42.json"])
    assert 0.3 < cell["scores"]["macro_f1"] <= 1 and cell["configuration"]["blind"]
    assert "hand-made_features--asas-acvs--random_forest--all--42.json," in (results / "times.csv").read_text()


def test_committed_cells_are_taken_where_their_protocol_is_the_present_one(tmp_path, monkeypatch):
    real = write_surveys(tmp_path / "real", 5, 0)
    words = [f"real={real}", "only=majority"]
    main([*words, f"work={tmp_path / 'first'}", f"out={tmp_path / 'a'}"])
    cells = f"cells={tmp_path / 'a' / 'leaderboard.csv'}"
    main([*words, f"work={tmp_path / 'second'}", f"out={tmp_path / 'b'}", cells])
    assert not (tmp_path / "second" / "all" / "cells").exists()  # nothing was computed again
    files = ("leaderboard.csv", "leaderboard.md", "leaderboard.png")
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    found = read_csv(tmp_path / "a" / "leaderboard.csv")
    assert len(found) == 5 * 3 and all(len(cell["protocol"]) == 8 and cell["origin"] for cell in found)
    monkeypatch.setattr(surveys, "TEST_SHARE", 0.4)
    main([*words, f"work={tmp_path / 'third'}", f"out={tmp_path / 'c'}", cells, "seeds=1"])
    assert len(read_csv(tmp_path / "c" / "leaderboard.csv")) == 5  # those of other folds are not among them
    assert len(list((tmp_path / "third" / "all" / "cells").iterdir())) == 5
    text = (tmp_path / "a" / "leaderboard.csv").read_text()
    (tmp_path / "old.csv").write_text(text.replace(",protocol", ",something"))
    with pytest.raises(UserError, match="no column protocol"):
        read_csv(tmp_path / "old.csv")
    with pytest.raises(UserError, match="there is no"):
        read_csv(tmp_path / "nowhere.csv")


def test_a_stamp_changes_with_what_decides_a_score_and_with_nothing_else(tmp_path, monkeypatch):
    options = {"work": tmp_path / "work"}
    real = write_surveys(tmp_path / "real", 5, 0)
    logistic = Cell("hand-made features", "asas-acvs", "logistic regression", 100, 42)
    forest = Cell("hand-made features", "asas-acvs", "random forest", 100, 42)
    tuned = Cell("ours, fine-tuned", "asas-acvs", "fine-tuning", 20, 0)
    cells = (logistic, forest, tuned)

    def stamps(folder, epochs=30):
        made = Stamps(shop.Shop(shop.Options(folder, epochs=epochs, **options)))
        return [made.of(cell) for cell in cells]

    before = stamps(real)
    assert len(set(before)) == 3 and stamps(real) == before
    longer = stamps(real, epochs=40)
    assert longer[:2] == before[:2] and longer[2] != before[2]
    other = stamps(write_surveys(tmp_path / "other", 6, 0))
    assert not set(other) & set(before)
    monkeypatch.setattr(classifiers, "COSTS", (0.1,))
    changed = stamps(real)
    assert changed[0] != before[0] and changed[1:] == before[1:]


def test_standardised_by_survey_the_curves_of_the_test_fold_have_no_say(tmp_path):
    made = shop.Shop(shop.Options(write_surveys(tmp_path / "real", 10, 0), tmp_path / "work"))
    rng = np.random.default_rng(0)
    shapes = {name: (len(survey.ids), 3) for name, survey in made.surveys.items()}
    values = {name: rng.normal(5, 2, shape).astype(np.float32) for name, shape in shapes.items()}
    values["crts-sss"] = 3 * values["crts-sss"] + 100
    values["asas-acvs"][:, 2] = 7
    first = rows.by_survey(lambda _shop: values)(made)
    for name, survey in made.surveys.items():
        test = splits(survey, 42) == "test"
        assert 0 < test.sum() < len(test)
        assert np.abs(first[name][~test].mean(axis=0)).max() < 1e-4
        assert np.abs(first[name][~test][:, :2].std(axis=0) - 1).max() < 1e-4
        values[name][test] += 1000
    assert (first["asas-acvs"][:, 2] == 0).all()  # a constant column stays one
    second = rows.by_survey(lambda _shop: values)(made)
    for name, survey in made.surveys.items():
        rest = splits(survey, 42) != "test"
        assert (first[name][rest] == second[name][rest]).all()
    row = "hand-made features" + rows.BY_SURVEY
    assert [rows.is_asked(row, task) for task in made.tasks] == [False, False, False, True, True]
    assert all(rows.is_asked("hand-made features", task) for task in made.tasks)


def test_features_are_computed_of_the_curves_that_cells_look_at_and_of_no_others(tmp_path):
    made = shop.Shop(shop.Options(write_surveys(tmp_path / "real", 10, 0), tmp_path / "work"))
    task = next(task for task in made.tasks if task.name == "asas-acvs to crts-sss")
    jobs = [(Cell("four features", task.name, "random forest", 2, seed), task) for seed in (42, 0)]
    chosen = protocol.needed(made, jobs)
    asas = made.surveys["asas-acvs"]
    labels = numbers_of(asas, task.classes, task.names)
    assert (labels[chosen["asas-acvs"]] >= 0).all() and (splits(asas, 0)[chosen["asas-acvs"]] != "test").all()
    assert 2 * 5 < chosen["asas-acvs"].sum() <= 2 * (2 + 1) * 5
    catalina = made.surveys["crts-sss"]
    tested = (splits(catalina, 0) == "test") & (numbers_of(catalina, task.test_classes, task.names) >= 0)
    assert (chosen["crts-sss"] == tested).all()
    computed = []

    def make(part):
        computed.extend(name for survey in part.surveys.values() for name in survey.ids.tolist())
        return {name: np.array([[len(i)] for i in survey.ids]) for name, survey in part.surveys.items()}

    inputs = rows.of_needed(made, make, chosen)
    assert len(computed) == sum(mask.sum() for mask in chosen.values())
    assert (np.isfinite(inputs["asas-acvs"][:, 0]) == chosen["asas-acvs"]).all()
    fold = protocol.fold_of(made, task, inputs, 2, 42)
    assert all(np.isfinite(part[0]).all() for part in (fold.train, fold.validation, fold.test))
    only_asas = {"asas-acvs": chosen["asas-acvs"], "crts-sss": np.zeros(len(catalina.ids), dtype=bool)}
    assert list(made.part(only_asas).surveys) == ["asas-acvs"]


def test_a_network_between_surveys_trains_on_one_and_is_tested_on_the_other(tmp_path):
    from astrom3.data.layouts import open_source

    made = shop.Shop(shop.Options(write_surveys(tmp_path / "real", 10, 0), tmp_path / "work"))
    made.__dict__["four"] = {name: np.ones((len(survey.ids), 4)) for name, survey in made.surveys.items()}
    task = next(task for task in made.tasks if task.name == "asas-acvs to crts-sss")
    data = made.task_data(task)
    assert data != made.data("asas-acvs") and made.task_data(task) == data
    source = open_source(data, "full", 0)
    names = {}
    for split in ("train", "validation", "test"):
        table = source.table(split)
        names[split] = {str(name) for name in table.catalogue().take(source.rows[split]).ids}
    for split, survey in (("train", "asas-acvs"), ("validation", "asas-acvs"), ("test", "crts-sss")):
        raw = made.surveys[survey]
        assert names[split] == {f"{survey} {name}" for name in raw.ids[splits(raw, 0) == split].tolist()}
    assert list(source.classes) == task.names == ["EA", "EW", "LPV", "RRAB", "RRC"]
    sizes = {cell.shots for cell in tuned.cells("ours, fine-tuned", task)}
    assert sizes == {100, 0}
    assert tuned.plain("AstroM3's Informer, recipe=survey") == "AstroM3s-Informer-recipe-survey"


def test_sizes_are_numbers_or_all_and_kinds_are_those_that_are_known():
    assert sizes_of("20,100, all") == [20, 100, 0] and sizes_of("") == [] and sizes_of(20) == [20]
    with pytest.raises(UserError, match="holds many"):
        sizes_of("20,many")
    assert kinds_of("forest, none", {"forest", "none", "nearest"}) == {"forest", "none"} and kinds_of("", {"a"}) == {
        "a"
    }
    with pytest.raises(UserError, match="holds trees"):
        kinds_of("trees", {"forest"})
    assert tasks_of("", ["a", "b"]) == ["a", "b"] and tasks_of("b", ["a", "b"]) == ["b"]
    with pytest.raises(UserError, match="task=c does not exist: there are a; b"):
        tasks_of("c", ["a", "b"])


def test_curves_of_several_bands_in_the_starembed_schema_become_one(tmp_path):
    rng = np.random.default_rng(0)
    bands = {}
    for name, offset, step in (("g", 0.7, 2), ("r", 0.0, 1), ("i", -0.2, 30)):
        time, magnitude, error = (column[::step] for column in a_curve(rng, "RRAB"))
        bands[name] = {
            "feat_dynamic_real": np.diff(time, prepend=0),
            "length": len(time),
            "mjd": time,
            "past_feat_dynamic_real": error,
            "target": magnitude + offset,
        }
    table = [{"sourceid": "7", "class_str": "RRab", "period": 0.55, "bands_data": bands}]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "data" / "train-00000-of-00001.parquet")
    table[0]["sourceid"] = "8"
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "data" / "test-00000-of-00001.parquet")
    survey = read_starembed(tmp_path)
    assert dict(zip(survey.ids.tolist(), survey.held_out.tolist(), strict=True)) == {"7": False, "8": True}
    time, magnitude, error = survey.curves[0]
    assert len(time) == len(magnitude) == len(error) == bands["g"]["length"] + bands["r"]["length"]
    assert (np.diff(time) >= 0).all()
    from_g = np.isin(time, bands["g"]["mjd"])
    assert abs(np.median(magnitude[from_g]) - np.median(bands["r"]["target"])) < 1e-9
    pq.write_table(pa.table({"sourceid": ["9"]}), tmp_path / "data" / "validation.parquet")
    with pytest.raises(UserError, match="no column class_str"):
        read_starembed(tmp_path)
