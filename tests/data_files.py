"""A small made-up survey, written in each of the layouts that the program reads. Used by several tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrom3.data.writer import DatasetWriter, PublishedSplit
from astrom3.modalities import preprocess
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import ALL_COLS, CLASSES, META_COLS, PHOTO_COLS, SPLITS

Row = dict


def make_rows(n: int = 40, seed: int = 0) -> list[Row]:
    """Objects as dicts of OBJECT_SCHEMA. Times lie more than 0.5 d apart, so that float32 HJD keeps their order."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        points = int(rng.integers(60, 420))
        time = 2457000.0 + np.cumsum(rng.uniform(0.6, 6.0, points))
        wavelength = np.linspace(3700, 9100, 700)
        values = rng.normal(size=len(ALL_COLS)) * 0.1 + 12
        values[ALL_COLS.index("parallax")] = rng.uniform(0.2, 3)
        values[ALL_COLS.index("period")] = rng.uniform(0.1, 90)
        named = dict(zip(ALL_COLS, values.tolist(), strict=True))
        rows.append(
            {
                "object_id": f"star {i}",
                "label": CLASSES[i % len(CLASSES)],
                "light_curve": {
                    "time": time,
                    "flux": rng.normal(10, 2, points).astype(np.float32).astype(float),
                    "flux_err": rng.uniform(0.05, 0.2, points).astype(np.float32).astype(float),
                },
                "spectrum": {
                    "wavelength": wavelength.astype(np.float32).astype(float),
                    "flux": rng.normal(100, 10, 700).astype(np.float32),
                    "ivar": rng.uniform(1, 2, 700).astype(np.float32),
                },
                "photo_cols": {c: named[c] for c in PHOTO_COLS},
                "meta_cols": {c: named[c] for c in META_COLS},
            }
        )
    return rows


def members(rows: list[Row]) -> dict[str, list[str]]:
    """Every 5th object validates, the one after it tests."""
    where = {"train": lambda i: i % 5 > 1, "validation": lambda i: i % 5 == 0, "test": lambda i: i % 5 == 1}
    return {s: [r["object_id"] for i, r in enumerate(rows) if where[s](i)] for s in SPLITS}


def write_ours(root: Path, rows: list[Row], rows_per_file: int = 2048) -> Path:
    """Our own layout, full_42."""
    with DatasetWriter(root, classes=CLASSES, name="test", provenance={}, rows_per_file=rows_per_file) as writer:
        writer.write(rows)
        return writer.finish(published={("full", 42): PublishedSplit(members(rows))})


def values_of(rows: list[Row]) -> np.ndarray:
    """(n, 38) raw catalogue values, NaN where an object has none."""
    named = [(r["photo_cols"] or {}) | (r["meta_cols"] or {}) for r in rows]
    return np.array([[values.get(c, np.nan) for c in ALL_COLS] for values in named], dtype=float)


def by_split(rows: list[Row]) -> dict[str, list[Row]]:
    """Objects of each split, in their order."""
    named = {r["object_id"]: r for r in rows}
    return {split: [named[i] for i in ids] for split, ids in members(rows).items()}


def write_first(root: Path, rows: list[Row], normalised: bool = False, row_group: int = 7) -> Path:
    """processed-1: float32, three numbers per row, class names; {sub}_{seed} or {sub}_{seed}_norm."""
    splits = by_split(rows)
    normaliser = Normaliser.fit(values_of(splits["train"]))
    for split, objects in splits.items():
        values = values_of(objects)
        values = normaliser.apply(values) if normalised else values
        named = [dict(zip(ALL_COLS, v.tolist(), strict=True)) for v in values]
        photo, meta = (pa.struct([(c, pa.float32()) for c in cols]) for cols in (PHOTO_COLS, META_COLS))
        kind = pa.struct([("meta_cols", meta), ("photo_cols", photo)])
        table = pa.table(
            {
                "photometry": triples([r["light_curve"] for r in objects], ("time", "flux", "flux_err")),
                "spectra": triples([r["spectrum"] for r in objects], ("wavelength", "flux", "ivar")),
                "metadata": pa.array([{"meta_cols": v, "photo_cols": v} for v in named], kind),
                "label": pa.array([r["label"] for r in objects], pa.string()),
            }
        )
        folder = root / ("full_42_norm" if normalised else "full_42")
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=row_group)
    return root


def triples(items: list[dict | None], names: tuple[str, ...]) -> pa.Array:
    """list<list<float32>> of rows of three, null for None."""
    tables = [None if d is None else np.stack([np.asarray(d[n], np.float32) for n in names], 1) for d in items]
    flat = np.concatenate([np.empty((0, 3), np.float32), *(t for t in tables if t is not None)])
    inner = pa.ListArray.from_arrays(pa.array(np.arange(len(flat) + 1, dtype=np.int32) * 3), pa.array(flat.ravel()))
    offsets = np.concatenate([[0], np.cumsum([0 if t is None else len(t) for t in tables])]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), inner, mask=pa.array([t is None for t in tables]))


def write_current(root: Path, rows: list[Row], row_group: int = 7) -> Path:
    """processed-2: prepared inputs, metadata as a list, ClassLabel ids with their names in the metadata."""
    splits = by_split(rows)
    normaliser = Normaliser.fit(values_of(splits["train"]))
    for split, objects in splits.items():
        scaled = normaliser.apply(values_of(objects))
        curves, spectra = [], []
        for row, photo in zip(objects, scaled[:, :4], strict=True):
            curves.append(None if row["light_curve"] is None else full_curve(row["light_curve"], photo).tolist())
            spectrum = row["spectrum"]
            spectra.append(None if spectrum is None else preprocess.spectrum(*spectrum.values()).tolist())
        table = pa.table(
            {
                "photometry": pa.array(curves, pa.list_(pa.list_(pa.float32()))),
                "spectra": pa.array(spectra, pa.list_(pa.list_(pa.float32()))),
                "metadata": pa.array(scaled[:, 4:].tolist(), pa.list_(pa.float32())),
                "label": pa.array([CLASSES.index(r["label"]) for r in objects], pa.int64()),
            }
        )
        feature = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(feature)})
        (root / "full_42").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / "full_42" / f"{split}-00000-of-00001.parquet", row_group_size=row_group)
    return root


def full_curve(curve: dict, photo: np.ndarray) -> np.ndarray:
    """(N, 9) float32: the whole prepared curve with its constants, by way of windows of 200 points."""
    n, parts, start = len(curve["time"]), [], 0
    while start < n:
        x, mask = preprocess.light_curve(*curve.values(), photo, start=start)
        parts.append(x[mask > 0])
        start += 200
    return np.concatenate(parts)


def put(path, content):
    """Write a file of this text or of these bytes; returns its path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
