"""Command lines of every verb that a fuzzer found wanting: a sentence and status 2, and what is text stays text."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from hostile_files import faults, texts, with_text
from hostile_verbs import said

from astrom3 import launch, registry
from astrom3.cli import config, keys, wall
from astrom3.cli.logs import RunLog
from astrom3.cli.verbs import run_verb
from astrom3.errors import UserError
from astrom3.files import MARK, OutputFolder, write_json
from astrom3.tune.journal import JOURNAL, open_study
from astrom3.tune.space import Range
from astrom3.tune.study import draw

VERBS = {
    "train": ["mode=photo", "data=simulated", "size=tiny"],
    "tune": ["mode=photo", "data=simulated", "size=tiny"],
    "evaluate": ["run=r"],
    "embed": ["model=m"],
    "search": ["index=i", "id=a"],
    "explore": ["model=m"],
    "analyse": ["model=m"],
    "export": ["model=m"],
    "convert": ["out=o", "table=t"],
    "simulate": ["out=o"],
    "report": [],
    "serve": ["model=m"],
}
# Of every verb: what its own keys or Hydra's flags cannot take, and a part of the sentence that says so.
EVERYWHERE = [
    ("--foo", "unrecognized arguments: --foo"), ("--cfg=foo", "invalid choice: 'foo'"), ("--cfg", "expected one"),
    ("--experimental-rerun=config.pickle", "--experimental-rerun is not taken"), ("--resolve", "goes with --cfg"),
    ("--config-name=foo", "--config-name is not taken"), ("--config-path=/nope", "--config-path is not taken"),
    ("a=${", "a=${"), ("nokey=1", "there is no key nokey"), ("hydra.verbose=7", "Hydra cannot use its settings"),
]  # fmt: skip
OF_A_VERB = [
    ("embed", "out=${out}", "Recursive interpolation"), ("embed", "out=${a:b}", "Unsupported interpolation"),
    ("embed", "overwrite=${nokey}", "'nokey' not found"), ("embed", "model=[a]", "model is a list of 1, not text"),
    ("embed", "model={a:1}", "model is an object"), ("embed", "out=null", "out=null: it has to be text"),
    ("embed", "device=null", "device=null"), ("embed", "shard=abc", "shard is 'abc', not a whole number"),
    ("embed", "coverage=abc", "coverage is 'abc', not a number"), ("embed", "splits=[[1]]", "is not a list"),
    ("embed", "splits=[null]", "is not a list"), ("embed", "seed={}", "seed={} does not exist"),
    ("embed", "seed=null", "seed=null does not exist"), ("embed", "data={a:1}", "does not exist"),
    ("embed", "data=null", "data=null does not exist"), ("embed", "engine=null", "it has to be text"),
    ("embed", "allow=1", "allow is 1"), ("embed", "allow={a:1}", "allow is an object"),
    ("search", "catalogue=[]", "catalogue is a list of 0"), ("search", "exact=abc", "exact is 'abc'"),
    ("search", "top=null", "top=null"), ("search", "zero_point=abc", "zero_point is 'abc'"),
    ("explore", "limit=abc", "limit is 'abc'"), ("explore", "bits={}", "bits is an object"),
    ("explore", "embeddings=[[1]]", "embeddings is a list"), ("explore", "one_file=null", "one_file=null"),
    ("analyse", "embeddings=[a,a]", "embeddings is a list"), ("analyse", "what={a:1}", "what is an object"),
    ("analyse", "early.points=abc", "is not a list"), ("analyse", "early=null", "early=null"),
    ("analyse", "early={points: abc}", "early.points=abc is not a list"), ("analyse", "unseen=abc", "unseen is 'abc'"),
    ("export", "push={}", "push is an object"), ("export", "num_heads=abc", "num_heads is 'abc'"),
    ("convert", "root=[]", "root is a list"), ("convert", "columns=-1", "columns=-1 is not a group of keys"),
    ("convert", "labels=[1]", "labels is a list"), ("convert", "targets=1.5", "targets is 1.5"),
    ("convert", "classes=1", "classes is 1"), ("convert", "workers=abc", "workers is 'abc'"),
    ("convert", "seeds=[a]", "is not a list"), ("convert", "match=null", "match=null"),
    ("convert", "columns.period=[a]", "columns.period is a list"), ("simulate", "workers=[]", "workers is a list"),
    ("simulate", "objects=null", "objects=null"), ("report", "seeds=null", "seeds=null"),
    ("report", "modes=[[]]", "is not a list"), ("serve", "statistics=[]", "statistics is a list"),
    ("serve", "port=null", "port=null"), ("serve", "host={}", "host={} is not text"),
    ("train", "model=null", "model=null"), ("train", "encoders.photometry=null", "it has to be a group of keys"),
    ("train", "schedule.kind=abc", "it is one of warmup_plateau"), ("train", "data.cache=[]", "data.cache is"),
    ("train", "freeze=abc", "freeze is 'abc'"), ("train", "optim.kind=foo", "it is one of adam, adamw"),
    ("train", "run=" + 300 * "[", "is not of the form"), ("tune", "tune.space=abc", "is not a group of keys"),
    ("tune", "tune.keep=null", "tune.keep=null"), ("tune", "tune.trials=null", "tune.trials=null"),
    ("train", "hydra/job_logging=disabled", "Hydra cannot use its settings"),
    ("train", "schedule.kind=3", "it is one of warmup_plateau"), ("train", "windows=3", "it is one of one, every"),
    ("train", "keep=abc", "it is true, false or auto"), ("train", "data.on_device=1", "it is true, false or auto"),
    ("train", "prefix=../x", "holds a /"), ("train", "target=1", "target is 1, not text"),
    ("train", "freeze=[1]", "freeze[0] is 1, not text"), ("train", "modalities=[]", "modalities=[] names nothing"),
    ("train", "modalities=[spectra]", "has encoders of photometry"), ("train", "optim.lr=1e-300", "at least 1e-30"),
    ("embed", "splits=[train,train]", "splits names train twice"), ("embed", "splits=[]", "splits=[] names nothing"),
    ("analyse", "what=[]", "what=[] names nothing"), ("analyse", "what=[map,map]", "what names map twice"),
    ("report", "modes=[photo,photo]", "modes names photo twice"), ("report", "subs=[]", "subs=[] names nothing"),
    ("report", "seeds=[1,1]", "seeds names 1 twice"), ("convert", "seeds=[7,7]", "seeds names 7 twice"),
    ("convert", "targets=[a,a]", "targets names a twice"), ("convert", "targets=[]", "targets=[] names nothing"),
    ("explore", "~model", "~model: this key has to be there"), ("analyse", "~early", "~early: this key has to be"),
    ("train", "~optim.lr", "~optim.lr: this key has to be there"), ("tune", "~tune.space", "this key has to be there"),
    ("train", "~mode", "~mode: one has to be chosen"), ("train", "~logger", "logger is one of csv"),
    ("train", "encoders=[]", "is no value of this key"), ("report", "seeds={}", "is no value of this key"),
    ("train", "hydra.output_subdir=../x", "give .hydra, or leave it away"), ("embed", "hydra.mode=MULTIRUN", "with -m"),
    ("train", "hydra.output_subdir=''", "give .hydra"), ("train", "hydra.run.dir=''", "hydra.run.dir= is empty"),
    ("train", "hydra.sweep.dir='s3://a'", "is an address"), ("train", "hydra/launcher=foo", "is one of basic"),
    ("train", "hydra.job.env_copy=[NO_SUCH]", "Hydra finds no 'NO_SUCH'"),
    ("explore", "fold=1", "there is no fold to choose here"), ("report", "mode=photo", "there is no mode to choose"),
    ("train", "encoder/spectra=astrom3-tiny", "there is no encoder/spectra to choose here"),
    ("train", "epochs=" + 5000 * "9", "thousands of digits"),
    ("report", f"seeds=[{5000 * '9'}]", "thousands of digits"),
    ("convert", "classes=[ü]", "letters beyond ASCII in quotes"), ("explore", "seed=[a]", "does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "verb"), enumerate(VERBS))
def test_flags_and_unknown_keys_of_every_verb(capsys, tmp_path, monkeypatch, number, verb):
    monkeypatch.chdir(tmp_path)
    for argument, words in EVERYWHERE[number % 5 :: 5]:  # the same code for all: two each
        assert words in said(capsys, verb, [*VERBS[verb], argument])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", sorted({verb for verb, _, _ in OF_A_VERB}))
def test_values_of_the_wrong_kind(capsys, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    for _, argument, words in [case for case in OF_A_VERB if case[0] == verb]:
        key = argument.partition("=")[0]
        given = [word for word in VERBS[verb] if word.partition("=")[0] != key]
        assert words in said(capsys, verb, [*given, argument])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("verb", "given", "key", "value"), [
    ("search", "id=0012", "id", "0012"), ("search", "id=1e5", "id", "1e5"), ("search", "id=true", "id", "true"),
    ("search", "id=nan", "id", "nan"), ("search", "id=null", "id", None), ("search", "id='7'", "id", "7"),
    ("simulate", "out=1.50", "out", "1.50"), ("report", "root=2026", "out", "2026/report"),
    ("convert", "columns.period=3", "columns.period", "3"), ("embed", "out=a1", "out", "a1"),
    ("train", "root=007", "run", "007/photo-full-scratch-42"),
])  # fmt: skip
def test_a_name_of_digits_is_a_name(verb, given, key, value):
    first = [word for word in VERBS[verb] if word.partition("=")[0] != given.partition("=")[0]]
    found = config.compose([*first, given], verb)
    assert config.OmegaConf.select(found, key) == value


def test_names_of_digits_in_a_sweep():
    assert keys.quoted_text("out", "1,b") == "'1','b'"
    assert keys.quoted_text("optim.lr", "1,2") == "1,2"


def test_what_would_steer_a_terminal_is_written_out(capsys):
    assert "\\x1b[31m" in said(capsys, "train", ["mode=\x1b[31mred"])


def test_what_hydra_made_for_a_refused_run_goes_and_nothing_else(capsys, tmp_path):
    def refuse(cfg):
        raise UserError("no")

    (tmp_path / "there").mkdir()
    for root in ("there", "new/a"):
        with pytest.raises(SystemExit):
            run_verb("train", refuse, [*VERBS["train"], f"root={tmp_path / root}"])
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


# --- folders from elsewhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "onnx/a", "b"])
def test_a_link_in_a_folder_leads_nothing_out_of_it(tmp_path, name):
    victim = tmp_path / "victim"
    victim.mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    write_json(folder / MARK, {"made_by": "export", "version": 1, "files": ["a", "onnx/a", "b"]})
    link = folder / name.partition("/")[0]
    link.symlink_to(victim)
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"is a link to .*victim, outside the folder"):
            OutputFolder(folder, "export").open([name], overwrite)
    link.unlink()
    (folder / "real").touch()
    link.symlink_to("real")
    OutputFolder(folder, "export").check([name])
    assert list(victim.iterdir()) == []


def test_errors_of_wandb_are_of_what_it_was_given():
    errors = pytest.importorskip("wandb").errors
    for error in (errors.UsageError("No API key"), errors.CommError("timed out"), errors.AuthenticationError("no")):
        sentence, status = wall.answer(error)
        assert status == 2 and sentence.startswith("logger=wandb: ") and "logger=wandb_offline" in sentence


def test_a_log_that_is_a_link_is_not_written(tmp_path):
    import logging

    (tmp_path / "victim").write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    write_json(folder / MARK, {"made_by": "train", "version": 1, "files": []})
    (folder / "train.log").symlink_to(tmp_path / "victim")
    handler = RunLog(str(folder / "train.log"))
    handler.emit(logging.makeLogRecord({"msg": "text"}))
    handler.close()
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_log_names_no_home_folder(tmp_path, monkeypatch):
    import logging

    monkeypatch.setenv("HOME", str(tmp_path))
    write_json(tmp_path / MARK, {"made_by": "train", "version": 1, "files": []})
    handler = RunLog(str(tmp_path / "train.log"))
    handler.emit(logging.makeLogRecord({"msg": f"written to {tmp_path}/survey, of {tmp_path}-other/survey"}))
    handler.close()
    assert (tmp_path / "train.log").read_text() == f"written to ~/survey, of {tmp_path}-other/survey\n"


class Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_result_of_a_job_is_read_without_running_anything(tmp_path):
    path = tmp_path / "result.pkl"
    path.write_bytes(pickle.dumps(("success", {"run": "reason"})))
    assert launch.plain_pickle(path) == ("success", {"run": "reason"})
    for content in (pickle.dumps(("success", Touch(tmp_path / "marker"))), b"", b"junk", pickle.dumps(7)):
        path.write_bytes(content)
        status, sentence = launch.plain_pickle(path)
        assert status == "error" and "damaged" in sentence
    assert not (tmp_path / "marker").exists()


def test_allow_takes_names_alone():
    for value in (1, 1.5, {"a": 1}, True, [1], [["a.B"]], "rm -rf"):
        with pytest.raises(UserError, match="not the name of a class"):
            registry.names_of(value)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    made = open_study(folder, FileLock(folder / "lock"))
    space = {"optim.lr": Range("log", 1e-4, 1e-2)}
    for number in range(3):
        made.add_trial(draw(space, 0, made.get_trials(deepcopy=False)))
        trial = optuna.trial.Trial(made, made.get_trials(deepcopy=False)[number]._trial_id)
        trial.set_user_attr("best_epoch", 1)
        made.tell(trial, 0.5)
    return folder


@pytest.mark.slow
def test_damaged_journals_of_a_study(study):
    def read():
        found = open_study(study, FileLock(study / "lock"), ["optim.lr"])
        return [trial.params for trial in found.get_trials(deepcopy=False)]

    assert len(read()) == 3
    path = study / JOURNAL
    lines = path.read_text().splitlines()
    cases = {}
    for place, line in enumerate(lines):
        for name, text in texts(json.loads(line), 3):
            cases[f"line {place} {name}"] = with_text(
                path, "\n".join([*lines[:place], text, *lines[place + 1 :]]), read
            )
    for place in range(len(lines)):
        cases[f"without line {place}"] = with_text(path, "\n".join([*lines[:place], *lines[place + 1 :], ""]), read)
        cases[f"line {place} twice"] = with_text(path, "\n".join([*lines[: place + 1], *lines[place:], ""]), read)
    assert len(cases) > 100
    assert faults(cases) == []
    shutil.copy(path, study / "kept")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is no regular file"):
        read()
    path.unlink()


def test_a_run_from_elsewhere_does_not_choose_where_data_are_written(tmp_path):
    from astrom3.evaluate import keep_to_own_folders

    (tmp_path / "used" / "photometry-0").mkdir(parents=True)
    (tmp_path / "used" / "photometry-0" / "manifest.json").write_text("{}")
    (tmp_path / "home").mkdir()
    for name, kept in (("used", True), ("home", False), ("absent", False)):
        folder = str(tmp_path / name)
        trained = config.OmegaConf.create({"datamodule": {"cache": folder, "origin": {"root": folder}}})
        keep_to_own_folders(trained)
        assert trained.datamodule.cache == (folder if kept else None)
        assert trained.datamodule.origin.root is None
    trained = config.OmegaConf.create({"datamodule": {"cache": None, "origin": {"path": "x"}}})
    keep_to_own_folders(trained)
    assert trained == {"datamodule": {"cache": None, "origin": {"path": "x"}}}
