"""How soon a real survey is classified: python -m experiments.early real=<folder>

Catalina curves (at most 1,400 a class, catalogue periods) are classified by `recipe=survey size=small` from their first
5, 10, 20, 50 and 100 points, once by a network that trained on whole curves and once by one that saw half of its
training curves cut (`data.truncation=0.5`). Temperature and limits of the prediction sets come from validation curves
that are cut alike (`analyse what=[early]`). Writes experiments/own_survey/early.md and early.csv; finished runs are not
repeated.
"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from astrom3.analyse.early import COLUMNS as MEASURED
from astrom3.cli.config import compose
from experiments.options import Whole, run_from_command_line
from experiments.own_survey_recipe import ROOT, prepare

RESULTS = ROOT / "experiments" / "own_survey"
SURVEY = "crts-sss"
PER_CLASS = 1400
SEEDS = (42, 0, 66)
COVERAGE = 0.9
TRUNCATIONS = {"whole curves": 0.0, "half of them cut": 0.5}
COLUMNS = ("training", "seed", *(name for name in MEASURED if name != "temperature"))
HEAD = (
    "| training | first points | curves cut, % | accuracy, % | macro-F1, % | classes in a set | coverage, % | error | "
    "least of a class, % |\n|---|---|---|---|---|---|---|---|---|"
)


def trained(data: Path, work: Path, seed: int, truncation: float, epochs: int) -> Path:
    """The run folder of a seed, trained where that has not been done."""
    from astrom3.train import train

    cfg = compose(
        [
            "mode=photo",
            "size=small",
            "recipe=survey",
            "trainer=cpu",
            f"seed={seed}",
            f"epochs={epochs}",
            f"root={work}/runs/truncation-{truncation:g}",
            "data=local",
            f"data.path={data}",
            f"data.cache={work}/store",
            f"data.truncation={truncation:g}",
        ]
    )
    train(cfg)
    return Path(cfg.run)


def analysed(run: Path, data: Path, work: Path, seed: int) -> list[dict[str, Any]]:
    """Rows of the section `early` of a run, from its analysis.json where it was made before."""
    from astrom3.analyse.__main__ import analyse

    out = run / "early"
    if not (out / "analysis.json").is_file():
        cfg = compose(
            [
                f"model={run}",
                f"out={out}",
                "what=[early]",
                f"coverage={COVERAGE:g}",
                "early.days=[]",
                f"seed={seed}",
                "data=local",
                f"data.path={data}",
                f"data.cache={work}/store",
                "device=cpu",
            ],
            "analyse",
        )
        analyse(cfg)
    return json.loads((out / "analysis.json").read_text())["early"]["rows"]


def lines_of(found: list[dict[str, Any]]) -> list[str]:
    """A line for each training and length: means over its seeds, coverage over all of their test curves."""
    groups: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault((row["training"], row["seen"]), []).append(row)
    lines = []
    for (training, seen), rows in groups.items():
        tested = sum(row["n"] for row in rows)
        coverage = sum(row["n"] * row["coverage"] for row in rows) / tested
        error = math.sqrt(coverage * (1 - coverage) / tested)
        mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("cut", "accuracy", "macro_f1", "size")}
        least = min(rows, key=lambda row: row["least_coverage"])
        cells = [f"{100 * mean[key]:.1f}" for key in ("cut", "accuracy", "macro_f1")]
        cells += [f"{mean['size']:.2f}", f"{100 * coverage:.1f}", f"{100 * error:.1f}"]
        cells.append(f"{100 * least['least_coverage']:.1f} ({least['least_class']})")
        lines.append(f"| {training} | {'all' if seen is None else seen} | {' | '.join(cells)} |")
    return lines


def as_csv(found: list[dict[str, Any]]) -> str:
    """Every row of every run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in found:
        rounded = {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()}
        writer.writerow(rounded | {"seen": "all" if row["seen"] is None else row["seen"]})
    return text.getvalue()


def run(real: Path, work: Path, epochs: int, seeds: int, out: Path) -> str:
    """Everything; returns the table and writes it. The files are written after each run."""
    data = prepare(real, work, SURVEY, PER_CLASS, periods=True)
    out.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    text = ""
    for seed in SEEDS[:seeds]:
        for training, truncation in TRUNCATIONS.items():
            rows = analysed(trained(data, work, seed, truncation, epochs), data, work, seed)
            found += [row | {"training": training, "seed": seed} for row in rows if row["axis"] == "points"]
            text = report(found, epochs)
            (out / "early.md").write_text(text)
            (out / "early.csv").write_text(as_csv(found))
    return text


def report(found: list[dict[str, Any]], epochs: int) -> str:
    """The text of early.md."""
    seeds = sorted({row["seed"] for row in found})
    order = {training: i for i, training in enumerate(TRUNCATIONS)}
    ordered = sorted(found, key=lambda row: order[row["training"]])
    tested = sum(row["n"] for row in found if row["seen"] is None and row["training"] == found[0]["training"])
    return (
        f"# Early classification of a real survey, {100 * COVERAGE:.0f} % asked of each class\n\n"
        f"Catalina, at most {PER_CLASS} curves a class, `recipe=survey size=small epochs={epochs}`, seeds "
        f"{', '.join(map(str, seeds))}, {tested} test curves in all. The period of a cut curve is not known to the "
        "network. Limits of the sets are fitted on validation curves that are cut alike. Accuracy and size are means "
        "over the seeds; coverage is over all test curves, and its error is the binomial one of the test curves alone."
        f"\n\n{HEAD}\n" + "\n".join(lines_of(ordered)) + "\n"
    )


def main() -> None:
    defaults = {
        "real": str(ROOT.parent / "shared" / "real"),
        "work": ROOT / "runs" / "early",
        "epochs": Whole(12),
        "seeds": Whole(1, most=len(SEEDS)),
        "out": RESULTS,
    }
    run_from_command_line(
        "early",
        defaults,
        lambda options: run(
            Path(options["real"]), options["work"], options["epochs"], options["seeds"], options["out"]
        ),
    )


if __name__ == "__main__":
    main()
