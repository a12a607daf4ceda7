"""What each catalogue feature is worth to a model: test objects with one replaced, by embedding distance and accuracy.

Replaced by a constant (the mean of the training objects), by the value of another object at random, or by what we
compute from the light curve itself; for rfr_score, which other surveys do not have, the constant that costs least.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.replacing import Trial, moved, recomputed, why_not_recomputed, z_score
from astrom3.analyse.section import Context, NotPossible, Section, having, percent, table
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import META_COLS, PHOTO_COLS, in_paper_order
from astrom3.plots import save
from astrom3.progress import progress

SCORE = PHOTO_COLS[-1]  # which other surveys do not have
GRID = np.linspace(0, 1, 21)
FINER = np.array([-0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8])  # steps of that grid, around the best of it
PUBLISHED_CONSTANT = 0.392  # a study of the published photometry encoder
PUBLISHED_DISTANCE = "0.049 +- 0.091"
ALL = "all four"


def section(context: Context) -> Section:
    """What features cost the light-curve encoder, and columns the metadata encoder; NotPossible without either."""
    model = context.model
    data = context.data
    if model is None or data is None:
        raise NotPossible("needs the model and its data: leave embeddings= away")

    light = slot_with(model, "uses_features")
    values = slot_with(model, "uses_metadata")
    if light is None and values is None:
        raise NotPossible("needs a model that reads features of light curves (a period) or catalogue values")

    light, values = (slot if has_objects(context, slot) else None for slot in (light, values))
    if light is None and values is None:
        raise NotPossible("needs labelled training and test objects with light curves or catalogue values")

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
        if lines:
            lines.append("")
        lines += catalogue_lines(numbers[values])

    picture(context, numbers, light, values)
    return Section("Sensitivity to catalogue features", numbers, lines)


def has_objects(context: Context, slot: str | None) -> bool:
    """Whether labelled objects of both splits have that modality: some to measure, some to predict by."""
    if slot is None:
        return False
    return all(having(context.labelled(split), slot).any() for split in ("train", "test"))


def features(trial: Trial, data: Any, normaliser: Normaliser | None) -> dict[str, Any]:
    """Feature, or all four -> replacement -> `moved`; "not_recomputed": why, where they cannot be computed."""
    numbers = unchanged(trial)
    order = np.random.default_rng(0).permutation(len(trial.base))
    given = {column: trial.given(column) for column in PHOTO_COLS}
    kinds: dict[str, dict[str, np.ndarray]] = {"mean": {}, "random": {}}
    for column, z in given.items():
        kinds["mean"][column] = np.zeros_like(z)
        kinds["random"][column] = z[order]

    reason = why_not_recomputed(data, normaliser)
    if reason:
        numbers["not_recomputed"] = reason
    else:
        assert normaliser is not None
        with progress("Features of the test light curves", len(trial.base)) as advance:
            raw = recomputed(data, trial.base.ids, advance)
        known = np.isfinite(raw)
        numbers["recomputed_objects"] = int(known.all(1).sum())
        kinds["recomputed"] = {}
        for number, column in enumerate(PHOTO_COLS):
            new = z_score(column, raw[:, number], normaliser)
            kinds["recomputed"][column] = np.where(known[:, number], new, given[column])

    columns = (*PHOTO_COLS, ALL)
    with progress("Replacing features", len(columns) * len(kinds)) as advance:
        for column in columns:
            chosen = PHOTO_COLS if column == ALL else (column,)
            numbers[column] = {}
            for kind, values in kinds.items():
                replaced = {name: values[name] for name in chosen}
                numbers[column][kind] = cost(trial, replaced)
                advance(1)

    return numbers


def unchanged(trial: Trial) -> dict[str, Any]:
    """Accuracy and number of the objects as they are."""
    is_right = trial.before.predicted == trial.labels
    return {"accuracy": float(is_right.mean()), "n": len(trial.base)}


def cost(trial: Trial, replaced: dict[str, np.ndarray]) -> dict[str, Any]:
    """What moves where columns are replaced: column -> z-scores (n,)."""
    return moved(trial.before, trial.outcome(replaced), trial.labels, trial.base.classes)


def best_constant(trial: Trial, normaliser: Normaliser | None) -> dict[str, Any]:
    """rfr_score of every object set to a constant: where the mean distance of the embeddings is least. Raw values where
    the statistics are known, else z-scores."""

    def cost_of(value: float) -> dict[str, Any]:
        values = np.full(len(trial.base), value)
        z = values if normaliser is None else z_score(SCORE, values, normaliser)
        return {"value": value} | cost(trial, {SCORE: z})

    is_raw = normaliser is not None
    coarse = GRID if is_raw else np.linspace(-6, 2, 21)
    step = float(coarse[1] - coarse[0])
    tried = []
    with progress("Constants of rfr_score", len(coarse) + len(FINER) + 1) as advance:
        for value in coarse:
            tried.append(cost_of(float(value)))
            advance(1)
        middle = min(tried, key=by_distance)["value"]
        for value in middle + step * FINER:  # finer around the best so far
            tried.append(cost_of(float(value)))
            advance(1)
        published = cost_of(PUBLISHED_CONSTANT if is_raw else 0.0)
        advance(1)

    tried.sort(key=lambda one: one["value"])
    best = min(tried, key=by_distance)
    plain = []
    for one in tried:
        plain.append({key: one[key] for key in ("value", "distance", "distance_sd", "accuracy")})
    if not is_raw:
        return {"unit": "z-score", "best": best, "tried": plain}
    return {"unit": "raw", "best": best, "tried": plain, "published": published}


def by_distance(one: dict[str, Any]) -> float:
    """How far a replacement moves the embeddings on average."""
    return float(one["distance"])


def catalogue(trial: Trial) -> dict[str, Any]:
    """Column -> replacement -> `moved`, of the metadata encoder's inputs."""
    numbers = unchanged(trial)
    order = np.random.default_rng(0).permutation(len(trial.base))
    for column in META_COLS:
        z = trial.given(column)
        numbers[column] = {
            "mean": cost(trial, {column: np.zeros_like(z)}),
            "random": cost(trial, {column: z[order]}),
        }
    return numbers


def distance(found: dict[str, Any]) -> str:
    """Mean distance of the embeddings with its deviation over objects."""
    return f"{found['distance']:.3f} +- {found['distance_sd']:.3f}"


def slot_with(model: TrainedModel, trait: str) -> str | None:
    """The first slot whose view has a trait, None where none has."""
    for slot, view in model.views.items():
        if getattr(view, trait):
            return slot
    return None


def feature_lines(found: dict[str, Any], score: dict[str, Any]) -> list[str]:
    """The tables of the features and the sentence on the constant. score: what `best_constant` gave."""
    kinds = list(found[ALL])
    rows = []
    for column in (*PHOTO_COLS, ALL):
        for kind in kinds:
            scores = found[column][kind]
            cells = [
                column,
                kind,
                distance(scores),
                f"{scores['distance_mean']:.3f}",
                percent(scores["accuracy"], 2),
                f"{100 * scores['accuracy_change']:+.2f}",
                percent(scores["changed"]),
            ]
            rows.append(cells)

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
    if "not_recomputed" in found:
        lines += ["", f"Not recomputed: {found['not_recomputed']}."]
    for kind in kinds:
        lines += per_class_lines(found, kind)

    best = score["best"]
    text = (
        f"The constant {SCORE} that moves embeddings least: {best['value']:.3f} ({score['unit']}), cosine "
        f"distance {distance(best)}, accuracy {percent(best['accuracy'], 2)} %."
    )
    if "published" in score:
        text += (
            f" With {PUBLISHED_CONSTANT}, found for the published encoder on real data (there "
            f"{PUBLISHED_DISTANCE}): {distance(score['published'])}."
        )

    return [*lines, "", text]


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


def most_telling(found: dict[str, Any]) -> list[str]:
    """Columns of the catalogue, the one whose loss moves embeddings most first."""
    return sorted(META_COLS, key=lambda column: -by_distance(found[column]["random"]))


def catalogue_lines(found: dict[str, Any]) -> list[str]:
    """The table of the catalogue columns."""
    rows = []
    for column in most_telling(found):
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
        draw_features(axes.pop(0), numbers[light])
        draw_constants(axes.pop(0), numbers[SCORE])
    if values is not None:
        draw_catalogue(axes.pop(0), numbers[values])
    figure.tight_layout()
    save(figure, context.out / "sensitivity.png")


def draw_features(axis: Any, found: dict[str, Any]) -> None:
    """A bar for each feature and replacement, the first feature at the top."""
    columns = (*PHOTO_COLS, ALL)
    places = np.arange(len(columns))[::-1]
    for number, kind in enumerate(found[ALL]):
        distances = [found[column][kind]["distance"] for column in columns]
        axis.barh(places + 0.25 * (1 - number), distances, 0.22, label=kind)
    axis.set_yticks(places, columns)
    axis.set_xlabel("cosine distance of the light-curve embedding")
    axis.locator_params(axis="x", nbins=5)
    axis.legend(frameon=False)


def draw_constants(axis: Any, score: dict[str, Any]) -> None:
    """The distance against the constant that rfr_score is set to."""
    constants = [one["value"] for one in score["tried"]]
    distances = [one["distance"] for one in score["tried"]]
    axis.plot(constants, distances, marker=".", color="#4477aa")
    axis.set_xlabel(f"{SCORE} of every object ({score['unit']})")
    axis.set_ylabel("cosine distance")


def draw_catalogue(axis: Any, found: dict[str, Any]) -> None:
    """A bar for each of the 15 columns that tell most, the first of them at the top."""
    columns = sorted(META_COLS, key=lambda column: by_distance(found[column]["random"]))[-15:]
    distances = [found[column]["random"]["distance"] for column in columns]
    places = range(len(columns))
    axis.barh(places, distances, 0.7, color="#ccbb44")
    axis.set_yticks(places, columns, fontsize=7)
    axis.set_xlabel("cosine distance, random values")
