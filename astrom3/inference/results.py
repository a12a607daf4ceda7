"""What a trained model gives for its objects: embeddings, probabilities, sets of classes, and how unlike them it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from astrom3.errors import UserError
from astrom3.extras import need
from astrom3.files import replacing
from astrom3.modalities.quality import Decision

Result = TypeVar("Result", bound=Any)


class Tabular:
    """Results with one row per object, as a table of Arrow, a data frame or a csv file."""

    def columns(self) -> dict[str, Any]:
        """Name -> numbers (n,), text (n,) or rows (n, D)."""
        raise NotImplementedError

    def to_arrow(self) -> pa.Table:
        """A table whose embeddings are lists; `polars.from_arrow` takes it."""
        arrays: dict[str, Any] = {}
        for name, values in self.columns().items():
            if isinstance(values, np.ndarray) and values.ndim == 2:
                flat = pa.array(np.ascontiguousarray(values).ravel())
                arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
            else:
                arrays[name] = pa.array(values)
        return pa.table(arrays)

    def to_pandas(self) -> Any:
        """A pandas DataFrame, where pandas is installed."""
        need("pandas", "frames", "to_pandas")
        return self.to_arrow().to_pandas()

    def to_csv(self, path: str | Path) -> Path:
        """One line per object. An embedding of D numbers takes D columns, such as mean_0."""
        flat: dict[str, Any] = {}
        for name, values in self.columns().items():
            if isinstance(values, np.ndarray) and values.ndim == 2:
                flat |= {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}
            else:
                flat[name] = [" ".join(v) if isinstance(v, tuple) else v for v in list(values)]
        path = Path(path)
        with replacing(path) as temporary:
            pacsv.write_csv(pa.table(flat), temporary)
        return path


def ids_of(ids: Sequence[Any], n: int) -> list[Any]:
    """Names of n objects, integers or text as they were given, or their places."""
    return list(ids) if len(ids) else list(range(n))


@dataclass(frozen=True)
class Encoded:
    """B objects. present: modality -> bool (B,); embeddings: modality -> float32 (B, D), zero rows where absent;
    mean: float32 (B, D), of the embeddings that an object has; probabilities: float32 (B, C), None without a head,
    calibrated where the model has a confidence.json. points (B,) int64: of the light curves, where a mask says so.
    novelty (B,) float32: how unlike the training objects, None where the model does not know them. numbers (B, T)
    float32: what a regression predicts, None of other models."""

    present: dict[str, np.ndarray]
    embeddings: dict[str, np.ndarray]
    mean: np.ndarray
    probabilities: np.ndarray | None
    points: np.ndarray | None = None
    novelty: np.ndarray | None = None
    numbers: np.ndarray | None = None


@dataclass(frozen=True)
class Embedded(Encoded, Tabular):
    """Raw observations, embedded. decisions: what was repaired or rejected; object_id is the place in the list, or the
    object's id where `ids` were given."""

    decisions: list[Decision] = field(default_factory=list)
    ids: tuple[Any, ...] = ()

    def columns(self) -> dict[str, Any]:
        """The id and the embeddings of every object."""
        return {"object_id": ids_of(self.ids, len(self.mean)), **self.embeddings, "mean": self.mean}


@dataclass(frozen=True)
class Classified(Tabular):
    """classes: names; probabilities: float32 (n, C), NaN for an object that has nothing usable; decisions as above.

    calibrated: whether a temperature was fitted on the validation split; else probabilities are as the network has
    them. in_set: bool (n, C), the prediction sets of the coverage that was asked for, None where none was.
    vouched: class -> the coverage that its validation objects vouch for, less than asked for where they are too few.
    novelty, novelty_quantile: float32 (n,), the distance to the training set, and the share of usual objects that are
    nearer to it (0.99 and more: unlike what the model knows); None where the model does not know its training set.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    decisions: list[Decision]
    calibrated: bool = False
    coverage: float | None = None
    in_set: np.ndarray | None = None
    vouched: dict[str, float] = field(default_factory=dict)
    novelty: np.ndarray | None = None
    novelty_quantile: np.ndarray | None = None
    ids: tuple[Any, ...] = ()

    @classmethod
    def of(cls, found: Embedded, classes: tuple[str, ...], **further: Any) -> Classified:
        """What a network said of observations."""
        assert found.probabilities is not None
        told = {"decisions": found.decisions, "ids": found.ids, "novelty": found.novelty}
        return cls(classes, found.probabilities, **(told | further))

    def columns(self) -> dict[str, Any]:
        """The id, the predicted class and the probabilities of every object, as embed writes them."""
        found: dict[str, Any] = {"object_id": ids_of(self.ids, len(self.probabilities)), "predicted": self.labels}
        for number, name in enumerate(self.classes):
            found[f"p({name})"] = self.probabilities[:, number]
        further = {"novelty": self.novelty, "novelty_quantile": self.novelty_quantile, "set": self.sets}
        for name, values in further.items():
            if values is not None:
                found[name] = values
        return found

    @property
    def labels(self) -> list[str | None]:
        """Most probable class of each object, None where nothing could be said."""
        names = np.array(self.classes, dtype=object)
        labels = names[np.nan_to_num(self.probabilities).argmax(1)]
        labels[np.isnan(self.probabilities).any(1)] = None
        return labels.tolist()

    @property
    def sets(self) -> list[tuple[str, ...]] | None:
        """The set of classes of each object, the most probable first; empty where it fits no class."""
        if self.in_set is None:
            return None
        order = np.argsort(-np.nan_to_num(self.probabilities), axis=1, kind="stable")
        sets = []
        for row, member in zip(order, self.in_set, strict=True):
            sets.append(tuple(self.classes[j] for j in row if member[j]))
        return sets

    def as_dicts(self) -> list[dict[str, float]]:
        """Class -> probability of each object, the most probable first."""
        order = np.argsort(-self.probabilities, axis=1)
        found = []
        for p, row in zip(self.probabilities, order, strict=True):
            found.append({self.classes[j]: float(p[j]) for j in row})
        return found


@dataclass(frozen=True)
class Predicted(Tabular):
    """What a regression says of n objects. targets: names of the numbers; units: of each, None where the survey does
    not say; numbers: float32 (n, T), NaN for an object that has nothing usable; decisions as in `Embedded`."""

    targets: tuple[str, ...]
    units: tuple[str | None, ...]
    numbers: np.ndarray
    decisions: list[Decision]
    ids: tuple[Any, ...] = ()

    def columns(self) -> dict[str, Any]:
        """The id and the numbers of every object, as embed writes them."""
        found: dict[str, Any] = {"object_id": ids_of(self.ids, len(self.numbers))}
        for column, name in enumerate(self.targets):
            found[predicted_name(name)] = self.numbers[:, column]
        return found

    def as_dicts(self) -> list[dict[str, float]]:
        """Target -> number of each object."""
        return [dict(zip(self.targets, row, strict=True)) for row in self.numbers.tolist()]


def predicted_name(target: str) -> str:
    """The column that holds what was predicted of a target."""
    return f"predicted_{target}"


def named(found: Embedded, ids: Sequence[Any] | None) -> Embedded:
    """The same with the names of its objects, in its decisions too. UserError where there are too few or too many."""
    if ids is None:
        return found
    return with_names(found, ids, len(found.mean))


def with_names(found: Result, ids: Sequence[Any], count: int) -> Result:
    """A result of `count` objects with their names, in its decisions too."""
    if isinstance(ids, str | bytes | Mapping | Set):
        raise UserError(f"ids= is a {type(ids).__name__}: give a list of names, one for each object in their order")
    names = tuple(value.item() if isinstance(value, np.generic) else value for value in plain_list(ids))
    for name in names:
        check_name(name)
    if len({type(name) for name in names}) > 1:
        raise UserError("ids= holds text and whole numbers: give all of them as text")
    if len(names) != count:
        raise UserError(f"ids= names {len(names)} objects, and {count} were handed in")
    decisions = []
    for decision in found.decisions:
        decisions.append(decision._replace(object_id=str(names[int(decision.object_id)])))
    return replace(found, ids=names, decisions=decisions)


def check_name(name: Any) -> None:
    """UserError where an object cannot have this name in a table."""
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise UserError(f"ids= holds a {type(name).__name__}: names of objects are text or whole numbers")
    if isinstance(name, int) and abs(name) >= 2**63:
        raise UserError(f"ids= holds {name}, which is too large a number for a table: give the names as text")
    try:
        str(name).encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"ids= holds {name!r}, which is no text in UTF-8: give another name") from None


def plain_list(values: Any) -> list[Any]:
    """The members of any iterable, of tensors as numbers. UserError where it is none."""
    try:
        return list(values.tolist() if hasattr(values, "tolist") else values)
    except TypeError:
        raise UserError(f"ids= is a {type(values).__name__}: give a list of names, one for each object") from None


def shown_name(model: str) -> str:
    """A hub id or relative path as it is; of an absolute path the last part only, the rest is about this machine."""
    return Path(model).name if Path(model).is_absolute() else model


def no_confidence(name: str) -> str:
    """What a model without confidence.json says where prediction sets are asked for."""
    return (
        f"{name} has no confidence.json, so its probabilities are not calibrated and it can give no prediction sets: "
        "python -m astrom3.evaluate run=<its run folder> calibrate=true fits one on the validation split"
    )
