"""_predictions.csv beside embeddings: what a model says of every object, for spreadsheets and pandas.

Columns: object_id, label and split (empty: not known). Of a classifier then predicted, one probability for each class,
and, where the model has a confidence.json, novelty and the prediction set with its classes separated by spaces. Of a
regression predicted_<target>, in the units of the survey.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from astrom3.files import replacing
from astrom3.inference.embedding_files import read_about
from astrom3.inference.results import predicted_name
from astrom3.parquet_files import open_parquet, read_schema

PREDICTIONS = "_predictions.csv"  # readers of a folder of parquet pass over names that begin with _
ROWS_AT_ONCE = 4096
KNOWN = ("object_id", "label", "split")
CHANCES = "probabilities"


def write_predictions(path: Path, parts: Sequence[Path], classes: Sequence[str]) -> None:
    """Read embeddings files a few thousand rows at a time and write what they predict as one table."""
    schema = read_schema(parts[0])
    targets = read_about(schema, str(parts[0])).get("targets", ())
    further = ["novelty", "set", *map(predicted_name, targets)]
    kept = [name for name in further if name in schema.names]
    is_classifier = CHANCES in schema.names
    known = [*KNOWN, "predicted"] if is_classifier else [*KNOWN]
    chances = [f"p({name})" for name in classes] if is_classifier else []
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*known, *chances, *kept])
        for row in rows_of(parts, [*known, *kept, *([CHANCES] if is_classifier else [])]):
            probabilities = row.get(CHANCES) or [None] * len(chances)
            told = [*probabilities[: len(chances)], *(row[name] for name in kept)]
            writer.writerow([*(row[name] for name in known), *map(cell, told)])


def rows_of(parts: Sequence[Path], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of all files, without their embeddings."""
    for part in parts:
        with open_parquet(part) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
                yield from batch.to_pylist()


def cell(value: Any) -> str | None:
    """A number or a list of classes as text, None where it is not known."""
    if isinstance(value, list):
        return " ".join(value)
    return None if value is None else f"{value:.6g}"
