"""Real runs, small: every mode, resume, finished and changed runs, two processes, the command line."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import processes
import pytest
import torch

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.evaluate import evaluate
from astrom3.published import astrom3 as published
from astrom3.train import train

pytestmark = pytest.mark.usefixtures("in_star_cache")

TINY = ["size=tiny", "data=simulated", "data.objects=240", "trainer=cpu", "trainer.enable_progress_bar=false"]


def run(tmp_path, *overrides):
    cfg = compose([*TINY, f"root={tmp_path}", *overrides])
    return cfg, train(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["photo", "spectra", "meta", "all", "clip"])
def test_every_mode_trains_tests_and_is_evaluated_again_with_the_same_numbers(mode, tmp_path):
    cfg, scores = run(tmp_path, f"mode={mode}")
    folder = tmp_path / f"{mode}-full-scratch-42"
    wanted = {"config.yaml", "run.json", "metrics.csv", "metrics.json", "rejected.csv", "curves.png", "model"}
    assert wanted <= {p.name for p in folder.iterdir()}
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(scores))
    info = json.loads((folder / "run.json").read_text())
    assert info["data"]["layout"] == "astrom3" and "simulated" in info["data"]["note"]
    assert set(info["data"]["splits"]) == {"train", "validation", "test"}
    assert info["versions"]["torch"] == torch.__version__
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [r["epoch"] for r in rows] == ["0", "1"]
    assert all(float(r["train/loss"]) > 0 for r in rows)
    published.load(folder)  # the run folder is a published model
    again = evaluate(compose([f"run={folder}"], "evaluate"))
    assert json.dumps(again) == json.dumps(scores)
    if mode == "clip":
        assert len(scores["loss_per_pair"]) == 3 and set(scores["centroid_accuracy"]) == {*cfg.modalities, "mean"}
    else:
        assert sum(map(sum, scores["confusion"])) == scores["n"] > 0


@pytest.mark.slow
def test_fine_tuning_starts_from_the_clip_run_of_the_same_seed(tmp_path):
    with pytest.raises(UserError, match=r"holds no finished CLIP run.*mode=clip seed=42"):
        run(tmp_path, "mode=spectra", "init=clip")
    run(tmp_path, "mode=clip")
    run(tmp_path, "mode=spectra", "init=clip", "epochs=1", "optim.lr=1e-12")
    clip, tuned = (published.load(tmp_path / n) for n in ("clip-full-scratch-42", "spectra-full-clip-42"))
    torch.testing.assert_close(clip.encoders["spectra"].state_dict(), tuned.encoder.state_dict())
    with pytest.raises(UserError, match=r"trained with seed=42, this run has seed=0"):
        run(tmp_path, "mode=spectra", "init=clip", "seed=0", f"init.path={tmp_path}/clip-full-scratch-42")


def test_a_classifier_with_a_frozen_encoder_is_calibrated_on_the_observations(tmp_path):
    _, scores = run(tmp_path, "mode=meta", "freeze=[encoders]", "epochs=1")
    assert (tmp_path / "meta-full-scratch-42" / "model" / "confidence.json").is_file()
    assert 0 < scores["confidence"]["sets"]["coverage"] <= 1


@pytest.mark.slow
def test_a_missing_clip_run_is_said_before_anything_heavy_is_imported(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "astrom3.train", "mode=photo", "init=clip", "seed=0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "runs/clip-full-scratch-0 holds no finished CLIP run" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported and not {"torch", "lightning"} & imported


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["clip", "all"])
def test_objects_with_missing_modalities_take_part(mode, tmp_path):
    options = ["data.missing_spectra=0.5", "data.missing_light_curves=0.3"]
    _, scores = run(tmp_path, f"mode={mode}", "epochs=1", *options)
    info = json.loads((tmp_path / f"{mode}-full-scratch-42" / "run.json").read_text())["data"]["splits"]["train"]
    assert info["missing"]["spectra"] > 50 and info["missing"]["photometry"] > 30
    assert info["used"] == info["objects"] - (0 if mode == "all" else info["left_out"])
    assert all(v == v for v in scores.values() if isinstance(v, float))


@pytest.mark.slow
def test_published_weights_of_the_hub_start_a_run(tmp_path, monkeypatch):
    import huggingface_hub.constants as constants
    from hub_server import serve

    run(tmp_path / "ours", "mode=clip", "epochs=1")
    model = tmp_path / "ours" / "clip-full-scratch-42" / "model"
    shutil.copytree(model, tmp_path / "hub" / "AstroMLCore" / "AstroM3-CLIP-42")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        run(tmp_path, "mode=meta", "init=hub", "epochs=1", "optim.lr=1e-12")
    tuned, clip = published.load(tmp_path / "meta-full-hub-42"), published.load(model)
    torch.testing.assert_close(clip.encoders["metadata"].state_dict(), tuned.encoder.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["clip", "meta"])  # with and without gradient clipping
def test_bfloat16_trains(mode, tmp_path):
    _, scores = run(tmp_path, f"mode={mode}", "epochs=1", "trainer.precision=bf16-mixed")
    assert scores["loss"] > 0 if mode == "clip" else scores["n"] > 0


@pytest.mark.slow
def test_wandb_offline_writes_beside_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path, "mode=meta", "logger=wandb_offline")
    assert list((tmp_path / "meta-full-scratch-42" / "wandb").glob("offline-run-*"))


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_a_changed_one_refused(tmp_path):
    _, scores = run(tmp_path, "mode=meta")
    best = tmp_path / "meta-full-scratch-42" / "checkpoints" / "best.ckpt"
    before = best.stat().st_mtime_ns
    assert run(tmp_path, "mode=meta")[1] == json.loads(json.dumps(scores))
    assert best.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another configuration \(optim\.lr: .* -> 0\.5\).*overwrite=true"):
        run(tmp_path, "mode=meta", "optim.lr=0.5")
    run(tmp_path, "mode=meta", "optim.lr=0.5", "overwrite=true")
    assert best.stat().st_mtime_ns != before


@pytest.mark.slow
def test_resume_after_an_interrupted_epoch_gives_the_same_rates_order_and_weights(tmp_path):
    """Stopped by an exception in the middle of epoch 4 of 6, started again: bit for bit the run never stopped."""
    from astrom3.tasks.classification import ClassificationModule

    options = ["mode=meta", "epochs=6", "optim.lr=0.01", "schedule.warmup_epochs=2", "schedule.patience=0"]
    run(tmp_path / "whole", *options)
    step, stop_at = ClassificationModule.training_step, 4

    def failing(self, batch, i):
        if self.current_epoch == stop_at and i == 1:
            raise RuntimeError("the lights went out")
        return step(self, batch, i)

    ClassificationModule.training_step = failing
    try:
        with pytest.raises(RuntimeError, match="lights"):
            run(tmp_path / "broken", *options)
    finally:
        ClassificationModule.training_step = step
    run(tmp_path / "broken", *options)
    whole, broken = (tmp_path / n / "meta-full-scratch-42" for n in ("whole", "broken"))
    assert (whole / "metrics.csv").read_text() == (broken / "metrics.csv").read_text()
    assert (whole / "model" / "model.safetensors").read_bytes() == (broken / "model" / "model.safetensors").read_bytes()
    assert (whole / "metrics.json").read_text() == (broken / "metrics.json").read_text()


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_same_command(tmp_path):
    command = ["astrom3.train", *TINY, f"root={tmp_path}", "mode=meta", "epochs=40", "early_stopping.patience=40"]
    process = processes.Started(*command)
    table = tmp_path / "meta-full-scratch-42" / "metrics.csv"
    while not table.exists() or len(table.read_text().splitlines()) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = processes.run_module(*command)
    assert done.returncode == 0, done.stderr
    assert "resume" in done.stdout + done.stderr
    epochs = [int(r["epoch"]) for r in csv.DictReader(table.open())]
    assert epochs == list(range(40))


@pytest.mark.slow
def test_unreachable_hub_names_the_two_ways_out_and_never_simulates(tmp_path):
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin",
                   "ASTROM3_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}  # fmt: skip
    command = [sys.executable, "-m", "astrom3.train", "mode=clip", "sub=full"]
    done = processes.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert "data=local data.path=" in last and "data=simulated" in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.slow
def test_data_that_stay_on_the_device_give_the_same_run(tmp_path):
    _, host = run(tmp_path / "host", "mode=clip", "epochs=1")
    _, device = run(tmp_path / "device", "mode=clip", "epochs=1", "data.on_device=true")
    assert json.dumps(host) == json.dumps(device)
    name = "clip-full-scratch-42/metrics.csv"
    assert (tmp_path / "host" / name).read_text() == (tmp_path / "device" / name).read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize("mode, backend", [("meta", "inductor"), ("spectra", "aot_eager")])
def test_compiled_encoders_train_and_keep_the_names_of_their_tensors(mode, backend, tmp_path, monkeypatch):
    """The network of metadata by the compiler itself; convolutions are traced, and run without their minute of C++."""
    used = []
    compile_module = torch.nn.Module.compile

    def compile_by(self, *given, **options):
        used.append(type(self).__name__)
        return compile_module(self, *given, **options, backend=backend)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_by)
    _, compiled = run(tmp_path / "compiled", f"mode={mode}", "epochs=1", "compile=true", "optim.lr=1e-9")
    assert used == [{"meta": "MetadataMLP", "spectra": "GalSpecNet"}[mode]]
    _, eager = run(tmp_path / "eager", f"mode={mode}", "epochs=1", "optim.lr=1e-9")
    assert compiled["accuracy"] == eager["accuracy"]  # the weights have hardly moved
    published.load(tmp_path / "compiled" / f"{mode}-full-scratch-42")
