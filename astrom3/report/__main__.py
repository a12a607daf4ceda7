"""The table of the paper from the runs of a folder: python -m astrom3.report runs/

Writes report.md, report.csv, runs.csv, report.tex and report.png to <folder>/report and prints the first.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from astrom3.files import OutputFolder, read_text, write_text

log = logging.getLogger(__name__)
FILES = ("report.md", "report.csv", "runs.csv", "report.tex", "report.png")


def report(cfg: DictConfig) -> dict[str, Any]:
    """Gather, average, compare, write; returns the number of runs in each state."""
    from astrom3.errors import UserError
    from astrom3.report import table, table_files

    root = Path(cfg.root)
    out = Path(cfg.out)
    runs = table.collect(root)
    if not runs:
        deeper = sorted({str(path.parent.parent) for path in root.glob("*/*/config.yaml")})
        hint = f"; there are runs below {', '.join(deeper[:5])}" if deeper else ""
        raise UserError(f"{root} holds no runs{hint}: train some with root={root}, or name another folder")

    grid = table.Grid(tuple(cfg.modes), tuple(cfg.subs), tuple(cfg.inits), tuple(int(s) for s in cfg.seeds))
    summary = table.summarise(runs, grid)
    text = table_files.markdown(summary)
    with OutputFolder(out, "report", legacy=written_before).staged(FILES, cfg.overwrite) as stage:
        write_text(stage / "report.md", text)
        write_text(stage / "report.tex", table_files.latex(summary))
        table_files.write_csv(stage / "report.csv", [row.as_dict() for row in summary.rows])
        table_files.write_csv(stage / "runs.csv", [run.as_dict() for run in runs])
        table_files.plot(summary, stage / "report.png")

    print(text)
    log.info("Written to %s: report.md, report.csv, runs.csv, report.tex, report.png", out)
    found = {}
    for state in table.STATES:
        found[state] = sum(r.state == state for r in runs)
    return found


def written_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has written to the folder of a report, None where it is none (see OutputFolder)."""
    runs = folder / "runs.csv"
    if not (folder / "report.csv").is_file() or not runs.is_file():
        return None
    if not read_text(runs).startswith("folder,mode,sub,init,seed"):
        return None
    return [name for name in FILES if (folder / name).is_file()]


def main(argv: Sequence[str] | None = None) -> None:
    """A bare argument is the folder of the runs."""
    from astrom3.cli.verbs import TELLING, run_verb

    arguments = list(sys.argv[1:] if argv is None else argv)
    for place, argument in enumerate(arguments):
        if TELLING & set(arguments):
            break
        if "=" not in argument and not argument.startswith("-"):
            arguments[place] = f"root={argument.rstrip('/') or '/'}"
            break
    run_verb("report", report, arguments)


if __name__ == "__main__":
    main()
