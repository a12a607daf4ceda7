"""The demo: make demo, or python -m experiments.demo [key=value ...]

On the simulated survey: contrastive pre-training of small encoders, then spectra classified with few labels, from
scratch and from the pre-training; the pictures are in runs/demo/. Shows the way through the program, not science.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from astrom3.config import compose

ROOT = "runs/demo"
COMMON = [f"root={ROOT}", "size=small", "data=simulated", "data.objects=3000", "seed=42"]
RUNS = [
    ["mode=clip"],
    ["mode=spectra", "sub=sub10", "epochs=40"],
    ["mode=spectra", "sub=sub10", "epochs=40", "init=clip"],
]


def main(*extra: str) -> None:
    """extra: overrides for all three runs, behind the demo's own."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    from astrom3.train import train
    from astrom3.training.plots import bars

    scores = {}
    for overrides in RUNS:
        chosen = [*COMMON, *overrides, *extra]
        print(f"\n== python -m astrom3.train {' '.join(chosen)}", flush=True)
        cfg = compose(chosen)
        scores[cfg.init.name if cfg.mode != "clip" else "pre-training"] = train(cfg)
    clip = scores.pop("pre-training")
    heights = {f"spectra, {name}": s["accuracy"] for name, s in scores.items()}
    heights |= {f"centroids, {m}": a for m, a in clip["centroid_accuracy"].items()}
    picture = bars(heights, Path(cfg.root) / "demo.png", "simulated survey: test accuracy", "accuracy")
    print("\nSimulated data. Test accuracy: " + ", ".join(f"{k} {100 * v:.1f} %" for k, v in heights.items()))
    print(f"Pictures: {picture}, and curves.png and confusion.png in each folder of {cfg.root}/")


if __name__ == "__main__":
    main(*sys.argv[1:])
