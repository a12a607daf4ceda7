"""The results as markdown."""

from __future__ import annotations

from typing import Any

COLUMNS = (
    "what",
    "times plain",
    "objects/s",
    "plain",
    "per CPU second",
    "times original",
    "GFLOP/object",
    "GFLOP/s",
    "of matmul rate",
    "peak GB",
    "target",
)


def markdown(results: dict[str, Any], head: bool = True) -> str:
    lines = [*heading(results), "| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"] if head else []
    return "\n".join([*lines, *(line(row) for row in results["rows"])]) + ("\n" if head else "")


def heading(results: dict[str, Any]) -> list[str]:
    m = results["machine"]
    rates = results["matmul_gflops"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    fast = m.get("bfloat16", True)
    parts = []
    for precision, name in (("f32", "float32"), ("bf16", "bfloat16")):
        single = rates.get(f"{precision}, one thread")
        if precision in rates:
            of_one = f" ({single:.0f} with one thread)" if single else ""
            parts.append(f"{rates[precision]:.0f} GFLOP/s in {name}{of_one}")
        elif single:
            parts.append(f"{single:.0f} GFLOP/s in {name} with one thread")
    products = ""
    if parts:
        products = (
            f"Matrix products of this machine: {', '.join(parts)}. Each row is held against the rate of as many "
            "threads as it has. "
        )
    missing = "" if fast else " There are no rows in bfloat16, for which this processor has no instructions."
    return [
        f"# Benchmark, {results['device']}, {results['size']}",
        "",
        f"{m['gpu'] or m['cpu']}, {m['cores']} cores, {m['threads']} threads; Python {m['python']}, {versions}; commit "
        f"{(m['commit'] or '?')[:9]}; {m['date']}; load before {m['load_before']}.",
        f"{products}Medians (smallest to largest); plain is always float32. Times original compares objects per CPU "
        "second with those of the published program in float32 on another machine (75 to 90 GFLOP/s a core)." + missing,
        "",
    ]


def line(row: dict[str, Any]) -> str:
    aims = {
        "ratio": "{:g} x",
        "rate": "{:g}/s",
        "share_of_matmul": "{:.0%} of matmul",
        "seconds": "{:g} s",
        "gb": "{:g} GB",
    }
    target = " or ".join(aims[k].format(v) for k, v in row.get("target", {}).items())
    if target:
        target += " reached" if row["reached"] else " MISSED"
    cells = [
        row["name"],
        span(row.get("ratio")),
        row.get("text") or span(row.get("rate"), 0),
        span(row.get("plain_rate"), 0),
        number((row.get("per_cpu_second") or {}).get("median")),
        number(row.get("times_original")),
        number(row.get("gflop_per_object")),
        number(row.get("gflops")),
        percent(row.get("share_of_matmul")),
        number(row.get("peak_gb")),
        target,
    ]
    return "| " + " | ".join(cells) + " |"


def span(value: dict[str, float] | None, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value['median']:,.{digits}f} ({value['min']:,.{digits}f} to {value['max']:,.{digits}f})"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
