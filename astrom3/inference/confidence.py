"""What a classifier's validation split says of its probabilities, kept beside the weights as confidence.json.

    format       1
    classes      names, in the order of the head
    complete     temperature, and the ascending scores (1 - probability of the true class) of each class's validation
                 objects, from which the limits of prediction sets follow for any coverage
    early        the same for the first 5, 10, ... points of the validation curves, of a model that was trained on cut
                 curves; with `points`
    shortest     a curve of at least so many points counts as complete; used where there is `early`
    novelty      how far an object is from the training set (novelty.py), or null

`read_confidence` is the only reader, and checks every number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.errors import UserError, shown
from astrom3.files import read_json, write_json
from astrom3.inference import conformal
from astrom3.inference.novelty import Novelty
from astrom3.inference.temperature import LARGEST, LEAST, temperature, tempered

CONFIDENCE = "confidence.json"
FORMAT = 1
MOST_SCORES = 10**7
DIGITS = 9  # of a score, which is computed in float64 from probabilities in float32


@dataclass(frozen=True)
class Calibration:
    """temperature: of the logits. scores: of each class's validation objects, ascending. points: how many first points
    of each curve were seen, 0 for complete curves."""

    temperature: float
    scores: tuple[np.ndarray, ...]
    points: int = 0

    @classmethod
    def fit(cls, probabilities: np.ndarray, labels: np.ndarray, points: int = 0) -> Calibration:
        """Of the raw probabilities (n, C) of validation objects with labels (n,)."""
        found = temperature(probabilities, labels)
        scores = conformal.class_scores(tempered(probabilities, found), labels)
        # Rounded up, so that no object that is like them falls out of the set by rounding.
        rounded = tuple(np.ceil(own * 10**DIGITS) / 10**DIGITS for own in scores)
        return cls(found, rounded, points)

    @property
    def counts(self) -> list[int]:
        """Validation objects of each class."""
        return [len(own) for own in self.scores]

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, C), float64, of raw ones."""
        return tempered(raw, self.temperature)

    def limits(self, coverage: float) -> np.ndarray:
        """Largest score of each class with which it is in the set, (C,)."""
        return np.array([conformal.class_limit(own, coverage) for own in self.scores])

    def sets(self, raw: np.ndarray, coverage: float) -> np.ndarray:
        """Which classes are in the set of each object, (n, C) bool, of raw probabilities (n, C)."""
        return conformal.prediction_sets(self.probabilities(raw), self.limits(coverage))

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """As it stands in the file."""
        scores = {}
        for name, own in zip(classes, self.scores, strict=True):
            scores[name] = own.tolist()
        return {"points": self.points, "temperature": self.temperature, "scores": scores}


@dataclass(frozen=True)
class Confidence:
    """classes: names. complete: of whole curves. early: of their first points, by increasing number, may be empty.
    shortest: number of points from which on a curve counts as complete. novelty: None where it is not known."""

    classes: tuple[str, ...]
    complete: Calibration
    early: tuple[Calibration, ...] = ()
    shortest: int = 0
    novelty: Novelty | None = None

    def which(self, points: np.ndarray | None, n: int) -> np.ndarray:
        """(n,) int64: the place in `early` of the calibration of each object with `points` (n,), -1 for `complete`.

        A short curve has that of the largest number of points that it reaches, so that it is treated as less is known.
        """
        if points is None or not self.early:
            return np.full(n, -1)
        lengths = np.array([calibration.points for calibration in self.early])
        place = np.maximum(np.searchsorted(lengths, points, side="right") - 1, 0)
        return np.where(points >= self.shortest, -1, place)

    def calibrated(self, raw: np.ndarray, points: np.ndarray | None = None) -> np.ndarray:
        """Calibrated probabilities, float32 (n, C), of raw ones and numbers of points (n,)."""
        out = np.empty_like(raw, dtype=np.float32)
        which = self.which(points, len(raw))
        for k in np.unique(which):
            rows = which == k
            out[rows] = self.of_place(int(k)).probabilities(raw[rows])
        return out

    def sets(self, calibrated: np.ndarray, coverage: float, points: np.ndarray | None = None) -> np.ndarray:
        """Prediction sets (n, C) bool of calibrated probabilities (n, C); an object without any (NaN) has them all."""
        coverage = conformal.check_coverage(coverage)
        out = np.ones(calibrated.shape, dtype=bool)
        which = self.which(points, len(calibrated))
        known = ~np.isnan(calibrated).any(axis=1)
        for k in np.unique(which):
            rows = (which == k) & known
            out[rows] = conformal.prediction_sets(calibrated[rows], self.of_place(int(k)).limits(coverage) + 1e-6)
        return out

    def of_place(self, place: int) -> Calibration:
        """The calibration that `which` names."""
        return self.complete if place < 0 else self.early[place]

    def too_few(self, coverage: float) -> dict[str, int]:
        """Classes with fewer validation objects than the coverage needs, and how many they have."""
        least = conformal.needed(coverage)
        counts = dict(zip(self.classes, self.complete.counts, strict=True))
        found = {}
        for name, n in counts.items():
            if n < least:
                found[name] = n
        return found

    def save(self, folder: Path) -> Path:
        """Write confidence.json into a model folder."""
        content = {
            "format": FORMAT,
            "classes": list(self.classes),
            "complete": self.complete.to_dict(self.classes),
            "early": [calibration.to_dict(self.classes) for calibration in self.early],
            "shortest": self.shortest,
            "novelty": None if self.novelty is None else self.novelty.to_dict(),
        }
        path = Path(folder) / CONFIDENCE
        write_json(path, content)
        return path


def read_confidence(folder: Path, classes: Sequence[str], width: int) -> Confidence | None:
    """The confidence.json of a model folder, checked; None where there is none.

    classes: of the model, which the file must name in this order. width: length of its embeddings. Raises UserError
    where anything in the file cannot be.
    """
    path = Path(folder) / CONFIDENCE
    if not path.exists():
        return None

    found = read_json(path)
    try:
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}, this program reads {FORMAT}")
        if found["classes"] != list(classes):
            raise ValueError("it names other classes than the model")
        early = tuple(_calibration(item, classes) for item in found["early"])
        lengths = [calibration.points for calibration in early]
        if lengths != sorted(set(lengths)) or (lengths and lengths[0] < 1):
            raise ValueError("points of early are not ascending")
        novelty = None if found["novelty"] is None else Novelty.from_dict(found["novelty"], width)
        complete = _calibration(found["complete"], classes)
        return Confidence(tuple(classes), complete, early, whole_number(found["shortest"]), novelty)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{shown(path)} is damaged ({type(error).__name__}: {error}): copy it again, or remove it to have "
            "probabilities that are not calibrated"
        ) from None


def _calibration(found: Mapping[str, Any], classes: Sequence[str]) -> Calibration:
    """One entry of the file. Raises what `read_confidence` turns into a sentence."""
    value = found["temperature"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST / 2 <= value <= 2 * LARGEST:
        raise ValueError(f"temperature {value}")
    scores = found["scores"]
    if list(scores) != list(classes):
        raise ValueError("scores of other classes than the model's")
    return Calibration(float(value), tuple(_scores(scores[name]) for name in classes), whole_number(found["points"]))


def _scores(values: Any) -> np.ndarray:
    """Ascending numbers between 0 and 1, float64 (n,)."""
    if not isinstance(values, list) or len(values) > MOST_SCORES:
        raise ValueError("scores that are no list")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError("a score that is no number")
    scores = np.array(values, dtype=np.float64)
    if len(scores) and (scores.min() < 0 or scores.max() > 1 + 1e-6 or (np.diff(scores) < 0).any()):
        raise ValueError("scores that are not ascending from 0 to 1")
    return scores


def whole_number(value: Any) -> int:
    """A whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError(f"{value!r} where a whole number should be")
    return value
