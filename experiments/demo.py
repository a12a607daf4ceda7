"""The demo: make demo, or python -m experiments.demo [key=value ...]

On the simulated survey: one object of each class, contrastive pre-training of small encoders, then spectra classified
with a tenth of the labels, from scratch and from the pre-training; the pictures are in runs/demo/. Shows the way
through the program, not science.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from astrom3.cli.config import compose
from astrom3.data.schema import PAPER_ORDER

ROOT = "runs/demo"
COMMON = [f"root={ROOT}", "size=small", "data=simulated", "data.objects=6000", "seed=42"]
RUNS = [
    ["mode=clip", "epochs=10"],
    ["mode=spectra", "sub=sub10", "epochs=40", "optim.lr=0.001"],
    ["mode=spectra", "sub=sub10", "epochs=40", "optim.lr=0.001", "init=clip"],
]


def main(*extra: str) -> None:
    """extra: overrides for all three runs, behind the demo's own."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    from hydra.utils import instantiate

    from astrom3.plots import bars
    from astrom3.train import train

    first = compose([*COMMON, *RUNS[0], *extra])
    root = Path(first.root)
    survey = instantiate(first.datamodule.origin).open(first.sub, first.seed).root
    pictures = [gallery(survey, root / "survey.png")]
    scores = []
    for overrides in RUNS:
        chosen = [*COMMON, *overrides, *extra]
        print(f"\n== python -m astrom3.train {' '.join(chosen)}", flush=True)
        scores.append(train(compose(chosen)))
    clip, scratch, tuned = scores
    heights = {"spectra, from scratch": scratch["accuracy"], "spectra, from CLIP": tuned["accuracy"]}
    heights |= {f"class centroids, {m}": a for m, a in clip["centroid_accuracy"].items()}
    title = f"simulated survey: test accuracy (classifiers n = {tuned['n']})"
    pictures.append(bars(heights, root / "demo.png", title, "accuracy"))
    print("\nSimulated data. Test accuracy: " + ", ".join(f"{k} {100 * v:.1f} %" for k, v in heights.items()))
    print(f"Pictures: {', '.join(map(str, pictures))}, and curves.png and confusion.png in each folder of {root}/")


def gallery(survey: Path, path: Path) -> Path:
    """The first object of each class: light curve, the same folded at its period, spectrum."""
    from astrom3.plots import save

    columns = ["label", "light_curve", "spectrum", "photo_cols"]
    objects: dict[str, Any] = {}
    for file in sorted((survey / "objects").glob("*.parquet")):
        for row in pq.read_table(file, columns=columns).slice(0, 600).to_pylist():
            if row["light_curve"] and row["spectrum"]:
                objects.setdefault(row["label"], row)
    shown = [c for c in PAPER_ORDER if c in objects]
    figure = Figure(figsize=(11, 1.1 * len(shown)))
    axes = np.atleast_2d(figure.subplots(len(shown), 3))
    for name, (raw, folded, spectrum) in zip(shown, axes, strict=True):
        row = objects[name]
        time, flux = (np.array(row["light_curve"][k]) for k in ("time", "flux"))
        raw.plot(time - 2450000, flux, "k.", ms=1.5)
        raw.set_ylabel(name, rotation=0, ha="right")
        folded.plot(time / row["photo_cols"]["period"] % 1, flux, "k.", ms=1.5)
        spectrum.plot(row["spectrum"]["wavelength"], row["spectrum"]["flux"], lw=0.4)
        for axis in (raw, folded, spectrum):
            axis.tick_params(labelsize=6)
    labels = ("HJD - 2450000 [d], flux [mJy]", "phase", "wavelength [Angstrom]")
    for axis, label in zip(axes[-1], labels, strict=True):
        axis.set_xlabel(label, fontsize=8)
    figure.suptitle("simulated survey: one object of each class", y=1.0)
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(figure, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
