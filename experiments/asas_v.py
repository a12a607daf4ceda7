"""Light curves of real stars: python -m experiments.asas_v [real=<folder>] [work=runs/asas_v] [workers=2]

The 447 ASAS V-band curves of 9 AstroM3 classes (Richards et al. 2012, ApJS 203, 32), features computed by our
converter, 5 random splits 70/10/20: our light-curve network next to the majority class and to a random forest on the
four features. Writes experiments/asas_v/results.{json,md} and results.png. Finished runs are not repeated, so an
interrupted experiment goes on where it was. `real` defaults to $ASTROM3_REAL, else ../shared/real.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import tarfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.modalities.schema import PHOTO_COLS, SEEDS
from experiments.options import Whole, run_from_command_line

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "asas_v"
MEMBERS = 2  # networks of an ensemble: same split, other first weights, order and dropout
WINDOWS = 16  # 200-point windows per test curve whose class probabilities are averaged
FOREST_SEEDS = 5
METRICS = ("accuracy", "macro_recall")
HOW = """\
The network is the published light-curve encoder made small (2 layers, 32 channels), trained from scratch on the 313
training curves of each split, with the published inputs: 200 points in order of time, and six constants with the four
features. No pre-training, no other data. The weights are those of the best validation accuracy. The class
probabilities of a test curve are averaged over 16 windows drawn at random and, for an ensemble, over networks that
differ in first weights and dropout. Deviations are over the 5 splits, whose test sets overlap."""

# What differs between the variants; chosen among them by the validation sets, mean over the five splits.
SMALL = [
    "encoders.photometry.d_model=32",
    "encoders.photometry.d_ff=64",
    "encoders.photometry.e_layers=2",
    "encoders.photometry.honour_dropout=true",
    "encoders.photometry.dropout=0.1",
    "optim.lr=0.001",
    "optim.beta1=0.9",
    "optim.weight_decay=0.0001",
    "trainer.gradient_clip_val=5.0",
    "epochs=40",
    "schedule.warmup_epochs=3",
    "schedule.patience=5",
    "schedule.factor=0.3",
    "early_stopping.patience=15",
    "data.batch_size=32",
    "data.eval_batch_size=128",
]
ALL_ATTEND = ["encoders.photometry.factor=40", "encoders.photometry.evaluation=full"]  # 40 * ceil(ln 200) > 200
VARIANTS = {"all queries attend": SMALL + ALL_ATTEND, "few queries attend, as published": SMALL}


def prepare(real: Path, work: Path) -> Path:
    """Unpack and convert the 447 objects of the nine classes; returns the data set."""
    from astrom3.convert.__main__ import convert

    out = work / "asas"
    if (out / "dataset.json").is_file():
        return out
    curves = real / "asas-v" / "asas_training_set.tar.gz"
    if not curves.is_file():
        raise UserError(f"there is no {curves}: give the folder of real observations as real=<folder>")
    work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(curves) as archive:
        archive.extractall(work, filter="data")
    table = real / "asas-v/asas_training_set_classes.dat"
    convert(
        compose(
            [
                "survey=asas_v",
                f"table={table}",
                f"root={work}/asas_training_set",
                f"out={out}",
                "split_fractions=[0.7,0.1,0.2]",
            ],
            "convert",
        )
    )
    return out


def run_one(data: Path, work: Path, variant: str, split: int, member: int) -> str:
    """Train one network, in a process of its own; returns its run folder."""
    import torch

    from astrom3.train import train

    torch.set_num_threads(1)
    seed = SEEDS[(SEEDS.index(split) + member) % len(SEEDS)]
    folder = work / "runs" / re.sub(r"\W+", "-", variant) / f"split-{split}"
    cfg = compose(
        [
            "mode=photo",
            "data=local",
            f"data.path={data}",
            f"data.cache={work}/store",
            f"root={folder}",
            f"seed={seed}",
            f"datamodule.seed={split}",
            "trainer=cpu",
            "trainer.enable_progress_bar=false",
            *VARIANTS[variant],
        ]
    )
    train(cfg)
    return str(cfg.run)


def network_scores(runs: dict[int, list[str]]) -> dict[str, Any]:
    """By split: scores of the ensemble on validation and test, and the mean of its members alone."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from astrom3.encoders.cpu import accelerate
    from astrom3.published import astrom3 as published

    out: dict[str, Any] = {}
    for split, folders in runs.items():
        cfg = OmegaConf.load(Path(folders[0]) / "config.yaml")
        data = instantiate(cfg.datamodule)
        data.setup()
        models = [accelerate(published.load(folder)) for folder in folders]
        out[str(split)] = {}
        for name in ("validation", "test"):
            objects = data.splits[name]
            each = np.stack([probabilities(model, objects) for model in models])  # (members, n, classes)
            centred = np.stack([probabilities(model, objects, windows=1) for model in models])
            truth = objects.labels
            out[str(split)][name] = {
                "ensemble": scores(each.mean(0), truth),
                "member": averaged([scores(p, truth) for p in each]),
                "member, centred window": averaged([scores(p, truth) for p in centred]),
            }
    return out


def probabilities(model: Any, objects: Any, windows: int = WINDOWS) -> np.ndarray:
    """Class probabilities (n, classes), mean over windows drawn at random; the centred one if there is only one."""
    import torch

    total = 0.0
    torch.manual_seed(0)  # of drawn keys, where queries are sampled
    with torch.no_grad():
        for window in range(windows):
            batch = objects.batch(np.arange(len(objects)), seed=0, epoch=None if windows == 1 else window)
            total = total + model(batch).softmax(-1).double().numpy()
    return np.asarray(total) / windows


def scores(chance: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy, macro recall over the classes that occur, and mean negative log probability."""
    predicted = chance.argmax(1)
    recall = [float((predicted[truth == c] == c).mean()) for c in np.unique(truth)]
    loss = -np.log(np.maximum(chance[np.arange(len(truth)), truth], 1e-6)).mean()
    return {"accuracy": float((predicted == truth).mean()), "macro_recall": float(np.mean(recall)), "loss": float(loss)}


def averaged(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def baselines(data: Path) -> dict[str, Any]:
    """The most frequent class, and a random forest of 500 trees on the four features, on the same splits."""
    from sklearn.ensemble import RandomForestClassifier

    from astrom3.data.layouts import open_source

    out: dict[str, Any] = {"majority": {}, "forest": {}}
    for split in SEEDS:
        source = open_source(data, "full", split)
        train = source.catalogue("train")
        test = source.catalogue("test")
        share = np.bincount(train.labels, minlength=len(source.classes)) / len(train.labels)
        out["majority"][str(split)] = scores(np.tile(share, (len(test.labels), 1)), test.labels)
        rows = []
        for seed in range(FOREST_SEEDS):
            forest = RandomForestClassifier(500, random_state=seed, n_jobs=1)
            forest.fit(train.values[:, : len(PHOTO_COLS)], train.labels)
            chance = np.zeros((len(test.labels), len(source.classes)))
            chance[:, forest.classes_] = forest.predict_proba(test.values[:, : len(PHOTO_COLS)])
            rows.append(scores(chance, test.labels))
        out["forest"][str(split)] = averaged(rows)
    return out


def spread(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and deviation (ddof 0) over the splits."""
    return {k: [float(np.mean([r[k] for r in rows])), float(np.std([r[k] for r in rows]))] for k in rows[0]}


def main() -> None:
    defaults = {
        "real": os.environ.get("ASTROM3_REAL", str(ROOT.parent / "shared" / "real")),
        "work": ROOT / "runs" / "asas_v",
        "workers": Whole(2, most=1024),
    }
    run_from_command_line(
        "asas_v",
        defaults,
        lambda options: report(run(Path(options["real"]), options["work"].resolve(), options["workers"])),
        logging.WARNING,
    )


def run(real: Path, work: Path, workers: int) -> dict[str, Any]:
    """Everything, in order; returns what results.json holds."""
    data = prepare(real, work)
    jobs = [(v, s, m) for v in VARIANTS for m in range(MEMBERS) for s in SEEDS]
    folders: dict[tuple[str, int], list[str]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        flying = {pool.submit(run_one, data, work, *job): job for job in jobs}
        for done, future in enumerate(as_completed(flying), 1):
            variant, split, member = flying[future]
            folders.setdefault((variant, split), []).append(future.result())
            print(f"[{done}/{len(jobs)}] {variant}, split {split}, network {member + 1}", flush=True)
    results: dict[str, Any] = {"objects": 447, "splits": list(SEEDS), "members": MEMBERS, "windows": WINDOWS}
    results |= baselines(data)
    results["variants"] = {v: network_scores({s: sorted(folders[v, s]) for s in SEEDS}) for v in VARIANTS}
    return results


def report(results: dict[str, Any]) -> None:
    """results.json, results.md and results.png; the table on the terminal."""
    from astrom3.plots import bars

    def over_splits(by_split: dict[str, Any], *keys: str) -> dict[str, list[float]]:
        rows = list(by_split.values())
        for key in keys:
            rows = [row[key] for row in rows]
        return spread(rows)

    variants = results["variants"]
    validation = {v: over_splits(r, "validation", "ensemble") for v, r in variants.items()}
    chosen = min(validation, key=lambda v: validation[v]["loss"][0])
    rows = [
        ("most frequent class", over_splits(results["majority"])),
        ("random forest on the four features", over_splits(results["forest"])),
    ]
    for kind in ("member, centred window", "member", "ensemble"):
        rows += [(f"{v}: {kind}", over_splits(r, "test", kind)) for v, r in variants.items()]
    results["chosen"] = chosen
    results["summary"] = {"test": dict(rows), "validation": validation}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "results.json").write_text(json.dumps(results, indent=1) + "\n")

    lines = [(__doc__ or "").strip(), "", "| test, 5 splits of 313/45/89 | accuracy | macro recall |", "|---|---|---|"]
    for name, found in rows:
        lines.append(f"| {name} | " + " | ".join("{:.3f} +- {:.3f}".format(*found[k]) for k in METRICS) + " |")
    lines += ["", "| validation, ensemble | loss | accuracy | macro recall |", "|---|---|---|---|"]
    for name, found in validation.items():
        lines.append(f"| {name} | " + " | ".join(f"{found[k][0]:.3f}" for k in ("loss", *METRICS)) + " |")
    lines += ["", HOW]
    lines += ["", f"Chosen by the validation loss: **{chosen}**, ensemble of {results['members']}."]
    (RESULTS / "results.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[2:]))
    heights = {name: found["accuracy"][0] for name, found in rows}
    bars(heights, RESULTS / "results.png", "ASAS light curves, 9 classes, mean of 5 splits", "test accuracy")


if __name__ == "__main__":
    main()
