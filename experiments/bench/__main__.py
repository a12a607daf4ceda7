"""How fast we are, and against what: python -m experiments.bench [small|full] [gpu] [only=<part of a name>] [out=..]

Every ratio is measured in one run against the plain variant (plain.py): two processes take turns, one repetition each,
so that both see the same noise; the median of the ratios pair by pair counts. Written are bench-<device>-<size>.json
and .md (default: experiments/bench/results). small takes some minutes, full about forty on two cores; `gpu` measures a
CUDA device, the pre-training and the grid, and needs nothing but the package: one call for a machine lent for an hour.
"""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

from astrom3.errors import UserError
from experiments.bench import astromer, maps, measure, runs, scale, serving
from experiments.bench.machine import describe
from experiments.bench.rows import data_rows, galaxy_rows, network_rows
from experiments.bench.table import markdown

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> None:
    words = {a for a in arguments if "=" not in a}
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    if unknown := sorted((words - {"small", "full", "gpu"}) | (set(options) - {"only", "out"})):
        raise UserError(f"{unknown[0]} is not known: say small or full, gpu, only=<part of a name>, out=<folder>")
    size = "full" if "full" in words else "small"
    device = "cuda" if "gpu" in words else "cpu"
    only = options.get("only", "")
    out = Path(options.get("out", RESULTS))
    results: dict[str, Any] = {"size": size, "device": device, "machine": describe(device), "rows": []}
    rates = {p: measure.matmul_rate(p, device) for p in ("f32", "bf16")}
    results["matmul_gflops"] = {p: r / 1e9 for p, r in rates.items()}
    path = out / f"bench-{device}-{size}.json"
    if only and path.is_file():  # the rows that are measured again take the place of the old ones
        results["rows"] = json.loads(path.read_text())["rows"]
    full = size == "full"
    rows = [*(data_rows(full) if device == "cpu" else []), *network_rows(full, device), *galaxy_rows(full, device)]
    rows += astromer.rows(full, device)
    whole = (scale, serving, maps) if device == "cpu" else ()
    growing = chain.from_iterable(module.rows(full, only) for module in whole)
    measured = (measure.row(r, rates) for r in rows if only in r.name)
    for found in chain(measured, runs.rows(size, device, only), growing):
        put(results["rows"], found)
        print(markdown({**results, "rows": [found]}, head=False), flush=True)
        out.mkdir(parents=True, exist_ok=True)  # what was measured is kept, should the machine be taken away
        path.write_text(json.dumps(results, indent=1) + "\n")
        path.with_suffix(".md").write_text(markdown(results))
    print(f"written to {path} and {path.with_suffix('.md').name}")


def put(rows: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """In place of the row of the same name, or at the end."""
    names = [row["name"] for row in rows]
    if found["name"] in names:
        rows[names.index(found["name"])] = found
    else:
        rows.append(found)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"bench: {error}")
