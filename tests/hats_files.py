"""HATS catalogues of made-up light curves in two bands, written with the real packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_catalogue(
    folder: Path, objects: int, seed: int = 0, rows: int = 40, names: dict[str, str] | None = None
) -> dict[int, dict[str, np.ndarray]]:
    """Write a catalogue with about `rows` objects in a partition; returns the light curves by id.

    names: usual name of a list -> the one to write instead.
    """
    import lsdb
    import nested_pandas
    import pandas as pd

    rng = np.random.default_rng(seed)
    ids = 10**15 + rng.permutation(objects)  # larger than float32, and in no order
    table = {"objectid": ids, "ra": rng.uniform(0, 360, objects)}
    table["dec"] = np.degrees(np.arcsin(rng.uniform(-1, 1, objects)))
    table["type"] = np.array(["EA", "RRAB"])[np.arange(objects) % 2]
    points = rng.integers(30, 60, objects)
    points[0] = 4  # too few to be used
    owner = np.repeat(ids, points)
    total = int(points.sum())
    points_table = {"mjd": rng.uniform(58000, 59000, total), "mag": rng.normal(15, 0.2, total)}
    points_table |= {"magerr": np.full(total, 0.03), "band": np.where(rng.random(total) < 0.7, "r", "g")}
    frame = nested_pandas.NestedFrame(pd.DataFrame(table).set_index("objectid"))
    curves = pd.DataFrame({"objectid": owner, **points_table}).set_index("objectid").rename(columns=names or {})
    frame = frame.join_nested(curves, "lightcurve").reset_index()
    options = {"ra_column": "ra", "dec_column": "dec", "catalog_name": "made_up", "margin_threshold": None}
    catalogue = lsdb.from_dataframe(frame, partition_rows=rows, **options)
    catalogue.write_catalog(folder, catalog_name="made_up", as_collection=False, progress_bar=False)
    starts = np.concatenate([[0], np.cumsum(points)])
    return {
        int(name): {key: values[start:stop] for key, values in points_table.items()}
        for name, start, stop in zip(ids, starts, starts[1:], strict=False)
    }
