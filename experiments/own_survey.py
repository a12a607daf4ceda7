"""Someone's own survey: python -m experiments.own_survey files=mine [objects=400], or real=<folder>

files= writes what a user has, a table and a folder of files, of simulated stars: for the guide own_survey/README.md.
real= does what the guide says with the 447 ASAS V-band curves of 9 AstroM3 classes (Richards et al. 2012): one small
light-curve network trained on them, then embeddings, classes from the raw curves by the Python API, the analyses and a
page. Writes experiments/own_survey/asas/; two minutes on two cores.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.errors import UserError
from experiments.options import Whole, run_from_command_line, writable

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "own_survey" / "asas"
COLUMNS = {"phot_g_mean_mag": "gmag", "bp_rp": "bprp", "parallax": "plx", "parallax_error": "e_plx"}
WHAT = ("fewshot", "outliers", "map", "calibration", "attention", "sensitivity")


def write_files(folder: Path, n: int) -> Path:
    """stars.csv and the files that it names; every tenth star lacks its spectrum, every ninth its class."""
    from astrom3.data.observed import locate, observations
    from astrom3.data.readers.systems import zero_point
    from astrom3.modalities.catalogue import COLUMN
    from astrom3.simulate.origin import Simulated

    zero = zero_point("asas-sn-V")
    source = Simulated(n_objects=n).open("full", 42)
    tables, where = locate(source)
    (folder / "curves").mkdir(parents=True, exist_ok=True)
    (folder / "spectra").mkdir(exist_ok=True)
    catalogue = tables[0].catalogue()
    names = np.array([*source.classes, ""])
    rows = np.array(sorted(row for _, row in where.values()))
    with open(folder / "stars.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "class", "curve", "spectrum", *COLUMNS.values(), "ra", "dec"])
        for i, found in enumerate(observations(tables[0], rows)):
            name = f"star-{i}"
            spectrum = "" if i % 10 == 9 else f"spectra/star-{i}.csv"
            time, flux, error = found.light_curve  # type: ignore[misc]
            good = flux > 0
            columns = time[good], -2.5 * np.log10(flux[good] / zero), 2.5 / np.log(10) * error[good] / flux[good]
            save(folder / f"curves/{name}.csv", "hjd,V,e_V", columns, ("%.5f", "%.4f", "%.4f"))
            if spectrum and found.spectrum is not None:
                save(folder / spectrum, "lambda,f,ivar", found.spectrum, ("%.3f", "%.5g", "%.5g"))
            values = {c: catalogue.values[rows[i], COLUMN[c]] for c in COLUMNS}
            label = "" if i % 9 == 8 else names[catalogue.labels[rows[i]]]
            known = [f"{values[c]:.5g}" if np.isfinite(values[c]) else "" for c in COLUMNS]
            writer.writerow([name, label, f"curves/{name}.csv", spectrum, *known, "", ""])
    return folder


def save(path: Path, head: str, columns: Any, formats: tuple[str, ...]) -> None:
    np.savetxt(path, np.column_stack(columns), formats, ",", header=head, comments="")


def asas(real: Path, work: Path, *overrides: str, what: Sequence[str] = WHAT) -> dict[str, Any]:
    """The guide on the ASAS curves; returns what results.json holds. overrides: of the training;
    what: which analyses."""
    from astrom3.analyse.__main__ import analyse
    from astrom3.cli.config import compose
    from astrom3.explore.__main__ import explore
    from astrom3.train import train
    from experiments.asas_v import VARIANTS, prepare

    data = prepare(real, work)
    here = ["data=local", f"data.path={data}", f"data.cache={work}/store"]
    cfg = compose(["mode=photo", "trainer=cpu", f"root={work}/own", *here, *VARIANTS["all queries attend"], *overrides])
    train(cfg)
    run = str(cfg.run)
    RESULTS.mkdir(parents=True, exist_ok=True)
    analyse(
        compose(
            [f"model={run}", *here, f"out={work}/analysis", f"what=[{','.join(what)}]", "device=cpu", "overwrite=true"],
            "analyse",
        )
    )
    explore(compose([f"model={run}", *here, f"out={work}/asas.html", "map=pca", "device=cpu"], "explore"))
    numbers = from_raw(run, data, work)
    for name in ("report.md", *(f"{name}.png" for name in what)):
        (RESULTS / name).write_bytes((work / "analysis" / name).read_bytes())
    report(numbers)
    return numbers


def from_raw(run: str, data: Path, work: Path) -> dict[str, Any]:
    """The test curves as a user holds them, arrays of days and mJy, through `astrom3.load(run).classify`; next to what
    embedding the data set gave."""
    import astrom3
    from astrom3.data.layouts import open_source
    from astrom3.data.observed import locate, observations
    from astrom3.inference.embeddings import Embeddings

    model = replace(astrom3.load(run, device="cpu"), confidence=None)  # analyses keep probabilities uncalibrated
    source = open_source(data, "full", 42)
    tables, _ = locate(source)
    number = next(i for i, t in enumerate(tables) if t is source.tables["test"])
    rows = np.sort(np.asarray(source.rows["test"]))
    curves = [found.light_curve for found in observations(tables[number], rows)]
    catalogue = tables[number].catalogue().take(rows)
    classified = model.classify(light_curve=curves)
    stored = Embeddings.read(work / "analysis" / "embeddings").of_split("test")
    place = {name: i for i, name in enumerate(stored.ids.tolist())}
    order = np.array([place[str(i)] for i in catalogue.ids])
    right = np.array(classified.labels) == np.array(source.classes)[catalogue.labels]
    tested = json.loads((Path(run) / "metrics.json").read_text())
    predicted = stored.predicted[order]
    assert stored.probabilities is not None
    return {
        "objects": len(rows),
        "accuracy_raw": float(right.mean()),
        "accuracy_embedded": float((predicted == stored.labels[order]).mean()),
        "accuracy_tested": tested["accuracy"],
        "macro_recall_tested": tested["macro_recall"],
        "largest_difference": float(np.abs(classified.probabilities - stored.probabilities[order]).max()),
    }


def report(numbers: dict[str, Any]) -> None:
    """The numbers before the report of the analyses."""
    (RESULTS / "results.json").write_text(json.dumps(numbers, indent=1) + "\n")
    text = (RESULTS / "report.md").read_text()
    first = (
        "447 ASAS V-band light curves of 9 classes (Richards et al. 2012), one small light-curve network trained on "
        f"313 of them; by `python -m experiments.own_survey real=<folder>`. {numbers['objects']} test curves, raw, "
        f"through `astrom3.load(run).classify`: accuracy {100 * numbers['accuracy_raw']:.1f} %; embedded as a data set "
        f"{100 * numbers['accuracy_embedded']:.1f} %; tested at the end of the training "
        f"{100 * numbers['accuracy_tested']:.1f} %. Probabilities of the first two differ by at most "
        f"{numbers['largest_difference']:.1e}.\n"
    )
    _, _, rest = text.partition("\n\n")
    (RESULTS / "report.md").write_text(f"# ASAS light curves, the way of the guide\n\n{first}\n{rest}")
    print(first)


def run(options: dict[str, Any]) -> str | None:
    """Write files to convert, or read those of real observations."""
    if options["files"]:
        return f"Written: {write_files(writable('files', options['files']), options['objects'])}/stars.csv"
    if not options["real"]:
        raise UserError("give files=<folder to write>, or real=<folder of real observations>")
    asas(Path(options["real"]), options["work"].resolve())
    return None


def main() -> None:
    defaults = {"files": None, "objects": Whole(400), "real": None, "work": ROOT / "runs" / "asas_v"}
    run_from_command_line("own_survey", defaults, run)


if __name__ == "__main__":
    main()
