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

log = logging.getLogger(__name__)


def report(cfg: DictConfig) -> dict[str, Any]:
    """Gather, average, compare, write; returns the number of runs in each state."""
    from astrom3.errors import UserError
    from astrom3.report import table, table_files

    root, out = Path(cfg.root), Path(cfg.out)
    runs = table.collect(root)
    if not runs:
        deeper = sorted({p.parent.parent.name for p in root.glob("*/*/config.yaml")})
        hint = f"; there are runs below {', '.join(f'{root}/{d}' for d in deeper[:5])}" if deeper else ""
        raise UserError(f"{root} holds no runs{hint}: train some with root={root}, or name another folder")
    grid = table.Grid(tuple(cfg.modes), tuple(cfg.subs), tuple(cfg.inits), tuple(int(s) for s in cfg.seeds))
    summary = table.summarise(runs, grid)
    out.mkdir(parents=True, exist_ok=True)
    text = table_files.markdown(summary)
    (out / "report.md").write_text(text)
    (out / "report.tex").write_text(table_files.latex(summary))
    table_files.write_csv(out / "report.csv", [row.as_dict() for row in summary.rows])
    table_files.write_csv(out / "runs.csv", [run.as_dict() for run in runs])
    table_files.plot(summary, out / "report.png")
    print(text)
    log.info("Written to %s: report.md, report.csv, runs.csv, report.tex, report.png", out)
    return {state: sum(r.state == state for r in runs) for state in table.STATES}


def main(argv: Sequence[str] | None = None) -> None:
    """A bare argument is the folder of the runs."""
    from astrom3.cli.verbs import TELLING, run_verb

    arguments = list(sys.argv[1:] if argv is None else argv)
    bare = [] if TELLING & set(arguments) else [a for a in arguments if "=" not in a and not a.startswith("-")]
    given = [f"root={a.rstrip('/') or '/'}" if a in bare[:1] else a for a in arguments]
    run_verb("report", report, given)


if __name__ == "__main__":
    main()
