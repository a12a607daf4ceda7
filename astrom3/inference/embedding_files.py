"""Files of embeddings: which there are in a folder, and whether a file is one and holds what it should."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from astrom3 import stored, strict_json
from astrom3.data.layouts.columns import readable
from astrom3.data.layouts.parquet import check_once
from astrom3.errors import UserError, shown
from astrom3.files import check_regular, listed, read_mark
from astrom3.inference.results import predicted_name
from astrom3.modalities.kinds import known
from astrom3.parquet_files import read_parquet, read_schema
from astrom3.typed import check

if TYPE_CHECKING:
    from astrom3.inference.embeddings import Embeddings

KEY = b"astrom3"
MEAN = "mean"
ROUNDED = 0.01  # that probabilities may be away from a sum of 1
OTHER_LISTS = (MEAN, "probabilities")


def files_of(path: Path | str) -> list[Path]:
    """The parts of a folder, or the file itself."""
    path = Path(path)
    files = parts_of(path) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise UserError(f"{path} holds no embeddings: write them with python -m astrom3.embed model=... out={path}")
    for file in files:
        check_regular(file)
    return files


def read_part(path: Path) -> pa.Table:
    """A parquet file of embeddings, its columns of the types that they should have."""
    with readable(path):
        check_columns(read_schema(path), shown(path))
        table = read_parquet(path)
        table.validate(full=True)
    for name in ("object_id",):
        if table[name].null_count:
            raise UserError(f"{shown(path)} has {table[name].null_count} objects without object_id: embed again")
    return table


def vector_names(schema: pa.Schema) -> list[str]:
    """Columns with embeddings: those of known modalities, and every other with lists of one length; the mean last."""
    found = []
    for field in schema:
        if field.name in OTHER_LISTS:
            continue
        if field.name in known() or pa.types.is_fixed_size_list(field.type):
            found.append(field.name)
    return [*found, MEAN] if MEAN in schema.names else found


def check_columns(schema: pa.Schema, source: str) -> None:
    """UserError where a file of embeddings lacks a column, or a column is of another type."""
    for target in read_about(schema, source).get("targets", ()):
        name = predicted_name(target)
        if name not in schema.names or not pa.types.is_float32(schema.field(name).type):
            raise UserError(f"{source} has no column {name} of float32, which its metadata name: embed again")
    check_once(schema.names, source)
    for name in ("object_id", "label", "split", "predicted"):
        if name not in schema.names:
            if name == "predicted":
                continue
            raise UserError(f"{source} lacks the column {name}: write it again with python -m astrom3.embed")
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UserError(f"{source}: the column {name} is of type {kind}, not text: embed again")

    named = vector_names(schema)
    if MEAN not in named and "window" in schema.names:
        raise UserError(
            f"{source} has rows of windows or sequences, and one vector for each object is needed: embed with "
            "pooling=mean or pooling=max, and per=object"
        )
    if MEAN not in named:
        raise UserError(f"{source} lacks the column {MEAN}: write it again with python -m astrom3.embed")

    for name in [*named, *(["probabilities"] if "probabilities" in schema.names else [])]:
        kind = schema.field(name).type
        if not pa.types.is_fixed_size_list(kind) or kind.list_size < 1 or not pa.types.is_float32(kind.value_type):
            raise UserError(
                f"{source}: the column {name} is of type {kind}, not lists of float32 of one length: embed again"
            )

    if len({schema.field(name).type.list_size for name in named}) > 1:
        widths = ", ".join(f"{name} {schema.field(name).type.list_size}" for name in named)
        raise UserError(f"{source}: the embeddings are of different lengths ({widths}): embed again")


def check_alike(part: Embeddings, file: Path, first: Embeddings, first_file: Path) -> None:
    """UserError where two files of a folder hold embeddings of different models."""
    if signature(part) != signature(first):
        raise UserError(
            f"{shown(file)} and {shown(first_file)} are embeddings of different models: give one folder of each"
        )


def signature(part: Embeddings) -> tuple[Any, ...]:
    """What all embeddings of one model have in common."""
    widths = {name: vectors.shape[1] for name, vectors in part.vectors.items()}
    heads = 0 if part.probabilities is None else part.probabilities.shape[1]
    return part.model, part.classes, widths, heads, part.targets


def check_objects(found: Embeddings, source: str) -> None:
    """UserError where there are none, where one is there twice, or where an embedding is not finite."""
    if not len(found):
        raise UserError(f"{source} holds no objects: embed again")

    names, counts = np.unique(found.ids, return_counts=True)
    if len(names) < len(found):
        raise UserError(f"{source}: object_id {str(names[counts > 1][0])!r} occurs twice; each object is embedded once")

    for name, vectors in found.vectors.items():
        squared = np.einsum("nd,nd->n", vectors, vectors)  # of more than float32 holds, lengths would become infinite
        lost = ~np.isfinite(squared)
        if lost.any():
            raise UserError(
                f"{source}: {lost.sum()} of {len(found)} embeddings {name} are not finite, or too large (first: "
                f"{str(found.ids[lost.argmax()])!r}): embed again"
            )

    if found.probabilities is not None:
        if found.probabilities.shape[1] > len(found.classes):
            raise UserError(
                f"{source} has {found.probabilities.shape[1]} probabilities and {len(found.classes)} classes"
            )
        if not np.isfinite(found.probabilities).all():
            raise UserError(f"{source}: probabilities that are not finite: embed again")
        sums = found.probabilities.sum(axis=1)
        is_one = np.abs(sums - 1) < ROUNDED
        if found.probabilities.min() < 0 or not (is_one | (sums == 0)).all():  # 0: of an object without observations
            raise UserError(f"{source}: probabilities that are negative or do not sum to 1: embed again")


def parts_of(folder: Path) -> list[Path]:
    """The parts that the folder's manifest names and that are there; all files of parquet where it has none."""
    about = read_mark(folder)
    found = sorted(folder.glob("*.parquet"))
    if about is None:
        return found

    named = set()
    for name in about["files"]:
        if name.endswith(".parquet") and not name.startswith("_"):
            named.add(name)

    lost = sorted(named - {path.name for path in found})
    if lost:
        raise UserError(
            f"{shown(folder)} lacks {listed(lost)} that its manifest names: the same command of python -m "
            "astrom3.embed goes on with the parts that are missing"
        )

    return [path for path in found if path.name in named]


def read_about(schema: pa.Schema, source: str) -> dict[str, Any]:
    found = (schema.metadata or {}).get(KEY)
    if found is None or "object_id" not in schema.names:
        raise UserError(f"{source} is not a table of embeddings: write one with python -m astrom3.embed")
    try:
        about = strict_json.loads(found)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is damaged (its metadata are no JSON: {error}): embed again") from None
    check(about, stored.EmbeddingsAbout, f"the metadata of {source}", "embed again")
    if len(set(about["classes"])) < len(about["classes"]):
        raise UserError(f"{source} names a class twice in its metadata: embed again")
    return about
