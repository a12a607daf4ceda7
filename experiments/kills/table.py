"""The kills as a table: a row per case, with the signals, how many trials came out the same, and every fault."""

from __future__ import annotations

from collections import Counter
from typing import Any

HEADER = "| what | kills | SIGKILL | SIGTERM | SIGINT | trials | the same |"
RULE = "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["# Kills", "", HEADER, RULE]
    for name in dict.fromkeys(row["case"] for row in rows):
        lines.append(line(name, [row for row in rows if row["case"] == name]))
    if rows:
        lines.append(line("all", rows))
    faults = [f"- {row['case']}, trial {row['number']}: {fault}" for row in rows for fault in row["faults"][:5]]
    if faults:
        lines += ["", "## Faults", "", *faults]
    return "\n".join(lines) + "\n"


def line(name: str, rows: list[dict[str, Any]]) -> str:
    count = Counter[str]()
    for row in rows:
        count.update(row["kills"])
    killed = sum(count[signal] for signal in SIGNALS)
    same = sum(not row["faults"] for row in rows)
    cells = [name, str(killed), *(str(count[signal]) for signal in SIGNALS), str(len(rows)), str(same)]
    return "| " + " | ".join(cells) + " |"
