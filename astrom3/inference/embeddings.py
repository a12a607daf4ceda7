"""Embeddings of many objects, in memory and as parquet; what `embed` writes and `analyse`, `search`, `explore` read.

Columns: object_id string; label string (null: none); split string (null: not known); one with the name of each modality
of the model, and mean, fixed-size lists of float32 (null: the object lacks that modality); predicted string and
probabilities fixed-size list of float32 where the model has a head (calibrated where it has a confidence.json, which
gives novelty float32, too, and the prediction set, a list of strings). The schema's metadata hold `astrom3` =
{"model": ..., "classes": [...]} as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrom3.errors import UserError, shown
from astrom3.files import listed, replacing
from astrom3.inference.embedding_files import (
    KEY,
    MEAN,
    check_alike,
    check_columns,
    check_objects,
    files_of,
    parts_of,
    read_about,
    read_part,
    vector_names,
)
from astrom3.inference.results import predicted_name
from astrom3.inference.trained import Encoded, TrainedModel
from astrom3.modalities.schema import UNLABELLED

__all__ = [
    "KEY",
    "MEAN",
    "Embeddings",
    "check_columns",
    "dense",
    "files_of",
    "from_batch",
    "lists",
    "members_of",
    "parts_of",
    "read_about",
    "vector_names",
]


BY_OBJECT = (
    "ids",
    "labels",
    "splits",
    "present",
    "vectors",
    "probabilities",
    "novelty",
    "in_set",
    "numbers",
)  # one row each


@dataclass(frozen=True)
class Embeddings:
    """n objects. ids (n,) str; labels (n,) int64 into `classes`, UNLABELLED where none; splits (n,) str, "" unknown;
    present: modality -> (n,) bool; vectors: modality or "mean" -> float32 (n, D), zero rows where absent;
    probabilities float32 (n, C) or None; model: where it was loaded from. novelty float32 (n,) and in_set bool (n, C)
    of prediction sets, None where they are not known or were not asked for. numbers float32 (n, T): what a regression
    predicts of its `targets`."""

    ids: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    present: dict[str, np.ndarray]
    vectors: dict[str, np.ndarray]
    probabilities: np.ndarray | None
    classes: tuple[str, ...]
    model: str = ""
    novelty: np.ndarray | None = None
    in_set: np.ndarray | None = None
    numbers: np.ndarray | None = None
    targets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.present)

    @property
    def predicted(self) -> np.ndarray:
        """(n,) int64 into `classes`, UNLABELLED for an object without any modality; needs probabilities."""
        assert self.probabilities is not None
        anything: np.ndarray = np.logical_or.reduce(list(self.present.values()))
        return np.where(anything, self.probabilities.argmax(1), UNLABELLED)

    def take(self, rows: np.ndarray) -> Embeddings:
        """Some objects, by number or mask."""

        def taken(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: array[rows] for name, array in value.items()}
            return None if value is None else value[rows]

        return replace(self, **{name: taken(getattr(self, name)) for name in BY_OBJECT})

    def of_split(self, *names: str) -> Embeddings:
        return self.take(np.isin(self.splits, names))

    @classmethod
    def concatenate(cls, parts: Sequence[Embeddings]) -> Embeddings:
        """All of one model."""

        def joined(values: list[Any]) -> Any:
            if isinstance(values[0], dict):
                return {name: np.concatenate([value[name] for value in values]) for name in values[0]}
            missing = [value for value in values if value is None]
            return None if missing else np.concatenate(values)

        columns = {}
        for name in BY_OBJECT:
            columns[name] = joined([getattr(part, name) for part in parts])
        return replace(parts[0], **columns)

    @classmethod
    def of_split_of(cls, model: TrainedModel, data: Any, split: str) -> Embeddings:
        """Every usable object of a split of a data module (see `trained.data_of`), in its order."""
        if split not in data.splits:
            data.setup({"train": "fit", "validation": "validate", "test": "test"}[split])
        parts = []
        for batch in data.split_dataloader(split):
            parts.append(from_batch(batch, model.encode(batch), data.object_ids(split), split, model, data.classes))
        return cls.concatenate(parts)

    def set_names(self) -> list[list[str]]:
        """The classes in the prediction set of each object, the most probable first."""
        assert self.in_set is not None and self.probabilities is not None
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        sets = []
        for row, member in zip(order, self.in_set, strict=True):
            sets.append([self.classes[j] for j in row if member[j]])
        return sets

    # --- parquet ----------------------------------------------------------------------------------------------------

    def to_table(self) -> pa.Table:
        """One row per object, as embeddings files have them; model and classes stand in the schema."""
        names = np.array([*self.classes, None], dtype=object)  # UNLABELLED = -1 is the last
        columns: dict[str, Any] = {
            "object_id": pa.array(self.ids, pa.string()),
            "label": pa.array(names[self.labels], pa.string()),
            "split": pa.array([split or None for split in self.splits.tolist()], pa.string()),
        }
        anything: np.ndarray = np.logical_or.reduce(list(self.present.values()))
        for name, vectors in self.vectors.items():
            there = self.present.get(name, anything)
            columns[name] = lists(vectors, there)

        if self.probabilities is not None:
            columns["predicted"] = pa.array(names[self.predicted], pa.string())
            columns["probabilities"] = lists(self.probabilities, anything)
        if self.novelty is not None:
            columns["novelty"] = pa.array(self.novelty, pa.float32(), mask=~anything)
        if self.in_set is not None:
            columns["set"] = pa.array(self.set_names(), pa.list_(pa.string()))
        about = {"model": self.model, "classes": list(self.classes)}
        if self.numbers is not None:
            about["targets"] = list(self.targets)
            for place, name in enumerate(self.targets):
                columns[predicted_name(name)] = pa.array(self.numbers[:, place], pa.float32(), mask=~anything)
        return pa.table(columns).replace_schema_metadata({KEY: json.dumps(about).encode()})

    @classmethod
    def from_table(cls, table: pa.Table, source: str = "the table") -> Embeddings:
        about = read_about(table.schema, source)
        classes = tuple(about["classes"])
        number: dict[str | None, int] = {None: UNLABELLED}
        for place, name in enumerate(classes):
            number[name] = place
        labels = []
        for name in table["label"].to_pylist():
            if name not in number:
                raise UserError(f"{source}: the label {name!r} is none of its classes ({listed(classes)}): embed again")
            labels.append(number[name])
        present = {}
        vectors = {}
        for name in vector_names(table.schema):
            vectors[name], present[name] = dense(table[name])
        present.pop(MEAN, None)
        probabilities = dense(table["probabilities"])[0] if "probabilities" in table.column_names else None
        novelty = None
        if "novelty" in table.column_names:
            novelty = table["novelty"].to_numpy().astype(np.float32)
        in_set = None
        if "set" in table.column_names and probabilities is not None:
            in_set = members_of(table["set"].to_pylist(), classes[: probabilities.shape[1]])
        targets = tuple(about.get("targets", ()))
        numbers = None
        if targets:
            told = [table[predicted_name(name)].to_numpy().astype(np.float32) for name in targets]
            numbers = np.stack(told, axis=1)
        return cls(
            np.array(table["object_id"].to_pylist(), dtype=str),
            np.array(labels, dtype=np.int64),
            np.array([split or "" for split in table["split"].to_pylist()], dtype=str),
            present,
            vectors,
            probabilities,
            classes,
            about.get("model", ""),
            novelty,
            in_set,
            numbers,
            targets,
        )

    def write(self, path: Path | str) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            pq.write_table(self.to_table(), temporary, compression="zstd")
        return path

    @classmethod
    def read(cls, path: Path | str) -> Embeddings:
        """A parquet file, or a folder of them (in the order of their names)."""
        files = files_of(path)
        parts = [cls.from_table(read_part(file), shown(file)) for file in files]
        for part, file in zip(parts, files, strict=True):
            check_alike(part, file, parts[0], files[0])
        found = cls.concatenate(parts)
        check_objects(found, shown(path))
        return found


def members_of(sets: Sequence[Sequence[str] | None], classes: Sequence[str]) -> np.ndarray:
    """Sets of names -> bool (n, C)."""
    out = np.zeros((len(sets), len(classes)), dtype=bool)
    for i, names in enumerate(sets):
        out[i] = np.isin(classes, names or [])
    return out


def from_batch(
    batch: dict[str, Any],
    found: Encoded,
    ids: np.ndarray,
    split: str,
    model: TrainedModel,
    classes: Sequence[str],
    coverage: float | None = None,
) -> Embeddings:
    """What a model made of a batch of a data module. ids: of the whole split; classes: of the data. Labels are kept by
    name: a class that the model does not know is added behind its own. coverage: of prediction sets."""
    own, number = common_classes(model, classes)
    index = np.asarray(batch["index"])
    return Embeddings(
        ids[index].astype(str),
        number[np.asarray(batch["label"])],
        np.full(len(index), split),
        found.present,
        found.embeddings | {MEAN: found.mean},
        found.probabilities,
        own,
        model.name,
        found.novelty,
        None if coverage is None else model.sets(found, coverage),
        found.numbers,
        () if model.regression is None else model.regression.names,
    )


def common_classes(model: TrainedModel, classes: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes of a model and behind them those that only the data have, and the place there of each class of the
    data, with UNLABELLED behind them."""
    own = tuple(dict.fromkeys((*model.classes, *classes)))
    return own, np.array([*map(own.index, classes), UNLABELLED], dtype=np.int64)


def lists(values: np.ndarray, there: np.ndarray) -> pa.FixedSizeListArray:
    """Float32 (n, D) as fixed-size lists, null where not there."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(~there))


def dense(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Fixed-size lists -> float32 (n, D) with zero rows for null, and (n,) bool which are not null."""
    width = column.type.list_size
    out = np.zeros((len(column), width), np.float32)
    there = np.ones(len(column), bool)
    at = 0
    for chunk in column.chunks:
        mask = chunk.is_valid().to_numpy(zero_copy_only=False)
        rows = slice(at, at + len(chunk))
        there[rows] = mask
        out[rows][mask] = chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)  # flatten leaves nulls out
        at += len(chunk)
    return out, there
