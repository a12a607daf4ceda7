"""The pictures of the experiment: R2 by source, redshifts against the truth, coverage of the posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.plots import save
from experiments.astroclip.posterior import LEVELS
from experiments.astroclip.tables import NONE, PUBLISHED, mean, rows_of

SHADES = {"zero-shot": "tab:blue", "few-shot": "tab:orange", "supervised": "tab:green", "published": "0.7"}


def bars(found: Mapping[str, Any], path: Path) -> None:
    """R2 of redshift and of the properties by source and protocol, and the published ones."""
    rows = rows_of(found)
    figure = Figure(figsize=(11, 3.8))
    panels = figure.subplots(1, 2, sharey=True)
    for panel, title, place in ((panels[0], "redshift", 0), (panels[1], "mean of four properties", 1)):
        for x, (name, protocols) in enumerate(rows.items()):
            heights = {p: s["r2"]["redshift"] if place == 0 else mean(s["r2"]) for p, s in protocols.items()}
            published = PUBLISHED.get(name, NONE)[place]
            if published is not None:
                heights["published"] = published
            for step, (protocol, height) in enumerate(heights.items()):
                panel.bar(x + 0.26 * step, max(height, 0), 0.25, color=SHADES[protocol])
        panel.set_title(title)
        panel.set_xticks(np.arange(len(rows)) + 0.26, [name.replace(", ", "\n") for name in rows], fontsize=6)
    panels[0].set_ylabel("R2 on the test split")
    for protocol, shade in SHADES.items():
        label = "published (real galaxies)" if protocol == "published" else protocol
        panels[1].bar([0], [0], color=shade, label=label)
    panels[1].legend(frameon=False, fontsize=7)
    save(figure, path)


def redshifts(predictions: Mapping[str, np.ndarray], truth: np.ndarray, path: Path) -> None:
    """Told against true redshift of the test split, a panel for each source. predictions: (n,) each."""
    columns = 4
    rows = -(-len(predictions) // columns)
    figure = Figure(figsize=(3 * columns, 3 * rows))
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    top = float(truth.max()) * 1.05
    for axis, (name, told) in zip(axes, predictions.items(), strict=False):
        axis.plot([0, top], [0, top], color="0.7", lw=0.8)
        axis.plot(truth, told, ".", ms=3, alpha=0.6)
        axis.set_title(name, fontsize=7)
        axis.set_xlim(0, top)
        axis.set_ylim(0, top)
    for axis in axes[len(predictions) :]:
        axis.set_visible(False)
    figure.supxlabel("true redshift (simulated)" if len(axes) else "")
    figure.supylabel("told redshift")
    save(figure, path)


def calibration(found: Mapping[str, Any], path: Path) -> None:
    """Share of truths within central intervals of the posterior, against what it should be."""
    figure = Figure(figsize=(3 * len(found), 3.2))
    axes = np.atleast_1d(figure.subplots(1, len(found), sharey=True))
    for axis, (name, groups) in zip(axes, found.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", lw=0.8)
        for group in groups.values():
            for target, covered in group["coverage"].items():
                axis.plot(LEVELS, covered, lw=1, label=target)
        axis.set_title(name, fontsize=7)
        axis.set_xlabel("level of the interval")
    axes[0].set_ylabel("share of truths within")
    axes[-1].legend(frameon=False, fontsize=6)
    save(figure, path)
