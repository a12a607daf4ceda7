"""Our parquet opens with the `datasets` library too, so it can be pushed to the hub as it is."""

import datasets
import numpy as np
from data_files import make_rows, write_ours

from astrom3.modalities.schema import META_COLS, OBJECT_SCHEMA


def test_load_dataset_reads_our_objects(tmp_path):
    rows = make_rows(12)
    root = write_ours(tmp_path / "ours", rows)
    files = [str(p) for p in sorted((root / "objects").glob("*.parquet"))]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert set(loaded.column_names) == set(OBJECT_SCHEMA.names)
    by_id = {r["object_id"]: r for r in rows}
    for row in loaded:
        np.testing.assert_array_equal(row["light_curve"]["time"], by_id[row["object_id"]]["light_curve"]["time"])
        assert set(row["meta_cols"]) == set(META_COLS)
