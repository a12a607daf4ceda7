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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Asked:
    """What the command line asks for. only: a part of the names of rows, "" for all; against: another checkout."""

    full: bool
    device: str
    only: str
    out: Path
    against: Path | None

    @property
    def size(self) -> str:
        return "full" if self.full else "small"

    @property
    def path(self) -> Path:
        """The file of the results."""
        return self.out / f"bench-{self.device}-{self.size}.json"


def main(arguments: list[str]) -> None:
    asked = read_arguments(arguments)
    results = earlier_results(asked)
    rates = measure.MatmulRates(asked.device)
    measured = False
    for found in measured_results(asked, rates):
        measured = True
        put(results["rows"], found)
        for name, rate in rates.measured.items():
            results["matmul_gflops"][name] = max(rate / 1e9, results["matmul_gflops"].get(name, 0.0))
        print(markdown({**results, "rows": [found]}, head=False), flush=True)
        write(results, asked.path)  # what was measured is kept, should the machine be taken away
    if not measured:
        raise UserError(f"no row was measured: only={asked.only} has to be a part of the name of one that is known")
    print(f"written to {asked.path} and {asked.path.with_suffix('.md').name}")


def read_arguments(arguments: list[str]) -> Asked:
    """The words and options of the command line. UserError for what cannot be measured."""
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
    device = "cuda" if "gpu" in words else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("gpu: there is no CUDA device here, leave the word away")
    out = writable("out", options.get("out", RESULTS))
    against = Path(options["against"]).resolve() if "against" in options else None
    if against is not None and not (against / "astrom3").is_dir():
        raise UserError(f"against={against} is no checkout: it lacks the folder astrom3")
    return Asked("full" in words, device, options.get("only", ""), out, against)


def earlier_results(asked: Asked) -> dict[str, Any]:
    """The results to put rows into: with only= those of before, otherwise none."""
    machine = describe(asked.device)
    results: dict[str, Any] = {"size": asked.size, "device": asked.device, "machine": machine, "rows": []}
    results["matmul_gflops"] = {}
    if asked.only and asked.path.is_file():  # the rows that are measured again take the place of the old ones
        earlier = read_json(asked.path)
        results["rows"] = earlier["rows"]
        if earlier["machine"]["cpu"] == machine["cpu"]:  # the rate of its quietest moment
            results["matmul_gflops"] = earlier["matmul_gflops"]
    return results


def measured_results(asked: Asked, rates: measure.MatmulRates) -> Iterator[dict[str, Any]]:
    """The results of all rows that are asked for, one by one: parts of the code, then whole commands."""
    on_cpu = asked.device == "cpu"
    rows = data_rows(asked.full) if on_cpu else []
    rows += network_rows(asked.full, asked.device)
    rows += galaxy_rows(asked.full, asked.device)
    rows += astromer.rows(asked.full, asked.device)
    yield from measured_rows([row for row in rows if asked.only in row.name], rates, asked.against)
    if asked.against is not None:
        return
    yield from runs.rows(asked.size, asked.device, asked.only)
    for module in (scale, serving, maps) if on_cpu else ():
        yield from module.rows(asked.full, asked.only)


def write(results: dict[str, Any], path: Path) -> None:
    """The results as JSON and, beside it, as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(results))


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
