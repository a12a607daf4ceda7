"""Writes simulated surveys of any schema as a folder: objects as parquet, splits and dataset.json.

It is the layout of astrom3.data.writer for surveys whose columns are not those of AstroM3. Everything is written to a
hidden folder beside the final one, which takes its name in the last step. Chunks are made by worker processes and
written in order, so the bytes do not depend on the number of workers.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrom3.data.ownership import output_folder, publish
from astrom3.data.splits import make_splits
from astrom3.errors import UserError
from astrom3.files import remove_leftovers, temporary_folder
from astrom3.locks import sole_maker
from astrom3.modalities.schema import SEEDS, SPLIT_SCHEMA, SPLITS, SUBS
from astrom3.workers import pool as worker_pool
from astrom3.workers import terminable

VERSION = 1
LARGEST_IN_PROCESS = 200  # smaller surveys are made without worker processes


def generator(*key: int) -> np.random.Generator:
    """A generator of random numbers for each key, such as (seed, row, stream)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(key))))


def provenance(made_by: str, version: int, seed: int, objects: int, what: str, **options: Any) -> dict[str, Any]:
    """What dataset.json says of the origin; what: the kind of object that is not real here."""
    return {
        "simulated": True,
        "generator": made_by,
        "generator_version": version,
        "seed": seed,
        "n_objects": objects,
        **options,
        "note": f"for installing, testing, benchmarks and teaching; no real {what} is in here",
    }


def share(name: str, value: float) -> float:
    """The share of objects that lack something, as it is; UserError for one that is none."""
    if not 0 <= value <= 1:
        raise UserError(f"{name}={value} of the simulated survey must lie between 0 and 1.")
    return value


def chunks(count: int, size: int) -> list[tuple[int, int]]:
    """First and one past the last row of every chunk."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def in_order(make: Callable[..., pa.RecordBatch], tasks: Iterable[tuple], workers: int) -> Iterator[pa.RecordBatch]:
    """Results of make(*task) in the order of the tasks; a few are in flight at once, so memory stays bounded."""
    if workers <= 1:
        for task in tasks:
            yield make(*task)
        return
    with worker_pool(workers) as pool:
        submitted = (pool.submit(make, *task) for task in tasks)
        flying = list(itertools.islice(submitted, 2 * workers))
        while flying:
            yield flying.pop(0).result()
            flying += itertools.islice(submitted, 1)


def worker_count(workers: int | None, count: int, largest: int = LARGEST_IN_PROCESS) -> int:
    """As asked, else one for each core, or this process alone for `largest` objects and fewer."""
    if workers is not None:
        return workers
    return 1 if count <= largest else os.cpu_count() or 1


def _check_folder(root: Path, overwrite: bool) -> None:
    """UserError where the folder holds something that may not be replaced."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    if not overwrite:
        raise UserError(f"{root} exists already; give another folder, or overwrite=true to replace it.")
    if output_folder(root).files is None:
        raise UserError(f"{root} is not a data set of this program, so it is not replaced; remove it first.")


def write_survey(
    root: Path | str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    description: Mapping[str, Any],
    *,
    classes: Sequence[str],
    row_group: int,
    rows_per_file: int,
    seeds: Sequence[int] = SEEDS,
    overwrite: bool = False,
) -> Path:
    """Write batches of `schema` (with columns object_id and label) to the folder `root` and return it.

    description: further entries of dataset.json. Each batch becomes one row group of at most `row_group` rows. A
    UserError says that the folder is in use or cannot be written.
    """
    root = Path(root).absolute()
    remove_leftovers(root)
    _check_folder(root, overwrite)
    temp = temporary_folder(root)
    try:
        (temp / "objects").mkdir(parents=True)
        (temp / "splits").mkdir()
    except OSError as error:
        raise UserError(f"cannot write to {root.parent}: {error.strerror}; choose another folder.") from error
    try:
        with terminable(), sole_maker(root, "simulation"):
            _fill(temp, batches, schema, description, classes, row_group, rows_per_file, seeds)
            publish(temp, root)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return root


def _fill(
    temp: Path,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    description: Mapping[str, Any],
    classes: Sequence[str],
    row_group: int,
    rows_per_file: int,
    seeds: Sequence[int],
) -> None:
    """Write objects, splits and dataset.json to a folder."""
    ids, labels = _write_objects(temp / "objects", batches, schema, row_group, rows_per_file)
    splits = _write_splits(temp / "splits", ids, labels, classes, seeds)
    counts = Counter(labels)
    dataset = {
        "layout": "astrom3",
        "version": VERSION,
        **description,
        "classes": list(classes),
        "n_objects": len(ids),
        "counts": {"classes": {name: counts[name] for name in classes}, "unlabelled": counts[None]},
        "splits": splits,
    }
    _write_json(temp / "dataset.json", dataset)


def _write_objects(
    folder: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, row_group: int, rows_per_file: int
) -> tuple[list[str], list[str | None]]:
    """Write the objects and return their ids and labels."""
    ids: list[str] = []
    labels: list[str | None] = []
    writer = None
    plain = [field.name for field in schema if not pa.types.is_nested(field.type)]
    large = [field.name for field in schema if pa.types.is_fixed_size_list(field.type)]
    try:
        for batch in batches:
            if writer is not None and len(ids) % rows_per_file == 0:
                writer.close()
                writer = None
            if writer is None:
                path = folder / f"objects-{len(ids) // rows_per_file:05d}.parquet"
                # Splitting the bytes of floats makes noisy arrays smaller and twice as fast to read.
                writer = pq.ParquetWriter(
                    path,
                    schema,
                    compression="zstd",
                    use_dictionary=sorted({"label"} & set(plain)),
                    use_byte_stream_split=[f"{name}.list.element" for name in large],
                )
            writer.write_batch(batch, row_group_size=row_group)
            ids += batch["object_id"].to_pylist()
            labels += batch["label"].to_pylist()
    finally:
        if writer is not None:
            writer.close()
    return ids, labels


def _write_splits(
    folder: Path, ids: Sequence[str], labels: Sequence[str | None], classes: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Write splits/{sub}_{seed}.parquet for every subset and seed; subsets need labels. Returns the counts."""
    labelled = any(label is not None for label in labels)
    subs = SUBS if labelled else SUBS[:1]
    result = {}
    known = np.array(ids, dtype=object)
    for seed, sub in itertools.product(seeds, subs):
        name = f"{sub}_{seed}"
        split_of = make_splits(labels, sub, seed)
        chosen = np.flatnonzero(split_of != "")
        columns = {"object_id": known[chosen].tolist(), "split": split_of[chosen].tolist()}
        table = pa.table(columns, schema=SPLIT_SCHEMA)
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        counts = {split: int((split_of == split).sum()) for split in SPLITS}
        _write_json(folder / f"{name}.json", {"classes": list(classes), "counts": counts})
        result[name] = counts
    return result


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
