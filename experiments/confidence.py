"""Whether prediction sets hold what they promise on real surveys: python -m experiments.confidence real=<folder>

All curves of Catalina (at most 1,400 a class, catalogue periods) and of ASAS (at most 1,200 a class) are tested once in
five folds of `recipe=survey`. Each fold has its own validation objects, 16 % of all, that temperature and limits are
fitted on. Coverage per class is pooled over the folds. Writes experiments/own_survey/confidence.md; finished folds are
not repeated.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from astrom3.cli.config import compose
from astrom3.errors import UserError
from experiments.options import Whole, run_from_command_line
from experiments.own_survey_recipe import ROOT, prepare

RESULTS = ROOT / "experiments" / "own_survey" / "confidence.md"
FOLDS = 5
SURVEYS = {"crts-sss": (1400, True), "asas-acvs": (1200, False)}  # most curves of a class; catalogue periods
HEAD = "| survey | class | tested | coverage, % | error | validation objects a fold |\n|---|---|---|---|---|---|"


def fold_scores(data: Path, work: Path, fold: int, epochs: int) -> dict[str, Any]:
    """What the test split of a fold says, trained where that has not been done."""
    from astrom3.train import train

    cfg = compose(
        [
            "mode=photo",
            "size=small",
            "recipe=survey",
            "trainer=cpu",
            "seed=42",
            f"fold={fold}",
            f"folds={FOLDS}",
            f"epochs={epochs}",
            f"root={work}/runs/{data.name}",
            "data=local",
            f"data.path={data}",
            f"data.cache={work}/store",
        ]
    )
    scores = train(cfg)
    evaluated = Path(cfg.run) / "evaluation.json"
    if not scores.get("confidence") and evaluated.is_file():
        scores = json.loads(evaluated.read_text())
    if not scores.get("confidence"):
        raise UserError(f"{cfg.run} has no confidence.json: python -m astrom3.evaluate run={cfg.run} calibrate=true")
    return scores


def pooled(folds: list[dict[str, Any]]) -> dict[str, tuple[int, float, float, list[int]]]:
    """Class -> tested objects, coverage over all folds, its binomial error, and validation objects of each fold."""
    out = {}
    for name in folds[0]["classes"]:
        tested = [f["confidence"]["sets"]["per_class"].get(name, {"n": 0, "coverage": 0.0}) for f in folds]
        n = sum(cell["n"] for cell in tested)
        share = sum(cell["n"] * cell["coverage"] for cell in tested) / max(n, 1)
        validation = [f["confidence"]["validation"][name] for f in folds]
        out[name] = n, share, math.sqrt(share * (1 - share) / max(n, 1)), validation
    return out


def rows(survey: str, folds: list[dict[str, Any]]) -> list[str]:
    """Lines of the table of one survey, and one of the means over its folds."""
    lines = []
    for name, (n, share, error, validation) in pooled(folds).items():
        own = f"{min(validation)} to {max(validation)}"
        lines.append(f"| {survey} | {name} | {n} | {100 * share:.1f} | {100 * error:.1f} | {own} |")
    mean = {key: sum(f["confidence"]["sets"][key] for f in folds) / len(folds) for key in ("size", "single", "empty")}
    accuracy = 100 * sum(f["accuracy"] for f in folds) / len(folds)
    f1 = 100 * sum(f["macro_f1"] for f in folds) / len(folds)
    before = 100 * sum(f["confidence"]["before"]["ece"] for f in folds) / len(folds)
    after = 100 * sum(f["confidence"]["calibrated"]["ece"] for f in folds) / len(folds)
    lines.append(
        f"\n{survey}: accuracy {accuracy:.1f} %, macro-F1 {f1:.1f} %, expected calibration error {before:.1f} -> "
        f"{after:.1f} %; {mean['size']:.2f} classes in a set, {100 * mean['single']:.0f} % of the sets have one class "
        f"and {100 * mean['empty']:.1f} % none.\n"
    )
    return lines


def run(real: Path, work: Path, epochs: int, coverage: float = 0.9) -> str:
    """Everything; returns the text and writes it."""
    text = [f"# Prediction sets on real surveys, {100 * coverage:.0f} % asked of each class\n"]
    for survey, (per_class, periods) in SURVEYS.items():
        data = prepare(real, work, survey, per_class, periods)
        folds = [fold_scores(data, work, fold, epochs) for fold in range(1, FOLDS + 1)]
        text += [HEAD, *rows(survey, folds)]
    whole = "\n".join(text)
    RESULTS.write_text(whole)
    return whole


def main() -> None:
    defaults = {
        "real": str(ROOT.parent / "shared" / "real"),
        "work": ROOT / "runs" / "confidence",
        "epochs": Whole(12),
    }
    run_from_command_line(
        "confidence",
        defaults,
        lambda options: run(Path(options["real"]), options["work"], options["epochs"]),
    )


if __name__ == "__main__":
    main()
