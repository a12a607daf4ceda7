"""Facts about the numbers that the program computes, so that a change of its code cannot change them unnoticed.

    PYTHONPATH=.:tests python -m frozen        records them again in tests/facts/frozen.json, after a deliberate change

The data are a survey of 80 objects, `tests/facts/survey-0.1`. It was simulated and thinned by version 0.1 (commit
9af19b4), like the run folder `tests/facts/run-0.1`, and both are kept as files: they also show that data sets and runs
of that version are still read. The same objects are written in the three other layouts from there.

Facts that are exact have a CRC-32 of the bytes of the array. They are sums in a fixed order, quotients and copies,
which IEEE arithmetic rounds in one way only. Arrays behind a logarithm, a sine or a cosine depend on the mathematical
library of the machine in their last bits, so three sums are recorded instead and compared to one part in a million.
Losses depend on the order in which matrix products are summed and are compared to one part in 100,000.

All imports from the package stand at the top of this file, because its modules move.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import processes
import pyarrow.parquet as pq
import torch
from data_files import write_current, write_first
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from raw_layout import write_raw

import astrom3
from astrom3.cli.config import compose
from astrom3.training.build import build

FACTS = Path(__file__).parent / "facts"
FROZEN = FACTS / "frozen.json"
SURVEY = FACTS / "survey-0.1"
RUN = FACTS / "run-0.1"
LAYOUTS = ("astrom3", "raw", "processed-1", "processed-2")
MODES = ("clip", "photo", "spectra", "meta", "all")
RUN_MODES = ("photo", "clip")
ROUNDED = ("metadata", "photometry[3:]", "spectra[2]", "constants", "log_mad", "photo")  # behind a logarithm or a sine
BATCH = 14  # objects; every mode gets three training batches of it

# Keys of a configuration that say where code is, or repeat others. A later house may put them elsewhere.
MOVABLE = ("model.", "module.", "datamodule.origin.")
ANYWHERE = ("fusion", "clamp")  # keys of `model` that are a choice of the run: recorded without their place


# --- configurations ---------------------------------------------------------------------------------------------------


def published_runs() -> dict[str, list[str]]:
    """Name of each of the 33 published runs, and its overrides."""
    runs = json.loads((FACTS / "hyperparameters.json").read_text())["runs"]
    return {name: [f"mode={run['mode']}", f"sub={run['sub']}", f"init={run['init']}"] for name, run in runs.items()}


def configuration(overrides: list[str]) -> dict[str, Any]:
    """The composed configuration as key -> value, without the keys whose place may change."""
    pairs = {}
    for key, value in leaves(OmegaConf.to_container(compose(overrides))):
        last = key.rpartition(".")[2]
        if last in ANYWHERE:
            pairs[f"*.{last}"] = value
        elif not last.startswith("_") and not key.startswith(MOVABLE):
            pairs[key] = value
    return pairs


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested dict with its dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def configurations() -> dict[str, Any]:
    """What all published runs have in common, and what each has besides."""
    composed = {name: configuration(overrides) for name, overrides in published_runs().items()}
    first = next(iter(composed.values()))
    common = {k: v for k, v in first.items() if all(k in c and c[k] == v for c in composed.values())}
    runs = {}
    for name, pairs in composed.items():
        runs[name] = {k: v for k, v in pairs.items() if k not in common}
    return {"common": common, "runs": runs}


# --- arrays -----------------------------------------------------------------------------------------------------------


def fingerprint(name: str, array: np.ndarray) -> dict[str, Any]:
    """Shape, dtype, and the CRC-32 of the bytes or, where the last bits depend on the machine, three sums.

    The sums are those of the values, of their absolute values, and of the values with a weight for each place.
    """
    fact: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if name.rpartition("/")[2] not in ROUNDED:
        fact["crc32"] = f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"
        return fact
    flat = np.asarray(array, np.float64).ravel()
    weights = np.arange(1, flat.size + 1) * 0.6180339887498949 % 1
    fact["sums"] = [float(flat.sum()), float(np.abs(flat).sum()), float((flat * weights).sum())]
    return fact


def agrees(fact: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether an array is the recorded one; sums may differ by a millionth of the sum of absolute values."""
    if "sums" not in fact:
        return fact == found
    if (fact["shape"], fact["dtype"]) != (found["shape"], found["dtype"]):
        return False
    tolerance = 1e-6 * fact["sums"][1]
    return all(abs(a - b) <= tolerance for a, b in zip(fact["sums"], found["sums"], strict=True))


# --- data -------------------------------------------------------------------------------------------------------------


def write_layouts(root: Path) -> dict[str, Path]:
    """The kept survey, and its objects written in the other layouts under `root`."""
    rows = pq.read_table(SURVEY / "objects").to_pylist()
    return {
        "astrom3": SURVEY,
        "raw": write_raw(root / "raw", rows),
        "processed-1": write_first(root / "first", rows),
        "processed-2": write_current(root / "current", rows),
    }


def tiny(mode: str, data: Path, cache: Path) -> DictConfig:
    """The configuration of a tiny run of one epoch, with optimiser settings whose neglect shows in three steps.

    The published weight decay of 7e-5 would not.
    """
    return compose(
        [
            f"mode={mode}",
            "size=tiny",
            "data=local",
            f"data.path={data}",
            f"data.cache={cache}",
            f"data.batch_size={BATCH}",
            f"data.eval_batch_size={BATCH}",
            "trainer=cpu",
            "epochs=1",
            "optim.lr=0.003",
            "optim.beta2=0.9",
            "optim.weight_decay=0.1",
            "trainer.gradient_clip_val=0.5",
            "schedule.warmup_epochs=1",
        ]
    )


def stores(cache: Path) -> dict[str, list[dict[str, Any]]]:
    """The arrays of all prepared stores under a cache folder, as <modality>/<array>: one fact for each store."""
    arrays: dict[str, list[dict[str, Any]]] = {}
    for path in cache.glob("*/*.npy"):
        name = f"{path.parent.name.partition('-')[0]}/{path.stem}"
        arrays.setdefault(name, []).append(fingerprint(name, np.load(path)))
    return {name: sorted(facts, key=json.dumps) for name, facts in sorted(arrays.items())}


def batches(mode: str, data: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """The first two training batches of epoch 1 and the first validation batch, by the name of each tensor."""
    module, _ = build(tiny(mode, data, cache))
    loader = module.train_dataloader()
    loader.set_epoch(1)
    training = iter(loader)
    parts = {"train 0": next(training), "train 1": next(training), "validation 0": next(iter(module.val_dataloader()))}
    return {part: tensors(batch) for part, batch in parts.items()}


def tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """Facts of the tensors of a batch. Channels behind a logarithm stand apart from the others."""
    facts = {}
    for key, value in leaves(batch):
        array = value.numpy()
        if key == "photometry":
            facts["photometry[:3]"] = fingerprint("photometry[:3]", array[..., :3])
            facts["photometry[3:]"] = fingerprint("photometry[3:]", array[..., 3:])
        elif key == "spectra":
            facts["spectra[:2]"] = fingerprint("spectra[:2]", array[:, :2])
            facts["spectra[2]"] = fingerprint("spectra[2]", array[:, 2])
        else:
            facts[key] = fingerprint(key, array)
    return facts


# --- training ---------------------------------------------------------------------------------------------------------


class Losses(lightning.Callback):
    """Keeps the training loss of each step and the validation loss behind the last one."""

    def __init__(self) -> None:
        self.training: list[float] = []
        self.validation = float("nan")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.training.append(float(outputs["loss"]))

    def on_validation_end(self, trainer, module):
        self.validation = float(trainer.callback_metrics["val/loss"])


def losses(mode: str, data: Path, cache: Path) -> dict[str, Any]:
    """Training loss of three optimiser steps and the validation loss behind them, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cfg = tiny(mode, data, cache)
        lightning.seed_everything(cfg.seed, workers=True, verbose=False)
        module_data, module = build(cfg)
        instantiate(cfg.init.start).apply(module.model)
        kept = Losses()
        trainer = instantiate(
            cfg.trainer,
            callbacks=[kept],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=module_data)
    finally:
        torch.set_num_threads(threads)
    return {"train": kept.training, "validation": kept.validation}


def command(verb: str, *overrides: str, cwd: Path, cache: Path) -> subprocess.CompletedProcess:
    """Run one of the program's commands in a folder."""
    environment = os.environ | {"ASTROM3_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    root = str(Path(astrom3.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return processes.run(
        [sys.executable, "-m", f"astrom3.{verb}", *overrides],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )


def run_files(mode: str, root: Path, cache: Path) -> list[str]:
    """Every file of the folder of a run of two epochs, trained from the command line."""
    folder = root / f"run-{mode}"
    options = ["size=tiny", "data=local", f"data.path={SURVEY}", "trainer=cpu", "data.batch_size=16"]
    done = command("train", f"mode={mode}", f"run={folder}", *options, cwd=root, cache=cache)
    assert done.returncode == 0, done.stderr
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def class_probabilities() -> list[list[float]]:
    """What the kept run says of the first three objects of the kept survey that have all modalities, (3, 10)."""
    rows = pq.read_table(SURVEY / "objects").to_pylist()
    complete = [row for row in rows if row["light_curve"] and row["spectrum"]][:3]
    classified = astrom3.load(RUN, device="cpu").classify(
        light_curve=[tuple(row["light_curve"].values()) for row in complete],
        spectrum=[tuple(row["spectrum"].values()) for row in complete],
        metadata=[row["photo_cols"] | row["meta_cols"] for row in complete],
    )
    return classified.probabilities.tolist()


# --- recording --------------------------------------------------------------------------------------------------------


def record(root: Path) -> dict[str, Any]:
    """All facts, from the code as it is."""
    folders = write_layouts(root)
    facts: dict[str, Any] = {"configurations": configurations(), "stores": {}, "batches": {}, "losses": {}}
    for layout, folder in folders.items():
        cache = root / f"cache-{layout}"
        facts["batches"][layout] = {mode: batches(mode, folder, cache) for mode in MODES}
        facts["stores"][layout] = stores(cache)
    cache = root / "cache-astrom3"
    facts["losses"] = {mode: losses(mode, SURVEY, cache) for mode in MODES}
    facts["run_files"] = {mode: run_files(mode, root, cache) for mode in RUN_MODES}
    facts["class_probabilities"] = class_probabilities()
    return facts


def text(value: Any, depth: int = 0) -> str:
    """JSON with a line for each fact."""
    if not isinstance(value, dict) or "dtype" in value:
        return json.dumps(value)
    indent = " " * (depth + 1)
    lines = [f"{indent}{json.dumps(key)}: {text(content, depth + 1)}" for key, content in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        FROZEN.write_text(text(record(Path(temporary))) + "\n")
