"""Parts of embeddings whose light curves are pooled over all their windows (pooling=, per=; inference/windows.py).

With per=object and pooling=mean or max the files are those of other embeddings. Else a row is a window or the sequence
of an object, with the columns object_id, label, split, window int64 (its number), start and end int64 (its first point
and one past its last), and a column with the name of the slot: float32 lists of one length, or of sequences a list of
such lists, one for each point.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.errors import UserError
from astrom3.inference.embeddings import KEY, MEAN, Embeddings, common_classes, lists
from astrom3.inference.trained import TrainedModel
from astrom3.inference.windows import Windowed, check_choices
from astrom3.modalities.ragged import offsets_of
from astrom3.modalities.schema import UNLABELLED


def check_pooling(pooling: str | None, per: str, streaming: bool) -> None:
    """UserError where the keys do not go together."""
    check_choices(pooling or "mean", per)
    if pooling is None and per != "object":
        raise UserError(f"per={per} needs pooling=mean, max or sequence")
    if pooling is not None and streaming:
        raise UserError(f"pooling={pooling} reads every window from the store: say data.streaming=false")


def pooled_objects(embeddings: Embeddings, found: Windowed, slot: str) -> Embeddings:
    """Embeddings with pooled light curves in place of those of the central windows; the mean follows from them."""
    vectors = embeddings.vectors | {slot: found.vectors}
    total = np.sum([vectors[name] for name in embeddings.present], axis=0)
    count = np.sum(list(embeddings.present.values()), axis=0)
    vectors[MEAN] = (total / np.maximum(count, 1)[:, None]).astype(np.float32)
    return replace(embeddings, vectors=vectors)


def pooled_alone(
    found: Windowed, ids: np.ndarray, split: Any, name: str, slot: str, model: TrainedModel, classes: Sequence[str]
) -> Embeddings:
    """Embeddings by an encoder alone, of which nothing but the pooled light curves is there to say.

    found: of numbers in `split`, whose objects are called `ids` (n,). name: of the split. classes: of the data.
    """
    known, number = common_classes(model, classes)
    members = found.objects
    return Embeddings(
        ids[members].astype(str),
        number[split.labels[members]],
        np.full(len(members), name),
        {slot: split.present[slot][members]},
        {slot: found.vectors, MEAN: found.vectors},
        None,
        known,
        model.name,
    )


def rows_table(
    found: Windowed, ids: np.ndarray, labels: np.ndarray, split: str, slot: str, about: dict[str, Any]
) -> pa.Table:
    """Windows or sequences as a table. ids, labels (n,): of the numbers that `found.objects` holds."""
    classes = np.array([*about["classes"], None], dtype=object)  # UNLABELLED = -1 is the last
    assert UNLABELLED == -1
    rows = len(found)
    if isinstance(found.vectors, list):
        vectors = nested(found.vectors)
    else:
        vectors = lists(found.vectors, np.ones(rows, bool))

    columns = {
        "object_id": pa.array(ids[found.objects].astype(str), pa.string()),
        "label": pa.array(classes[labels[found.objects]], pa.string()),
        "split": pa.array([split] * rows, pa.string()),
        "window": pa.array(found.windows, pa.int64()),
        "start": pa.array(found.starts, pa.int64()),
        "end": pa.array(found.ends, pa.int64()),
        slot: vectors,
    }
    return pa.table(columns).replace_schema_metadata({KEY: json.dumps(about).encode()})


def nested(sequences: Sequence[np.ndarray]) -> pa.ListArray:
    """Arrays (points, D) as list<list<float>>."""
    ends = offsets_of(list(map(len, sequences))).astype(np.int32)
    points = np.concatenate(sequences) if sequences else np.empty((0, 1), np.float32)
    width = points.shape[1]
    bounds = np.arange(0, len(points) * width + 1, width, dtype=np.int64)
    inner = pa.LargeListArray.from_arrays(bounds, pa.array(points.ravel(), pa.float32()))
    return pa.ListArray.from_arrays(pa.array(ends), inner)
