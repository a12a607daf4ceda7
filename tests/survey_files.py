"""A survey as a user has it, a table with files beside it, and what `astrom3.convert` makes of it."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from raw_layout import lamost_arrays, lamost_bytes

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.modalities.schema import META_COLS


def run(*overrides):
    """The verb, as its command line calls it."""
    return convert(
        compose([*overrides, "workers=1"] if not any("workers" in o for o in overrides) else overrides, "convert")
    )


def objects(root):
    return {row["object_id"]: row for row in pq.read_table(root / "objects").to_pylist()}


def rejected(root):
    with (root / "rejected.csv").open() as file:
        return [(r["object_id"], r["modality"], r["decision"], r["reason"]) for r in csv.DictReader(file)]


def curve_text(period=0.57, n=60, seed=0):
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, 1000, n))
    flux = 10 + 3 * np.sin(2 * np.pi * time / period) + rng.normal(0, 0.1, n)
    return "time,flux,flux_err\n" + "".join(f"{t:.5f},{f:.5f},0.1\n" for t, f in zip(time, flux, strict=True))


def survey(folder: Path, n=12):
    """A folder with a table of n good objects: light curve, spectrum, every catalogue column."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for i in range(n):
        (folder / f"lc{i}.csv").write_text(curve_text(0.3 + 0.05 * i, seed=i))
        data = lamost_bytes(*lamost_arrays(rng), layout=("image", "table")[i % 2])
        (folder / f"s{i}.fits.gz").write_bytes(gzip.compress(data, 1))
        row = {"object_id": f"star{i}", "class": ("EW", "RRAB")[i % 2], "lc": f"lc{i}.csv", "sp": f"s{i}.fits.gz"}
        rows.append(row | {c: round(float(rng.uniform(1, 15)), 4) for c in META_COLS})
    save(folder, rows)
    return rows


def save(folder, rows):
    with (folder / "stars.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)


def columns(tmp_path):
    return (f"table={tmp_path}/in/stars.csv", f"out={tmp_path}/out", "label=class", "light_curve=lc", "spectrum=sp")
