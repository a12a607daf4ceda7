"""Sweeps: what fails stops nothing, what is finished is skipped, whatever process a launcher gives the runs to."""

import csv
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

import processes
import pytest

from astrom3.cli import sweeps
from astrom3.cli import verbs as cli
from astrom3.cli.config import compose, config_groups, quote_groups
from astrom3.errors import UserError
from astrom3.train import train
from experiments.grid import grid

TINY = ["size=tiny", "data=simulated", "data.objects=240", "trainer=cpu"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def environment(star_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROM3_CACHE", str(star_cache))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(autouse=True)
def logging_as_before():
    """Hydra puts handlers of its own on the root logger."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]


def finished(root):
    return sorted(path.parent.name for path in root.glob("*/metrics.json"))


def broken_for_photo(cfg):
    """A verb that fails in a way nobody thought of."""
    if cfg.mode == "photo":
        raise ZeroDivisionError("nobody thought of this")
    Path(cfg.run).mkdir(parents=True, exist_ok=True)
    (Path(cfg.run) / "metrics.json").write_text("{}")


def killed_for_photo(cfg):
    if cfg.mode == "photo":
        os.kill(os.getpid(), signal.SIGKILL)
    broken_for_photo(cfg)


@pytest.mark.slow
def test_an_unexpected_error_stops_no_other_run_and_is_named_at_the_end(tmp_path, capsys):
    with pytest.raises(cli.SweepError, match="1 of 3 runs failed") as caught:
        cli.run("train", broken_for_photo, ["-m", "mode=meta,photo,spectra", f"root={tmp_path}"])
    assert list(caught.value.failed) == [f"{tmp_path}/photo-full-scratch-42"]
    reason = caught.value.failed[f"{tmp_path}/photo-full-scratch-42"]
    assert "a fault of astrom3" in reason and "ZeroDivisionError: nobody thought of this" in reason
    assert finished(tmp_path) == ["meta-full-scratch-42", "spectra-full-scratch-42"]
    assert ", line " in reason and "Traceback" not in capsys.readouterr().err  # the place, in one sentence
    assert not list(tmp_path.glob(".sweep*"))


def trained(cfg):
    """A verb that leaves what a finished run does."""
    Path(cfg.run).mkdir(parents=True, exist_ok=True)
    (Path(cfg.run) / "metrics.json").write_text("{}")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "packed"])
def test_runs_that_differ_in_a_key_no_name_holds_have_folders_of_their_own(launcher, tmp_path):
    keys = ["optim.lr=0.001,0.01", "encoder/photometry=informer,astromer2", "mode=all,photo", f"root={tmp_path}"]
    cli.run("train", trained, ["-m", f"hydra/launcher={launcher}", *keys])
    expected = []
    for mode in ("all", "photo"):
        for rate in ("0.001", "0.01"):
            expected += [f"{mode}-full-scratch-42-lr-{rate}-photometry-{one}" for one in ("astromer2", "informer")]
    assert finished(tmp_path) == expected
    assert {path.name for path in tmp_path.iterdir()} == {*expected, "multirun.yaml"}


def suffixes(*overrides):
    runs = sweeps.sweep_runs(quote_groups(overrides))
    return sweeps.suffixes(runs, lambda one: compose(one).run)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["mode=photo,meta", "seed=42,0", "sub=full,sub10"], [""] * 8),
        (["epochs=range(1,4)"], ["-epochs-1", "-epochs-2", "-epochs-3"]),
        (["optim.lr=1e-3,1e-4"], ["-lr-0.001", "-lr-0.0001"]),
        (["data=local", "data.path=a/b,a/c"], ["-path-a_b", "-path-a_c"]),
        (["data=local", "data.path=a/b,a:b"], ["-path-1", "-path-2"]),  # they look alike
        (["freeze=[],[encoders]"], ["-freeze-", "-freeze-encoders"]),
        (["suffix=x", "epochs=1,2"], ["", ""]),
    ],
)
def test_the_end_of_a_name_tells_the_values_apart(overrides, expected):
    assert suffixes(*overrides) == expected


def test_a_suffix_is_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"suffix=/\.\./x holds a /, which begins another folder"):
        compose(["suffix=/../x"])


@pytest.mark.slow
def test_a_killed_worker_is_named_too(tmp_path):
    with pytest.raises(cli.SweepError, match=r"photo-full-scratch-42: it has not ended") as caught:
        cli.run("train", killed_for_photo, ["-m", "hydra/launcher=packed", "mode=meta,photo", f"root={tmp_path}"])
    assert not any((Path(run) / "metrics.json").exists() for run in caught.value.failed)
    assert not list(tmp_path.glob(".sweep*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (["trainer.devices=2"], r"cannot work in one process.*hydra/launcher=slurm, or hydra/launcher=local"),
        (["trainer=cpu,ddp"], r"trainer.devices=2 cannot work in one process"),
        (["trainer=ddp", "hydra/launcher=packed"], r"cannot work in one process"),
        (["trainer.devices=auto", "hydra/launcher=slurm"], r"one process per device, so it needs their number"),
        (["trainer.devices=[0,1]", "hydra/launcher=slurm"], r"one process per device, so it needs their number"),
        (["trainer.devices=1,2", "hydra/launcher=slurm"], r"trainer.devices differs between the runs \(1, 2\)"),
        (["trainer.num_nodes=2", "hydra/launcher=local"], r"processes of this machine only"),
        (["hydra/launcher=local", "seed=42,0,66,12,123", "sub=full,sub50,sub25,sub10", "init=scratch,clip"],
         r"starts all 80 runs at once.*hydra/launcher=packed"),
        (["hydra/launcher=slrum"], r"hydra/launcher=slrum does not exist: it is one of slurm, local, packed"),
    ],
)  # fmt: skip
def test_a_combination_that_cannot_work_is_refused_with_the_reason(overrides, sentence, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    with pytest.raises(UserError, match=sentence):
        cli.run("train", train, ["-m", "mode=meta,spectra", *overrides])


def test_launchers_are_no_group_of_the_configuration():
    assert "hydra" not in config_groups()


@pytest.mark.slow
def test_the_grid_trains_both_stages_in_order_and_goes_on_from_what_there_is(tmp_path, capsys):
    part = ["tiny", "seed=42", "mode=meta", f"root={tmp_path}", "epochs=1", "data.objects=240"]
    grid([*part, "sub=full"])
    assert finished(tmp_path) == ["clip-full-scratch-42", "meta-full-clip-42", "meta-full-scratch-42"]
    assert "3 runs: 3 finished now, 0 skipped, 0 not finished" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.json")}
    (tmp_path / "meta-sub10-scratch-42" / "config.yaml").mkdir(parents=True)  # where a file should be
    refused = r"not finished:\n.*meta-sub10-scratch-42: .* holds files that are not of astrom3 train"
    with pytest.raises(UserError, match=refused):
        grid([*part, "sub=sub10,full"])
    assert "5 runs: 1 finished now, 3 skipped, 1 not finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_the_grid_refuses_a_typing_error_before_the_first_run(tmp_path):
    with pytest.raises(UserError, match="sub=sub11 does not exist"):
        grid(["tiny", "sub=full,sub11", f"root={tmp_path}"])
    with pytest.raises(UserError, match="'tyni' is not of the form key=value"):
        grid(["tyni"])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_packed_runs_share_workers_and_a_failed_one_stops_nothing(tmp_path):
    command = ["-m", "hydra/launcher=packed", *TINY, "mode=meta", "seed=42,0", "init=scratch,clip", f"root={tmp_path}"]
    done = processes.run([sys.executable, "-m", "astrom3.train", *command], capture_output=True, text=True)
    assert done.returncode == 2
    assert "2 of 4 runs failed" in done.stderr and done.stderr.count("holds no finished CLIP run") == 2, done.stderr
    assert finished(tmp_path) == ["meta-full-scratch-0", "meta-full-scratch-42"]
    failures = {path.parent.name for path in tmp_path.glob("*/failure.json")}
    assert failures == {"meta-full-clip-0", "meta-full-clip-42"}


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_with_the_same_command(tmp_path):
    """Ctrl-C in the second run, SIGKILL in the third."""
    command = ["astrom3.train", "-m", *TINY, "mode=meta", "seed=42,0,66", "epochs=25",
               "early_stopping.patience=25", f"root={tmp_path}"]  # fmt: skip
    for number, how in ((0, signal.SIGINT), (66, signal.SIGKILL)):
        process = processes.Started(*command)
        table = tmp_path / f"meta-full-scratch-{number}" / "metrics.csv"
        while not table.exists() or len(table.read_text().splitlines()) < 4:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(how)
        status = process.wait()
        said = process.output()[1]
        assert status == (130 if how == signal.SIGINT else -signal.SIGKILL), said
        assert how == signal.SIGKILL or said.strip().splitlines()[-1] == "astrom3 train: interrupted"
    first = (tmp_path / "meta-full-scratch-42" / "metrics.json").stat().st_mtime_ns
    done = processes.run_module(*command)
    assert done.returncode == 0, done.stderr
    assert finished(tmp_path) == [f"meta-full-scratch-{seed}" for seed in (0, 42, 66)]
    assert (tmp_path / "meta-full-scratch-42" / "metrics.json").stat().st_mtime_ns == first
    for seed in (0, 66):
        rows = csv.DictReader((tmp_path / f"meta-full-scratch-{seed}" / "metrics.csv").open())
        assert [int(row["epoch"]) for row in rows] == list(range(25))


@pytest.mark.slow
def test_the_grid_in_local_jobs_waits_for_the_first_stage(tmp_path):
    command = ["tiny", "hydra/launcher=local", "mode=meta", "sub=full,sub10", "init=clip", "seed=42"]
    done = processes.run(
        [sys.executable, "-m", "experiments.grid", *command, f"root={tmp_path}", "data.objects=240"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished(tmp_path) == ["clip-full-scratch-42", "meta-full-clip-42", "meta-sub10-clip-42"]
    assert "3 runs: 3 finished now, 0 skipped, 0 not finished" in done.stdout
    assert len(list(tmp_path.glob(".submitit/*/*_result.pkl"))) == 2, "two jobs, not one a run"
    info = json.loads((tmp_path / "meta-sub10-clip-42" / "run.json").read_text())
    assert info["init"] == "clip"
