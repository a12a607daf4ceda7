"""How fast we are, and against what: python -m experiments.bench [small|full] [gpu] [only=<part of a name>] [out=..]
[against=<checkout>]

Every ratio is measured in one run against the plain variant (plain.py): two processes take turns, one repetition each,
so that both see the same noise; the median of the ratios pair by pair counts. Written are bench-<device>-<size>.json
and .md (default: experiments/bench/results). small takes some minutes, full about forty on two cores; `gpu` measures a
CUDA device, the pre-training and the grid, and needs nothing but the package: one call for a machine lent for an hour.

With against=<checkout> of another commit its code takes the place of the plain variant, in the rows of data and
networks that both have: the column "times plain" then says how many times as fast this code is. It needs an out= of its
own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from astrom3.errors import UserError
from astrom3.files import read_json
from experiments.bench import astromer, maps, measure, runs, scale, serving
from experiments.bench.machine import describe
from experiments.bench.rows import Row, data_rows, galaxy_rows, network_rows
from experiments.bench.table import markdown
from experiments.options import answered, read_options, writable

RESULTS = Path(__file__).parent / "results"
KEYS = {"only": "", "out": "", "against": ""}
WORDS = ("small", "full", "gpu")


def main(arguments: list[str]) -> None:
    words = [a for a in arguments if "=" not in a]
    options = {key: value for key, value in read_options([a for a in arguments if "=" in a], KEYS).items() if value}
    if unknown := sorted(set(words) - set(WORDS)):
        raise UserError(
            f"{unknown[0]} is not known: say small or full, gpu, only=<part of a name>, out=<folder>, "
            "against=<checkout>"
        )
    if {"small", "full"} <= set(words):
        raise UserError("small and full are two sizes: say one of them")
    if "against" in options and "out" not in options:
        raise UserError("against=<checkout> compares two versions of the code: give it an out=<folder> of its own")
    size = "full" if "full" in words else "small"
    device = "cuda" if "gpu" in words else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("gpu: there is no CUDA device here, leave the word away")
    only = options.get("only", "")
    out = writable("out", options.get("out", RESULTS))
    against = Path(options["against"]).resolve() if "against" in options else None
    if against is not None and not (against / "astrom3").is_dir():
        raise UserError(f"against={against} is no checkout: it lacks the folder astrom3")
    results: dict[str, Any] = {"size": size, "device": device, "machine": describe(device), "rows": []}
    rates = measure.MatmulRates(device)
    results["matmul_gflops"] = {}
    path = out / f"bench-{device}-{size}.json"
    measured = False
    if only and path.is_file():  # the rows that are measured again take the place of the old ones
        earlier = read_json(path)
        results["rows"] = earlier["rows"]
        if earlier["machine"]["cpu"] == results["machine"]["cpu"]:  # the rate of its quietest moment
            results["matmul_gflops"] = earlier["matmul_gflops"]
    full = size == "full"
    rows = [*(data_rows(full) if device == "cpu" else []), *network_rows(full, device), *galaxy_rows(full, device)]
    rows += astromer.rows(full, device)
    whole = (scale, serving, maps) if device == "cpu" else ()
    growing = chain.from_iterable(module.rows(full, only) for module in whole)
    chosen = [row for row in rows if only in row.name]
    whole_commands = chain(runs.rows(size, device, only), growing) if against is None else ()
    for found in chain(measured_rows(chosen, rates, against), whole_commands):
        measured = True
        put(results["rows"], found)
        for name, rate in rates.measured.items():
            results["matmul_gflops"][name] = max(rate / 1e9, results["matmul_gflops"].get(name, 0.0))
        print(markdown({**results, "rows": [found]}, head=False), flush=True)
        out.mkdir(parents=True, exist_ok=True)  # what was measured is kept, should the machine be taken away
        path.write_text(json.dumps(results, indent=1) + "\n")
        path.with_suffix(".md").write_text(markdown(results))
    if not measured:
        raise UserError(f"no row was measured: only={only} has to be a part of the name of one that is known")
    print(f"written to {path} and {path.with_suffix('.md').name}")


def measured_rows(rows: list[Row], rates: measure.MatmulRates, against: Path | None) -> Iterator[dict[str, Any]]:
    """The results one by one. A row that the other checkout does not know is named and left out."""
    for row in rows:
        try:
            yield measure.row(row, rates, against)
        except measure.WorkerEnded as end:
            if against is None:
                raise
            print(f"{row.name}: left out, {end}", file=sys.stderr, flush=True)


def put(rows: list[dict[str, Any]], found: dict[str, Any]) -> None:
    """In place of the row of the same name, or at the end."""
    names = [row["name"] for row in rows]
    if found["name"] in names:
        rows[names.index(found["name"])] = found
    else:
        rows.append(found)


if __name__ == "__main__":
    answered("bench", lambda: main(sys.argv[1:]))
