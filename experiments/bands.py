"""RRab against RRc in one band and in five: python -m experiments.bands real=<folder> work=<folder>

483 RR Lyrae stars of SDSS Stripe 82 (Sesar et al. 2010) in u, g, r, i, z, with periods that our converter found in the
light curves (the published periods alone tell the types apart). Cross-validation in three folds: every star is tested
once. Finished runs are not repeated. Writes experiments/bands.md. Further keys: epochs, methods.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from astrom3.errors import UserError
from experiments.options import Whole, run_from_command_line, several_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "bands.md"
FOLDS = (1, 2, 3)
METHODS = ("all", "g", "r", "i", "z", "u")
DEFAULTS = {"real": "", "work": Path("runs/bands"), "epochs": Whole(60), "methods": ",".join(METHODS)}
TRAINING = ("mode=photo", "size=small", "trainer=cpu", "optim.lr=0.001", "data.batch_size=32")


def call(module: str, *arguments: str) -> None:
    """Run a command of the package in a process of its own."""
    if subprocess.run([sys.executable, "-m", module, *arguments]).returncode:
        raise UserError(f"{module} could not do its part, see above; the same command goes on")


def convert(real: Path, work: Path) -> Path:
    """The data set, converted once."""
    out = work / "own"
    if not (out / "dataset.json").is_file():
        folder = real / "s82-rrlyrae"
        if not (folder / "periods.csv").is_file():
            raise UserError(f"there is no {folder}/periods.csv: give the folder of real observations as real=<folder>")
        tables = (f"table={folder}/periods.csv", f"observations={folder}/light_curves.csv.gz")
        call("astrom3.convert", *tables, "id=Num", "label=Type", "classes=all", "light_curves.system=AB", f"out={out}")
    return out


def accuracy(data: Path, work: Path, method: str, fold: int, epochs: str) -> tuple[float, int]:
    """Accuracy on the tested fold, and how many stars it has. method: `all` bands, or the name of one."""
    runs = work / f"runs-{method}-{epochs}"
    found = sorted(runs.glob(f"*fold{fold}of3*/metrics.json"))
    if not found:
        recipe = ("recipe=bands",) if method == "all" else ("recipe=survey", f"data.band={method}")
        where = ("data=local", f"data.path={data}", f"data.cache={work / 'cache'}", f"root={runs}")
        call("astrom3.train", *recipe, *where, *TRAINING, f"fold={fold}", f"epochs={epochs}")
        found = sorted(runs.glob(f"*fold{fold}of3*/metrics.json"))
    metrics = json.loads(found[0].read_text())
    return float(metrics["accuracy"]), int(metrics["n"])


def compare(options: dict[str, Any]) -> None:
    """Cross-validated accuracy of every method, printed and written as a table."""
    if not options["real"]:
        raise UserError("real= is missing: python -m experiments.bands real=<folder of real observations>")
    methods = several_of("methods", options["methods"], METHODS)
    work = options["work"].absolute()
    data = convert(Path(options["real"]), work)
    lines = ["| bands | accuracy | wrong | stars |", "|---|---|---|---|"]
    for method in methods:
        folds = [accuracy(data, work, method, fold, str(options["epochs"])) for fold in FOLDS]
        stars = sum(n for _, n in folds)
        right = sum(round(value * n) for value, n in folds)
        name = "u, g, r, i, z" if method == "all" else method
        lines.append(f"| {name} | {right / stars:.4f} | {stars - right} | {stars} |")
        print(lines[-1], flush=True)
    assert __doc__ is not None
    about = __doc__.split("\n\n")[1].partition(" Finished runs")[0]
    RESULTS.write_text("\n".join(["# RRab against RRc", "", about, "", *lines, ""]))


if __name__ == "__main__":
    run_from_command_line("bands", DEFAULTS, compare)
