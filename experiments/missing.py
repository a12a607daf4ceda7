"""What the contrastive objective loses where parts are absent: python -m experiments.missing [objects=2000 epochs=20]

The simulated survey, once complete and once with half of the spectra and 30 % of the light curves absent in training
and validation. Both networks of a seed see the same objects. They are judged on the same complete test objects: how
well a logistic regression on frozen embeddings of one modality tells the classes (fitted on all training objects of the
complete survey, so that the embeddings alone differ, and on those that the network's own survey has), and how often a
modality of an object is found from another of its modalities. Writes experiments/families/missing.md and missing.csv;
finished runs are not repeated.
"""

from __future__ import annotations

import csv
import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.cli.config import compose
from experiments.options import Whole, run_from_command_line

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "families"
SEEDS = (42, 0, 66)
SURVEYS = {"complete": [], "absent": ["data.missing_spectra=0.5", "data.missing_light_curves=0.3"]}
MODALITIES = ("photometry", "spectra", "metadata", "mean")
TOP = "recall@10"
COLUMNS = ("survey", "seed", "measure", "of", "value")


def trained(work: Path, survey: str, seed: int, common: list[str], own: list[str]) -> Path:
    """The run folder of a pre-training, done where it has not been."""
    from astrom3.train import train

    cfg = compose(["mode=clip", "trainer=cpu", f"seed={seed}", f"root={work}/{survey}", *common, *own])
    train(cfg)
    return Path(cfg.run)


def embedded(run: Path, name: str, seed: int, common: list[str], own: list[str]) -> Any:
    """Embeddings of a survey by a frozen network, split -> Embeddings."""
    from astrom3.analyse.embedded import splits_of
    from astrom3.embed.__main__ import embed

    out = run / f"embedded-{name}"
    data = [word for word in common if word.startswith("data")]
    embed(compose([f"model={run}", f"out={out}", f"seed={seed}", "device=cpu", *data, *own], "embed"))
    return splits_of(out)


def scores(run: Path, survey: str, seed: int, common: list[str]) -> list[dict[str, Any]]:
    """Every number of one network, from missing.json of its run where it was made before."""
    path = run / "missing.json"
    if path.is_file():
        return json.loads(path.read_text())
    from astrom3.analyse.fewshot import by_probe
    from astrom3.analyse.retrieval import retrieval

    whole = embedded(run, "complete", seed, common, [])
    own = whole if survey == "complete" else embedded(run, "own", seed, common, SURVEYS[survey])
    test = whole["test"]
    found = []

    def tell(measure: str, of: str, value: float) -> None:
        found.append({"survey": survey, "seed": seed, "measure": measure, "of": of, "value": value})

    for modality in MODALITIES:
        for measure, train in (("accuracy", whole["train"]), ("accuracy, own labels", own["train"])):
            there = np.ones(len(train), dtype=bool) if modality == "mean" else train.present[modality]
            said = by_probe(train.vectors[modality][there], train.labels[there], test.vectors[modality])
            tell(measure, modality, float((said == test.labels).mean()))
    for direction, numbers in retrieval(test).items():
        tell(TOP, direction, numbers[TOP])
    tell("test objects", "", len(test))
    path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def value_of(rows: list[dict[str, Any]], survey: str, measure: str, of: str) -> np.ndarray:
    """The values of all seeds, in per cent."""
    chosen = [row for row in rows if (row["survey"], row["measure"], row["of"]) == (survey, measure, of)]
    return 100 * np.array([row["value"] for row in sorted(chosen, key=lambda row: row["seed"])])


def lines_of(rows: list[dict[str, Any]]) -> list[str]:
    """The table: both surveys, and the difference by seed."""
    lines = [
        "| measure | of | complete | parts absent | lost, points |",
        "|---|---|---|---|---|",
    ]
    told = [(measure, of) for measure in ("accuracy", "accuracy, own labels") for of in MODALITIES]
    told += [(TOP, f"{a} -> {b}") for a, b in permutations(MODALITIES[:3], 2)]
    for measure, of in told:
        complete = value_of(rows, "complete", measure, of)
        absent = value_of(rows, "absent", measure, of)
        if len(complete) != len(absent) or not len(complete):
            continue
        cells = []
        for values in (complete, absent, complete - absent):
            cells.append(f"{values.mean():.1f} ± {values.std():.1f}")
        lines.append(f"| {measure} | {of} | {' | '.join(cells)} |")
    return lines


def write(rows: list[dict[str, Any]], title: str, out: Path) -> str:
    """missing.md and missing.csv; the text of the first."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "missing.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"value": f"{row['value']:.4f}"})
    tested = [int(row["value"]) for row in rows if row["measure"] == "test objects"]
    text = [
        "# Contrastive pre-training with half of the spectra and 30 % of the light curves absent",
        "",
        f"{title}; {tested[0]} complete test objects. Accuracy (%) is that of a logistic regression on frozen "
        "embeddings, fitted on all training objects or on those that have the modality in the network's own survey. "
        f"Of a retrieval the recall at 10 stands (%; by chance {100 * 10 / tested[0]:.1f}). Means and deviations over "
        "the seeds, and of the difference by seed.",
        "",
        *lines_of(rows),
    ]
    (out / "missing.md").write_text("\n".join(text) + "\n")
    return "\n".join(text)


def run(options: dict[str, Any]) -> str:
    """Every run, one after the other; the table is written after each seed."""
    work = options["work"]
    common = [f"size={options['size']}", f"epochs={options['epochs']}", f"data.cache={work}/store"]
    common += ["data=simulated", f"data.objects={options['objects']}"]
    training = [word for word in common if word.startswith(("size", "epochs", "data"))]
    training += ["recipe=survey"] if options["encoder"] == "folded" else []
    rows = []
    seeds = SEEDS[: options["seeds"]]
    text = ""
    for number, seed in enumerate(seeds):
        for survey, own in SURVEYS.items():
            made = trained(work, survey, seed, training, own)
            rows += scores(made, survey, seed, common)
        title = (
            f"Simulated survey of {options['objects']} objects, size={options['size']}, {options['epochs']} epochs, "
            f"light curves by the {options['encoder']} encoder, seeds {', '.join(map(str, seeds[: number + 1]))}"
        )
        text = write(rows, title, options["out"])
    return text


def main() -> None:
    defaults = {
        "objects": Whole(2000),
        "size": ("tiny", "small", "published"),
        "epochs": Whole(20),
        "seeds": Whole(3, most=len(SEEDS)),
        "encoder": ("folded", "published"),
        "work": ROOT / "runs" / "missing",
        "out": RESULTS,
    }
    run_from_command_line("missing", defaults, run)


if __name__ == "__main__":
    main()
