"""The comparison on light curves with few labels, tiny and on simulated curves."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from astrom3.cli.config import compose
from astrom3.errors import UserError
from experiments.astromer.__main__ import keep_settings, main, read_options
from experiments.astromer.surveys import CLASSES, Sizes, draw_fold

pytestmark = pytest.mark.slow

PER_CLASS = 12


def write_survey(folder: Path, names: list[str], seed: int) -> None:
    """Sine waves whose period and amplitude depend on the class."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list] = {key: [] for key in ("id", "label", "period", "time", "mag", "mag_err")}
    for number, name in enumerate(names * PER_CLASS):
        kind = number % len(names)
        time = np.sort(rng.uniform(0, 500, 230))
        period = 3.0 * (kind + 1)
        columns["id"].append(str(number))
        columns["label"].append(name)
        columns["period"].append(period)
        columns["time"].append(time)
        columns["mag"].append(15 + 0.2 * (kind + 1) * np.sin(2 * np.pi * time / period) + rng.normal(0, 0.01, 230))
        columns["mag_err"].append(np.full(230, 0.01))
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "light_curves.parquet")


def test_folds_are_nested_and_share_nothing_with_their_test_set():
    labels = np.repeat([0, 1, 2], [700, 700, 300])
    fold = draw_fold(labels, Sizes(), 1)
    used = {n: set(fold["train"][n]) | set(fold["validation"][n]) for n in (20, 100, 500)}
    assert used[20] <= used[100] <= used[500]
    assert not used[500] & set(fold["test"])
    assert np.bincount(labels[sorted(used[100])]).tolist() == [100, 100, 100]
    assert np.bincount(labels[fold["test"]]).tolist() == [100, 100, 100]
    assert np.bincount(labels[sorted(used[500])]).tolist() == [500, 500, 200]


def test_an_hour_has_its_own_sizes_and_a_folder_keeps_those_it_was_started_with(tmp_path):
    given = ["hour", "real=a", "weights=b", f"root={tmp_path}", "steps=7"]
    options = read_options(given)
    assert (options["epochs"], options["unlabelled"], options["steps"]) == (80, 4000, 7)
    assert read_options(given[1:])["epochs"] == 25
    keep_settings(tmp_path, options)
    keep_settings(tmp_path, read_options([*given, "only=forest"]))
    with pytest.raises(UserError, match="started with epochs=80, this is epochs=9"):
        keep_settings(tmp_path, read_options([*given, "epochs=9"]))


@pytest.mark.slow
def test_the_experiment_runs_and_resumes_on_simulated_curves(tmp_path, real_dir):
    weights = real_dir.parent / "weights" / "astromer" / "macho_a0.zip"
    if not weights.is_file():
        pytest.skip(f"{weights} is not there")
    for seed, (survey, classes) in enumerate(CLASSES.items()):
        write_survey(tmp_path / "real" / survey, list(classes), seed)
    arguments = [
        f"real={tmp_path / 'real'}", f"weights={weights}", f"root={tmp_path / 'runs'}", f"out={tmp_path / 'out'}",
        "test=3", "folds=1", "unlabelled=40", "epochs=1", "tuning_epochs=1", "steps=2",
    ]  # fmt: skip
    rows = main(arguments)
    assert len(rows) == 12 * 3
    forest = [row["macro_f1"] for row in rows if row["method"].startswith("random forest")]
    assert min(forest) > 0.9
    scores = sorted((tmp_path / "runs" / "crts-sss" / "scores").glob("*.json"))
    before = [path.stat().st_mtime_ns for path in scores]
    assert main(arguments) == rows
    assert [path.stat().st_mtime_ns for path in scores] == before
    assert "| Astromer 2 small, own, leak |" in (tmp_path / "out" / "results.md").read_text()


def test_the_commands_of_the_scenarios_find_each_other(tmp_path):
    """Each command of the README is composed for one point of its sweep: classifiers start from the fine-tuned runs."""
    text = (Path(__file__).parents[1] / "experiments" / "astromer" / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    tuning, classifying = [[word.split(",")[0] for word in words[words.index("-m", 3) + 1 :]] for words in commands]
    tuned = compose(tuning)
    classifier = compose(classifying)
    assert classifier.init.path == tuned.run
    assert "lstm" in classifier.run and "shot20-fold1of3" in classifier.run
    assert list(classifier.freeze) == ["encoders"]
