"""Embeddings of real light curves against hand-made features, by the protocol of StarEmbed (2026).

    python -m experiments.leaderboard real=../shared/real                    # cheap rows
    python -m experiments.leaderboard real=../shared/real rows=all           # fine-tuned networks too
    python -m experiments.leaderboard real=../shared/real blind=<folder>     # tested on held-out curves of that folder

ASAS and Catalina curves, periods from our converter, a fixed test fold, 3 seeds, 20, 100, 500, all labels
per class, each survey and across. What is finished is not computed again. Keys: real, blind, work, out, cells (a
leaderboard.csv whose cells count as finished where their protocol is the present one), weights (folder of released
Astromer weights), per_class (at most so many curves of a label), epochs (of pre-training), only (a row's name, or part
of it), task (the name of one), shots (sizes such as 20,100), kinds (classifiers such as "random forest,nearest
neighbours"), seeds, rows (cheap or all), workers, starembed (folder of the StarEmbed data, see starembed.py). Features
are computed of the curves that the cells asked for look at, and of no others.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from astrom3.errors import UserError
from experiments.options import Whole, answered, writable
from experiments.options import read_options as options_over

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
KEYS: dict[str, Any] = {
    "real": None,
    "blind": "",
    "work": Path("runs/leaderboard"),
    "out": "",
    "cells": "",
    "weights": "",
    "per_class": Whole(0, least=0),  # 0: all
    "epochs": Whole(30),
    "only": "",
    "task": "",
    "shots": "",
    "kinds": "",
    "seeds": Whole(3, most=3),
    "rows": ("cheap", "all"),
    "workers": Whole(2, most=1024),
    "starembed": "",
}


def main(arguments: list[str]) -> None:
    """Compute what is missing and write the tables."""
    from astrom3.progress import progress
    from astrom3.training.run import git_commit
    from experiments.leaderboard import committed, protocol, rows, table, tuned
    from experiments.leaderboard.shop import Options, Shop
    from experiments.leaderboard.surveys import SEEDS
    from experiments.leaderboard.tasks import across_surveys, own_surveys

    options = read_options(arguments)
    shop = Shop(options_of(options, Options))
    folder = shop.folder / "cells"
    wanted = SEEDS[: options["seeds"]]
    jobs: list[tuple[protocol.Cell, Any]] = []
    makers: dict[str, Any] = dict(rows.frozen_rows(shop))
    for row in makers:
        for task in shop.tasks:
            if rows.is_asked(row, task):
                full = task in own_surveys(shop.tasks)
                jobs += [(cell, task) for cell in protocol.cells(row, task, full)]
    for task in shop.tasks:
        jobs += [(cell, task) for cell in protocol.chance_cells(task)]
    if options["rows"] == "all":
        for row in tuned.ROWS:
            for task in own_surveys(shop.tasks) + across_surveys(shop.tasks):
                jobs += [(cell, task) for cell in tuned.cells(row, task)]
    stamps = committed.Stamps(shop)
    found = committed.known(folder, Path(options["cells"]) if options["cells"] else None, stamps)
    named = {cell.row for cell, _ in jobs}
    if not any(options["only"] in row for row in named):
        raise UserError(f"only={options['only']}: no row has that in its name; there are {'; '.join(sorted(named))}.")
    sizes = sizes_of(options["shots"]) or [*protocol.SHOTS]
    kinds = kinds_of(options["kinds"], {cell.kind for cell, _ in jobs})
    tasks = tasks_of(options["task"], [task.name for task in shop.tasks])
    missing = []
    for cell, task in jobs:
        asked = cell.row == options["only"] if options["only"] in named else options["only"] in cell.row
        asked = asked and cell.task in tasks and cell.kind in kinds
        if asked and cell.seed in wanted and cell.shots in sizes and cell not in found:
            missing.append((cell, task))
    inputs: dict[str, Any] = {}
    commit = git_commit() or "unknown"
    with progress("leaderboard", len(missing), "cells") as advance:
        for cell, task in missing:
            told: dict[str, Any] = {
                "inputs": rows.source_of(cell.row, shop),
                "origin": commit[:7] + ("+" if commit.endswith("+") else ""),
                "protocol": stamps.of(cell),
                "configuration": about(options),
            }
            if cell.kind == tuned.KIND:
                found[cell] = protocol.once(folder, cell, partial(tuned.compute, cell, shop, task), told)
            elif cell.row in protocol.CHANCE:
                found[cell] = protocol.once(folder, cell, partial(protocol.by_chance, cell, shop, task), told)
            else:
                if cell.row not in inputs:
                    inputs = {cell.row: inputs_of(cell.row, makers[cell.row], shop, missing)}
                given = inputs[cell.row]
                told["configuration"] |= {"width": int(next(iter(given.values())).shape[1])}
                found[cell] = protocol.once(folder, cell, partial(protocol.compute, cell, shop, task, given), told)
            advance(1)
    out = Path(options["out"]) if options["out"] else shop.folder
    table.write(found.values(), out, "Leaderboard: real light curves of ASAS and Catalina", shop.tasks)
    log.info("%s", out / "leaderboard.md")


def inputs_of(row: str, make: Any, shop: Any, jobs: list[tuple[Any, Any]]) -> Any:
    """The inputs of a row: of the curves that its cells look at, where each curve gives its own, otherwise of all."""
    from experiments.leaderboard import protocol, rows

    if row not in rows.CURVE_BY_CURVE:
        return make(shop)
    chosen = protocol.needed(shop, [(cell, task) for cell, task in jobs if cell.row == row])
    if all(mask.all() for mask in chosen.values()):
        return make(shop)
    return rows.of_needed(shop, make, chosen)


def sizes_of(text: Any) -> list[int]:
    """The sizes of `shots=20,100,all`; none where nothing is given."""
    sizes = []
    for word in str(text).split(","):
        if word.strip() == "all":
            sizes.append(0)
        elif word.strip().isdigit():
            sizes.append(int(word))
        elif word.strip():
            raise UserError(f"shots={text} holds {word.strip()}: give numbers of labels a class, or all.")
    return sizes


def tasks_of(text: str, known: list[str]) -> list[str]:
    """The task of `task="crts-sss to asas-acvs"`; all that are known where nothing is given."""
    if text and text not in known:
        raise UserError(f"task={text} does not exist: there are {'; '.join(known)}.")
    return [text] if text else known


def kinds_of(text: str, known: set[str]) -> set[str]:
    """The kinds of `kinds=random forest,clustering`; all that are known where nothing is given."""
    asked = {word.strip() for word in str(text).split(",") if word.strip()}
    if strange := sorted(asked - known):
        raise UserError(f"kinds={text} holds {strange[0]}: there are {', '.join(sorted(known))}.")
    return asked or known


def about(options: dict[str, Any]) -> dict[str, Any]:
    """What of the options decides a score."""
    return {"per_class": options["per_class"], "epochs": options["epochs"], "blind": bool(options["blind"])}


def options_of(options: dict[str, Any], kind: Any) -> Any:
    """The options of the shop."""
    return kind(
        real=Path(options["real"]),
        work=options["work"],
        blind=Path(options["blind"]) if options["blind"] else None,
        per_class=options["per_class"],
        weights=Path(options["weights"]) if options["weights"] else None,
        epochs=options["epochs"],
        workers=options["workers"],
        starembed=Path(options["starembed"]) if options["starembed"] else None,
    )


def read_options(arguments: list[str]) -> dict[str, Any]:
    """The arguments over the defaults of KEYS, checked."""
    options = options_over(arguments, KEYS)
    if not options["real"]:
        raise UserError("real= is missing: python -m experiments.leaderboard real=<folder of real observations>.")
    if options["out"]:
        writable("out", options["out"])
    return options


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    answered("experiments.leaderboard", lambda: main(sys.argv[1:]))
