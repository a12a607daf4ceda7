"""What the published head merge costs or gives, and drawn against deterministic keys: python -m experiments.head_merge

Light curves of the simulated survey, networks of size=small, both merges of the heads trained from scratch with the
same seeds. Each network is tested with sampled, fixed and full attention, with its own merge and with the other one on
the same weights, on a second survey of which no network has seen an object. The table is written to
experiments/head_merge/. About ten minutes on two cores; started again it goes on where it was. Further arguments are
overrides of the trainings (epochs=2 size=tiny).
"""

from __future__ import annotations

import csv
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.options import answered

ROOT = Path("runs/head_merge")
OUT = Path(__file__).parent / "head_merge"
MERGES = ("published", "usual")
SEEDS = ("42", "0", "66", "12", "123")
OBJECTS = 3000
EPOCHS = 30
DRAWS = 5
DATA = ["data=simulated", f"data.objects={OBJECTS}"]
TRAINING = ["mode=photo", "sub=full", "size=small", "trainer=cpu", f"epochs={EPOCHS}"]
log = logging.getLogger(__name__)


def main(*overrides: str, root: Path = ROOT, out: Path = OUT) -> list[dict[str, Any]]:
    """Train, test, write; returns the rows of results.csv."""
    from astrom3.cli.verbs import run
    from astrom3.train import train

    for merge in MERGES:
        run(
            "train",
            train,
            [
                "-m",
                *TRAINING,
                *DATA,
                f"encoders.photometry.head_merge={merge}",
                f"seed={','.join(SEEDS)}",
                f"root={root}/{merge}",
                *overrides,
            ],
        )
    rows = []
    for merge in MERGES:
        for seed in SEEDS:
            rows += tested(root / merge / f"photo-full-scratch-{seed}", merge, seed, overrides)
    write(rows, out, overrides)
    return rows


def tested(folder: Path, merge: str, seed: str, overrides: tuple[str, ...]) -> list[dict[str, Any]]:
    """Every kind of attention with the weights of one run, on the second survey."""
    from astrom3.analyse.attention import compare_kinds
    from astrom3.cli import config
    from astrom3.inference.embeddings import Embeddings
    from astrom3.inference.trained import TrainedModel, data_of

    model = TrainedModel.load(folder, device="cpu")
    own = [o for o in overrides if o.startswith("data.") and not o.startswith("data.seed=")]
    cfg = config.compose(["mode=photo", *DATA, *own, "data.seed=1"])
    data = data_of(model, cfg.data, "full", 42)
    splits = list(data.source.rows)

    def embed() -> Embeddings:
        return Embeddings.concatenate([Embeddings.of_split_of(model, data, s) for s in splits])

    found = compare_kinds(model, embed, None, DRAWS)["light curve"]
    log.info("%s tested", folder)
    n = sum(len(data.object_ids(s)) for s in splits)
    return [{"trained": merge, "seed": seed, "attention": kind, "n": n, **values} for kind, values in found.items()]


def write(rows: list[dict[str, Any]], out: Path, overrides: tuple[str, ...]) -> None:
    """results.csv: every run and kind; results.md: mean and deviation over seeds; the accuracies as a picture."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = "\n".join(
        [
            "# Head merge and drawn keys",
            "",
            *about(rows, overrides),
            "",
            *table(rows),
            "",
            *paired(rows),
            "",
            "![Accuracy](results.png)",
            "",
        ]
    )
    (out / "results.md").write_text(text)
    picture(rows, out / "results.png")
    print(text)


def about(rows: list[dict[str, Any]], overrides: tuple[str, ...]) -> list[str]:
    extra = f" (with {' '.join(overrides)})" if overrides else ""
    return [
        f"Light curves, from scratch, seeds {', '.join(SEEDS)}: `{' '.join([*TRAINING, *DATA])}`{extra}, otherwise the "
        f"published values of mode=photo sub=full. Accuracy in percent on {rows[0]['n']} objects of a second simulated "
        f"survey (data.seed=1), mean and deviation over the seeds; sampled: {DRAWS} draws each. Changed and cosine: "
        "against fixed keys and the merge that the network was trained with. Between draws: share of the predictions "
        "in which two draws differ. Simulated data, small networks: not the published ones."
    ]


def kinds_of(rows: list[dict[str, Any]], merge: str) -> list[str]:
    return list(dict.fromkeys(r["attention"] for r in rows if r["trained"] == merge))


def values(rows: list[dict[str, Any]], merge: str, kind: str, column: str) -> np.ndarray:
    """One number per seed, in the order of SEEDS."""
    return np.array([r[column] for r in rows if r["trained"] == merge and r["attention"] == kind])


def spread(numbers: np.ndarray, digits: int = 2) -> str:
    return f"{numbers.mean():.{digits}f} +- {numbers.std(ddof=1) if len(numbers) > 1 else 0:.{digits}f}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    from astrom3.analyse.section import table as markdown

    lines = []
    for merge in MERGES:
        for kind in kinds_of(rows, merge):
            accuracy, drawn, flipped, between = (
                100 * values(rows, merge, kind, c) for c in ("accuracy", "accuracy_sd", "flipped", "flipped_between")
            )
            sampled = kind.startswith("sampled")
            cosine = values(rows, merge, kind, "cosine")
            lines.append(
                [
                    merge,
                    kind,
                    spread(accuracy),
                    f"{drawn.mean():.2f}" if sampled else "-",
                    spread(flipped),
                    spread(between) if sampled else "-",
                    spread(cosine, 4),
                ]
            )
    return markdown(
        [
            "trained with",
            "tested with",
            "accuracy [%]",
            "deviation of the draws",
            "changed [%]",
            "between draws [%]",
            "cosine of the embeddings",
        ],
        lines,
    )


def paired(rows: list[dict[str, Any]]) -> list[str]:
    """Differences seed by seed, in points, with their standard error."""
    own = {m: 100 * values(rows, m, f"fixed, {m} merge", "accuracy") for m in MERGES}
    gaps = {"usual - published, each trained so, fixed keys": own["usual"] - own["published"]}
    for merge, other in (MERGES, MERGES[::-1]):
        gaps[f"{merge} weights read with the {other} merge - with their own"] = (
            100 * values(rows, merge, f"fixed, {other} merge", "accuracy") - own[merge]
        )
        for kind in ("sampled", "full"):
            gaps[f"{kind} - fixed, {merge} merge"] = (
                100 * values(rows, merge, f"{kind}, {merge} merge", "accuracy") - own[merge]
            )
    return ["Differences of accuracy in points, seed by seed, mean and standard error:", ""] + [
        f"- {name}: {gap.mean():+.2f} +- {gap.std(ddof=1) / np.sqrt(len(gap)):.2f}" for name, gap in gaps.items()
    ]


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    from astrom3.plots import save

    figure = Figure(figsize=(9, 3))
    for axis, merge in zip(figure.subplots(1, 2, sharex=True), MERGES, strict=True):
        kinds = kinds_of(rows, merge)
        for row, kind in enumerate(kinds[::-1]):
            accuracy = 100 * values(rows, merge, kind, "accuracy")
            axis.plot(accuracy, [row] * len(accuracy), "o", ms=4, color="#4477aa")
        axis.set_yticks(range(len(kinds)), kinds[::-1])
        axis.set_title(f"trained with the {merge} merge")
        axis.set_xlabel("accuracy [%], one point per seed")
    figure.subplots_adjust(wspace=0.6)
    save(figure, path)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    answered("head_merge", lambda: main(*sys.argv[1:]))
