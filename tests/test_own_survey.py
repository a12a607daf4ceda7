"""The guide "your own survey in ten minutes": its commands, one after the other, on files as a user has them."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from processes import run_command, run_module
from test_readme import commands

ROOT = Path(__file__).resolve().parents[1]
SNIPPETS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "experiments/own_survey/README.md").read_text(), re.DOTALL)


def shrink(command):
    command = command.replace("objects=400", "objects=120")
    command = command.replace("recipe=survey", "recipe=survey epochs=1 trainer=cpu")
    return command.replace("out=my_model", "out=my_model onnx=false").replace("size=small", "size=tiny")


@pytest.mark.slow
def test_the_guide(tmp_path):
    environment = os.environ | {
        "ASTROM3_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    for kind, text in SNIPPETS:
        for command in [text] if kind == "python" else commands(text):
            if kind == "python":
                done = run_module("-c", command, cwd=tmp_path, env=environment)
            else:
                done = run_command(shrink(command), tmp_path, environment)
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    n = len((tmp_path / "mine" / "stars.csv").read_text().splitlines()) - 1
    table = pq.read_table(tmp_path / "my_embeddings")
    assert sorted(table["object_id"].to_pylist()) == sorted(f"star-{i}" for i in range(n))
    assert None in table["label"].to_pylist() and None not in table["predicted"].to_pylist()
    numbers = json.loads((tmp_path / "my_analysis" / "analysis.json").read_text())
    assert set(numbers["sensitivity"]) == {"photometry", "rfr_score"}
    features = json.loads((tmp_path / "my_data" / "summary.json").read_text())["features_computed"]
    assert features == n and (tmp_path / "my_stars.html").stat().st_size > 1e5
    assert (tmp_path / "my_model" / "README.md").is_file()


@pytest.mark.slow
@pytest.mark.real
def test_asas_curves_are_embedded_and_classified(real_dir, tmp_path, monkeypatch):
    from experiments import own_survey

    monkeypatch.setattr(own_survey, "RESULTS", tmp_path / "results")
    numbers = own_survey.asas(real_dir, tmp_path / "work", "epochs=2", what=("fewshot", "sensitivity"))
    assert numbers["objects"] == 89 and numbers["largest_difference"] < 1e-3
    assert numbers["accuracy_raw"] == pytest.approx(numbers["accuracy_embedded"], abs=0.012)
    assert numbers["accuracy_embedded"] == pytest.approx(numbers["accuracy_tested"])
    embedded = pq.read_table(tmp_path / "work" / "analysis" / "embeddings")
    assert len(embedded) == 447 and np.isfinite(np.concatenate(embedded["photometry"].to_pylist())).all()
    assert "(sensitivity.png)" in (tmp_path / "results" / "report.md").read_text()
