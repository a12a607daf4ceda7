"""What each catalogue feature is worth to a model: test objects with one replaced, by embedding distance and accuracy.

Replaced by a constant (the mean of the training objects), by the value of another object at random, or by what we
compute from the light curve itself; for rfr_score, which other surveys do not have, the constant that costs least.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.replacing import Trial, moved, recomputed, why_not_recomputed, z_score
from astrom3.analyse.section import Context, NotPossible, Section, percent, table
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import META_COLS, PHOTO_COLS, in_paper_order
from astrom3.plots import save
from astrom3.progress import progress

SCORE = PHOTO_COLS[-1]  # which other surveys do not have
GRID = np.linspace(0, 1, 21)
PUBLISHED_CONSTANT = 0.392  # a study of the published photometry encoder
PUBLISHED_DISTANCE = "0.049 +- 0.091"
ALL = "all four"


def section(context: Context) -> Section:
    model = context.model
    data = context.data
    if model is None or data is None:
        raise NotPossible("needs the model and its data: leave embeddings= away")
    light = slot_with(model, "uses_features")
    values = slot_with(model, "uses_metadata")
    if light is None and values is None:
        raise NotPossible("needs a model of light curves or catalogue values")
    test = context.splits["test"]
    train = context.splits["train"]
    numbers: dict[str, Any] = {}
    lines: list[str] = []
    if light is not None:
        trial = Trial.of(model, data, light, test, train)
        normaliser = data.source.normaliser or model.normaliser
        numbers[light] = features(trial, data, normaliser)
        numbers[SCORE] = best_constant(trial, normaliser)
        lines += feature_lines(numbers[light], numbers[SCORE])
    if values is not None:
        numbers[values] = catalogue(Trial.of(model, data, values, test, train))
        lines += [*([""] if lines else []), *catalogue_lines(numbers[values])]
    picture(context, numbers, light, values)
    return Section("Sensitivity to catalogue features", numbers, lines)


def features(trial: Trial, data: Any, normaliser: Normaliser | None) -> dict[str, Any]:
    """Feature, or all four -> replacement -> `moved`; "not_recomputed": why, where they cannot be computed."""
    rng = np.random.default_rng(0)
    before = trial.before
    order = rng.permutation(len(trial.base))
    given = {c: trial.given(c) for c in PHOTO_COLS}
    kinds: dict[str, dict[str, np.ndarray]] = {"mean": {}, "random": {}}
    for column, z in given.items():
        kinds["mean"][column] = np.zeros_like(z)
        kinds["random"][column] = z[order]
    numbers: dict[str, Any] = {"accuracy": float((before.predicted == trial.labels).mean()), "n": len(trial.base)}
    if reason := why_not_recomputed(data, normaliser):
        numbers["not_recomputed"] = reason
    else:
        assert normaliser is not None
        with progress("Features of the test light curves", len(trial.base)) as advance:
            raw = recomputed(data, trial.base.ids, advance)
        known = np.isfinite(raw)
        numbers["recomputed_objects"] = int(known.all(1).sum())
        kinds["recomputed"] = {}
        for i, column in enumerate(PHOTO_COLS):
            new = z_score(column, raw[:, i], normaliser)
            kinds["recomputed"][column] = np.where(known[:, i], new, given[column])
    columns = (*PHOTO_COLS, ALL)
    with progress("Replacing features", len(columns) * len(kinds)) as advance:
        for column in columns:
            chosen = PHOTO_COLS if column == ALL else (column,)
            numbers[column] = {}
            for kind, values in kinds.items():
                after = trial.outcome({name: values[name] for name in chosen})
                numbers[column][kind] = moved(before, after, trial.labels, trial.base.classes)
                advance(1)
    return numbers


def best_constant(trial: Trial, normaliser: Normaliser | None) -> dict[str, Any]:
    """rfr_score of every object set to a constant: where the mean distance of the embeddings is least. Raw values where
    the statistics are known, else z-scores."""
    before = trial.before

    def cost(value: float) -> dict[str, Any]:
        n = len(trial.base)
        z = np.full(n, value) if normaliser is None else z_score(SCORE, np.full(n, value), normaliser)
        found = moved(before, trial.outcome({SCORE: z}), trial.labels, trial.base.classes)
        return {"value": float(value)} | found

    grid = GRID if normaliser is not None else np.linspace(-6, 2, 21)
    step = float(grid[1] - grid[0])
    with progress("Constants of rfr_score", len(grid) + 9) as advance:
        tried: list[dict[str, Any]] = []
        for i in range(len(grid) + 9):
            if i == len(grid):  # finer around the best so far
                middle = min(tried, key=lambda t: t["distance"])["value"]
                fine = middle + step * np.array([-0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8])
                grid = np.concatenate([grid, fine, [PUBLISHED_CONSTANT if normaliser is not None else 0.0]])
            tried.append(cost(float(grid[i])))
            advance(1)
    published = tried.pop()
    tried.sort(key=lambda t: t["value"])
    best = min(tried, key=lambda t: t["distance"])
    plain = []
    for found in tried:
        plain.append({key: found[key] for key in ("value", "distance", "distance_sd", "accuracy")})
    result = {"unit": "z-score", "best": best, "tried": plain}
    if normaliser is not None:
        result |= {"unit": "raw", "published": published}
    return result


def catalogue(trial: Trial) -> dict[str, Any]:
    """Column -> replacement -> `moved`, of the metadata encoder's inputs."""
    rng = np.random.default_rng(0)
    before = trial.before
    order = rng.permutation(len(trial.base))
    numbers: dict[str, Any] = {"accuracy": float((before.predicted == trial.labels).mean()), "n": len(trial.base)}
    for column in META_COLS:
        z = trial.given(column)
        numbers[column] = {}
        for kind, values in (("mean", np.zeros_like(z)), ("random", z[order])):
            after = trial.outcome({column: values})
            numbers[column][kind] = moved(before, after, trial.labels, trial.base.classes)
    return numbers


def distance(found: dict[str, Any]) -> str:
    return f"{found['distance']:.3f} +- {found['distance_sd']:.3f}"


def slot_with(model: TrainedModel, trait: str) -> str | None:
    """The first slot whose view has a trait, None where none has."""
    for slot, view in model.views.items():
        if getattr(view, trait):
            return slot
    return None


def feature_lines(found: dict[str, Any], score: dict[str, Any]) -> list[str]:
    kinds = list(found[ALL])
    rows = []
    for column in (*PHOTO_COLS, ALL):
        for kind in kinds:
            scores = found[column][kind]
            rows.append(
                [
                    column,
                    kind,
                    distance(scores),
                    f"{scores['distance_mean']:.3f}",
                    percent(scores["accuracy"], 2),
                    f"{100 * scores['accuracy_change']:+.2f}",
                    percent(scores["changed"]),
                ]
            )
    head = [
        "feature",
        "replaced by",
        "cosine distance, light curve",
        "mean embedding",
        "accuracy [%]",
        "change",
        "predictions changed [%]",
    ]
    lines = [
        f"{found['n']} labelled test objects with a light curve, accuracy as they are {percent(found['accuracy'], 2)} "
        "%. Mean: of the training objects. Random: the values of other test objects. Recomputed: from the light curve, "
        "by astrom3's own period search and fit. Distance: mean and deviation over objects.",
        "",
        *table(head, rows),
    ]
    if reason := found.get("not_recomputed"):
        lines += ["", f"Not recomputed: {reason}."]
    for kind in kinds:
        lines += per_class_lines(found, kind)
    best = score["best"]
    lines += [
        "",
        f"The constant {SCORE} that moves embeddings least: {best['value']:.3f} ({score['unit']}), cosine "
        f"distance {distance(best)}, accuracy {percent(best['accuracy'], 2)} %.",
    ]
    if "published" in score:
        lines[-1] += (
            f" With {PUBLISHED_CONSTANT}, found for the published encoder on real data (there "
            f"{PUBLISHED_DISTANCE}): {distance(score['published'])}."
        )
    return lines


def per_class_lines(found: dict[str, Any], kind: str) -> list[str]:
    """The table of one replacement, by class."""
    classes = in_paper_order(list(found[ALL]["mean"]["per_class"]))
    rows = []
    for column in (*PHOTO_COLS, ALL):
        cells = [column]
        for name in classes:
            scores = found[column][kind]["per_class"][name]
            cells.append(f"{abs(scores['distance']):.2f} ({100 * scores['accuracy_change']:+.0f})")
        rows.append(cells)
    return [
        "",
        f"{kind.capitalize()}, per class: cosine distance, change of recall in points:",
        "",
        *table(["feature", *classes], rows),
    ]


def catalogue_lines(found: dict[str, Any]) -> list[str]:
    order = sorted(META_COLS, key=lambda column: -found[column]["random"]["distance"])
    rows = []
    for column in order:
        cells = [column]
        for kind in ("mean", "random"):
            scores = found[column][kind]
            cells += [distance(scores), f"{100 * scores['accuracy_change']:+.2f}"]
        rows.append(cells)
    head = ["column", "distance, mean of training", "change of accuracy", "distance, random", "change of accuracy"]
    text = f"Catalogue columns, {found['n']} objects, accuracy as they are {percent(found['accuracy'], 2)} %; cosine "
    return [
        text + "distance of the metadata embedding, changes in points, the most telling first:",
        "",
        *table(head, rows),
    ]


def picture(context: Context, numbers: dict[str, Any], light: str | None, values: str | None) -> None:
    """Distances by feature, the constants of rfr_score, distances by catalogue column."""
    panels = 2 * (light is not None) + (values is not None)
    figure = Figure(figsize=(4.2 * panels, 3.6))
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    if light is not None:
        axis = axes.pop(0)
        found = numbers[light]
        columns = (*PHOTO_COLS, ALL)
        kinds = list(found[ALL])
        for i, kind in enumerate(kinds):
            rows = np.arange(len(columns))[::-1] + 0.25 * (1 - i)
            distances = [found[column][kind]["distance"] for column in columns]
            axis.barh(rows, distances, 0.22, label=kind)
        axis.set_yticks(np.arange(len(columns))[::-1], columns)
        axis.set_xlabel("cosine distance of the light-curve embedding")
        axis.locator_params(axis="x", nbins=5)
        axis.legend(frameon=False)
        axis = axes.pop(0)
        tried = numbers[SCORE]["tried"]
        constants = [one["value"] for one in tried]
        distances = [one["distance"] for one in tried]
        axis.plot(constants, distances, marker=".", color="#4477aa")
        axis.set_xlabel(f"{SCORE} of every object ({numbers[SCORE]['unit']})")
        axis.set_ylabel("cosine distance")
    if values is not None:
        axis = axes.pop(0)
        found = numbers[values]
        order = sorted(META_COLS, key=lambda c: found[c]["random"]["distance"])[-15:]
        distances = [found[column]["random"]["distance"] for column in order]
        axis.barh(range(len(order)), distances, 0.7, color="#ccbb44")
        axis.set_yticks(range(len(order)), order, fontsize=7)
        axis.set_xlabel("cosine distance, random values")
    figure.tight_layout()
    save(figure, context.out / "sensitivity.png")
