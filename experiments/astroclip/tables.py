"""The table and the picture of the experiment, beside the published numbers (Parker et al. 2024, as summarised)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

PUBLISHED = {  # R2 of redshift and mean R2 of the four properties, zero-shot; of photometry supervised
    "image, AstroCLIP": (0.79, 0.47),
    "image, image encoder": (0.63, 0.37),
    "spectrum, AstroCLIP": (0.99, 0.63),
    "spectrum, spectrum encoder": (0.99, 0.64),
    "photometry": (0.68, 0.42),
}
HEAD = "| source | z, zero-shot | z, few-shot | z, published | properties, zero-shot | few-shot | published |"


def markdown(found: Mapping[str, Any]) -> str:
    """results.md."""
    lines = [
        "# Properties of galaxies from embeddings",
        "",
        f"{found['objects']} simulated galaxies, networks of size={found['size']}; R2 on the test split. The published "
        "numbers are of real galaxies and networks of 370 million parameters.",
        "",
        HEAD,
        "|---" * 7 + "|",
    ]
    for name, scores in found["r2"].items():
        zero = scores["zero-shot"]
        few = scores["few-shot"]
        redshift, properties = PUBLISHED[name]
        cells = [zero["redshift"], few["redshift"], redshift, mean(zero), mean(few), properties]
        lines.append(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def mean(scores: Mapping[str, float]) -> float:
    """Mean R2 of the properties, without the redshift."""
    return float(np.mean([value for name, value in scores.items() if name != "redshift"]))


def picture(found: Mapping[str, Any], path: Path) -> None:
    """Bars of R2 by embedding: ours zero-shot and few-shot, and the published ones."""
    from astrom3.plots import save

    names = list(found["r2"])
    figure = Figure(figsize=(10, 3.5))
    panels = figure.subplots(1, 2, sharey=True)
    for axis, title, of_scores, published in (
        (panels[0], "redshift", lambda scores: scores["redshift"], 0),
        (panels[1], "mean of four properties", mean, 1),
    ):
        bars = {
            "zero-shot": [of_scores(found["r2"][name]["zero-shot"]) for name in names],
            "few-shot": [of_scores(found["r2"][name]["few-shot"]) for name in names],
            "published (real galaxies)": [PUBLISHED[name][published] for name in names],
        }
        for place, (label, heights) in enumerate(bars.items()):
            axis.bar(np.arange(len(names)) + 0.25 * place, np.clip(heights, 0, 1), 0.25, label=label)
        axis.set_title(title)
        axis.set_xticks(np.arange(len(names)) + 0.25, [name.replace(", ", "\n") for name in names], fontsize=7)
    panels[0].set_ylabel("R2 on the test split")
    panels[1].legend(frameon=False, fontsize=7)
    save(figure, path)
