"""The recipe for surveys of one's own on two real ones: python -m experiments.own_survey_recipe real=<folder>

2,456 Catalina curves and 2,549 ASAS curves of 7 classes, at most 400 a class, features computed by our converter,
splits 80/10/10 of seeds 42, 0 and 66: `recipe=survey` next to `recipe=published` and to random forests on the four
features and, where the package `light-curve` is installed (it is no dependency of ours), on its features too.
Writes experiments/own_survey/recipe.md. Finished runs are not repeated. What was chosen was chosen on validation
splits; the test splits give the table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.modalities.schema import ALL_COLS, PHOTO_COLS, SPLITS
from experiments.options import run_from_command_line

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "own_survey" / "recipe.md"
SEEDS = (42, 0, 66)
PER_CLASS = 400
SURVEYS = {
    "crts-sss": {
        "EW/EB": "EW",
        "EA": "EA",
        "RRab": "RRAB",
        "RRc": "RRC",
        "ROT": "ROT",
        "LPV": "LPV",
        "DSCT": "DSCT",
    },
    "asas-acvs": {
        "mira": "M",
        "k": "EW",
        "d": "EA",
        "rr-ab": "RRAB",
        "rr-c": "RRC",
        "sd": "EB",
        "ds": "DSCT",
    },
}
NETWORKS = {
    "recipe=survey": ["recipe=survey"],
    "recipe=published": ["epochs=30", "optim.lr=0.003"],  # the guide's command of before
}
FORESTS = {"forest, four features": "four", "forest, light-curve": "many", "forest, both": "both"}
TREES = 500
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def read_curve(columns: Columns) -> Any:
    """Time [day], magnitude, error -> a light curve in mJy."""
    from astrom3.data.readers import LightCurve
    from astrom3.data.readers.systems import flux_of_magnitude, zero_point

    time, magnitude, error = columns
    flux, flux_err = flux_of_magnitude(magnitude, error, zero_point("asas-sn-V"))
    return LightCurve(time, flux, flux_err)


def no_spectrum(reference: Any) -> Any:
    raise UserError(f"these surveys have no spectra, not {reference}")


def prepare(real: Path, work: Path, survey: str, per_class: int = PER_CLASS, periods: bool = False) -> Path:
    """Convert a sample of a survey, at most `per_class` curves of each class; returns the data set.

    periods: the catalogue's periods are taken where it has them, and the other features computed with them.
    """
    import pyarrow.parquet as pq

    from astrom3.convert.conversion import Recipe, convert_objects
    from astrom3.data.readers.objects import Objects

    out = work / survey
    if (out / "dataset.json").is_file():
        return out
    source = real / survey / "light_curves.parquet"
    if not source.is_file():
        raise UserError(f"there is no {source}: give the folder of real observations as real=<folder>")
    table = pq.read_table(source)
    labels = np.array(table["label"].to_pylist())
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in SURVEYS[survey]]
    table = table.take(np.sort(np.concatenate(chosen)))
    columns = [[np.array(x) for x in table[name].to_pylist()] for name in ("time", "mag", "mag_err")]
    classes = [SURVEYS[survey][label] for label in table["label"].to_pylist()]
    n = table.num_rows
    catalogue = np.full((n, len(ALL_COLS)), np.nan)
    if periods:
        catalogue[:, ALL_COLS.index("period")] = np.array(table["period"].to_pylist(), dtype=float)
    objects = Objects(
        [str(i) for i in table["id"].to_pylist()],
        [*classes],
        catalogue,
        list(zip(*columns, strict=True)),
        [None] * n,
        tuple(sorted(set(classes))),
    )
    recipe = Recipe(read_curve, no_spectrum, "missing" if periods else "all")
    convert_objects(objects, recipe, out, name=survey, provenance={"converted": {"sample": survey}}, workers=1)
    return out


def curves_of(data: Path) -> tuple[dict[str, Columns], dict[str, np.ndarray], dict[str, int], tuple[str, ...]]:
    """By id: time, flux and error; the four features; the label. And the names of the classes."""
    from astrom3.data.layouts import open_source
    from astrom3.data.observed import locate, observations

    source = open_source(data, "full", SEEDS[0])
    tables, where = locate(source)
    rows = np.array(sorted(row for _, row in where.values()))
    catalogue = tables[0].catalogue().take(rows)
    ids = [str(i) for i in catalogue.ids]
    curves = dict(zip(ids, (seen.light_curve for seen in observations(tables[0], rows)), strict=True))
    four = dict(zip(ids, catalogue.values[:, : len(PHOTO_COLS)], strict=True))
    labels = dict(zip(ids, catalogue.labels.tolist(), strict=True))
    return curves, four, labels, source.classes  # type: ignore[return-value]


def light_curve_features(curves: dict[str, Columns]) -> dict[str, np.ndarray] | None:
    """Features of the package `light-curve` by id; None where it is not installed."""
    try:
        import light_curve as lc
    except ImportError:
        return None
    shape = [
        lc.Amplitude(), lc.AndersonDarlingNormal(), lc.BeyondNStd(1.0), lc.BeyondNStd(2.0), lc.Cusum(), lc.Eta(),
        lc.EtaE(), lc.ExcessVariance(), lc.InterPercentileRange(0.02), lc.InterPercentileRange(0.1),
        lc.InterPercentileRange(0.25), lc.Kurtosis(), lc.LinearFit(), lc.LinearTrend(),
        lc.MagnitudePercentageRatio(0.4, 0.05), lc.MagnitudePercentageRatio(0.2, 0.05), lc.MaximumSlope(), lc.Mean(),
        lc.Median(), lc.MedianAbsoluteDeviation(), lc.PercentAmplitude(), lc.PercentDifferenceMagnitudePercentile(0.05),
        lc.PercentDifferenceMagnitudePercentile(0.1), lc.ReducedChi2(), lc.Skew(), lc.StandardDeviation(),
        lc.StetsonK(), lc.WeightedMean(),
    ]  # fmt: skip
    extractor = lc.Extractor(*shape)
    features = {}
    for name, (time, flux, error) in curves.items():
        good = (flux > 0) & (error > 0)
        good[1:] &= np.diff(time) > 0
        magnitude = -2.5 * np.log10(flux[good])
        sigma = 2.5 / np.log(10) * error[good] / flux[good]
        features[name] = extractor(time[good], magnitude, sigma, sorted=True, check=False, fill_value=0.0)
    return features


def forests(data: Path) -> dict[tuple[str, int], tuple[float, float]]:
    """(row, seed) -> accuracy and macro-F1 of random forests on the test split."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import f1_score

    from astrom3.data.layouts import open_source

    curves, four, labels, _ = curves_of(data)
    many = light_curve_features(curves)
    inputs = {"four": four}
    if many is not None:
        inputs |= {"many": many, "both": {name: np.concatenate([four[name], many[name]]) for name in four}}
    scores = {}
    for seed in SEEDS:
        source = open_source(data, "full", seed)
        ids = {split: [str(i) for i in source.catalogue(split).ids] for split in SPLITS}
        y = {split: np.array([labels[i] for i in ids[split]]) for split in SPLITS}
        for row, kind in FORESTS.items():
            if kind not in inputs:
                continue
            x = {s: np.nan_to_num(np.array([inputs[kind][i] for i in ids[s]]), posinf=0, neginf=0) for s in SPLITS}
            forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1).fit(x["train"], y["train"])
            predicted = forest.predict(x["test"])
            accuracy = float((predicted == y["test"]).mean())
            scores[row, seed] = accuracy, float(f1_score(y["test"], predicted, average="macro"))
    return scores


def networks(data: Path, work: Path, row: str) -> dict[tuple[str, int], tuple[float, float]]:
    """(row, seed) -> accuracy and macro-F1 of a network on the test split."""
    from astrom3.train import train

    scores = {}
    for seed in SEEDS:
        folder = f"{work}/runs/{data.name}-{row.partition('=')[2]}"
        cfg = compose(
            [
                "mode=photo",
                "size=small",
                "trainer=cpu",
                f"seed={seed}",
                f"root={folder}",
                "data=local",
                f"data.path={data}",
                f"data.cache={work}/store",
                *NETWORKS[row],
            ]
        )
        tested = train(cfg)
        scores[row, seed] = tested["accuracy"], tested["macro_f1"]
    return scores


def table(results: dict[str, dict[tuple[str, int], tuple[float, float]]]) -> str:
    """Markdown: a row for each survey and classifier, test accuracy and macro-F1 [%] by seed and in the mean."""
    heads = [f"seed {seed}" for seed in SEEDS]
    lines = [
        f"| survey | classifier | accuracy, {', '.join(heads)} | mean | macro-F1, {', '.join(heads)} | mean |",
        "|---|---|---|---|---|---|",
    ]
    for survey, scores in results.items():
        for row in (*FORESTS, *NETWORKS):
            if (row, SEEDS[0]) not in scores:
                continue
            cells = []
            for k in range(2):
                values = [100 * scores[row, seed][k] for seed in SEEDS]
                cells += [" ".join(f"{v:.1f}" for v in values), f"{np.mean(values):.1f}"]
            lines.append(f"| {survey} | {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(real: Path, work: Path) -> str:
    """Everything; returns the table and writes it, with the scores beside the runs as scores.json."""
    results: dict[str, Any] = {}
    for survey in SURVEYS:
        data = prepare(real, work, survey)
        results[survey] = forests(data)
        for row in NETWORKS:
            results[survey] |= networks(data, work, row)
    text = table(results)
    plain = {s: {f"{row}, {seed}": v for (row, seed), v in found.items()} for s, found in results.items()}
    (work / "scores.json").write_text(json.dumps(plain, indent=1) + "\n")
    before, mark, after = RESULTS.read_text().partition("<!-- table -->\n")
    if mark:
        _, end, rest = after.partition("<!-- end -->")
        RESULTS.write_text(before + mark + text + "\n" + end + rest)
    return text


def main() -> None:
    defaults = {"real": str(ROOT.parent / "shared" / "real"), "work": ROOT / "runs" / "recipe"}
    run_from_command_line("own_survey_recipe", defaults, lambda options: run(Path(options["real"]), options["work"]))


if __name__ == "__main__":
    main()
