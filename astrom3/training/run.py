"""The run folder, which explains itself: runs/<mode>-<sub>-<init>-<seed>/

config.yaml        the resolved configuration
run.json           mode, sub, seed, init, versions, git commit, what the data were
train.log          the log
checkpoints/       best.ckpt (weights of the best validation accuracy), last.ckpt (to go on from), previous.ckpt (the
                   epoch before, should last.ckpt be damaged)
metrics.csv        one row per epoch
metrics.json       the test of the best weights; its presence means that the run is finished
failure.json       why the run failed, until it is started again
rejected.csv       objects that could not be used, with the reason
model/             the best weights in published form, preprocessing.json (classes, normalisation) and, of a classifier,
                   confidence.json (temperature, limits of prediction sets, novelty)
curves.png, confusion.png
"""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3 import files, stored
from astrom3.errors import UserError
from astrom3.files import OutputFolder
from astrom3.hardware import first_process
from astrom3.locks import sole_writer
from astrom3.registry import flat, read_stored
from astrom3.typed import check

log = logging.getLogger(__name__)
CONFIG = "config.yaml"
INFO = "run.json"
METRICS = "metrics.json"
FAILURE = "failure.json"
BEST = "best.ckpt"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"
KEPT_ON_RESUME = (
    "overwrite",
    "accept_changes",
    "allow",
    "logger",
    "root",
    "run",
    "keep",
    "data.cache",
    "datamodule.cache",
    "data.num_workers",
    "datamodule.num_workers",
    "data.on_device",
    "datamodule.on_device",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
)
# Keys that runs of version 0.1 do not have.
ADDED = (
    "family",
    "prefix",
    "suffix",
    "head",
    "probe",
    "views",
    "freeze",
    "windows",
    "datamodule.windows",
    "kind",
    "simulated",
    "data.survey",
    "data.missing_images",
    "datamodule.origin.missing_images",
    "datamodule.origin.survey",
    "optim.kind",
    "optim.eps",
    "optim.no_decay",
    "schedule.kind",
    "optim.layer_decay",
    "model.head",
    "fold",
    "folds",
    "protocol",
    "pretrained",
    "init.start.protocol",
    "init.start.allow",
    "target",
    "task_name",
    "recipe",
    "balance",
    "datamodule.targets",
    "datamodule.balance",
    "allow",
    "keep",
    "tasks",
    "module.tasks",
    "module.masked_weight",
    "module.chunks",
    "module.width",
    "data.truncation",
    "datamodule.truncation",
)
LOGS = ("train.log", "tune.log", "wandb", ".hydra")
WEIGHTS = tuple(f"checkpoints/{name}{end}" for name in (BEST, LAST, PREVIOUS) for end in ("", ".part"))
MODEL = (
    "native.json",
    "native.safetensors",
    "config.json",
    "model.safetensors",
    "preprocessing.json",
    "confidence.json",
)
PICTURES = ("curves.png", "confusion.png", "reconstruction.png", "regression.png")
TABLES = ("metrics.csv", "rejected.csv", "evaluation.json")
FILES = (CONFIG, INFO, METRICS, FAILURE, *TABLES, *PICTURES, *(f"model/{name}" for name in MODEL), *WEIGHTS)
PACKAGES = ("astrom3", "torch", "lightning", "hydra-core", "omegaconf", "datasets", "torchmetrics", "numpy", "pyarrow")


@contextmanager
def sole_training(cfg: DictConfig) -> Iterator[None]:
    """Hold the lock of the run folder, in the first of a run's processes. UserError where another training holds it.

    A finished run needs none, since nothing is written to it.
    """
    run = Path(cfg.run)
    finished = (run / METRICS).is_file() and not cfg.overwrite
    if finished or not first_process():
        yield
        return
    run_folder(run).check(FILES, cfg.overwrite, "run")
    run.mkdir(parents=True, exist_ok=True)
    with sole_writer(run, "training", "root"):
        yield


def open_run(cfg: DictConfig) -> tuple[Path, str]:
    """The folder and what is to be done: "start", "resume" an unfinished run, or nothing, it is "finished".

    Raises UserError where the folder holds a run of another configuration (naming the keys), unless overwrite=true, or
    accept_changes=true for an unfinished one. Every process comes to the same answer; the first one writes.
    """
    run = Path(cfg.run)
    first = first_process()
    folder = run_folder(run)
    if first:
        folder.check(FILES, cfg.overwrite, "run")
    if cfg.overwrite:
        if first:
            clear(run)
    elif (run / CONFIG).is_file() and (begun(run) or (run / METRICS).is_file()):
        finished = (run / METRICS).is_file()
        changed = differences(read_stored(run / CONFIG, checked=False), cfg)
        if changed and (finished or not cfg.accept_changes):
            raise UserError(
                f"{run} holds a run with another configuration ({'; '.join(changed[:3])}"
                f"{f'; {len(changed) - 3} more' if len(changed) > 3 else ''}): give another root=<folder>, or "
                f"overwrite=true to start afresh{'' if finished else ', or accept_changes=true to go on all the same'}"
            )
        if changed:
            log.warning("%s goes on with another configuration: %s", run, "; ".join(changed))
        if first and not finished:
            folder.open(FILES, cfg.overwrite, "run")
            (run / FAILURE).unlink(missing_ok=True)
            files.write_text(run / CONFIG, OmegaConf.to_yaml(cfg))
        return run, "finished" if finished else "resume"
    if first:
        folder.open(FILES, cfg.overwrite, "run")
        (run / FAILURE).unlink(missing_ok=True)
        files.write_text(run / CONFIG, OmegaConf.to_yaml(cfg))

    return run, "start"


def begun(run: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return any((run / "checkpoints" / name).is_file() for name in (LAST, PREVIOUS))


def run_folder(run: Path) -> OutputFolder:
    """The folder as `train` owns it. Hydra opens the log in it first."""
    return OutputFolder(run, "train", legacy=written_before, ignored=LOGS)


def written_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has written to a run folder, None where it is none (see OutputFolder)."""
    if not (folder / CONFIG).is_file():
        return None
    cfg = read_stored(folder / CONFIG, checked=False)
    if not {"mode", "sub", "seed", "init", "trainer", "module"} <= set(cfg):
        return None
    return [name for name in FILES if (folder / name).is_file()]


def clear(run: Path) -> None:
    """Remove what another run has left in the folder, and what was exported into its model/."""
    OutputFolder(run / "model", "export").remove()
    folder = run_folder(run)
    folder.remove(set(folder.files or ()) - {"train.log"})


@contextmanager
def failure_recorded(run: Path) -> Iterator[None]:
    """An error that ends the run is written to failure.json too, for the report and the sweep; Ctrl-C is none."""
    try:
        yield
    except Exception as error:
        if first_process():
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}"
            with suppress(OSError):  # a full disk, most likely: the error itself says so
                files.write_json(
                    run / FAILURE, {"reason": reason, "when": datetime.now(UTC).isoformat(timespec="seconds")}
                )
        raise


def first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def check_processes(trainer: DictConfig) -> None:
    """What torchrun started must be what the configuration says. trainer: its group of keys."""
    check_machine(trainer)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    started = int(os.environ["WORLD_SIZE"])
    devices = trainer.devices
    nodes = trainer.num_nodes
    if not isinstance(devices, int) or started != devices * nodes:
        raise UserError(
            f"torchrun started {started} processes, but trainer.devices={devices} (of each node) and "
            f"trainer.num_nodes={nodes} ask for another number: devices is --nproc-per-node, num_nodes is --nnodes"
        )


def check_machine(trainer: DictConfig) -> None:
    """What this machine cannot do would wait for ever or start more processes than it has cores."""
    cores = os.cpu_count() or 1
    many = isinstance(trainer.devices, int) and trainer.devices > cores
    if many and (trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not has_accelerator())):
        raise UserError(f"trainer.devices={trainer.devices}: this machine has {cores} cores, so give at most {cores}")
    started = {"RANK", "NODE_RANK", "SLURM_JOB_ID", "MASTER_ADDR"} & set(os.environ)
    if trainer.num_nodes > 1 and not started:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}, but nothing here starts processes on other nodes: use "
            "hydra/launcher=slurm, or torchrun on each of them"
        )


def has_accelerator() -> bool:
    """Whether torch can use a GPU here."""
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def differences(old: DictConfig, new: DictConfig) -> list[str]:
    """`key: old -> new` for every key that changes what is trained."""
    before = dict(flat(old))
    now = dict(flat(new))
    found = []
    for key in dict.fromkeys([*before, *now]):
        is_free = key in KEPT_ON_RESUME or key.startswith(tuple(f"{kept}." for kept in KEPT_ON_RESUME))
        is_new = key in ADDED and key not in before
        if before.get(key) != now.get(key) and not is_free and not is_new:
            found.append(f"{key}: {before.get(key)} -> {now.get(key)}")
    return found


def describe_run(cfg: DictConfig, data: Any) -> dict[str, Any]:
    """run.json: what a reader, a later fine-tuning and a report need to know. data: the data module, set up."""
    return {
        "mode": cfg.mode,
        "sub": cfg.sub,
        "protocol": cfg.get("protocol", cfg.sub),
        "seed": cfg.seed,
        "init": cfg.init.name,
        "data": describe_data(data),
        "versions": {p: version(p) for p in PACKAGES} | {"python": platform.python_version()},
        "git_commit": git_commit(),
        "command": " ".join(["python -m astrom3.train", *_overrides(sys.argv[1:])]),
    }


def describe_data(data: Any) -> dict[str, Any]:
    """What was found, and how many objects of each split were used, left out, rejected and repaired."""
    source = data.source
    return {"layout": source.layout, "note": source.note, "classes": list(data.classes), "splits": data.counts}


def _overrides(arguments: list[str]) -> list[str]:
    """Without folders of this machine."""
    shown_arguments = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        shown_arguments.append(f"{key}=<folder>" if os.path.isabs(value) else argument)
    return shown_arguments


def git_commit() -> str | None:
    """The commit of the working tree the package runs from; None in an installation, `+` behind it where changed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "") or None


def read_run(folder: str | Path, allow: Sequence[str] | str | None = None) -> tuple[Path, DictConfig, dict[str, Any]]:
    """Folder, configuration and run.json of a run with trained weights. allow: see `registry.check`."""
    run = Path(folder)
    for name in (CONFIG, INFO, f"checkpoints/{BEST}"):
        if not (run / name).is_file():
            raise UserError(f"{run} is not a run folder with trained weights: it lacks {name}")
    cfg = read_stored(run / CONFIG, allow)
    check(OmegaConf.to_container(cfg), stored.RunConfig, run / CONFIG, "train the run again")
    return run, cfg, stored.read(run / INFO, stored.RunInfo, "train the run again")


def read_scores(run: Path) -> dict[str, Any]:
    """metrics.json of a finished run."""
    return stored.read(run / METRICS, stored.Scores, "remove it, and the same command tests the run again")
