"""Numbers told from frozen embeddings by their neighbours: redshift, mass and the like (Parker et al. 2024, 6.1).

The 64 nearest training objects in the standardised embedding, weighted by one over their distance, predict each number;
R2 is that of the test split. Where the data have magnitudes, these predict too, as a baseline without a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from astrom3.analyse.section import Context, NotPossible, Section, having, table
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import ALL_COLS
from astrom3.plots import save
from astrom3.tasks.neighbours import neighbour_regression, r2, redshift_scores

NEIGHBOURS = 64
FEWEST = 20  # training objects with a known number
POSITIONS = ("ra", "dec", "release", "brickid", "objid")  # numbers that are no properties
MAGNITUDES = ("mag_g", "mag_r", "mag_z")
PHOTOMETRY = "g, r, z magnitudes"
REDSHIFT = "redshift"
# R2 by nearest neighbours of embeddings of real galaxies: redshift, mean of four properties.
PUBLISHED = {"images": (0.79, 0.47), "spectra": (0.99, 0.63), PHOTOMETRY: (0.68, 0.42)}


def section(context: Context) -> Section:
    names = property_names(context)
    train = context.splits["train"]
    test = context.splits["test"]
    known = values_of(context, "train", train, names)
    truth = values_of(context, "test", test, names)
    inputs = {}
    for name in context.names:
        inputs[name] = (train.vectors[name], test.vectors[name], having(train, name), having(test, name))
    magnitudes = [name for name in MAGNITUDES if name in context.data.source.table("train").target_names]
    if len(magnitudes) > 1:
        told = values_of(context, "train", train, magnitudes)
        asked = values_of(context, "test", test, magnitudes)
        inputs[PHOTOMETRY] = (told, asked, np.isfinite(told).all(1), np.isfinite(asked).all(1))
    numbers: dict[str, Any] = {
        "neighbours": NEIGHBOURS,
        "targets": names,
        "r2": {},
        "redshift": {},
    }
    for source, (vectors, queries, there, asked_for) in inputs.items():
        numbers["r2"][source] = {}
        for place, name in enumerate(names):
            rows = there & np.isfinite(known[:, place])
            asked_rows = asked_for & np.isfinite(truth[:, place])
            if rows.sum() < FEWEST or asked_rows.sum() < 2:
                continue
            near = min(NEIGHBOURS, int(rows.sum()) // 4)
            told = neighbour_regression(vectors[rows], known[rows, place], queries[asked_rows], near)
            right = truth[asked_rows, place]
            numbers["r2"][source][name] = float(r2(right, told))
            if name == REDSHIFT:
                numbers["redshift"][source] = redshift_scores(right, told)
    if not any(numbers["r2"].values()):
        raise NotPossible(f"needs {FEWEST} training objects with a known number and that embedding")
    picture(context, numbers["r2"], names)
    return Section("Properties by nearest neighbours", numbers, lines(context, numbers, names))


def property_names(context: Context) -> list[str]:
    """Numbers of the data that are properties of the objects. NotPossible where there are none."""
    if context.data is None:
        raise NotPossible("needs the data for the numbers to predict: leave embeddings= away")
    there = context.data.source.table("train").target_names
    names = []
    for name in there:
        if name not in (*ALL_COLS, *POSITIONS, *MAGNITUDES):
            names.append(name)
    if not names:
        raise NotPossible("the data have no numbers to predict (targets)")
    return names


def values_of(context: Context, split: str, objects: Embeddings, names: Sequence[str]) -> np.ndarray:
    """Numbers (n, len(names)) float64 of embedded objects, NaN where unknown."""
    source = context.data.source
    values = source.targets(split, list(names))
    place = {}
    for row, name in enumerate(source.catalogue(split).ids.tolist()):
        place[str(name)] = row
    return values[[place[name] for name in objects.ids.tolist()]]


def lines(context: Context, numbers: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The tables of the report."""
    rows: list[list[str]] = []
    for source, scores in numbers["r2"].items():
        cells = []
        for name in names:
            cells.append(f"{scores[name]:.2f}" if name in scores else "-")
        theirs = PUBLISHED.get(source) if REDSHIFT in names else None
        rows.append([source, *cells, "-" if theirs is None else f"{theirs[0]:.2f} / {theirs[1]:.2f}"])
    note = f" The data are {context.data.source.note}." if context.data.source.note.startswith("simulated") else ""
    text = [
        f"R2 on the test split, from the {NEIGHBOURS} nearest training objects (fewer where there are few).{note} "
        "Published: redshift / mean of four properties, real galaxies.",
        "",
        *table(["from", *names, "published"], rows),
    ]
    if numbers["redshift"]:
        errors = []
        for source, scores in numbers["redshift"].items():
            found = (scores["bias"], scores["scatter"], scores["outliers"])
            errors.append([source, *(f"{value:.4f}" for value in found)])
        head = ["from", "bias of dz / (1 + z)", "scatter", "share beyond 0.15"]
        text += ["", "Redshift:", "", *table(head, errors)]
    return text


def picture(context: Context, scores: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> None:
    """Bars of R2 by property, one colour for each embedding."""
    figure = Figure(figsize=(2 + 1.3 * len(names), 3.2))
    axis = figure.subplots()
    width = 0.8 / len(scores)
    for number, (source, found) in enumerate(scores.items()):
        heights = [max(found.get(name, 0.0), 0.0) for name in names]
        axis.bar(np.arange(len(names)) + number * width, heights, width, label=source)
    axis.set_xticks(np.arange(len(names)) + 0.4 - width / 2, list(names), rotation=20)
    axis.set_ylim(0, 1)
    axis.set_ylabel("R2 on the test split")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, context.out / "properties.png")
