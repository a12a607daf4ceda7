"""Data to measure on: simulated surveys, and the same as parquet in the first hub layout (nested lists)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import ALL_COLS, META_COLS, PHOTO_COLS
from astrom3.places import cache_root
from astrom3.simulate.origin import Simulated

ROWS = 1000  # of a row group, as `datasets` writes them


def survey(n: int) -> Path:
    """Folder of a simulated survey of n objects, made once."""
    return Path(Simulated(n).open("full", 42).root)


def first_layout(n: int) -> Path:
    """Folder with full_42/train-00000-of-00001.parquet of n objects in the layout of MeriDK/AstroM3Processed."""
    folder = cache_root() / "bench" / f"first-layout-{n}"
    path = folder / "full_42" / "train-00000-of-00001.parquet"
    if path.is_file():
        return folder
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    writer = None
    for file in sorted((survey(n) / "objects").glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(ROWS):
            table = converted(pa.Table.from_batches([batch]))
            writer = writer or pq.ParquetWriter(part, table.schema)
            writer.write_table(table, row_group_size=ROWS)
    assert writer is not None
    writer.close()
    os.replace(part, path)
    return folder


def converted(table: pa.Table) -> pa.Table:
    photo, meta = (pa.struct([(c, pa.float32()) for c in columns]) for columns in (PHOTO_COLS, META_COLS))
    columns = (table[name].to_pylist() for name in ("photo_cols", "meta_cols"))
    metadata = [{"photo_cols": p, "meta_cols": m} for p, m in zip(*columns, strict=True)]
    return pa.table(
        {
            "photometry": triples(table["light_curve"], ("time", "flux", "flux_err")),
            "spectra": triples(table["spectrum"], ("wavelength", "flux", "ivar")),
            "metadata": pa.array(metadata, pa.struct([("meta_cols", meta), ("photo_cols", photo)])),
            "label": table["label"].cast(pa.string()),
        }
    )


def triples(column: pa.ChunkedArray, names: tuple[str, ...]) -> pa.Array:
    """Struct of three lists -> list<list<float32>> of rows of three; all objects have one."""
    chunk = column.combine_chunks()
    fields = [chunk.field(name) for name in names]
    offsets = np.concatenate([[0], np.cumsum(fields[0].value_lengths().to_numpy(zero_copy_only=False))])
    flat = np.stack([f.flatten().to_numpy(zero_copy_only=False).astype(np.float32) for f in fields], axis=1)
    inner = pa.ListArray.from_arrays(pa.array(np.arange(len(flat) + 1, dtype=np.int32) * 3), pa.array(flat.ravel()))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), inner)


def statistics(folder: Path) -> dict[str, dict[str, float]]:
    """Mean and deviation of the catalogue columns, for the plain variant."""
    table = pq.read_table(folder / "full_42" / "train-00000-of-00001.parquet", columns=["metadata"])
    rows = [{**r["photo_cols"], **r["meta_cols"]} for r in table["metadata"].to_pylist()]
    fitted = Normaliser.fit(np.array([[r[c] for c in ALL_COLS] for r in rows], dtype=float))
    return {k: dict(zip(ALL_COLS, getattr(fitted, k).tolist(), strict=True)) for k in ("mean", "std")}
