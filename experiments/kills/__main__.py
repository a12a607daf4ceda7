"""Kill everything and look at what is left: python -m experiments.kills n=100 [only=<parts of names>] [out=<folder>]

Trainings of every mode, family and task, and the other verbs that write, are killed by SIGKILL, SIGTERM and SIGINT at
random moments. Each is then run to its end by the same command. Weights, metrics and every other file must be those
of a run that nothing has killed, bit for bit, and no process and no temporary file may be left over. n is the number
of kills. The folder keeps what was done (kills.json, kills.md), so the same command goes on where it was.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from astrom3.errors import UserError
from astrom3.progress import progress
from experiments.kills.cases import CASES, Case
from experiments.kills.prepare import prepare
from experiments.kills.table import markdown
from experiments.kills.trial import Place, reference, run
from experiments.options import Whole, answered, read_options

log = logging.getLogger(__name__)
KEYS = {"n": Whole(100), "only": "", "out": Path("kills"), "seed": Whole(0, least=0, most=2**32 - 1)}
IN_A_TRIAL = (1, 2)  # kills, in turn


def main(arguments: list[str]) -> int:
    """Number of trials with a fault."""
    options = read_options(arguments, KEYS)
    wanted = options["n"]
    seed = options["seed"]
    parts = options["only"].split(",")
    cases = [case for case in CASES if any(part in case.name for part in parts)]
    if not cases:
        raise UserError(f"only={options['only']}: no case has that in its name, see cases.py")
    out = options["out"].absolute()
    out.mkdir(parents=True, exist_ok=True)
    cache = os.environ.get("ASTROM3_CACHE", str(out / "cache"))
    place = Place(out, {**os.environ, "ASTROM3_CACHE": cache, "OMP_NUM_THREADS": "1"})
    rows = read(out / "kills.json")
    with progress("Killing", wanted) as advance:
        go_on(place, cases, rows, wanted, seed, advance)
    faulty = [row for row in rows if row["faults"]]
    print(markdown(rows))
    print(f"written to {out / 'kills.md'} and kills.json")
    return len(faulty)


def go_on(place: Place, cases: list[Case], rows: list[dict[str, Any]], wanted: int, seed: int, advance: Any) -> None:
    """Trials of one case after the other, round after round, until there are `wanted` kills."""
    done = {(row["case"], row["number"]) for row in rows}
    count = sum(len(row["moments"]) for row in rows)
    if advance is not None:
        advance(min(count, wanted))
    for number in range(wanted):
        for case in cases:
            if count >= wanted:
                return
            if (case.name, number) in done:
                continue
            prepare(place)
            kills = min(IN_A_TRIAL[(number + cases.index(case)) % len(IN_A_TRIAL)], wanted - count)
            outcome = run(place, case, number, kills, reference(place, case), seed)
            rows.append(outcome.as_dict())
            write(place.root, rows)
            count += len(outcome.moments)
            said = "; ".join(outcome.faults) or "the same"
            log.info("%d of %d kills: %s (%s): %s", count, wanted, case.name, ", ".join(outcome.kills), said)
            if advance is not None:
                advance(len(outcome.moments))


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["trials"] if path.is_file() else []


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    from astrom3.files import write_json, write_text

    write_json(folder / "kills.json", {"trials": rows})
    write_text(folder / "kills.md", markdown(rows))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    sys.exit(1 if answered("kills", lambda: main(sys.argv[1:])) else 0)
