"""Searches of hyper-parameters: searches that are killed, shared, refused, or fail."""

import csv
import logging
import os
import signal
import sys
from itertools import chain

import pytest
from filelock import FileLock
from omegaconf import OmegaConf
from processes import CONTEXT, finish, wait_for

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.train import train
from astrom3.training.run import differences
from astrom3.tune.__main__ import main, tune
from astrom3.tune.space import trial_config

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_star_cache")]

TINY = ["mode=meta", "size=tiny", "data=simulated", "data.objects=240", "trainer=cpu"]
MANY = [*TINY, "tune.trials=11", "epochs=3"]  # one more than the random ones


def search(root, *overrides):
    given = [*overrides, f"root={root}"]
    return tune(compose(given, "tune"), given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, in_star_cache):
    """A search never interrupted."""
    root = tmp_path_factory.mktemp("whole")
    search(root, *MANY)
    return study(root)


def study(root):
    return root / "tune" / "meta-full-scratch-42"


def table(folder):
    return list(csv.DictReader((folder / "trials.csv").open()))


def command(overrides, output):
    """`python -m astrom3.tune` with these overrides, in a process of its own."""
    process = CONTEXT.Process(target=run_main, args=(list(overrides), str(output), dict(os.environ)))
    process.start()
    return process


def run_main(overrides, output, environment):
    import torch

    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    with open(output, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["tune", *overrides]
    main()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tune.trials=0"], "tune.trials=0 must be at least 1"),
        (["tune.keep=none"], "tune.keep=none does not exist: it is one of best, all"),
        (["trainer.devices=2"], "trainer.devices=2: a trial runs on one device"),
        (["optim.lr=0.1"], "optim.lr is both given and searched"),
        (["tune.space.optim.lr.low=1"], "tune.space.optim.lr: low=1 must be less than high=0.01"),
        (["tune.space.optim.lr.low=0"], "tune.space.optim.lr.low=0 must be greater than 0, as kind=log"),
        (["tune.space.optim.lr.kind=normal"], "kind=normal does not exist: it is one of uniform, log, int"),
        (["tune.space.encoders.each.dropout.high=1.5"], "encoders.metadata.dropout=1.5 must be"),
        (["+tune.space.optim.rate={kind: log, low: 1, high: 2}"], "there is no key optim.rate"),
        (["+tune.space.optim.beta2={low: 0.9, high: 0.99}"], "tune.space.optim.beta2 needs kind, low and high"),
        (["+tune.space.epochs={kind: int, low: 1.5, high: 3}"], "tune.space.epochs.low=1.5 is not a whole number"),
        (["+tune.space.epochs=3"], "tune.space.epochs=3 is not of the form"),
        (["~tune.space.optim", "~tune.space.schedule", "~tune.space.encoders"], "tune.space is empty"),
        (["tune.space.optim.lr=null"], "tune.space.optim.lr=null is not of the form"),
        (["trainer.num_nodes=2"], "trainer.num_nodes=2: a trial runs on one device"),
        (["+tune.space.trainer.devices={kind: int, low: 1, high: 2}"], "trainer.devices=2: a trial runs on one device"),
        (["+tune.space.run={kind: int, low: 1, high: 2}"], "is no number, so it cannot be searched"),
        (["+tune.space.encoders.metadata={kind: int, low: 1, high: 2}"], "is no number, so it cannot be searched"),
        (["+tune.space.data.streaming={kind: int, low: 0, high: 1}"], "data.streaming=false is no number"),
        (["+tune.space.hydra.verbose={kind: int, low: 0, high: 1}"], "hydra.verbose=null is no number"),
        (["+tune.space.encoders.each.drop={kind: int, low: 1, high: 2}"], "no encoder of mode=meta has drop"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(overrides, message, tmp_path):
    with pytest.raises(UserError) as error:
        search(tmp_path, "mode=meta", *overrides)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "words"), [("target=nope", "target=nope is not known"), ("init=clip", "no finished CLIP run")]
)
def test_a_search_that_cannot_begin_leaves_nothing(override, words, tmp_path):
    with pytest.raises(UserError, match=words):
        search(tmp_path, *TINY, override)
    assert not list(tmp_path.iterdir())


# --- searches ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_leaves_table_picture_best_and_the_weights_of_the_best_alone(whole):
    rows = table(whole)
    assert [r["number"] for r in rows] == [str(i) for i in range(11)] and {r["state"] for r in rows} == {"complete"}
    for r in rows:
        losses = [e["val/loss"] for e in csv.DictReader((whole / f"trial-{int(r['number']):03d}/metrics.csv").open())]
        assert len(losses) == 3 and float(r["value"]) == min(map(float, losses))
        assert losses[int(r["best_epoch"])] == min(losses, key=float)
    best = OmegaConf.load(whole / "best.yaml")
    lowest = min(rows, key=lambda r: float(r["value"]))
    assert (best.trial, best.value) == (int(lowest["number"]), float(lowest["value"]))
    kept = {p.parent.name for name in ("checkpoints", "model") for p in whole.glob(f"trial-*/{name}")}
    assert kept == {f"trial-{best.trial:03d}"}
    assert (whole / "tune.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_printed_command_trains_the_best_trial(whole, tmp_path):
    best = OmegaConf.load(whole / "best.yaml")
    words = best.command.split()
    assert words[:3] == ["python", "-m", "astrom3.train"] and str(whole.parent) not in best.command
    assert words[-len(best.overrides) :] == best.overrides
    trial = OmegaConf.load(whole / f"trial-{best.trial:03d}" / "config.yaml")
    assert differences(trial, compose([*words[3:], f"root={tmp_path}"])) == []
    info = OmegaConf.load(whole / f"trial-{best.trial:03d}" / "run.json")
    assert info.command == best.command


@pytest.mark.slow
def test_a_finished_search_is_not_repeated_and_another_one_refused(whole):
    root, before = whole.parents[1], (whole / "journal.log").read_bytes()
    best = search(root, *MANY)
    assert best["trial"] == OmegaConf.load(whole / "best.yaml").trial
    assert (whole / "journal.log").read_bytes() == before
    with pytest.raises(UserError, match=r"another configuration \(.*data.batch_size: 64 -> 32.*overwrite=true"):
        search(root, *MANY, "data.batch_size=32")
    with pytest.raises(UserError, match=r"\(tune.space.optim.lr.high: 0.01 -> 0.1\)"):
        search(root, *MANY, "tune.space.optim.lr.high=0.1")
    assert (whole / "journal.log").read_bytes() == before


@pytest.mark.slow
def test_more_trials_go_on_after_half_a_line_and_overwrite_starts_afresh(tmp_path, whole):
    options = [*TINY, "epochs=3", "tune.keep=all"]
    search(tmp_path, *options, "tune.trials=1")
    with (study(tmp_path) / "journal.log").open("a") as file:
        file.write('{"op_code": 5, "trial')  # the power went out
    search(tmp_path, *options, "tune.trials=2")
    assert table(study(tmp_path)) == table(whole)[:2]
    assert len(list(study(tmp_path).glob("trial-*/checkpoints/best.ckpt"))) == 2
    with FileLock(study(tmp_path) / "locks" / "001"), pytest.raises(UserError, match="another process is searching"):
        search(tmp_path, *options, "tune.trials=1", "overwrite=true", "tune.seed=1")
    search(tmp_path, *options, "tune.trials=1", "overwrite=true", "tune.seed=1")
    assert len(table(study(tmp_path))) == 1 and table(study(tmp_path)) != table(whole)[:1]
    assert not (study(tmp_path) / "trial-001").exists()


def test_a_failed_trial_is_recorded_and_the_search_goes_on(tmp_path, caplog, monkeypatch):
    import astrom3.tune.study as module

    trained = []

    def diverging(cfg):
        """Every other trial ends as one whose loss is not finite."""
        trained.append(cfg.run)
        if len(trained) % 2:
            raise UserError("the training loss became nan in epoch 0: lower optim.lr")
        return train(cfg)

    monkeypatch.setattr(module, "train", diverging)
    caplog.set_level(logging.INFO)
    best = search(tmp_path, *TINY, "tune.trials=4")
    rows = table(study(tmp_path))
    failed = [r for r in rows if r["state"] == "fail"]
    assert 0 < len(failed) < 4 and all("loss became" in r["reason"] and not r["value"] for r in failed)
    assert rows[best["trial"]]["state"] == "complete"
    assert sum(" failed: the training loss" in r.message for r in caplog.records) == len(failed)
    assert not any(r.message.startswith("epoch") for r in caplog.records)  # one line per trial
    for r in failed:
        assert not (study(tmp_path) / f"trial-{int(r['number']):03d}" / "checkpoints").exists()


@pytest.mark.slow
def test_all_trials_failed_is_an_error_and_other_exceptions_are_failures_too(tmp_path, monkeypatch):
    import astrom3.tune.study as module

    def broken(cfg):
        raise RuntimeError("the lights went out")

    monkeypatch.setattr(module, "train", broken)
    with pytest.raises(UserError, match=r"all 2 trials failed, the first with: RuntimeError: the lights went out"):
        search(tmp_path, *TINY, "tune.trials=2")
    assert [r["reason"] for r in table(study(tmp_path))] == ["RuntimeError: the lights went out"] * 2

    with pytest.raises(UserError, match=r"5 trials in a row failed.*the same command goes on"):  # a full disk, perhaps
        search(tmp_path, *TINY, "tune.trials=9")
    assert len(table(study(tmp_path))) == 7
    with pytest.raises(UserError, match=r"all 9 trials failed"):
        search(tmp_path, *TINY, "tune.trials=9")


def test_missing_data_are_an_error_before_the_first_trial(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        search(tmp_path, "mode=meta", "data=local", f"data.path={tmp_path}/nowhere")
    assert not list(study(tmp_path).glob("trial-*"))


def test_a_trial_is_composed_as_train_would_in_folders_of_any_name(tmp_path):
    run = tmp_path / "it's a (strange) folder"
    cfg = trial_config([*TINY, f"root={tmp_path}", "overwrite=true"], {"optim.lr": 1e-05}, run)
    assert cfg.run == str(run) and cfg.optim.lr == 1e-5 and not cfg.overwrite
    assert differences(cfg, compose([*TINY, "optim.lr=1e-5"])) == []


# --- real processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_killed_in_the_middle_has_the_trials_of_one_never_interrupted(tmp_path, whole):
    """Ctrl-C in trial 2, SIGKILL in trials 5 and 10 (drawn by TPE), at different moments of their lives."""
    given, folder = [*MANY, f"root={tmp_path}"], study(tmp_path)
    moments = [("trial-002/metrics.csv", signal.SIGINT), ("locks/005", signal.SIGKILL),
               ("trial-010/checkpoints/last.ckpt", signal.SIGKILL)]  # fmt: skip
    for name, how in moments:
        process = command(given, tmp_path / "log")
        assert wait_for(folder / name, process)
        os.kill(process.pid, how)
        assert finish(process) == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert finish(command(given, tmp_path / "log")) == 0
    assert (tmp_path / "log").read_text().count("goes on") == len(moments)
    assert (folder / "trials.csv").read_text() == (whole / "trials.csv").read_text()
    assert OmegaConf.load(folder / "best.yaml").value == OmegaConf.load(whole / "best.yaml").value
    for one in whole.glob("trial-*/metrics.csv"):
        assert (folder / one.relative_to(whole)).read_text() == one.read_text()


@pytest.mark.slow
def test_two_processes_share_the_trials_and_take_over_those_of_a_dead_one(tmp_path):
    given, folder = [*TINY, "tune.trials=6", f"root={tmp_path}"], study(tmp_path)
    first = command(given, tmp_path / "first")
    assert wait_for(folder / "trial-000" / "config.yaml", first)
    others = [command(given, tmp_path / name) for name in ("second", "third")]
    assert wait_for(folder / "trial-003" / "config.yaml", others[0])
    os.kill(first.pid, signal.SIGKILL)
    assert finish(first) == -signal.SIGKILL
    assert [finish(p) for p in others] == [0, 0]
    assert {(r["number"], r["state"]) for r in table(folder)} == {(str(i), "complete") for i in range(6)}
    took = [said(tmp_path / name) for name in ("first", "second", "third")]
    assert sorted(chain(*took)) == list(range(6)), took  # each by one process
    assert took[1] and took[2]


def said(output):
    """Numbers of the trials that a process has finished."""
    words = [line.split() for line in output.read_text().splitlines()]
    return [int(w[2].rstrip(":")) for w in words if w[1:2] == ["trial"] and w[2].endswith(":")]


@pytest.mark.slow
def test_the_command_line_answers_help_config_and_mistakes(tmp_path):
    for flags, wanted in ((["--help"], "trials: 100"), (["--cfg", "job"], "kind: log")):
        process = command([*TINY, *flags], tmp_path / "out")
        assert finish(process) == 0 and wanted in (tmp_path / "out").read_text()
    assert finish(command([*TINY, f"root={tmp_path}", "trials=0"], tmp_path / "wrong")) == 2
    assert (tmp_path / "wrong").read_text() == "astrom3 tune: there is no key trials: did you mean tune.trials?\n"
