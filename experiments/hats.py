"""Embeddings of HATS catalogues of growing size: memory that stays flat, time that grows in proportion.

    python -m experiments.hats sizes=25000,50000,100000 folder=/tmp/hats out=experiments/hats.md

Catalogues of simulated variables in two bands are written with the real lsdb, embedded by `python -m astrom3.embed
format=hats` in a process of its own, and joined with lsdb. The encoder is a small Astromer with random weights, since
what is measured is the way of the data. Processor seconds are reported beside the wall's: other work on the machine
does not change them.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.files import write_text
from experiments.bench.alone import run_alone
from experiments.options import Whole, run_from_command_line, whole

POINTS = 40  # of a light curve, at least; up to half as many more
ROWS = 4000  # objects in a partition, about


@dataclass(frozen=True)
class Measured:
    """objects and partitions of a catalogue; rows that were embedded, and that lsdb joined; seconds of the wall and of
    the processor, and the largest resident memory [MB], of the process that embedded."""

    objects: int
    partitions: int
    rows: int
    joined: int
    wall: float
    processor: float
    memory: float


def write_sky(folder: Path, objects: int, seed: int = 0, rows: int = ROWS, fewest: int = POINTS) -> None:
    """A catalogue of sinusoids and noise in the bands g and r, all over the sky."""
    import lsdb
    import pandas as pd
    import pyarrow as pa
    from nested_pandas import NestedFrame
    from nested_pandas.series.ext_array import NestedExtensionArray

    rng = np.random.default_rng(seed)
    points = rng.integers(fewest, fewest + fewest // 2, objects)
    offsets = np.concatenate([[0], np.cumsum(points)]).astype(np.int32)
    total = int(offsets[-1])
    owner = np.repeat(np.arange(objects), points)
    period = 10 ** rng.uniform(-0.5, 2, objects)
    amplitude = rng.uniform(0.05, 0.6, objects)
    time_of = rng.uniform(58000, 60000, total)
    phase = 2 * np.pi * time_of / period[owner]
    columns = {
        "mjd": time_of,
        "mag": rng.uniform(13, 18, objects)[owner] + amplitude[owner] * np.sin(phase) + rng.normal(0, 0.03, total),
        "magerr": np.full(total, 0.03),
        "band": np.where(rng.random(total) < 0.6, "r", "g"),
    }
    lists = [pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)) for values in columns.values()]
    nested = pa.StructArray.from_arrays(lists, list(columns))
    table = {
        "objectid": 10**12 + rng.permutation(objects),
        "ra": rng.uniform(0, 360, objects),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, objects))),
    }
    frame = NestedFrame(pd.DataFrame(table))
    frame["lightcurve"] = pd.Series(NestedExtensionArray(nested), index=frame.index)
    sky = lsdb.from_dataframe(
        frame,
        ra_column="ra",
        dec_column="dec",
        catalog_name="sky",
        partition_rows=rows,
        margin_threshold=None,
        should_generate_moc=False,  # a map of the sky, which takes longer than the rest
    )
    sky.write_catalog(folder, catalog_name="sky", as_collection=False, progress_bar=False, overwrite=True)


def write_model(folder: Path) -> None:
    """A small Astromer with random weights."""
    import torch

    from astrom3.encoders.astromer import Astromer
    from astrom3.published import native

    torch.manual_seed(0)
    native.save(Astromer(1, layers=1, d_model=16, n_heads=2, d_ff=16), folder)


def measure(folder: Path, objects: int, rows: int = ROWS, fewest: int = POINTS) -> Measured:
    """Write a catalogue, embed it in another process, join both."""
    import lsdb

    from astrom3.data.layouts.hats import HatsCatalogue

    sky = folder / f"sky-{objects}"
    out = folder / f"embedded-{objects}"
    if not (folder / "model").is_dir():
        write_model(folder / "model")
    write_sky(sky, objects, rows=rows, fewest=fewest)
    command = [sys.executable, "-m", "astrom3.embed", f"model={folder}/model", "data=hats", f"data.path={sky}"]
    command += [f"data.cache={folder}/cache", f"out={out}", "format=hats", "device=cpu", "overwrite=true"]
    used = run_alone(command)
    told = lsdb.open_catalog(out)
    joined = lsdb.open_catalog(sky).join(
        told,
        left_on="objectid",
        right_on="objectid",
        suffixes=("", "_e"),
        suffix_method="overlapping_columns",
    )
    kept = len(joined[["objectid"]].compute())
    partitions = len(HatsCatalogue.open(sky).partitions)
    return Measured(objects, partitions, len(told), kept, used.wall, used.processor, used.memory / 2**20)


def table_of(measured: list[Measured]) -> str:
    """Markdown, one row for each catalogue."""
    lines = [
        "| objects | partitions | embedded | joined | wall [s] | processor [s] | ms per object | peak memory [MB] |"
    ]
    lines.append("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one in measured:
        cells = [f"{n:,}" for n in (one.objects, one.partitions, one.rows, one.joined)]
        cells += [f"{one.wall:.0f}", f"{one.processor:.1f}", f"{1000 * one.processor / one.objects:.2f}"]
        lines.append("| " + " | ".join([*cells, f"{one.memory:.0f}"]) + " |")
    return "\n".join(lines)


def run(options: dict[str, Any]) -> None:
    """Every size, one after the other; the table is printed as it grows and written at the end."""
    sizes = [whole("sizes", size, least=100) for size in options["sizes"].split(",")]
    folder = options["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    measured = []
    for size in sizes:
        measured.append(measure(folder, size, fewest=options["points"]))
        print(table_of(measured[-1:]), flush=True)
    command = f"python -m experiments.hats sizes={options['sizes']} points={options['points']}"
    text = f"# HATS catalogues of growing size\n\n`{command}`:\n\n"
    write_text(options["out"], f"{text}{table_of(measured)}\n")


def main() -> None:
    defaults = {
        "sizes": "25000,50000,100000",
        "folder": Path("hats"),
        "out": Path("experiments/hats.md"),
        "points": Whole(POINTS, most=10**5),
    }
    run_from_command_line("hats", defaults, run, logging.WARNING)


if __name__ == "__main__":
    main()
