"""The table: means, deviations, gains and differences computed here by hand; every state a run folder can be in."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import processes
import pytest
from omegaconf import OmegaConf
from scipy import stats

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.report import table
from astrom3.report.__main__ import report

SEEDS = (42, 0, 66)
SCRATCH, CLIP = (0.40, 0.44, 0.51), (0.62, 0.58, 0.60)


def run_folder(root, mode="spectra", sub="sub10", init="scratch", seed=42, scores=None, *extra):
    """A folder as training leaves it; without scores the run is unfinished."""
    folder = root / f"{mode}-{sub}-{init}-{seed}"
    folder.mkdir(parents=True)
    path = [f"init.path={root}/x"] if init == "clip" else []
    cfg = compose([f"mode={mode}", f"sub={sub}", f"init={init}", f"seed={seed}", f"root={root}", *path, *extra])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    if scores is not None:
        (folder / "metrics.json").write_text(json.dumps(scores))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs in every state, composed once: each test gets a copy."""
    root = tmp_path_factory.mktemp("made") / "runs"
    for i, seed in enumerate(SEEDS):
        run_folder(root, seed=seed, scores={"accuracy": SCRATCH[i], "macro_f1": 0.3})
        run_folder(root, init="clip", seed=seed, scores={"accuracy": CLIP[i], "macro_f1": 0.5})
    centroids = {"photometry": 0.7, "mean": 0.8}
    run_folder(root, "clip", "full", scores={"loss": 12.5, "clip_accuracy": 0.25, "centroid_accuracy": centroids})
    run_folder(root, "meta", seed=42)
    (root / "meta-sub10-scratch-42" / "metrics.csv").write_text("epoch,step\n0,1\n1,2\n")
    failed = run_folder(root, "meta", seed=0)
    (failed / "failure.json").write_text(json.dumps({"reason": "the loss became nan", "when": "2026-11-21"}))
    damaged = run_folder(root, "photo", seed=0, scores={})
    (damaged / "metrics.json").write_text('{"accuracy": 0.')
    return root


@pytest.fixture
def runs(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs"))


def test_means_deviations_gain_and_difference_are_those_computed_by_hand(runs):
    report(compose([f"root={runs}"], "report"))
    rows = {(r["mode"], r["sub"], r["init"]): r for r in csv.DictReader((runs / "report" / "report.csv").open())}
    scratch, clip = rows["spectra", "sub10", "scratch"], rows["spectra", "sub10", "clip"]
    assert int(scratch["n"]) == 3 and scratch["gain"] == ""
    assert float(scratch["accuracy"]) == pytest.approx(45.0)
    assert float(scratch["accuracy_std"]) == pytest.approx(np.sqrt((5**2 + 1 + 6**2) / 2))
    assert float(scratch["published"]) == 46.677 and float(scratch["published_std"]) == 3.486
    assert float(scratch["difference"]) == pytest.approx((45.0 - 46.677) / 3.486)
    assert float(clip["macro_f1"]) == pytest.approx(50.0) and float(clip["macro_f1_std"]) == pytest.approx(0.0)
    assert float(clip["gain"]) == pytest.approx(15.0) and int(clip["pairs"]) == 3  # 22, 14, 9
    assert float(clip["gain_error"]) == pytest.approx(np.sqrt((7**2 + 1 + 6**2) / 2 / 3))
    assert float(clip["p"]) == pytest.approx(stats.ttest_rel(CLIP, SCRATCH).pvalue)


@pytest.mark.slow
def test_failed_damaged_unfinished_and_missing_runs_are_listed(runs):
    assert report(compose([f"root={runs}"], "report")) == {"finished": 7, "failed": 1, "unfinished": 1, "damaged": 1}
    text = (runs / "report" / "report.md").read_text()
    assert "- meta-sub10-scratch-0: the loss became nan" in text
    assert "- meta-sub10-scratch-42: 2 epochs done" in text
    assert "- photo-sub10-scratch-0: " in text
    assert "- spectra sub10 clip: seeds 12, 123" in text
    assert "no run at all of: photo full scratch" in text and "spectra sub10 scratch:" in text
    assert "| 42 | 12.500 | 25.0 | photometry 70.0, mean 80.0 |" in text
    states = {r["folder"]: r["state"] for r in csv.DictReader((runs / "report" / "runs.csv").open())}
    assert states["photo-sub10-scratch-0"] == "damaged" and len(states) == 10


@pytest.mark.slow
def test_runs_of_other_data_or_settings_are_not_averaged_unnoticed(runs):
    run_folder(
        runs, "meta", "sub25", "scratch", 42, {"accuracy": 0.5, "macro_f1": 0.4}, "data=simulated", "hidden_dim=64"
    )
    report(compose([f"root={runs}"], "report"))
    text = (runs / "report" / "report.md").read_text()
    assert "Warning: the runs differ in hidden_dim: 512 in" in text and "64 in 1 runs (such as meta-sub25" in text
    assert "the runs differ in data.origin._target_" in text and "Simulated data" in text


@pytest.mark.slow
def test_other_families_sweeps_and_folds_have_rows_of_their_own(tmp_path):
    scores = [{"accuracy": share, "macro_f1": share} for share in (0.2, 0.4, 0.6, 0.8)]
    run_folder(tmp_path, "photo", "full", "scratch", 42, scores[0])
    for number, extra in enumerate((["model=astromer2"], ["suffix=-lr-0.1"])):
        run_folder(tmp_path / f"{number}", "photo", "full", "scratch", 42, scores[number + 1], *extra)
    for fold in (1, 2):
        made = [f"fold={fold}", "folds=3", "shots=5"]
        run_folder(tmp_path / f"fold {fold}", "photo", "full", "scratch", 42, scores[fold], *made)
    for path in sorted(tmp_path.glob("*/*-42")):
        shutil.move(path, tmp_path / f"{path.parent.name}-{path.name}")
    report(compose([f"root={tmp_path}"], "report"))
    found = {}
    for row in csv.DictReader((tmp_path / "report" / "report.csv").open()):
        found[row["mode"], row["sub"]] = int(row["n"]), float(row["accuracy"])
    assert found == {
        ("photo", "full"): (1, pytest.approx(20)),
        ("astromer2-photo", "full"): (1, pytest.approx(40)),
        ("photo-lr-0.1", "full"): (1, pytest.approx(60)),
        ("photo", "shot5-3folds"): (2, pytest.approx(50)),
    }
    assert "Warning" not in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.slow
def test_what_follows_from_the_published_configuration_is_no_disagreement(runs):
    text = report(compose([f"root={runs}"], "report")) and (runs / "report" / "report.md").read_text()
    assert "Warning" not in text


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([], (None, None, None)),
        ([3.0], (3.0, None, None)),
        ([2.0, 2.0], (2.0, 0.0, 0.0)),
        ([0.0, 0.0], (0.0, 0.0, 1.0)),
    ],
)
def test_too_few_or_equal_pairs_give_no_nan(gains, expected):
    assert table.gain(gains) == expected


def test_latex_is_balanced_and_escaped(runs):
    report(compose([f"root={runs}"], "report"))
    text = (runs / "report" / "report.tex").read_text()
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and all(line.count("&") == 9 for line in rows)
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    assert text.count("{") == text.count("}") and r"45.0 $\pm$ 5.6" in text


@pytest.mark.slow
def test_the_command_line_takes_the_folder_alone_and_needs_no_torch(runs, tmp_path):
    code = "import sys; from astrom3.report.__main__ import main; main(); sys.exit('torch' in sys.modules and 3)"
    done = subprocess.run([sys.executable, "-c", code, f"{runs}/"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| spectra | sub10 | clip | 3 | 60.0 +- 2.0 | 50.0 +- 0.0 | +15.0 +- 3.8 |" in done.stdout
    assert {p.name for p in (runs / "report").glob("[!.]*")} == {
        "report.md", "report.csv", "runs.csv", "report.tex", "report.png"}  # fmt: skip
    assert list(tmp_path.iterdir()) == [runs]
    nothing = processes.run([sys.executable, "-m", "astrom3.report", "nowhere"], capture_output=True, text=True)
    assert nothing.returncode == 2 and "nowhere is not a folder" in nothing.stderr


def test_a_folder_of_folders_of_runs_says_where_they_are(runs):
    with pytest.raises(UserError, match=r"holds no runs; there are runs below .*/runs"):
        report(compose([f"root={runs.parent}"], "report"))
