"""The table of the experiment: results.csv (every run), results.md (mean and deviation over folds) and results.png."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.astromer.inputs import Sample
from experiments.astromer.surveys import SHOTS, Sizes

COLUMNS = ("method", "shots", "fold", "macro_f1", "macro_f1_per_window", "steps", "seconds")
# Macro F1 per window [%] with 20, 100 and 500 labels per class, mean and deviation of 3 folds. Astromer 2: figure of
# Donoso-Oliva et al. 2026. Astromer 1: figure of the code's v1.0 tag, MACHO, scenario a (encoder frozen).
PUBLISHED = (
    ("Astromer 1 + avg_mlp, Alcock (2026)", "54.3 ± 3.5", "63.8 ± 0.5", "66.8 ± 0.7"),
    ("Astromer 1 + skip, Alcock (2026)", "61.7 ± 2.8", "69.7 ± 1.3", "72.9 ± 1.5"),
    ("Astromer 2 + skip, Alcock (2026)", "65.6 ± 3.5", "71.0 ± 1.7", "74.2 ± 0.9"),
    ("LSTM on the raw curve, MACHO (2023)", "36.9 ± 0.8", "43.0 ± 0.4", "62.9 ± 0.4"),
    ("Astromer 1 + LSTM, MACHO (2023)", "50.0 ± 2.6", "66.3 ± 1.6", "72.0 ± 1.8"),
    ("Astromer 1 + MLP, MACHO (2023)", "41.2 ± 9.3", "59.1 ± 2.5", "61.5 ± 2.1"),
)


def write(
    rows: list[dict[str, Any]], sample: Sample, sizes: Sizes, options: dict[str, Any], root: Path, out: Path
) -> None:
    """Write the three files into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    lines = ["# ASTROMER on real light curves with few labels", "", *about(sample, sizes, options), ""]
    lines += table(rows, sizes.folds)
    lines += ["", "Published, per window, on other surveys with six classes:", "", *published()]
    lines += ["", "Masked runs on the unlabelled curves, on the points hidden from the network:", "", *masked(root)]
    lines += ["", "![Macro F1](results.png)", ""]
    (out / "results.md").write_text("\n".join(lines))
    picture(rows, out / "results.png")


def about(sample: Sample, sizes: Sizes, options: dict[str, Any]) -> list[str]:
    """What was done, with its sizes."""
    counts = np.bincount(sample.labels)
    listed = ", ".join(f"{name} {count}" for name, count in zip(sample.classes, counts, strict=True))
    windows = len(sample.windows.curves)
    return [
        f"{sizes.survey}: {len(sample.labels)} labelled curves ({listed}) in {windows} windows, {sizes.folds} folds of "
        f"{sizes.test} test objects per class. A fifth of the labels is for validation. A class that has fewer labels "
        f"than asked gives what it has. Masked runs saw {sizes.unlabelled} curves of both surveys without labels, "
        f"{options['epochs']} epochs of own encoders (2 blocks, width 64), {options['tuning_epochs']} of the released "
        f"ones. Encoders are frozen, heads a quarter as wide as published, classifiers trained for at most "
        f"{options['steps']} steps of 64 windows. The LSTM has 32 units. AstroM3's encoder has one block of width 32 "
        "and reads four features too. The forest reads these features alone, and they use the catalogue's periods, "
        "which no ASTROMER method knows."
    ]


def table(rows: list[dict[str, Any]], folds: int) -> list[str]:
    """Macro F1 per object and per window in percent."""
    head = [f"{shots} labels" for shots in SHOTS]
    lines = [
        "Macro F1 [%], mean ± deviation over folds; in brackets per window.",
        "",
        f"| method | {' | '.join(head)} |",
        "|---|" + "---|" * len(SHOTS),
    ]
    for name in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for shots in SHOTS:
            cells.append(cell([row for row in rows if row["method"] == name and row["shots"] == shots], folds))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def cell(rows: list[dict[str, Any]], folds: int) -> str:
    """One cell; it says how many folds are finished where it is not all of them."""
    if not rows:
        return "not run"
    text = spread([row["macro_f1"] for row in rows])
    per_window = [row["macro_f1_per_window"] for row in rows if row["macro_f1_per_window"] is not None]
    if per_window:
        text += f" ({spread(per_window)})"
    return text if len(rows) == folds else f"{text}, {len(rows)} fold{'s' if len(rows) > 1 else ''}"


def spread(values: list[float]) -> str:
    numbers = 100 * np.array(values)
    return f"{numbers.mean():.1f} ± {numbers.std():.1f}"


def published() -> list[str]:
    head = " | ".join(f"{shots} labels" for shots in SHOTS)
    return [f"| published | {head} |", "|---|" + "---|" * len(SHOTS), *(f"| {' | '.join(row)} |" for row in PUBLISHED)]


def masked(root: Path) -> list[str]:
    """RMSE and R2 of the masked runs that are finished."""
    lines = ["| run | RMSE [mag] | R2 |", "|---|---|---|"]
    for path in sorted((root / "pretraining").glob("*/metrics.json")):
        scores = json.loads(path.read_text())
        lines.append(f"| {path.parent.name} | {scores['rmse_hidden']:.3f} | {scores['r2_hidden']:.3f} |")
    return lines if len(lines) > 2 else ["none finished"]


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Macro F1 against the number of labels, a line per method."""
    from matplotlib.figure import Figure

    from astrom3.plots import save

    figure = Figure(figsize=(8, 4))
    axis = figure.subplots()
    for name in dict.fromkeys(row["method"] for row in rows):
        at = []
        means = []
        deviations = []
        for shots in SHOTS:
            values = [100 * row["macro_f1"] for row in rows if row["method"] == name and row["shots"] == shots]
            if values:
                at.append(shots)
                means.append(np.mean(values))
                deviations.append(np.std(values))
        axis.errorbar(at, means, deviations, marker="o", ms=3, capsize=2, label=name)
    axis.set_xscale("log")
    axis.set_xticks(SHOTS, [str(shots) for shots in SHOTS])
    axis.set_xlabel("labels per class")
    axis.set_ylabel("macro F1 [%]")
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)
