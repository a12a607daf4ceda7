"""Pictures of a run: training curves and the confusion matrix."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from astrom3.files import replacing
from astrom3.modalities.schema import in_paper_order


def save(figure: Figure, path: Path, crop: bool = True) -> Path:
    """Write the figure without touching pyplot's state.

    crop: fit the margins to what is drawn. The figure is drawn twice for it, a fifth of the time of a tiny run.
    """
    with replacing(path) as temporary:
        kind = path.suffix.lstrip(".") or "png"
        margins: Literal["tight"] | None = "tight" if crop else None
        FigureCanvasAgg(figure).print_figure(str(temporary), dpi=130, bbox_inches=margins, format=kind)
    return path


LETTER = 0.085  # inches that a letter of a label takes

PANELS = {
    "loss": ("train/loss", "val/loss"),
    "score": ("val/accuracy", "val/macro_f1", "val/r2_hidden", "val/r2"),
    "rate": ("lr",),
}  # label of an axis -> columns of metrics.csv that are drawn there


def curves(table: Path, path: Path, title: str) -> Path:
    """Loss, accuracy and learning rate per epoch, from a metrics.csv."""
    rows = list(csv.DictReader(table.open()))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(10, 3))
    axes = figure.subplots(1, 3)
    for axis, (label, columns) in zip(axes, PANELS.items(), strict=True):
        for column in columns:
            if rows and rows[0].get(column):
                values = [float(row[column]) for row in rows]
                axis.plot(epochs, values, marker=".", label=column)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        if axis.lines:
            axis.legend(frameon=False)

    rate = axes[-1]
    rate.set_yscale("log")
    rate.yaxis.set_major_formatter("{x:.0e}")  # the usual powers of ten are parsed as formulae, slower than a fit
    rate.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle(title)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.17, top=0.88, wspace=0.35)
    return save(figure, path, crop=False)


def confusion(scores: Mapping[str, Any], path: Path, title: str) -> Path:
    """The confusion matrix in percent of each true class, counts in small print, classes in the paper's order.

    scores: of scores.json, with `classes`, `confusion` (C, C), `accuracy` and `macro_f1`.
    """
    names = list(scores["classes"])
    order = in_paper_order(names)
    index = [names.index(name) for name in order]
    counts = np.array(scores["confusion"])[np.ix_(index, index)]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    side = 0.55 * len(order)
    accuracy = 100 * scores["accuracy"]
    macro_f1 = 100 * scores["macro_f1"]
    title = f"{title}\naccuracy {accuracy:.1f} %, macro F1 {macro_f1:.1f} %"
    margin = 0.7 + LETTER * max(map(len, order))  # holds the names of the classes and that of the axis
    width = max(margin + side, LETTER * max(map(len, title.split("\n")))) + 0.2
    height = margin + side + 0.6
    left = (margin + width - side - 0.2) / 2
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((left / width, margin / height, side / width, side / height))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.argwhere(counts):
        colour = "white" if share[i, j] > 0.55 else "black"
        axis.text(j, i, f"{100 * share[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=8)
        axis.text(j, i + 0.32, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=5)

    axis.set_xticks(range(len(order)), order, rotation=60)
    axis.set_yticks(range(len(order)), order)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    figure.suptitle(title, y=1 - 0.1 / height, fontsize=10)
    return save(figure, path, crop=False)


def regression(predictions: Mapping[str, np.ndarray], scores: Mapping[str, Any], path: Path, title: str) -> Path:
    """Predicted against true numbers, a panel per target.

    predictions: `predicted` and `true`, (n, T) each, NaN where the true number is unknown. scores: of scores.json;
    its `targets` give the unit and R2 of every target.
    """
    targets: Mapping[str, Any] = scores["targets"]
    figure = Figure(figsize=(3.6 * len(targets), 3.6))
    for number, (name, score) in enumerate(targets.items()):
        axis = figure.add_subplot(1, len(targets), number + 1)
        known = np.isfinite(predictions["true"][:, number])
        true = predictions["true"][known, number]
        predicted = predictions["predicted"][known, number]
        axis.plot(true, predicted, ".", markersize=2, alpha=0.5, color="#4477aa")
        if len(true):
            ends = [true.min(), true.max()]
            axis.plot(ends, ends, color="#bbbbbb", linewidth=1)

        unit = f" [{score['unit']}]" if score.get("unit") else ""
        axis.set_xlabel(f"true {name}{unit}")
        axis.set_ylabel(f"predicted {name}{unit}")
        axis.set_title("" if score["r2"] is None else f"R2 {score['r2']:.3f}", fontsize=9)

    figure.suptitle(title)
    figure.tight_layout()
    return save(figure, path)


def bars(heights: Mapping[str, float], path: Path, title: str, label: str) -> Path:
    """One horizontal bar per name, between 0 and 1, the first at the top."""
    names = list(heights)[::-1]
    values = list(heights.values())[::-1]
    figure = Figure(figsize=(7, 0.6 + 0.4 * len(heights)))
    axis = figure.subplots()
    axis.barh(names, values, color="#4477aa")
    for row, value in enumerate(values):
        axis.text(value + 0.01, row, f"{value:.2f}", va="center", fontsize=8)
    axis.set_xlim(0, 1)
    axis.set_xlabel(label)
    axis.set_title(title)
    return save(figure, path)


def reconstruction(examples: Mapping[str, np.ndarray], path: Path, title: str) -> Path:
    """Windows of light curves with what was hidden, (n, L) each by batch key, and the magnitudes predicted for it."""
    count = len(examples["predicted"])
    figure = Figure(figsize=(10, 2.2 * max(count, 1)))
    for row in range(count):
        window = {key: values[row] for key, values in examples.items()}
        time = window["astromer/times"]
        true = window["astromer/target"]
        predicted = window["predicted"]
        hidden = window["astromer/hidden"] > 0
        visible = (window["astromer/valid"] > 0) & ~hidden

        axis = figure.add_subplot(count, 1, row + 1)
        axis.plot(time[visible], true[visible], ".", color="#bbbbbb", label="visible")
        axis.plot(time[hidden], true[hidden], ".", color="#222222", label="hidden")
        axis.plot(time[hidden], predicted[hidden], "x", color="#cc3311", label="predicted")
        axis.invert_yaxis()
        axis.set_ylabel("mag - mean")

    top = figure.axes[0]
    top.legend(frameon=False, ncols=3)
    top.set_title(title)
    bottom = figure.axes[-1]
    bottom.set_xlabel("time - mean [day]")
    return save(figure, path)
