"""What a model says of the first points of light curves, as of an alert: raw curves are cut, then read as new ones.

Scales, times and, where asked, catalogue features follow from what is left of the curve alone.

    cut = Cut(points=20)
    seen = classify_cut(model, data.source, "test", cut)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from astrom3.data.layouts import Source
from astrom3.data.observed import Columns, observations
from astrom3.errors import UserError
from astrom3.inference.confidence import Calibration
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.schema import PHOTO_COLS, UNLABELLED

POINTS = (5, 10, 20, 50, 100)
PIECE = 512  # objects in memory at once
LOWEST_PERCENTILE = 1  # of the lengths of validation curves, from which on a curve counts as complete


@dataclass(frozen=True)
class Cut:
    """How much of a curve is seen: its first `points`, or those of its first `days`; all of it where both are None."""

    points: int | None = None
    days: float | None = None

    def apply(self, curve: Columns) -> tuple[Columns, bool]:
        """The first points of a curve (time, flux, error), by time, and whether any were left away."""
        time = np.asarray(curve[0], dtype=np.float64)
        order = np.argsort(time, kind="stable")
        if self.points is not None:
            kept = order[: self.points]
        elif self.days is not None:
            ordered = time[order]
            kept = order[: np.searchsorted(ordered, ordered[0] + self.days, side="right")] if len(order) else order
        else:
            kept = order
        first, second, third = (np.asarray(column)[kept] for column in curve)
        return (first, second, third), len(kept) < len(order)


@dataclass(frozen=True)
class Seen:
    """n labelled objects. probabilities (n, C) float32, not calibrated, NaN where the model can say nothing; labels
    (n,) int64 into its classes; cut (n,) bool: something was left away; points (n,) int64: what was seen."""

    probabilities: np.ndarray
    labels: np.ndarray
    cut: np.ndarray
    points: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """(n,) bool: the model can say something."""
        return ~np.isnan(self.probabilities).any(axis=1)

    def take(self, rows: np.ndarray) -> Seen:
        """Some objects, by number or mask."""
        return Seen(self.probabilities[rows], self.labels[rows], self.cut[rows], self.points[rows])


def check_model(model: TrainedModel) -> str | None:
    """Why a model cannot be asked about cut curves, None where it can."""
    if not model.has_head:
        return "needs a model with a class head"
    if model.modalities != (of_argument("light_curve"),):
        return f"needs a model of light curves alone, and this one reads {', '.join(model.modalities)}"
    return None


def classify_cut(model: TrainedModel, source: Source, split: str, cut: Cut, features: str = "none") -> Seen:
    """What the model says of the labelled objects of a split when only the first part of their curves is seen.

    features: of curves that are cut, "none", or "all": computed from what is left. Whole curves have their catalogue's.
    """
    if features not in ("none", "all"):
        raise UserError(f"early.features={features} does not exist: it is none or all")
    raw = replace(model, confidence=None)
    parts = []
    for piece in pieces(model, source, split, cut):
        parts.append(said(raw, piece, features))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Seen(np.zeros((0, len(model.classes)), np.float32), empty, empty.astype(bool), empty)
    names = ("probabilities", "labels", "cut", "points")
    return Seen(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass
class Piece:
    """Cut curves, their catalogue features as columns by name, labels, and which of them lost something."""

    curves: list[Columns]
    features: list[dict[str, float]]
    labels: list[int]
    cut: list[bool]


def pieces(model: TrainedModel, source: Source, split: str, cut: Cut) -> Iterator[Piece]:
    """The labelled objects of a split that have a light curve, some hundred at a time, in the order of their table."""
    table = source.table(split)
    rows = np.sort(source.rows[split])
    catalogue = table.catalogue().take(rows)
    number = {}
    for name in source.classes:
        if name in model.classes:
            number[name] = model.classes.index(name)

    of_row = {int(row): i for i, row in enumerate(rows)}
    piece = Piece([], [], [], [])
    for seen in observations(table, rows):
        i = of_row[seen.row]
        label = int(catalogue.labels[i])
        if seen.light_curve is None or label == UNLABELLED or source.classes[label] not in number:
            continue
        curve, lost = cut.apply(seen.light_curve)
        values = catalogue.values[i, : len(PHOTO_COLS)]
        piece.curves.append(curve)
        piece.features.append(dict(zip(PHOTO_COLS, values.tolist(), strict=True)))
        piece.labels.append(number[source.classes[label]])
        piece.cut.append(lost)
        if len(piece.curves) == PIECE:
            yield piece
            piece = Piece([], [], [], [])

    if piece.curves:
        yield piece


def said(model: TrainedModel, piece: Piece, features: str) -> Seen:
    """What the model, without confidence, says of a piece."""
    lost = np.array(piece.cut)
    points = np.array([len(curve[0]) for curve in piece.curves])
    probabilities = np.full((len(lost), len(model.classes)), np.nan, dtype=np.float32)
    for rows, which in ((np.flatnonzero(~lost), "missing"), (np.flatnonzero(lost), features)):
        if len(rows):
            probabilities[rows] = ask(model, piece, rows, which)
    return Seen(probabilities, np.array(piece.labels), lost, points)


def ask(model: TrainedModel, piece: Piece, rows: np.ndarray, features: str) -> np.ndarray:
    """Probabilities of some curves of a piece, NaN where a curve cannot be used."""
    options: dict[str, Any] = {"features": features} if model.uses_features else {"zero_point": 1.0}
    known = [piece.features[i] if features == "missing" else None for i in rows]
    curves: list[Any] = [piece.curves[i] for i in rows]
    # A single object that cannot be used is refused; beside another one it is listed.
    alone = len(curves) == 1
    if alone:
        curves = [*curves, None]
        known = [*known, None]
    metadata = known if model.uses_features and features == "missing" else None
    probabilities = model.classify(light_curve=curves, metadata=metadata, **options).probabilities
    return probabilities[:1] if alone else probabilities


def early_calibrations(model: TrainedModel, source: Source) -> tuple[tuple[Calibration, ...], int]:
    """Calibrations of the first 5, 10, ... points of the validation curves, and the number of points from which on a
    curve counts as complete. Lengths to which no curve can be cut, or that the model cannot read, have none."""
    whole = classify_cut(model, source, "validation", Cut())
    if not whole.usable.any():
        return (), 0
    shortest = int(np.percentile(whole.points[whole.usable], LOWEST_PERCENTILE))
    found = []
    for points in POINTS:
        if points >= shortest:
            continue
        seen = classify_cut(model, source, "validation", Cut(points))
        seen = seen.take(seen.usable & seen.cut)
        if len(seen.labels):
            found.append(Calibration.fit(seen.probabilities, seen.labels, points))
    return tuple(found), shortest


def cuts(points: Any, days: Any) -> Mapping[str, list[Cut]]:
    """The cuts of an analysis: by number of points and by days, each with the whole curve at its end."""
    by_points = [Cut(points=int(number)) for number in sorted(points)]
    by_days = [Cut(days=float(number)) for number in sorted(days)]
    return {"points": [*by_points, Cut()], "days": [*by_days, Cut()]}
