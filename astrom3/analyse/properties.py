"""Numbers told from frozen embeddings by their neighbours: redshift, mass and the like (Parker et al. 2024, 6.1).

The 64 nearest training objects in the standardised embedding, weighted by one over their distance, predict each number;
R2 is that of the test split. Where the data have magnitudes, these predict too, as a baseline without a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Vectors:
    """What a number is told from: vectors (n, D) of the objects of a split, and which objects have one, (n,) bool."""

    values: np.ndarray
    there: np.ndarray


def section(context: Context) -> Section:
    """R2 of every property from every embedding, and from the magnitudes where the data have some."""
    names = property_names(context)
    train = context.splits["train"]
    test = context.splits["test"]
    known = values_of(context, "train", train, names)
    truth = values_of(context, "test", test, names)
    numbers: dict[str, Any] = {
        "neighbours": NEIGHBOURS,
        "targets": names,
        "r2": {},
        "redshift": {},
    }
    for source, (references, queries) in sources(context).items():
        scores = numbers["r2"].setdefault(source, {})
        for column, name in enumerate(names):
            rows = references.there & np.isfinite(known[:, column])
            asked = queries.there & np.isfinite(truth[:, column])
            count = int(rows.sum())
            if count < FEWEST or asked.sum() < 2:
                continue
            near = min(NEIGHBOURS, count // 4)
            predicted = neighbour_regression(references.values[rows], known[rows, column], queries.values[asked], near)
            true = truth[asked, column]
            scores[name] = float(r2(true, predicted))
            if name == REDSHIFT:
                numbers["redshift"][source] = redshift_scores(true, predicted)

    if not any(numbers["r2"].values()):
        raise NotPossible(f"needs {FEWEST} training objects with a known number and that embedding")

    picture(context, numbers["r2"], names)
    return Section("Properties by nearest neighbours", numbers, lines(context, numbers, names))


def sources(context: Context) -> dict[str, tuple[Vectors, Vectors]]:
    """Name of an embedding, or PHOTOMETRY -> the vectors of the training and of the test objects."""
    train = context.splits["train"]
    test = context.splits["test"]
    found = {}
    for name in context.names:
        references = Vectors(train.vectors[name], having(train, name))
        queries = Vectors(test.vectors[name], having(test, name))
        found[name] = (references, queries)

    there = context.data.source.table("train").target_names
    magnitudes = [name for name in MAGNITUDES if name in there]
    if len(magnitudes) > 1:
        values = values_of(context, "train", train, magnitudes)
        references = Vectors(values, np.isfinite(values).all(1))
        values = values_of(context, "test", test, magnitudes)
        queries = Vectors(values, np.isfinite(values).all(1))
        found[PHOTOMETRY] = (references, queries)

    return found


def property_names(context: Context) -> list[str]:
    """Numbers of the data that are properties of the objects. NotPossible where there are none."""
    if context.data is None:
        raise NotPossible("needs the data for the numbers to predict: leave embeddings= away")
    others = (*ALL_COLS, *POSITIONS, *MAGNITUDES)
    names = [name for name in context.data.source.table("train").target_names if name not in others]
    if not names:
        raise NotPossible("the data have no numbers to predict (targets)")
    return names


def values_of(context: Context, split: str, objects: Embeddings, names: Sequence[str]) -> np.ndarray:
    """Numbers (n, len(names)) float64 of embedded objects, NaN where unknown."""
    source = context.data.source
    values = source.targets(split, list(names))
    ids = source.catalogue(split).ids.tolist()
    row_of = {str(name): row for row, name in enumerate(ids)}
    rows = [row_of[name] for name in objects.ids.tolist()]
    return values[rows]


def lines(context: Context, numbers: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The tables of the report."""
    rows: list[list[str]] = []
    for source, scores in numbers["r2"].items():
        cells = [source]
        for name in names:
            cells.append(f"{scores[name]:.2f}" if name in scores else "-")
        if REDSHIFT in names and source in PUBLISHED:
            redshift, others = PUBLISHED[source]
            cells.append(f"{redshift:.2f} / {others:.2f}")
        else:
            cells.append("-")
        rows.append(cells)

    note = context.data.source.note
    note = f" The data are {note}." if note.startswith("simulated") else ""
    text = [
        f"R2 on the test split, from the {NEIGHBOURS} nearest training objects (fewer where there are few).{note} "
        "Published: redshift / mean of four properties, real galaxies.",
        "",
        *table(["from", *names, "published"], rows),
    ]
    if numbers["redshift"]:
        rows = []
        for source, scores in numbers["redshift"].items():
            rows.append([source, *(f"{scores[name]:.4f}" for name in ("bias", "scatter", "outliers"))])
        head = ["from", "bias of dz / (1 + z)", "scatter", "share beyond 0.15"]
        text += ["", "Redshift:", "", *table(head, rows)]

    return text


def picture(context: Context, scores: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> None:
    """Bars of R2 by property, one colour for each embedding."""
    figure = Figure(figsize=(2 + 1.3 * len(names), 3.2))
    axis = figure.subplots()
    places = np.arange(len(names))
    width = 0.8 / len(scores)
    for number, (source, by_property) in enumerate(scores.items()):
        heights = [max(by_property.get(name, 0.0), 0.0) for name in names]
        axis.bar(places + number * width, heights, width, label=source)
    axis.set_xticks(places + 0.4 - width / 2, list(names), rotation=20)
    axis.set_ylim(0, 1)
    axis.set_ylabel("R2 on the test split")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, context.out / "properties.png")
