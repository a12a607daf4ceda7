"""The tables of the leaderboard, from its cells: leaderboard.md, leaderboard.csv, leaderboard.png."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.leaderboard.committed import COLUMNS, as_lines, rounded
from experiments.leaderboard.goal import goal
from experiments.leaderboard.protocol import SHOTS
from experiments.leaderboard.tasks import TASKS, Task

FROZEN_KIND = "logistic regression"
Cells = list[dict[str, Any]]
Numbers = dict[tuple[str, str, str, int], list[dict[str, float]]]


def write(contents: Iterable[Mapping[str, Any]], out: Path, title: str, tasks: Sequence[Task] = TASKS) -> None:
    """Write the three files into `out`. The same cells give the same bytes, whether computed now or read from a csv."""
    found = [rounded(content) for content in contents]
    order = {task.name: i for i, task in enumerate(tasks)}
    found.sort(key=lambda cell: (order[cell["task"]], cell["row"], cell["kind"], cell["shots"] or 10**9, cell["seed"]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "leaderboard.csv").write_text(as_csv(found))
    numbers = collect(found)
    (out / "leaderboard.md").write_text(as_markdown(numbers, title, tasks))
    plot(numbers, out / "leaderboard.png")


def as_csv(found: Cells) -> str:
    """Every cell with its scores."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(as_lines(found))
    return text.getvalue()


def collect(found: Cells) -> Numbers:
    """(task, row, kind, shots) -> the scores of its seeds."""
    numbers: Numbers = {}
    for cell in found:
        key = cell["task"], cell["row"], cell["kind"], cell["shots"]
        numbers.setdefault(key, []).append(cell["scores"])
    return numbers


def mean(numbers: Numbers, key: tuple[str, str, str, int], name: str) -> str:
    """Mean and deviation over seeds in percent, empty where nothing is there."""
    values = [100 * scores[name] for scores in numbers.get(key, ())]
    if not values:
        return ""
    return f"{np.mean(values):.1f} ± {np.std(values):.1f}" if len(values) > 1 else f"{values[0]:.1f} (one seed)"


def as_markdown(numbers: Numbers, title: str, tasks: Sequence[Task]) -> str:
    """A table of macro-F1 for each task, and one of accuracy, clusters and left-out classes with all labels."""
    lines = [f"# {title}", "", *goal(numbers, tasks)]
    for task in tasks:
        pairs = sorted({(row, kind) for name, row, kind, _ in numbers if name == task.name})
        classified = [pair for pair in pairs if pair[1] not in ("clustering", "left out")]
        if not classified:
            continue
        sizes = [shots for shots in SHOTS if any((task.name, *pair, shots) in numbers for pair in classified)]
        heads = [f"{shots} a class" if shots else "all labels" for shots in sizes]
        lines += [f"## {task.name}", "", f"Macro-F1, %, of {len(task.names)} classes: {', '.join(task.names)}.", ""]
        lines.append(f"| row | classifier | {' | '.join(heads)} | accuracy, all |")
        lines.append("|" + "---|" * (len(sizes) + 3))
        for row, kind in classified:
            cells = [mean(numbers, (task.name, row, kind, shots), "macro_f1") for shots in sizes]
            accuracy = mean(numbers, (task.name, row, kind, 0), "accuracy")
            lines.append(f"| {row} | {kind} | {' | '.join(cells)} | {accuracy} |")
        lines += ["", *structure(numbers, task)]
    return "\n".join(lines).rstrip() + "\n"


def structure(numbers: Numbers, task: Task) -> list[str]:
    """Lines on clusters and left-out classes of a task, none where nothing is there."""
    rows = sorted({row for name, row, kind, _ in numbers if name == task.name and kind in ("clustering", "left out")})
    if not rows:
        return []
    lines = [
        f"Clusters of the test objects, and AUROC (%) of classes left out of training ({', '.join(task.left_out)}).",
        "",
        "| row | NMI | ARI | AUROC, probability | AUROC, tenth neighbour |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [mean(numbers, (task.name, row, "clustering", 0), name) for name in ("nmi", "ari")]
        cells += [mean(numbers, (task.name, row, "left out", 0), name) for name in ("probability", "distance")]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return [*lines, ""]


def plot(numbers: Numbers, path: Path) -> None:
    """Macro-F1 against the number of labels, of logistic regression, of forests on features, and of fine-tuning."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5), sharey=True)
    for axis, task in zip(axes, TASKS, strict=False):
        for name, row, kind in sorted({key[:3] for key in numbers}):
            ours = row.startswith(("ours", "recipe"))
            shown = kind == "fine-tuning" or kind == ("logistic regression" if ours else "random forest")
            if name != task.name or not shown:
                continue
            heights = []
            places = []
            for place, shots in enumerate(SHOTS):
                scores = numbers.get((name, row, kind, shots))
                if scores:
                    places.append(place)
                    heights.append(100 * float(np.mean([score["macro_f1"] for score in scores])))
            axis.plot(places, heights, "o-" if ours else "s--", label=f"{row}, {kind}")
        axis.set_title(task.name)
        axis.set_xticks(range(len(SHOTS)), [str(shots or "all") for shots in SHOTS])
        axis.set_xlabel("labels per class")
    axes[0].set_ylabel("macro-F1, %")
    axes[1].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
