"""_predictions.csv beside embeddings: what a classifier says of every object, for spreadsheets and pandas.

Columns: object_id, label and split (empty: not known), predicted, one probability for each class, and, where the model
has a confidence.json, novelty and the prediction set with its classes separated by spaces.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from astrom3.files import replacing
from astrom3.parquet_files import open_parquet, read_schema

PREDICTIONS = "_predictions.csv"  # readers of a folder of parquet pass over names that begin with _
ROWS_AT_ONCE = 4096
KNOWN = ("object_id", "label", "split", "predicted")


def write_predictions(path: Path, parts: Sequence[Path], classes: Sequence[str]) -> None:
    """Read embeddings files a few thousand rows at a time and write what they predict as one table."""
    kept = [name for name in ("novelty", "set") if name in read_schema(parts[0]).names]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        chances = [f"p({name})" for name in classes]
        writer.writerow([*KNOWN, *chances, *kept])
        for row in rows_of(parts, kept):
            known = [row[name] for name in KNOWN]
            probabilities = row["probabilities"] or [None] * len(classes)
            further = [row[name] for name in kept]
            writer.writerow([*known, *map(cell, [*probabilities[: len(classes)], *further])])


def rows_of(parts: Sequence[Path], kept: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of all files, without their embeddings."""
    columns = [*KNOWN, "probabilities", *kept]
    for part in parts:
        with open_parquet(part) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()


def cell(value: Any) -> str | None:
    """A number or a list of classes as text, None where it is not known."""
    if isinstance(value, list):
        return " ".join(value)
    return None if value is None else f"{value:.6g}"
