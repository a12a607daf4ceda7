"""The table of table.py as markdown, csv, LaTeX and a picture in the form of the paper."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from astrom3.files import replacing
from astrom3.plots import save
from astrom3.report.table import FRACTIONS, PUBLISHED, Row, Run, Summary, by_mode

CAPTION = (
    "Test accuracy in percent, each subset on its own test split; mean and standard deviation (n - 1) over n runs, "
    "of several seeds or folds; "
    "gain: mean of the paired differences from scratch to CLIP with its standard error, p of the paired t-test; "
    "last column: (ours - published) in units of the published standard deviation."
)
SIMULATED = "Simulated data: the difference to the published numbers, which are of real data, is no test of them."


OF_LATEX = {ord(letter): "\\" + letter for letter in "%_&#{}$"}
OF_LATEX |= {ord("\\"): r"\textbackslash{}", ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}"}


def number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def with_error(value: float | None, error: float | None, sign: bool = False) -> str:
    """`81.4 +- 1.2`, without the error where there is none."""
    return number(value, sign=sign) + (f" +- {error:.1f}" if value is not None and error is not None else "")


def cells(row: Row) -> list[str]:
    return [
        row.mode,
        row.sub,
        row.init,
        str(row.n),
        with_error(row.accuracy, row.accuracy_std),
        with_error(row.macro_f1, row.macro_f1_std),
        with_error(row.gain, row.gain_error, sign=True),
        number(row.p, 3),
        with_error(row.published, row.published_std),
        number(row.difference, 1, sign=True),
    ]


HEADER = ["mode", "labels", "start", "n", "accuracy", "macro F1", "gain from CLIP", "p", "published", "(ours-publ.)/sd"]


def lines(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    out = []
    for row in (header, ["---"] * len(header), *rows):
        joined = " | ".join(cell.replace("|", "\\|") for cell in row)
        out.append(f"| {joined} |")
    return out


def markdown(summary: Summary) -> str:
    """report.md."""
    out = ["# Report", "", CAPTION, ""]
    if summary.simulated:
        out += [f"**{SIMULATED}**", ""]
    out += [f"**Warning: {warning}.**\n" for warning in summary.warnings]
    if summary.rows:
        out += lines(list(map(cells, summary.rows)), HEADER)
    else:
        out.append("No classification run is finished.")
    if summary.pretrained:
        header = ["seed", "test loss", "CLIP accuracy", "class centroids, accuracy"]
        out += ["", "## Pre-training", "", *lines(list(map(pretraining_cells, summary.pretrained)), header)]
    for state, title in (("failed", "Failed"), ("damaged", "Damaged"), ("unfinished", "Not finished")):
        listed = [f"- {run.folder}: {run.reason}" for run in summary.runs if run.state == state]
        if listed:
            out += ["", f"## {title}", "", *listed]

    out += missing_lines(summary)
    return "\n".join(out) + "\n"


def pretraining_cells(run: Run) -> list[str]:
    """A row of the table of pre-trainings."""
    accuracies = []
    for name, accuracy in run.scores.get("centroid_accuracy", {}).items():
        accuracies.append(f"{name} {100 * accuracy:.1f}")
    clip = run.scores.get("clip_accuracy")
    percent = None if clip is None else 100 * clip
    return [str(run.seed), number(run.scores.get("loss"), 3), number(percent), ", ".join(accuracies)]


def missing_lines(summary: Summary) -> list[str]:
    """The runs that the table expects and that have no folder."""
    some = []
    none = []
    for mode, sub, init, seeds in summary.missing():
        cell = f"{mode} {sub} {init}"
        if len(seeds) == len(summary.grid.seeds):
            none.append(cell)
        else:
            some.append(f"- {cell}: seeds {', '.join(map(str, seeds))}")
    if none:
        some.append(f"- no run at all of: {', '.join(none)}")
    return ["", "## Missing", "", *some] if some else []


def latex(summary: Summary) -> str:
    """report.tex: one booktabs table, to be put into a paper with \\input."""
    body = []
    for row in summary.rows:
        body.append(" & ".join(map(escape, cells(row))) + r" \\")
    head = [
        "mode",
        "labels",
        "start",
        "$n$",
        "accuracy",
        r"macro $F_1$",
        "gain",
        "$p$",
        "published",
        r"$\Delta/\sigma$",
    ]
    note = CAPTION + (" " + SIMULATED if summary.simulated else "")
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(note)}}}",
            r"\begin{tabular}{lllrrrrrrr}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """For LaTeX, with +- as the sign."""
    text = text.translate(OF_LATEX)
    return text.replace("+-", r"$\pm$")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


STYLE = {"scratch": ("#999999", "from scratch"), "clip": ("#cc4422", "CLIP pre-training")}


def plot(summary: Summary, path: Path) -> Path:
    """Accuracy against the share of the labels, one panel a mode; dots are seeds, hollow marks the published means."""
    panels = {}
    for mode, found in by_mode(summary).items():
        rows = [row for row in found if row.sub in FRACTIONS and row.init in STYLE]
        if rows:
            panels[mode] = rows

    panels = panels or {"": []}
    figure = Figure(figsize=(3.1 * len(panels) + 0.6, 3.2))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    ticks = list(range(len(FRACTIONS)))
    for axis, (mode, rows) in zip(axes, panels.items(), strict=True):
        for init, (colour, label) in STYLE.items():
            shift = 0.06 if init == "clip" else -0.06
            places = {sub: tick + shift for tick, sub in enumerate(FRACTIONS)}
            of_init = [row for row in rows if row.init == init and row.accuracy is not None]
            of_init.sort(key=lambda row: FRACTIONS[row.sub])
            at = [places[row.sub] for row in of_init]
            accuracies = [row.accuracy for row in of_init]
            errors = [row.accuracy_std or 0 for row in of_init]
            axis.errorbar(at, accuracies, errors, fmt="o-", color=colour, ms=4, capsize=2, label=label)
            for run in summary.runs:
                if (run.label, run.init) == (mode, init) and run.accuracy is not None and run.sub in FRACTIONS:
                    axis.plot(places[run.sub], run.accuracy, ".", color=colour, alpha=0.35, ms=3)

            by_sub = PUBLISHED.get(mode, {})
            paper = [by_sub.get(sub, {}).get(init, {}).get("mean") for sub in FRACTIONS]
            if None not in paper:
                axis.plot(ticks, paper, ":", marker="D", mfc="none", color=colour, ms=4, lw=0.8, alpha=0.8)
        axis.set_title(mode)
        axis.set_xticks(ticks, [f"{percent} %" for percent in FRACTIONS.values()])
        axis.set_xlabel("share of the labels")

    axes[0].set_ylabel("test accuracy [%]")
    handles, labels = axes[0].get_legend_handles_labels()
    hollow = axes[0].plot([], [], ":", marker="D", mfc="none", color="black", ms=4, lw=0.8)[0]
    data = "published (real data)" if summary.simulated else "published"
    figure.subplots_adjust(bottom=0.3, wspace=0.25)
    figure.legend([*handles, hollow], [*labels, data], loc="lower center", ncol=3, frameon=False)
    if summary.simulated:
        figure.suptitle("simulated survey", fontsize=9, y=1.02)
    return save(figure, path)
