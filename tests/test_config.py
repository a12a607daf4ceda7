"""Every published run is composed by (mode, sub, init); mistakes are answered in one sentence, quickly."""

import json
import subprocess
import sys
from itertools import cycle, islice, product
from pathlib import Path

import hydra
import processes
import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from astrom3.cli import composing
from astrom3.cli.config import compose, config_groups, quote_groups
from astrom3.errors import UserError
from astrom3.places import CONFIG_DIR

FACTS = json.loads((Path(__file__).parent / "facts" / "hyperparameters.json").read_text())
ENCODER_KEYS = {
    "p": ("photometry", {"enc_in", "d_model", "dropout", "factor", "output_attention", "n_heads", "d_ff", "activation",
                         "e_layers"}),
    "s": ("spectra", {"dropout", "conv_channels", "kernel_size", "mp_kernel_size"}),
    "m": ("metadata", {"input_dim", "hidden_dim", "dropout"}),
}  # fmt: skip


def as_published(cfg):
    """Our nested configuration under the names of the published one."""
    out = {
        "mode": cfg.mode, "sub": cfg.sub, "init": cfg.init.name, "epochs": cfg.trainer.max_epochs, "lr": cfg.optim.lr,
        "beta1": cfg.optim.beta1, "weight_decay": cfg.optim.weight_decay, "scheduler_factor": cfg.schedule.factor,
        "clip_grad": cfg.trainer.gradient_clip_val is not None,
    }  # fmt: skip
    if cfg.trainer.gradient_clip_val is not None:
        out["clip_value"] = cfg.trainer.gradient_clip_val
    for prefix, (modality, keys) in ENCODER_KEYS.items():
        if modality in cfg.encoders:
            out |= {f"{prefix}_{k}": cfg.encoders[modality][k] for k in keys}
    if len(cfg.encoders) > 1:
        backbone = cfg.model.get("backbone", cfg.model)
        out |= {"hidden_dim": backbone.hidden_dim, "fusion": cfg.model.get("fusion", "avg")}
    return {k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in out.items()}


@pytest.mark.parametrize("name", FACTS["runs"])
def test_published_run(name):
    facts = FACTS["runs"][name]
    cfg = compose([f"mode={facts['mode']}", f"sub={facts['sub']}", f"init={facts['init']}"])
    assert as_published(cfg) == facts
    common = FACTS["_common"]
    assert cfg.early_stopping.patience == common["early_stopping_patience"]
    assert cfg.schedule.warmup_epochs == common["warmup_epochs"]
    assert cfg.schedule.patience == common["scheduler_patience"]
    assert cfg.optim.beta2 == common["beta2"]
    assert cfg.datamodule.batch_size == common["batch_size"]


def test_there_are_33_published_runs():
    assert len(FACTS["runs"]) == 33


@pytest.mark.slow
def test_every_mode_of_every_family_composes():
    groups = config_groups()
    assert set(groups["mode"]) == {"clip", "photo", "spectra", "meta", "all", "masked", "distil"}
    assert set(groups["seed"]) == {"42", "0", "66", "12", "123", "number"}
    turns = cycle(product([("full", "scratch"), ("sub10", "hub")], groups["size"]))
    for mode, family in product(groups["mode"], groups["family"]):
        if f"{family}-{mode}" not in groups["published"]:
            continue
        for (sub, init), size in islice(turns, 2):  # a full product takes a minute and finds the same
            cfg = compose([f"model={family}", f"mode={mode}", f"sub={sub}", f"init={init}", f"size={size}", "seed=66"])
            prefix = "" if family == "astrom3" else f"{family}-"
            assert cfg.run == f"runs/{prefix}{mode}-{sub}-{init}-66"
            assert cfg.datamodule.seed == 66


def test_a_task_that_a_family_does_not_have_is_refused_by_name():
    with pytest.raises(UserError, match="mode=masked is not a task of model=astrom3: choose model=astroclip or"):
        compose(["mode=masked"])
    with pytest.raises(UserError, match="mode=meta is not a task of model=astroclip: choose model=astrom3 or"):
        compose(["model=astroclip", "mode=meta"])
    with pytest.raises(UserError, match=r"mode=distil is not a task of model=astromer2: choose model=astroclip$"):
        compose(["model=astromer2", "mode=distil"])


def test_a_sweep_over_families_is_the_same_by_either_name():
    for key in ("model", "family"):
        assert quote_groups([f"{key}=astromer1,astromer2"]) == ["family=astromer1,astromer2"]


@pytest.mark.slow
def test_options_of_data_trainer_and_logger_compose():
    groups = config_groups()
    for trainer, logger in zip(groups["trainer"], cycle(groups["logger"]), strict=False):  # neither asks for the other
        compose([f"trainer={trainer}", f"logger={logger}", "data=local", "data.path=x"])
    assert compose(["data=simulated", "data.objects=100"]).datamodule.origin.n_objects == 100


def test_hub_is_the_default_and_simulated_is_never_implied():
    assert compose().datamodule.origin._target_ == "astrom3.data.origins.Hub"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optm.lr=1"], "there is no key optm.lr: did you mean optim.lr?"),
        (["optim.lr=abc"], "optim.lr=abc is not a number"),
        (["optim.lr=-1"], "optim.lr=-1 must be greater than 0"),
        (["mode=foto"], "mode=foto does not exist: mode is one of all, clip, distil, masked, meta, photo, spectra"),
        (["seed=x"], "seed=x does not exist"),
        (["mode=clip", "init=clip"], "mode=clip init=clip starts a pre-training from the pre-training it would write"),
        (["mode=photo", "init=file"], "init.path is not given"),
        (["data=local"], "data.path is not given"),
        (["data.path=x"], "data.path belongs to data=hats or data=local"),
        (["encoders.photometry.head_merge=x"], "head_merge=x does not exist: it is one of published, usual"),
        (["encoders.photometry.dropout=2"], "dropout=2 must be at least 0 and less than 1"),
        (["data.streaming=3"], "data.streaming=3 is not true or false"),
        (["trainer.devces=2"], "there is no key trainer.devces: did you mean trainer.devices"),
        (["foo"], "'foo' is not of the form key=value"),
    ],
)
def test_mistake_is_named(overrides, message):
    with pytest.raises(UserError) as error:
        compose(overrides)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["optm.lr=1"], ["mode=clip", "init=clip"], ["-m", "mode=photo,foto"], ["-m", "mode=photo,meta", "trainer=ddp"]],
)
def test_command_line_answers_without_a_traceback(arguments, tmp_path):
    command = [sys.executable, "-m", "astrom3.train", *arguments]
    done = processes.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("astrom3 train: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_importing_the_package_and_the_models_needs_neither_hydra_nor_lightning():
    code = (
        "import sys, astrom3, astrom3.published.astrom3, astrom3.tasks.losses\n"
        "heavy = {'hydra', 'lightning', 'wandb', 'omegaconf'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_verb_leaves_nothing_behind_but_what_it_was_asked_for(tmp_path):
    command = [sys.executable, "-m", "astrom3.simulate", "out=survey", "objects=40", "workers=1"]
    processes.run(command, check=True, cwd=tmp_path, capture_output=True)
    assert [p.name for p in tmp_path.iterdir()] == ["survey"]
    several = [sys.executable, "-m", "astrom3.simulate", "-m", "out=one,two", "objects=40", "workers=1"]
    processes.run(several, check=True, cwd=tmp_path, capture_output=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "survey", "two"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "evaluate", "convert", "simulate", "report", "tune"])
def test_every_verb_prints_its_configuration_and_its_help(verb, tmp_path):
    for flags, answer in ((["--cfg", "job"], ": "), (["--help"], "powered by Hydra")):
        done = processes.run(
            [sys.executable, "-m", f"astrom3.{verb}", *flags], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0 and answer in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_family_chooses_data_encoders_and_recipe():
    cfg = compose(["model=astroclip", "mode=distil", "data=simulated"])
    assert cfg.datamodule.origin.survey == "galaxies" and cfg.datamodule.origin.n_objects == 10_000
    assert cfg.datamodule.batch_size == 1440 and cfg.trainer.max_epochs == 200 and cfg.trainer.gradient_clip_val == 3
    assert cfg.schedule.kind == "cosine" and cfg.optim.kind == "adamw" and cfg.model.dino_head.out_dim == 65_536
    assert abs(cfg.optim.lr - 2e-4 * (1440 / 1024) ** 0.5) < 1e-6
    stars = compose(["data=simulated"])
    assert stars.datamodule.origin.survey == "stars" and stars.datamodule.origin.n_objects == 21_440


def test_any_seed_of_a_simulation():
    assert compose(["out=x", "seed=66"], "simulate").seed == 66
    assert compose(["out=x", "seed=11"], "simulate").seed == 11


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("train", ["mode=photo", "optim.lr=0.1", "data=simulated", "data.objects=50", "trainer=cpu", "~views"]),
        ("train", ["model=astroclip", "mode=clip", "+trainer.limit_train_batches=3", "run='a b'", "freeze=[encoders]"]),
        ("tune", ["mode=meta", "size=tiny", "tune.trials=3", "tune.space.optim.lr.low=0.001"]),
    ],
)
def test_values_set_in_composed_groups_give_what_hydra_composes(name, overrides):
    overrides = quote_groups(overrides, name)
    for _ in range(2):  # the second time from the groups that the first has composed
        quick = composing.composed(name, overrides, config_groups())
        with initialize_config_dir(str(CONFIG_DIR), job_name=name, version_base="1.3"):
            slow = hydra.compose(name, overrides, return_hydra_config=True)
        for whole in (quick, slow):
            whole.hydra.job.name = name
        assert OmegaConf.to_yaml(quick) == OmegaConf.to_yaml(slow)


def test_a_run_without_data_gives_its_own_data_split_and_seed(tmp_path):
    run = tmp_path / "photo-sub25-scratch-0"
    run.mkdir()
    wanted = ["mode=photo", "data=local", f"data.path={tmp_path}/mine", "sub=sub25", "seed=0"]
    (run / "config.yaml").write_text(OmegaConf.to_yaml(compose(wanted)))
    for verb in ("embed", "analyse", "explore"):
        found = compose([f"model={run}"], verb)
        assert (found.data.origin.path, found.sub, found.seed) == (f"{tmp_path}/mine", "sub25", 0)
        found = compose([f"model={run}", "seed=42"], verb)
        assert (found.data.origin.path, found.sub, found.seed) == (f"{tmp_path}/mine", "sub25", 42)
        found = compose([f"model={run}", "data=local", "data.path=other"], verb)
        assert (found.data.origin.path, found.sub, found.seed) == ("other", "full", 42)
        found = compose(["model=some/hub-id"], verb)
        assert (found.data.origin.repo, found.sub, found.seed) == ("AstroMLCore/AstroM3Processed", "full", 42)


def test_a_run_of_somebody_names_no_data_that_run_code(tmp_path):
    (tmp_path / "config.yaml").write_text("datamodule: {origin: {_target_: os.system, command: ls}}")
    with pytest.raises(UserError, match=r"os\.system"):
        compose([f"model={tmp_path}"], "embed")
