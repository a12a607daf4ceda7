"""Killed at any moment, with the disk full or a checkpoint damaged: the same command ends with the same run."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest
import torch
from processes import finish, training, wait_for

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.train import train
from astrom3.training import checkpoints, evaluation

pytestmark = pytest.mark.usefixtures("in_star_cache")

TINY = ["size=tiny", "data=simulated", "data.objects=240", "trainer=cpu", "trainer.enable_progress_bar=false"]
LONG = ["epochs=12", "optim.lr=0.003", "early_stopping.patience=12"]
RESULTS = ("metrics.csv", "metrics.json", "model/model.safetensors", "model/config.json", "rejected.csv")


def overrides(root, mode, *extra):
    return [*TINY, *LONG, f"root={root}", f"mode={mode}", *extra]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, in_star_cache):
    """A run of mode=meta that nothing has interrupted."""
    root = tmp_path_factory.mktemp("whole")
    train(compose(overrides(root, "meta")))
    return root / "meta-full-scratch-42"


def assert_same_run(one, two):
    for name in RESULTS:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two))
    assert a["epoch"] == b["epoch"]
    torch.testing.assert_close(a["state_dict"], b["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(a["optimizer_states"], b["optimizer_states"], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["photo", "clip", "all"])
def test_kills_at_random_moments_change_nothing(mode, tmp_path):
    """Four a mode, SIGTERM and SIGKILL each: two at moments drawn from the start on, two within the epochs."""
    log, options = tmp_path / "log", ["epochs=12", "early_stopping.patience=12"]
    assert finish(training([*overrides(tmp_path / "store", mode), "epochs=1"], log)) == 0, log.read_text()
    start = time.monotonic()
    assert finish(training(overrides(tmp_path / "whole", mode, *options), log)) == 0
    length = time.monotonic() - start
    name, draws, kills, epochs = f"{mode}-full-scratch-42", random.Random(mode), 0, []
    broken = tmp_path / "broken" / name
    table = broken / "metrics.csv"
    while kills < 4:
        before = table.stat().st_mtime_ns if table.exists() else 0
        process = training(overrides(tmp_path / "broken", mode, *options), log)
        if kills % 2 == 0:  # once this process has finished an epoch
            while process.exitcode is None and (not table.exists() or table.stat().st_mtime_ns == before):
                time.sleep(0.002)
            process.join(draws.uniform(0, 0.1) * length)
        else:
            process.join(draws.uniform(0.02, 0.5) * length)
        if process.exitcode is None:
            os.kill(process.pid, (signal.SIGTERM, signal.SIGKILL)[kills // 2 % 2])
            finish(process)
            assert (process.exitcode == 0) == (broken / "metrics.json").exists()
        if process.exitcode == 0:  # it was faster
            assert_same_run(tmp_path / "whole" / name, broken)
            shutil.rmtree(broken)
            continue
        kills += 1
        epochs.append(len(table.read_text().splitlines()) if table.exists() else 0)
    assert finish(training(overrides(tmp_path / "broken", mode, *options), log)) == 0, log.read_text()
    assert_same_run(tmp_path / "whole" / name, broken)
    assert len(set(epochs)) > 1, f"all kills at the same epoch: {epochs}"


@pytest.mark.slow
def test_kills_in_the_middle_of_writing_a_checkpoint_change_nothing(tmp_path):
    log, name = tmp_path / "log", "photo-full-scratch-42"
    options = ["epochs=6"]
    assert finish(training(overrides(tmp_path / "whole", "photo", *options), log)) == 0
    broken = tmp_path / "broken" / name
    halves = 0
    for _ in range(4):
        part = broken / "checkpoints" / "last.ckpt.part"
        part.unlink(missing_ok=True)
        process = training(overrides(tmp_path / "broken", "photo", *options), log)
        assert wait_for(part, process)
        os.kill(process.pid, signal.SIGKILL)
        finish(process)
        halves += part.exists()
    assert halves > 0, "no kill hit the writing"
    assert finish(training(overrides(tmp_path / "broken", "photo", *options), log)) == 0
    assert_same_run(tmp_path / "whole" / name, broken)


def interrupted(root, mode, epoch, monkeypatch):
    """A run stopped in the middle of an epoch; its folder."""
    from astrom3.tasks.classification import ClassificationModule

    step = ClassificationModule.training_step

    def failing(self, batch, i):
        if self.current_epoch == epoch and i == 1:
            raise RuntimeError("the lights went out")
        return step(self, batch, i)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationModule, "training_step", failing)
        with pytest.raises(RuntimeError, match="lights"):
            train(compose(overrides(root, mode)))
    return root / f"{mode}-full-scratch-42"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut off", "one bit", "empty", "missing"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(damage, whole, tmp_path, monkeypatch, caplog):
    run = interrupted(tmp_path / "broken", "meta", 5, monkeypatch)
    last = run / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    if damage == "missing":
        last.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        last.write_bytes({"cut off": content[:-100], "one bit": flipped, "empty": b""}[damage])
    with caplog.at_level("INFO"):
        train(compose(overrides(tmp_path / "broken", "meta")))
    if damage != "missing":
        assert "last.ckpt is damaged: going on from previous.ckpt, one epoch earlier" in caplog.text
    assert_same_run(whole, run)


@pytest.mark.slow
def test_with_both_checkpoints_damaged_it_starts_afresh_and_says_so(whole, tmp_path, monkeypatch, caplog):
    run = interrupted(tmp_path / "broken", "meta", 5, monkeypatch)
    for name in ("last.ckpt", "previous.ckpt"):
        (run / "checkpoints" / name).write_bytes(b"PK")
    train(compose(overrides(tmp_path / "broken", "meta")))
    assert "last.ckpt and previous.ckpt damaged, nothing to go on from: starting afresh" in caplog.text
    assert_same_run(whole, run)


@pytest.mark.slow
def test_a_run_killed_between_its_early_stop_and_its_test_trains_no_further(tmp_path, monkeypatch):
    options = overrides(tmp_path, "meta", "early_stopping.patience=2", "optim.lr=0.3", "epochs=40")
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "load_best", lambda *_: (_ for _ in ()).throw(RuntimeError("the lights went out")))
        with pytest.raises(RuntimeError, match="lights"):
            train(compose(options))
    run = tmp_path / "meta-full-scratch-42"
    table = (run / "metrics.csv").read_bytes()
    assert len(table.splitlines()) < 40, "it should stop early"
    assert json.loads((run / "failure.json").read_text())["reason"] == "RuntimeError: the lights went out"
    train(compose(options))
    assert (run / "metrics.csv").read_bytes() == table
    assert not (run / "failure.json").exists()


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_earlier_checkpoint_stays(tmp_path):
    """A real small file system: full at the third epoch, made larger, gone on with."""
    log, disk = tmp_path / "log", tmp_path / "disk"
    options = ["epochs=6"]
    assert finish(training(overrides(tmp_path / "whole", "clip", *options), log)) == 0
    whole = tmp_path / "whole" / "clip-full-scratch-42"
    best, last = ((whole / "checkpoints" / f"{n}.ckpt").stat().st_size for n in ("best", "last"))
    disk.mkdir()
    room = best + 2 * last + last // 2 + 100_000
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        process = training(overrides(disk, "clip", *options), log)
        assert finish(process) == 2, log.read_text()
        sentence = log.read_text().strip().splitlines()[-1]
        assert "last.ckpt cannot be written (No space left on device)" in sentence
        assert "of an earlier epoch is intact: make room" in sentence
        assert checkpoints.sound(disk / whole.name / "checkpoints" / "last.ckpt")
        assert not list((disk / whole.name / "checkpoints").glob("last.ckpt.part"))
        subprocess.run(["mount", "-o", f"remount,size={20 * room}", disk], check=True)
        assert finish(training(overrides(disk, "clip", *options), log)) == 0, log.read_text()
        assert_same_run(whole, disk / whole.name)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path):
    """Without root: the limit of a process on the size of its files (EFBIG in place of ENOSPC)."""
    writer, path = checkpoints.AtomicCheckpointIO(), tmp_path / "checkpoints" / "last.ckpt"
    writer.save_checkpoint({"state_dict": {"w": torch.arange(10.0)}}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"last\.ckpt cannot be written \(File too large\); last\.ckpt of an earlier"
        ):
            writer.save_checkpoint({"state_dict": {"w": torch.ones(1 << 20)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(checkpoints.load_weights(path)["w"], torch.arange(10.0))
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_changed_configurations_go_on_only_when_told(tmp_path, monkeypatch, caplog):
    run = interrupted(tmp_path, "meta", 5, monkeypatch)
    changed = [*overrides(tmp_path, "meta"), "trainer.gradient_clip_val=1.5"]
    with pytest.raises(UserError, match=r"trainer\.gradient_clip_val: .* -> 1\.5.*accept_changes=true to go on"):
        train(compose(changed))
    train(compose([*changed, "accept_changes=true"]))
    assert "goes on with another configuration: trainer.gradient_clip_val" in caplog.text
    assert len((run / "metrics.csv").read_text().splitlines()) == 13
    assert "gradient_clip_val: 1.5" in (run / "config.yaml").read_text()
