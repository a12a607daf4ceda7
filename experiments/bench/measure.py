"""Two processes that take turns, ours and the plain variant, and what comes out of it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.bench.rows import Row


class WorkerEnded(RuntimeError):
    """A case that came to no result."""


class Worker:
    """One case in a process of its own. tree: a checkout whose code it runs, None for this one."""

    def __init__(self, tree: Path | None = None, **spec: Any) -> None:
        command = [sys.executable, "-m", "experiments.bench.worker", json.dumps(spec)]
        environment = os.environ if tree is None else os.environ | {"PYTHONPATH": str(tree)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tree, env=environment
        )
        self.case = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerEnded(f"the worker ended with status {self.process.wait()}")
        return json.loads(line)

    def once(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def row(row: Row, matmul: MatmulRates, against: Path | None = None) -> dict[str, Any]:
    """Median and spread of objects/s, of the ratio, and what share of the matrix-product rate (operations/s) it is.

    against: another checkout, whose own case takes the place of the plain variant.
    """
    ours = Worker(case=row.case, ours=True, **row.options)
    plain = None
    if against is not None:
        plain = Worker(against, case=row.case, ours=True, **row.options)
    elif row.plain is not None:
        plain = Worker(case=row.case, ours=False, **(row.options | {"compiled": False} | row.plain))
    mine = []
    theirs = []
    for _ in range(row.repetitions):
        mine.append(ours.once())
        if plain is not None:
            theirs.append(plain.once())
    rates = [ours.case["objects"] / m["seconds"] for m in mine]
    found: dict[str, Any] = {"name": row.name, "rate": spread(rates), "peak_gb": round(mine[-1]["peak_gb"], 2)}
    per_cpu_second = spread([ours.case["objects"] / m["cpu"] for m in mine])
    found["per_cpu_second"] = per_cpu_second
    if row.original is not None and row.options.get("device", "cpu") == "cpu":
        found["times_original"] = per_cpu_second["median"] / row.original
    if plain is not None:
        plain_rates = [plain.case["objects"] / t["seconds"] for t in theirs]
        found |= {"plain_rate": spread(plain_rates), "plain_peak_gb": round(theirs[-1]["peak_gb"], 2)}
        found["ratio"] = spread([a / b for a, b in zip(rates, plain_rates, strict=True)])
        plain.close()
    if ours.case["flops"] is not None:
        found["gflop_per_object"] = ours.case["flops"] / 1e9
        found["gflops"] = found["gflop_per_object"] * found["rate"]["median"]
        found["share_of_matmul"] = 1e9 * found["gflops"] / matmul[rate_name(row)]
    if plain is not None and plain.case["flops"] is not None:
        found["plain_gflop_per_object"] = plain.case["flops"] / 1e9
    ours.close()
    return found | verdict(row, found)


def verdict(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    """The targets of the row, and whether any is reached."""
    aims = {"ratio": row.ratio, "rate": row.rate, "share_of_matmul": row.matmul}
    aims = {k: v for k, v in aims.items() if v is not None}
    if not aims:
        return {}
    value = {k: found[k]["median"] if isinstance(found.get(k), dict) else found.get(k, 0.0) for k in aims}
    return {"target": aims, "reached": any(value[k] >= v for k, v in aims.items())}


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def rate_name(row: Row) -> str:
    """Which of the matrix-product rates a row is held against: that of as many threads as it has."""
    precision = row.options["precision"]
    return f"{precision}, one thread" if row.options.get("threads") == 1 else precision


class MatmulRates:
    """Operations per second of square matrix products, each measured when a row asks for it first.

    A name is a precision, for all threads, or a precision and "one thread". Without instructions for bfloat16 its rate
    alone would take minutes, and no row of the benchmark asks for it there.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.measured: dict[str, float] = {}

    def __getitem__(self, name: str) -> float:
        if name not in self.measured:
            precision, _, threads = name.partition(", ")
            self.measured[name] = matmul_rate(precision, self.device, threads=1 if threads else None)
        return self.measured[name]


def matmul_rate(precision: str, device: str, threads: int | None = None) -> float:
    """The best of five, the rate everything is held against."""
    worker = Worker(case="matmul", ours=True, precision=precision, device=device, threads=threads)
    best = max(worker.case["flops"] / worker.once()["seconds"] for _ in range(5))
    worker.close()
    return best
