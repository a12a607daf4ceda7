"""What CLIP pre-training gives where labels are few, on the simulated survey: python -m experiments.simulated_survey

10,000 simulated objects, networks and batches of size=small, 3 seeds. Pre-training on the training split (its labels
unused), then each mode with 10 % and 25 % of the labels, from scratch and from CLIP. The learning rate of each mode and
start is the one of three with the lowest validation loss (mean of the seeds, 10 % of the labels); dropouts, decay and
the plateau are the published ones of that mode, subset and start. Then the single modalities from scratch in bfloat16,
against the scatter of the seeds. Tables and pictures are written to experiments/simulated_survey/. About two hours on
two cores; started again it goes on where it was.

`init=scratch` or `init=clip` does that half only (two processes side by side; give each OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from experiments.options import answered, read_options

ROOT = Path("runs/simulated")
SINGLE = ("spectra", "photo", "meta")  # modes of the comparison of precisions
OUT = Path(__file__).parent / "simulated_survey"
MODES = ("spectra", "photo", "meta", "all")
SUBS = ("sub10", "sub25")
SEEDS = ("42", "0", "66")
INITS = ("scratch", "clip")
RATES = ("0.001", "0.003", "0.01")
COMMON = ["size=small", "data=simulated", "data.objects=10000", "trainer=cpu", "epochs=30", f"seed={','.join(SEEDS)}"]


def main(*arguments: str) -> None:
    """arguments: init=scratch or init=clip for one half of the runs; without any, all of them and the tables."""
    given = read_options(list(arguments), {"init": ("", *INITS)})["init"]
    inits = [given] if given else [*INITS]
    if "clip" in inits:
        sweep("mode=clip", "optim.lr=0.001", f"root={ROOT}")
    for init in inits:
        for rate in RATES:
            classify(MODES, "sub10", init, rate)
        for mode in MODES:
            classify([mode], "sub25", init, chosen_rate(mode, init))
    if "scratch" in inits:
        sweep(
            f"mode={','.join(SINGLE)}",
            "sub=sub10",
            "optim.lr=0.003",
            "trainer.precision=bf16-mixed",
            f"root={ROOT}/bf16",
        )
    if len(inits) == 2:
        tables()


def sweep(*overrides: str) -> None:
    from astrom3.cli.verbs import run
    from astrom3.train import train

    run("train", train, ["-m", *COMMON, *overrides])


def classify(modes: list[str] | tuple[str, ...], sub: str, init: str, rate: str) -> None:
    start = ["init=clip", f"init.path={ROOT}/clip-full-scratch-${{seed}}"] if init == "clip" else []
    sweep(f"mode={','.join(modes)}", f"sub={sub}", f"optim.lr={rate}", f"root={ROOT}/lr-{rate}", *start)


def validation_loss(mode: str, init: str, rate: str) -> float:
    """Mean over seeds of the lowest validation loss with 10 % of the labels."""
    lowest = []
    for seed in SEEDS:
        with open(ROOT / f"lr-{rate}" / f"{mode}-sub10-{init}-{seed}" / "metrics.csv") as file:
            lowest.append(min(float(row["val/loss"]) for row in csv.DictReader(file)))
    return float(np.mean(lowest))


def chosen_rate(mode: str, init: str) -> str:
    return min(RATES, key=lambda rate: validation_loss(mode, init, rate))


def tables() -> None:
    """The chosen runs in one folder, the report on them, the rates, and bfloat16 against float32."""
    from astrom3.report import __main__ as report

    chosen = ROOT / "chosen"
    shutil.rmtree(chosen, ignore_errors=True)
    chosen.mkdir(parents=True)
    rates = ["| mode | start | " + " | ".join(f"rate {r}" for r in RATES) + " |", "| --- " * (2 + len(RATES)) + "|"]
    for mode in MODES:
        for init in ("scratch", "clip"):
            best = chosen_rate(mode, init)
            cells = [f"{'**' * (r == best)}{validation_loss(mode, init, r):.3f}{'**' * (r == best)}" for r in RATES]
            rates.append(f"| {mode} | {init} | {' | '.join(cells)} |")
            for sub in SUBS:
                for seed in SEEDS:
                    name = f"{mode}-{sub}-{init}-{seed}"
                    os.symlink((ROOT / f"lr-{best}" / name).resolve(), chosen / name)
    for seed in SEEDS:
        os.symlink((ROOT / f"clip-full-scratch-{seed}").resolve(), chosen / f"clip-full-scratch-{seed}")
    OUT.mkdir(exist_ok=True)
    report.main([str(chosen), f"out={OUT}", f"seeds=[{','.join(SEEDS)}]", f"subs=[{','.join(SUBS)}]"])
    text = ["", "## Learning rates: lowest validation loss, 10 % of the labels, mean of the seeds", "", *rates, ""]
    text += [
        "## bfloat16 against float32: from scratch, 10 % of the labels, rate 0.003, test accuracy",
        "",
        *precision(),
    ]
    with (OUT / "report.md").open("a") as file:
        file.write("\n".join(text) + "\n")


def precision() -> list[str]:
    """Paired differences between the two precisions beside the scatter of the seeds."""
    lines = ["| mode | float32 | bfloat16 | difference, pair by pair | seed scatter of float32 |", "| --- " * 5 + "|"]
    for mode in SINGLE:
        values = []
        for folder in ("lr-0.003", "bf16"):
            runs = [ROOT / folder / f"{mode}-sub10-scratch-{s}" / "metrics.json" for s in SEEDS]
            values.append(100 * np.array([json.loads(r.read_text())["accuracy"] for r in runs]))
        single, half = values
        gap = half - single
        scatter = float(single.std(ddof=1))
        lines.append(
            f"| {mode} | {single.mean():.1f} | {half.mean():.1f} | {gap.mean():+.1f} +- {gap.std(ddof=1):.1f} "
            f"| {scatter:.1f} |"
        )
    return lines


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    answered("simulated_survey", lambda: main(*sys.argv[1:]))
