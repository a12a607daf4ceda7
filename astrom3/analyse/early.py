"""How soon a model knows: accuracy, macro-F1 and prediction sets when only the first points of each curve are seen.

Temperature and limits of the sets are fitted on validation curves that are cut alike, for each length by itself, so
that the sets hold the true class as often as asked whatever the length.
"""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from astrom3.analyse.section import OF_OTHER_CLASSES, Context, NotPossible, Section, percent, table
from astrom3.inference.confidence import Calibration
from astrom3.inference.conformal import measure_sets
from astrom3.inference.early import Cut, Seen, check_model, classify_cut, cuts
from astrom3.plots import save
from astrom3.tasks.metrics import classification_scores

COLUMNS = (
    "axis",
    "seen",
    "n",
    "cut",
    "usable",
    "accuracy",
    "macro_f1",
    "size",
    "coverage",
    "least_coverage",
    "least_class",
    "temperature",
)
UNITS = {"points": "points", "days": "days"}


def section(context: Context) -> Section:
    """The section of the report, early.csv and early.png."""
    model = context.model
    if model is None or context.data is None:
        raise NotPossible("needs model=, since curves are cut and classified again")

    reason = check_model(model)
    if reason is not None:
        raise NotPossible(reason)
    if "validation" not in context.splits:
        raise NotPossible("needs labelled validation objects for the limits of the sets")

    options = context.early
    rows = []
    whole: dict[str, Any] | None = None
    for axis, chosen in cuts(options["points"], options["days"]).items():
        for cut in chosen:
            complete = cut == Cut()
            if complete and whole is not None:
                rows.append(whole | {"axis": axis})
                continue
            row = measured(context, axis, cut)
            rows.append(row)
            whole = row if complete else whole

    write(context, rows)
    picture(context, rows)
    return Section(
        "Early classification, test split", {"rows": rows, "features": options["features"]}, lines(context, rows)
    )


def measured(context: Context, axis: str, cut: Cut) -> dict[str, Any]:
    """One row: what the test curves give when they and the validation curves are cut alike."""
    model = context.model
    assert model is not None
    source = context.data.source
    features = context.early["features"]
    validation = classify_cut(model, source, "validation", cut, features)
    test = classify_cut(model, source, "test", cut, features)
    if not len(test.labels):
        raise NotPossible(OF_OTHER_CLASSES)
    known = validation.take(validation.usable)
    calibration = Calibration.fit(known.probabilities, known.labels)
    row = {"axis": axis, "seen": cut.points if cut.points is not None else cut.days}
    return row | score(test, calibration, context.coverage, model.classes) | {"temperature": calibration.temperature}


def score(seen: Seen, calibration: Calibration, coverage: float, classes: tuple[str, ...]) -> dict[str, Any]:
    """Scores of test objects. One that the model can say nothing of counts as wrong, and its set holds every class."""
    usable = seen.usable
    count = len(classes)
    best = np.nan_to_num(seen.probabilities, nan=0.0).argmax(1)
    predicted = np.where(usable, best, count)
    confusion = torch.zeros(count, count + 1, dtype=torch.long)
    ones = torch.ones(len(predicted), dtype=torch.long)
    places = (torch.from_numpy(seen.labels), torch.from_numpy(predicted))
    confusion.index_put_(places, ones, accumulate=True)
    recall = confusion.diagonal() / confusion.sum(1).clamp(min=1)
    scores = classification_scores(confusion[:, :count], classes)

    sets = np.ones(seen.probabilities.shape, dtype=bool)
    if usable.any():
        sets[usable] = calibration.sets(seen.probabilities[usable], coverage)
    of_sets = measure_sets(sets, seen.labels, classes)
    per_class = of_sets["per_class"]
    least = min(per_class, key=lambda name: per_class[name]["coverage"])
    is_right = predicted == seen.labels
    return {
        "n": len(seen.labels),
        "cut": float(seen.cut.mean()),
        "usable": float(usable.mean()),
        "accuracy": float(is_right.mean()),
        "macro_f1": scores["macro_f1"],
        "size": of_sets["size"],
        "coverage": of_sets["coverage"],
        "least_coverage": per_class[least]["coverage"],
        "least_class": least,
        "per_class": per_class,
        "recall": dict(zip(classes, recall.tolist(), strict=True)),
    }


def lines(context: Context, rows: list[dict[str, Any]]) -> list[str]:
    """The tables of the report."""
    features = {
        "none": "A cut curve has no catalogue features, since those of the whole curve would tell what was cut off.",
        "all": "The features of a cut curve are computed from what is left of it.",
    }[context.early["features"]]
    asked = percent(context.coverage, 0)
    out = [
        f"Only the first points of each curve are seen. {features} Sets are asked to hold {asked} % of each class; "
        "temperature and limits are fitted on validation curves that are cut alike. A curve that the model cannot read "
        "counts as wrong, and its set holds every class.",
        "",
    ]
    for axis in UNITS:
        body = []
        for row in rows:
            if row["axis"] == axis:
                body.append(cells(row))
        head = [
            f"first {UNITS[axis]}",
            "curves cut [%]",
            "readable [%]",
            "accuracy [%]",
            "macro-F1 [%]",
            "classes in a set",
            "coverage [%]",
            "least coverage of a class [%]",
        ]
        out += [*table(head, body), ""]

    return out


def cells(row: dict[str, Any]) -> list[str]:
    """One row of a table."""
    least = f"{percent(row['least_coverage'])} ({row['least_class']})"
    return [
        "all" if row["seen"] is None else f"{row['seen']:g}",
        percent(row["cut"]),
        percent(row["usable"]),
        percent(row["accuracy"]),
        percent(row["macro_f1"]),
        f"{row['size']:.2f}",
        percent(row["coverage"]),
        least,
    ]


def write(context: Context, rows: list[dict[str, Any]]) -> None:
    """early.csv."""
    with open(context.out / "early.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def picture(context: Context, rows: list[dict[str, Any]]) -> None:
    """Scores above, sets below, by points and by days; the whole curve stands at the right end."""
    figure = Figure(figsize=(6.4, 4.6))
    axes = figure.subplots(2, 2, sharey="row")
    curves = {"accuracy": "accuracy", "macro_f1": "macro-F1", "coverage": "coverage of the sets"}
    for (unit, name), (above, below) in zip(UNITS.items(), axes.T, strict=True):
        of_unit = [row for row in rows if row["axis"] == unit]
        places = range(len(of_unit))
        for key, label in curves.items():
            scores = [100 * row[key] for row in of_unit]
            above.plot(places, scores, marker="o", ms=3, label=label)
        above.axhline(100 * context.coverage, color="0.7", lw=1)
        above.set_xticks(places, [])

        sizes = [row["size"] for row in of_unit]
        below.plot(places, sizes, marker="o", ms=3, color="C3")
        ticks = ["all" if row["seen"] is None else f"{row['seen']:g}" for row in of_unit]
        below.set_xticks(places, ticks)
        below.set_xlabel(f"first {name} of a curve")

    axes[0, 0].set_ylabel("[%]")
    axes[1, 0].set_ylabel("classes in a set")
    axes[0, 0].legend(frameon=False)
    save(figure, context.out / "early.png")
