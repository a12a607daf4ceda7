"""The converter's periods and amplitudes on real curves: python -m experiments.converter real=<folder> [curves=500]

Three questions, on so many curves of Catalina (each of seven types equally often) and of ASAS (drawn at random):

- Does another periodogram find the same? The package `nifty-ls` (no dependency of ours; the rows are left out without
  it) on the same grid: CPU time, the highest peak, all peaks that are tried, and the period that follows from them.
- Where are the periods, against the catalogue's (Catalina)?
- How does our amplitude, the range of a random forest, compare with the range of a Fourier series at the same period,
  on the real curves and on the fitted series sampled at the same times with errors of the size that the curve has?

Writes converter.md to experiments/own_survey; what each curve gave is kept under work=.
"""

from __future__ import annotations

import json
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.errors import UserError
from astrom3.modalities import features, fourier, period_search
from astrom3.modalities.periodogram import periodogram
from experiments.options import Whole, run_from_command_line
from experiments.own_survey_recipe import ROOT, SURVEYS

RESULTS = ROOT / "experiments" / "own_survey"
SAME = 1e-3  # relative difference of equal periods
FACTORS = {"right": 1.0, "half": 0.5, "double": 2.0}
Method = Callable[..., np.ndarray]


def by_nifty(
    time: np.ndarray, values: np.ndarray, weights: np.ndarray, lowest: float, step: float, count: int
) -> np.ndarray:
    """The periodogram of nifty-ls on the same grid, with the same weights."""
    import nifty_ls

    found = nifty_ls.lombscargle(
        time,
        values,
        dy=1 / np.sqrt(weights),
        fmin=lowest,
        fmax=lowest + step * (count - 1),
        Nf=count,
        backend="finufft",
        nthreads=1,
    )
    return np.asarray(found.power)


@contextmanager
def searched_by(method: Method, told: dict[str, Any]) -> Iterator[None]:
    """Within it the converter searches with another periodogram; CPU seconds and the highest frequency are told."""

    def timed(time: np.ndarray, values: np.ndarray, weights: np.ndarray, lowest: float, step: float, n: int) -> Any:
        began = clock.process_time()
        power = method(time, values, weights, lowest, step, n)
        told["seconds"] = clock.process_time() - began
        told["highest"] = lowest + step * int(np.argmax(power))
        told["step"] = step
        return power

    own = period_search.periodogram
    period_search.periodogram = timed  # type: ignore[assignment]
    try:
        yield
    finally:
        period_search.periodogram = own


def series(time: np.ndarray, magnitude: np.ndarray, weights: np.ndarray, period: float) -> tuple[np.ndarray, float]:
    """The Fourier series at a period whose number of harmonics (1 to 8) has the lowest information criterion:
    coefficients (2 H + 1,) and the criterion."""
    most = int(np.clip((len(time) // 4 - 2) // 2, 1, period_search.MAX_HARMONICS))
    rss = np.maximum(fourier.residuals(time, magnitude, weights, 1 / period, most), 1e-12)
    criterion = len(time) * np.log(rss) + (2 * np.arange(1, most + 1) + 2) * np.log(len(time))
    best = int(np.argmin(criterion))
    return fourier.fourier_fit(time, magnitude, weights, 1 / period, best + 1)[0], float(criterion[best])


def value_of(coefficients: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """The series at phases in turns, (N,)."""
    angles = 2 * np.pi * np.outer(np.arange(1, len(coefficients) // 2 + 1), phase)
    return coefficients[0] + coefficients[1::2] @ np.cos(angles) + coefficients[2::2] @ np.sin(angles)


def amplitudes(
    time: np.ndarray, magnitude: np.ndarray, error: np.ndarray, period: float, seed: int
) -> dict[str, float]:
    """Range of the forest, of the Fourier series, and of a forest on that series with errors drawn anew."""
    t = time - time.mean()
    weights = 1.0 / (error**2 + np.median(error) ** 2 + (0.1 * np.std(magnitude)) ** 2 + 1e-12)
    weights /= weights.sum()
    coefficients, criterion = series(t, magnitude, weights, period)
    halved = series(t, magnitude, weights, period / 2)[1]
    phase = np.mod(t / period, 1.0)
    order = np.argsort(phase, kind="stable")
    model = value_of(coefficients, phase)
    scatter = float(np.std(magnitude - model))
    drawn = model + np.random.default_rng(seed).normal(0, scatter, len(model))
    return {
        "forest": float(np.ptp(features.forest(phase[order], magnitude[order]))),
        "series": float(np.ptp(value_of(coefficients, np.arange(256) / 256))),
        "drawn": float(np.ptp(features.forest(phase[order], drawn[order]))),
        "scatter": scatter,
        "error": float(np.median(error)),
        "for_half": criterion - halved,
    }


def measured(time: np.ndarray, magnitude: np.ndarray, error: np.ndarray, period: float, seed: int) -> dict[str, Any]:
    """What one curve, sorted by time, gives. period: the catalogue's, NaN where unknown."""
    out: dict[str, Any] = {"points": len(time), "catalogue": period if period > 0 else None}
    methods: dict[str, Method] = {"ours": periodogram, **({"nifty": by_nifty} if has_nifty() else {})}
    for name, method in methods.items():
        told: dict[str, Any] = {}
        began = clock.process_time()
        with searched_by(method, told):
            found = period_search.find_period(time, magnitude, error)
        out[name] = told | {"period": found, "all_seconds": clock.process_time() - began}
    if period > 0:
        out |= amplitudes(time, magnitude, error, period, seed)
    return out


def has_nifty() -> bool:
    """Whether nifty-ls can be imported."""
    try:
        import nifty_ls  # noqa: F401
    except ImportError:
        return False
    return True


def sample(real: Path, survey: str, curves: int) -> list[dict[str, Any]]:
    """Rows of a survey: of each type of Catalina as many, of ASAS at random."""
    import pyarrow.parquet as pq

    path = real / survey / "light_curves.parquet"
    if not path.is_file():
        raise UserError(f"there is no {path}: give the folder of real observations as real=<folder>")
    table = pq.read_table(path)
    labels = np.array(table["label"].to_pylist())
    rng = np.random.default_rng(0)
    if survey == "crts-sss":
        own = SURVEYS[survey]
        parts = [rng.permutation(np.flatnonzero(labels == label))[: -(-curves // len(own))] for label in own]
        chosen = np.concatenate(parts)
    else:
        chosen = rng.permutation(len(labels))[:curves]
    rows = table.take(np.sort(chosen)).to_pylist()
    return [row | {"class": SURVEYS[survey].get(row["label"], "other")} for row in rows]


def measure_survey(real: Path, work: Path, survey: str, curves: int) -> list[dict[str, Any]]:
    """Every curve of the sample, kept in one file."""
    path = work / f"{survey}-{curves}-{'nifty' if has_nifty() else 'ours'}.json"
    if path.is_file():
        return json.loads(path.read_text())
    found = []
    for number, row in enumerate(sample(real, survey, curves)):
        columns = [np.array(row[key], dtype=np.float64) for key in ("time", "mag", "mag_err")]
        good = np.isfinite(columns[0]) & np.isfinite(columns[1]) & np.isfinite(columns[2]) & (columns[2] > 0)
        order = np.argsort(columns[0][good], kind="stable")
        time, magnitude, error = (column[good][order] for column in columns)
        if len(time) < features.MIN_POINTS or np.ptp(magnitude) <= 0:
            continue
        period = float(row["period"]) if row["period"] else float("nan")
        if number == 0:
            measured(time, magnitude, error, period, number)  # compiled and planned before anything is timed
        found.append({"class": row["class"]} | measured(time, magnitude, error, period, number))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


def same(one: float, other: float) -> bool:
    """Whether two periods are equal."""
    return abs(one / other - 1) < SAME


def periodogram_lines(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The first table."""
    lines = [
        "| survey | curves | points, median | ours, CPU ms a curve | nifty-ls | whole search, ours | highest peak "
        "equal to a step, % | period equal to 0.1 %, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for survey, rows in found.items():
        own = [row for row in rows if "nifty" in row]
        if not own:
            continue
        numbers = [1000 * np.mean([row[name]["seconds"] for row in own]) for name in ("ours", "nifty")]
        numbers.append(1000 * np.mean([row["ours"]["all_seconds"] for row in own]))
        steps = [abs(row["ours"]["highest"] - row["nifty"]["highest"]) < 1.5 * row["ours"]["step"] for row in own]
        periods = [same(row["ours"]["period"], row["nifty"]["period"]) for row in own]
        times = " | ".join(f"{number:.1f}" for number in numbers)
        points = int(np.median([row["points"] for row in own]))
        shares = f"{100 * np.mean(steps):.1f} | {100 * np.mean(periods):.1f}"
        lines.append(f"| {survey} | {len(own)} | {points} | {times} | {shares} |")
    return lines


def class_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The second table: periods and amplitudes of a survey by class."""
    lines = [
        "| class | curves | period right, % | half | double | halves that the curve prefers, % | forest over series "
        "| on the series with noise drawn anew | scatter over series |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted({row["class"] for row in rows}):
        own = [row for row in rows if row["class"] == name and row["catalogue"]]
        if not own:
            continue
        shares = {}
        for word, factor in FACTORS.items():
            shares[word] = np.mean([abs(row["ours"]["period"] / row["catalogue"] / factor - 1) < 0.01 for row in own])
        halves = [row for row in own if abs(2 * row["ours"]["period"] / row["catalogue"] - 1) < 0.01]
        prefers = f"{100 * np.mean([row['for_half'] > 0 for row in halves]):.0f}" if halves else ""
        ratios = [
            f"{np.median([row[key] / row['series'] for row in own]):.2f}" for key in ("forest", "drawn", "scatter")
        ]
        percents = " | ".join(f"{100 * share:.0f}" for share in shares.values())
        lines.append(f"| {name} | {len(own)} | {percents} | {prefers} | {' | '.join(ratios)} |")
    return lines


def run(real: Path, work: Path, curves: int, out: Path) -> str:
    """Everything; returns the text and writes it."""
    found = {survey: measure_survey(real, work, survey, curves) for survey in SURVEYS}
    text = [
        "# The converter's periods and amplitudes on real curves",
        "",
        "CPU times are those of one thread, on a machine that other work shared.",
        "",
        *periodogram_lines(found),
        "",
        "Catalina, against the catalogue's period; amplitudes are all taken at it. A period is right within 1 %. The "
        "curve prefers half of the catalogue's period where a Fourier series there has the lower Bayesian information "
        "criterion. Ratios are medians.",
        "",
        *class_lines(found["crts-sss"]),
        "",
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "converter.md").write_text("\n".join(text))
    return "\n".join(text)


def main() -> None:
    defaults = {
        "real": str(ROOT.parent / "shared" / "real"),
        "work": ROOT / "runs" / "converter",
        "curves": Whole(500),
        "out": RESULTS,
    }
    run_from_command_line(
        "converter",
        defaults,
        lambda options: run(Path(options["real"]), options["work"], options["curves"], options["out"]),
    )


if __name__ == "__main__":
    main()
