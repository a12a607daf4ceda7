"""What a page shows: embedded objects in the order of the data set, their map, scores, neighbours and catalogue."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from astrom3.analyse.outliers import distances
from astrom3.data.layouts.table import Source
from astrom3.data.observed import days, is_of_galaxies, locate
from astrom3.errors import UserError
from astrom3.explore.crossing import crossings
from astrom3.explore.neighbours import nearest
from astrom3.explore.positions import positions
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.modalities.catalogue import PERIOD, Normaliser
from astrom3.modalities.quality import Decision
from astrom3.modalities.schema import ALL_COLS

log = logging.getLogger(__name__)
ABSENT = -1


@dataclass
class Content:
    """n shown objects. `table` and `row` (n,): where each is in `tables` of the source, ABSENT where it is not in the
    data set; sorted, so that the data set is read once from its beginning to its end. total: embedded objects.
    scores: vectors -> own, other, nearest of `distances`, over all embedded objects. neighbours: vectors -> index
    (n, top) among the shown ones and cosine; of galaxies across modalities too. values (n, C): numbers of the catalogue
    called `columns`, NaN unknown."""

    objects: Embeddings
    total: int
    source: Source
    normaliser: Normaliser | None
    tables: list[Any]
    table: np.ndarray
    row: np.ndarray
    xy: np.ndarray
    how: str  # the map was made
    scores: dict[str, dict[str, np.ndarray]]
    neighbours: dict[str, tuple[np.ndarray, np.ndarray]]
    values: np.ndarray
    notes: dict[int, list[str]] = field(default_factory=dict)  # object -> what was repaired or rejected
    columns: tuple[str, ...] = ALL_COLS

    def __len__(self) -> int:
        return len(self.objects)

    @property
    def of_galaxies(self) -> bool:
        """Whether the objects are galaxies."""
        return is_of_galaxies(self.source)

    def redshift(self) -> np.ndarray:
        """(n,), NaN where not known."""
        if "redshift" not in self.columns:
            return np.full(len(self), np.nan)
        return self.values[:, self.columns.index("redshift")]

    def period(self) -> np.ndarray:
        """(n,) day, NaN where not known; of a normalised layout by the statistics, where those are known."""
        if self.of_galaxies:
            return np.full(len(self), np.nan)
        values = self.values[:, PERIOD]
        found = values if self.source.normaliser is not None else days(values, self.normaliser)
        return np.where(np.isfinite(found) & (found > 0), found, np.nan)

    def arrays(self) -> dict[str, np.ndarray]:
        """What the page needs of every object at once; period apart, some layouts have it beside the light curves."""
        objects = self.objects
        splits = sorted(set(objects.splits.tolist()))
        arrays: dict[str, np.ndarray] = {
            "xy": self.xy.astype(np.float32),
            "label": objects.labels.astype(np.int16),
            "split": np.searchsorted(splits, objects.splits).astype(np.uint8),
            "catalogue": self.values.astype(np.float32),
            "period": self.period().astype(np.float64),
            "redshift": self.redshift().astype(np.float64),
        }
        if objects.probabilities is not None:
            arrays["predicted"] = objects.predicted.astype(np.int16)
            arrays["probabilities"] = np.rint(objects.probabilities * 65535).astype(np.uint16)
        for name, score in self.scores.items():
            arrays[f"own_{name}"] = score["own"].astype(np.float32)
            arrays[f"other_{name}"] = score["other"].astype(np.float32)
            arrays[f"nearest_{name}"] = score["nearest"].astype(np.int16)

        for name, (index, cosine) in self.neighbours.items():
            arrays[f"neighbours_{name}"] = index
            arrays[f"cosine_{name}"] = cosine
        return arrays


def gather(
    embeddings: Embeddings,
    source: Source,
    *,
    kind: str,
    fit: str | None = None,
    limit: int | None = None,
    top: int = 5,
    normaliser: Normaliser | None = None,
    decisions: Iterable[Decision] = (),
) -> Content:
    """Everything but the observations. kind, fit: of the map, see `positions`; limit: show so many, drawn at random;
    normaliser: statistics by which a normalised layout's periods become days."""
    tables, table, row = placed(embeddings, source)
    scores = {name: distances(embeddings, name) for name in embeddings.vectors}
    chosen = drawn(len(embeddings), limit)
    order = np.lexsort((row[chosen], table[chosen] % (len(tables) + 1)))  # the absent ones, -1, come last
    chosen = chosen[order]
    shown = embeddings.take(chosen)
    table = table[chosen]
    row = row[chosen]
    log.info("Making the map of %d objects (%s)", len(shown), kind)
    xy, how = positions(shown, kind, fit)

    there = shown.present | {MEAN: np.ones(len(shown), bool)}
    neighbours = {}
    for name, vectors in shown.vectors.items():
        neighbours[name] = nearest(vectors, there[name], top)
    columns: tuple[str, ...] = ALL_COLS
    if is_of_galaxies(source):
        columns = next(iter(tables)).target_names
        neighbours |= crossings(shown, top)
    shown_scores = {}
    for name, by_kind in scores.items():
        shown_scores[name] = {kind: score[chosen] for kind, score in by_kind.items()}
    return Content(
        objects=shown,
        total=len(embeddings),
        source=source,
        normaliser=normaliser,
        tables=tables,
        table=table,
        row=row,
        xy=xy,
        how=how,
        scores=shown_scores,
        neighbours=neighbours,
        values=values_of(tables, table, row, columns),
        notes=notes_of(shown, decisions),
        columns=columns,
    )


def placed(embeddings: Embeddings, source: Source) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """The tables of a source, and for each embedded object (n,) its table and its row there, ABSENT where the data set
    lacks it. UserError where it lacks all of them."""
    tables, where = locate(source)
    places = [where.get(name, (ABSENT, ABSENT)) for name in embeddings.ids.tolist()]
    table, row = np.array(places, dtype=np.int64).reshape(-1, 2).T
    absent = np.flatnonzero(table == ABSENT)
    if len(absent) == len(embeddings):
        raise UserError(
            f"none of the {len(embeddings):,} embedded objects (first: {str(embeddings.ids[0])!r}) is in "
            f"{source.root.name}, {source.sub}_{source.seed}: give the data set, sub and seed that they were made from"
        )
    if len(absent):
        log.warning(
            "%d of %d embedded objects are not in the data set (first: %s): shown without observations",
            len(absent),
            len(embeddings),
            embeddings.ids[absent[0]],
        )
    return tables, table, row


def values_of(tables: list[Any], table: np.ndarray, row: np.ndarray, columns: tuple[str, ...]) -> np.ndarray:
    """Catalogue values (m, C) of objects by the number of their table and their row in it, NaN unknown."""
    values = np.full((len(table), len(columns)), np.nan)
    for number in np.unique(table[table != ABSENT]):
        one = tables[number]
        members = table == number
        if columns == ALL_COLS:
            values[members] = one.catalogue().values[row[members]]
        elif columns:
            values[members] = one.targets(columns)[row[members]]
    return values


def drawn(n: int, limit: int | None) -> np.ndarray:
    """Who is shown: all, or `limit` of them, the same at every call."""
    if limit is None or limit >= n:
        return np.arange(n)
    if limit < 1:
        raise UserError(f"limit={limit} must be at least 1")
    return np.sort(np.random.default_rng(0).choice(n, limit, replace=False))


def notes_of(shown: Embeddings, decisions: Iterable[Decision]) -> dict[int, list[str]]:
    """Number of a shown object -> what was decided on it."""
    row_of = {name: row for row, name in enumerate(shown.ids.tolist())}
    notes: dict[int, list[str]] = defaultdict(list)
    for decision in decisions:
        row = row_of.get(decision.object_id)
        if row is not None:
            notes[row].append(f"{decision.modality} {decision.decision}: {decision.reason}")
    return dict(notes)
