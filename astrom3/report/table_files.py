"""The table of table.py as markdown, csv, LaTeX and a picture in the form of the paper."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from astrom3.files import replacing
from astrom3.plots import save
from astrom3.report.table import FRACTIONS, PUBLISHED, Row, Summary, by_mode

CAPTION = (
    "Test accuracy in percent, each subset on its own test split; mean and standard deviation (n - 1) over n seeds; "
    "gain: mean of the paired differences from scratch to CLIP with its standard error, p of the paired t-test; "
    "last column: (ours - published) in units of the published standard deviation."
)
SIMULATED = "Simulated data: the difference to the published numbers, which are of real data, is no test of them."


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
    return [f"| {' | '.join(r)} |" for r in [header, ["---"] * len(header), *rows]]


def markdown(summary: Summary) -> str:
    """report.md."""
    out = ["# Report", "", CAPTION, ""]
    if summary.simulated:
        out += [f"**{SIMULATED}**", ""]
    out += [f"**Warning: {w}.**\n" for w in summary.warnings]
    out += lines([cells(r) for r in summary.rows], HEADER) if summary.rows else ["No classification run is finished."]
    if summary.pretrained:
        rows = []
        for run in summary.pretrained:
            centroid = run.scores.get("centroid_accuracy", {})
            shown = ", ".join(f"{m} {100 * a:.1f}" for m, a in centroid.items())
            rows.append([str(run.seed), f"{run.scores['loss']:.3f}", f"{100 * run.scores['clip_accuracy']:.1f}", shown])
        header = ["seed", "test loss", "CLIP accuracy", "class centroids, accuracy"]
        out += ["", "## Pre-training", "", *lines(rows, header)]
    for state, title in (("failed", "Failed"), ("damaged", "Damaged"), ("unfinished", "Not finished")):
        runs = [r for r in summary.runs if r.state == state]
        if runs:
            out += ["", f"## {title}", "", *(f"- {r.folder}: {r.reason}" for r in runs)]
    missing = list(summary.missing())
    if missing:
        out += ["", "## Missing", ""]
        whole = [m for m in missing if len(m[3]) == len(summary.grid.seeds)]
        out += [
            f"- {m} {s} {i}: seeds {', '.join(map(str, seeds))}"
            for m, s, i, seeds in missing
            if len(seeds) < len(summary.grid.seeds)
        ]
        if whole:
            out.append(f"- no run at all of: {', '.join(f'{m} {s} {i}' for m, s, i, _ in whole)}")
    return "\n".join(out) + "\n"


def latex(summary: Summary) -> str:
    """report.tex: one booktabs table, to be put into a paper with \\input."""
    shown = [
        [c.replace("+-", r"$\pm$").replace("%", r"\%").replace("_", r"\_") for c in cells(r)] for r in summary.rows
    ]
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
    body = [" & ".join(r) + r" \\" for r in shown]
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
    for character in "%_&#":
        text = text.replace(character, "\\" + character)
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
    panels = {m: rows for m, rows in by_mode(summary).items() if rows} or {"": []}
    figure = Figure(figsize=(3.1 * len(panels) + 0.6, 3.2))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    ticks = list(range(len(FRACTIONS)))
    for axis, (mode, rows) in zip(axes, panels.items(), strict=True):
        for init, (colour, label) in STYLE.items():
            shift = 0.06 if init == "clip" else -0.06
            mine = sorted((r for r in rows if r.init == init), key=lambda r: FRACTIONS.get(r.sub, 100))
            at = [list(FRACTIONS).index(r.sub) + shift for r in mine]
            errors = [r.accuracy_std or 0 for r in mine]
            axis.errorbar(at, [r.accuracy for r in mine], errors, fmt="o-", color=colour, ms=4, capsize=2, label=label)
            for run in summary.runs:
                if (run.mode, run.init, run.state) == (mode, init, "finished") and run.sub in FRACTIONS:
                    place = list(FRACTIONS).index(run.sub) + shift
                    axis.plot(place, run.accuracy, ".", color=colour, alpha=0.35, ms=3)
            paper = []
            for s in FRACTIONS:
                paper.append(PUBLISHED.get(mode, {}).get(s, {}).get(init, {}).get("mean"))
            if all(p is not None for p in paper):
                axis.plot(ticks, paper, ":", marker="D", mfc="none", color=colour, ms=4, lw=0.8, alpha=0.8)
        axis.set_title(mode)
        axis.set_xticks(ticks, [f"{f} %" for f in FRACTIONS.values()])
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
