"""The demo: make demo, or python -m experiments.demo [key=value ...]

The three families in miniature, on simulated data. AstroM3: one star of each class, contrastive pre-training of small
encoders, then spectra classified with a tenth of the labels, from scratch and from the pre-training. ASTROMER: hidden
points of light curves reconstructed. AstroCLIP: masked spectra, self-distilled images, and both aligned. Pictures are
in runs/demo/. It shows the way through the program, not science.
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
from astrom3.modalities.schema import PAPER_ORDER
from experiments.options import answered

ROOT = "runs/demo"
COMMON = [f"root={ROOT}", "data=simulated", "seed=42", "trainer.enable_progress_bar=false"]
STARS = ["size=small", "data.objects=4000"]
CURVES = ["model=astromer1", "size=tiny", "data.survey=macho", "data.objects=2000"]
GALAXIES = ["model=astroclip", "size=tiny", "data.objects=400", "data.batch_size=32"]
CLIP = [*STARS, "mode=clip", "epochs=8"]
SCRATCH = [*STARS, "mode=spectra", "sub=sub10", "epochs=40", "optim.lr=0.001"]
TUNED = [*SCRATCH, "init=clip"]
MASKED = [*CURVES, "mode=masked", "epochs=15", "optim.lr=0.003", "data.batch_size=64"]
STAGES = [
    [*GALAXIES, "mode=masked", "epochs=8"],
    [*GALAXIES, "mode=distil", "epochs=4"],
    [*GALAXIES, "mode=clip", "init=stages", "epochs=8"],
]
NEXT = """What to try next:
  python -m astrom3.explore model={root}/clip-full-scratch-42 out=page.html
  python -m astrom3.train mode=clip encoder/photometry=astromer1 size=tiny data=simulated root=mixed"""


def main(*extra: str) -> None:
    """extra: overrides for all runs, behind the demo's own."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    from hydra.utils import instantiate

    from astrom3.plots import bars

    first = compose([*COMMON, *CLIP, *extra])
    root = Path(first.root)
    survey = instantiate(first.datamodule.origin).open(first.sub, first.seed).root
    pictures = [gallery(survey, root / "survey.png")]
    clip = run(CLIP, extra)
    scratch = run(SCRATCH, extra)
    tuned = run(TUNED, extra)
    heights = {"spectra, from scratch": scratch["accuracy"], "spectra, from CLIP": tuned["accuracy"]}
    for modality, accuracy in clip["centroid_accuracy"].items():
        heights[f"class centroids, {modality}"] = accuracy
    title = f"simulated survey: test accuracy (classifiers n = {tuned['n']})"
    pictures.append(bars(heights, root / "demo.png", title, "accuracy"))

    masked = run(MASKED, extra)
    pictures.append(root / "astromer1-masked-full-scratch-42" / "reconstruction.png")
    aligned = [run(stage, extra) for stage in STAGES][-1]
    pictures.append(galaxies(root / "galaxies.png"))

    print("\nSimulated data. Test accuracy: " + ", ".join(f"{k} {100 * v:.1f} %" for k, v in heights.items()))
    print(f"Light curves: RMSE of hidden points {masked['rmse_hidden']:.3f} mag.")
    print(f"Galaxies: an image finds its spectrum in its batch in {100 * aligned['clip_accuracy']:.0f} % of the cases.")
    print(NEXT.format(root=root))
    print(f"Pictures to open: {', '.join(map(str, pictures))}; curves.png in each folder of {root}/")


def run(overrides: list[str], extra: tuple[str, ...]) -> dict[str, Any]:
    """Train one run, and say which command would."""
    from astrom3.train import train

    chosen = [*COMMON, *overrides, *extra]
    print(f"\n== python -m astrom3.train {' '.join(chosen)}", flush=True)
    return train(compose(chosen))


def galaxies(path: Path) -> Path:
    """Simulated galaxies with their spectra."""
    from astrom3.simulate.galaxies.figure import plot, varied

    plot(varied(seed=0, number=8, brighter=19.0), path)
    return path


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
    answered("demo", lambda: main(*sys.argv[1:]))
