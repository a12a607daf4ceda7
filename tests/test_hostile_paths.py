"""Odd paths as values of every verb's keys: what the system refuses is one sentence, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import make_rows, write_ours
from hostile_files import answer as sentence_of
from hostile_paths import PLACEHOLDER, spoiled
from hostile_verbs import said
from small_models import save_model

from astrom3.cli import config, keys
from astrom3.cli.wall import answer
from astrom3.errors import UserError, shown
from astrom3.inference.embeddings import Embeddings
from astrom3.places import expanded

pytestmark = pytest.mark.slow


def failing(path: str) -> BaseException:
    try:
        Path(path).write_text("x")
    except OSError as error:
        return error
    raise AssertionError(path)


@pytest.mark.parametrize("path", ["/proc/x", "/dev/null/x", "/tmp", "/tmp/" + 300 * "x"])
def test_what_the_system_refuses_is_one_sentence(path):
    sentence, status = answer(failing(path))
    assert status == 2 and len(sentence.splitlines()) == 1 and "Errno" not in sentence


def test_a_fault_of_ours_is_one_sentence_with_its_place():
    try:
        config.leaves_of(None).__next__()
    except AttributeError as error:
        sentence, status = answer(error)
    assert status == 1 and "config.py, line" in sentence


# --- every verb -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A survey, a model, embeddings, an index and a table of two stars."""
    root = tmp_path_factory.mktemp("paths")
    survey = write_ours(root / "survey", make_rows(12))
    save_model(root / "model", survey)
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(12, 4)).astype(np.float32)
    ids = np.array([row["object_id"] for row in make_rows(12)])
    splits = np.array(["train", "test"] * 6)
    there = {"metadata": np.ones(12, bool)}
    made = Embeddings(
        ids, np.arange(12) % 2, splits, there, {"metadata": vectors, "mean": vectors}, None, ("A", "B"), "m"
    )
    made.write(root / "embeddings" / "train-00000-of-00001.parquet")
    (root / "stars.csv").write_text("name,class,lc\na,EW,a.csv\nb,RRAB,b.csv\n")
    for name in "ab":
        times = np.sort(draws.uniform(57000, 58000, 30))
        rows = [f"{time},{12 + 0.3 * np.sin(time)},0.02" for time in times]
        (root / f"{name}.csv").write_text("\n".join(["hjd,mag,mag_err", *rows]))
    return root


@pytest.fixture
def call(place, tmp_path, monkeypatch):
    """spoiled() of a verb, with what it is given and one key or several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))

    def run(name: str, verb, given: list[str], *tried: str) -> list[str]:
        found = []
        for key in tried:
            cfg = config.compose(
                [word for word in given if word.partition("=")[0] != key] + [f"{key}={PLACEHOLDER}"], name
            )
            here = tmp_path / f"{name} {key}"
            here.mkdir()
            found += spoiled(verb, cfg, key, here, place)
            os.chdir(tmp_path)
            shutil.rmtree(here)
        return found

    return run


def data(place: Path) -> list[str]:
    return ["data=local", f"data.path={place}/survey", "device=cpu"]


def test_embed(call, place):
    from astrom3.embed.__main__ import embed

    given = [f"model={place}/model", *data(place)]
    assert call("embed", embed, given, "model", "statistics", "out", "data.path") == []


def test_export(call, place):
    from astrom3.export.__main__ import export

    assert call("export", export, [f"model={place}/model", "onnx=false"], "model", "out") == []


def test_search(call, place):
    pytest.importorskip("lancedb")
    from astrom3.search.__main__ import search

    assert call("search", search, ["index=i", "id=a"], "index") == []
    assert call("search", search, ["index=i"], "embeddings") == []
    assert call("search", search, ["index=i", f"embeddings={place}/embeddings"], "catalogue") == []


def test_explore_and_analyse(call, place):
    from astrom3.analyse.__main__ import analyse
    from astrom3.explore.__main__ import explore

    given = [f"embeddings={place}/embeddings", *data(place)]
    assert call("explore", explore, [*given, "map=pca", "fit=all"], "embeddings", "out") == []
    assert call("analyse", analyse, [*given, "what=[retrieval]"], "embeddings", "other", "swapped", "project") == []


def test_convert(call, place):
    from astrom3.convert.__main__ import convert

    given = [f"table={place}/stars.csv", "id=name", "label=class", "light_curve=lc", "workers=1", "features=none"]
    given += ["out=o", "light_curves.system=AB", "seeds=[42]"]
    assert call("convert", convert, given, "table", "out", "match.table") == []
    assert call("convert", convert, ["out=o", "workers=1", "features=none"], "raw", "observations") == []


def test_report_and_evaluate(call, place):
    from astrom3.evaluate import evaluate
    from astrom3.report.__main__ import report

    assert call("report", report, [], "root") == []
    assert call("evaluate", evaluate, [], "run") == []


def test_simulate(call):
    from astrom3.simulate.__main__ import simulate

    assert call("simulate", simulate, ["survey=macho", "objects=3", "workers=1"], "out") == []


def test_train_and_tune(call, place):
    """What either does with its folders before it trains."""
    from astrom3 import registry
    from astrom3.training.run import open_run, sole_training
    from astrom3.tune.study import Search

    def begin(cfg):
        with sole_training(cfg):
            open_run(cfg)

    def search(cfg):
        with Search(cfg, [], {}).open():
            pass

    def read(cfg):
        registry.instantiate(cfg.init.start).check()
        registry.instantiate(cfg.data.origin).open("full", 42)

    given = ["mode=photo", "size=tiny", *data(place)[:2]]
    assert call("train", begin, given, "root") == []
    assert call("tune", search, given, "study") == []
    assert call("train", read, given, "data.path") == []
    assert call("train", read, [*given, "init=file"], "init.path") == []


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "given", "words"), [
    ("embed", ["model="], "model= is empty"), ("embed", ["model=m", "out="], "out= is empty"),
    ("search", ["index=' '", "id=a"], "index= is empty"), ("evaluate", ["run="], "run= is empty"),
    ("report", ["root="], "root= is empty"), ("convert", ["out=o", "table="], "table= is empty"),
    ("embed", ["model=~no_such_user/x"], "~ stands for a home folder"),
    ("embed", ["model=m", "data=local", "data.path="], "data.path= is empty"),
])  # fmt: skip
def test_names_of_nothing_and_of_nobody(capsys, tmp_path, monkeypatch, verb, given, words):
    monkeypatch.chdir(tmp_path)
    assert words in said(capsys, verb, given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("verb", "given"), [
    ("embed", ["model=m", "out=s3://bucket/x"]), ("search", ["id=a", "index=gs://bucket/x"]),
    ("train", ["mode=photo", "root=https://host/x"]), ("train", ["mode=photo", "data.cache=file:///x"]),
    ("tune", ["mode=photo", "study=hdfs://host/x"]), ("report", ["root=r", "out=ftp://host/x"]),
])  # fmt: skip
def test_an_address_is_no_folder_to_write_to(capsys, tmp_path, monkeypatch, verb, given):
    monkeypatch.chdir(tmp_path)
    assert "is an address" in said(capsys, verb, given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["name", "id", "columns.period", "light_curves.columns.time", "light_curve", "band"])
def test_names_of_columns_need_no_quotes_either(key):
    found = config.compose(["out=o", "table=t", f"{key}=größe"], "convert")
    assert config.OmegaConf.select(found, key) == "größe"


@pytest.mark.parametrize("value", ["~", "~/a b", "'~/a,b'", "~/ü"])
def test_the_home_folder(tmp_path, monkeypatch, value):
    monkeypatch.setenv("HOME", str(tmp_path))
    for key in ("out", "model"):
        found = config.compose([f"{key}={value}", *(["model=m"] if key == "out" else [])], "embed")
        assert found[key] == str(tmp_path / value.strip("'").removeprefix("~").removeprefix("/"))
    assert keys.at_home("title", "~/a") == "~/a"
    with pytest.raises(UserError, match="give the whole path"):
        expanded("~no_such_user/x")


@pytest.mark.parametrize("value", ["ünï", "字", "a&b", "a#b", "it's", "a=b", "a;b", "x~y", "a^b", "new\nline", "a b"])
def test_names_need_no_quotes(value):
    for given in (value, f"/data/{value}/x"):
        assert config.compose(["model=m", f"out={given}"], "embed").out == given
        assert keys.quoted_text("out", keys.quoted_text("out", given)) == keys.quoted_text("out", given)


def test_names_that_break_a_line_are_written_out(tmp_path):
    assert shown("a\nb\x1b") == "a\\nb\\x1b"
    assert str(UserError("a\nb")) == "a b"


def test_folders_that_a_refused_verb_would_have_made_are_not_left(capsys, tmp_path):
    from astrom3.cli.verbs import run_verb
    from astrom3.convert.__main__ import convert

    (tmp_path / "table.csv").write_text("name\na\n")
    with pytest.raises(SystemExit) as end:
        run_verb("convert", convert, [f"out={tmp_path}/new/deeper", f"table={tmp_path}/table.csv", "id=name"])
    assert end.value.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("source", ["../..", "a--b/c", "-a/b", "a/b.git", "org/" + 200 * "x", "ü/字"])
def test_what_the_hub_would_not_take_is_no_hub_id(tmp_path, monkeypatch, source):
    import astrom3

    monkeypatch.chdir(tmp_path)
    assert "hub id" in sentence_of(lambda: astrom3.load(source)) or source == "../.."


def test_a_file_that_is_no_model_is_said_to_be_none(tmp_path, monkeypatch):
    import astrom3

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "stars.csv").write_text("id\n1\n")
    assert "is no model" in sentence_of(lambda: astrom3.load("tables/stars.csv"))
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    (run / "checkpoints" / "best.ckpt").write_text("")
    assert "give the folder of the run" in sentence_of(lambda: astrom3.load(run / "checkpoints" / "best.ckpt"))
