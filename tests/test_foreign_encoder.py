"""A new encoder is one file and one YAML outside the package: trained, resumed, evaluated, started from, embedded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import astrom3
from astrom3.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
ENCODER = '''
import torch
from astrom3.modalities.view import register
from astrom3.modalities.views import AstromerView

register(AstromerView("short-windows", window=32))


class Moments(torch.nn.Module):
    """Mean, spread and skewness of the magnitudes of a short window, and a linear layer."""

    view = "short-windows"
    inputs = ("astromer/magnitudes", "astromer/valid")

    def __init__(self, width: int = 8):
        super().__init__()
        self.width = width
        self.out_features = width
        self.linear = torch.nn.Linear(3, width)

    def forward(self, magnitudes, valid):
        assert magnitudes.shape[1] == 32
        count = valid.sum(1).clamp(min=1)
        moments = [(magnitudes**k * valid).sum(1) / count for k in (1, 2, 3)]
        return self.linear(torch.stack(moments, dim=1))
'''
YAML = """# @package _global_.encoders.photometry
_target_: my_encoders.Moments
width: 6
"""
SAME = ["size=tiny", "data=simulated", "data.objects=80", "trainer=cpu", "seed=0", "epochs=2", "data.batch_size=32"]
MINE = ["--config-dir", "my_conf", "encoder/photometry=moments", "allow=my_encoders.Moments"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A user's folder: one Python file, one YAML."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_encoders.py").write_text(ENCODER)
    (folder / "my_conf" / "encoder" / "photometry").mkdir(parents=True)
    (folder / "my_conf" / "encoder" / "photometry" / "moments.yaml").write_text(YAML)
    return folder


def run(place, verb, *arguments):
    environment = os.environ | {"ASTROM3_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", f"astrom3.{verb}", *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def trained(place):
    done = run(place, "train", "mode=photo", *SAME, *MINE)
    assert done.returncode == 0, done.stderr
    return place / "runs" / "photo-full-scratch-0"


@pytest.mark.slow
def test_it_trains_and_is_saved_in_the_native_form(trained):
    content = json.loads((trained / "model" / "native.json").read_text())
    assert content["network"]["arguments"]["encoder"] == {"class": "my_encoders.Moments", "arguments": {"width": 6}}
    assert (trained / "metrics.json").is_file() and not (trained / "model" / "config.json").exists()


@pytest.mark.slow
def test_a_finished_run_is_not_repeated_and_evaluation_gives_its_scores(place, trained):
    again = run(place, "train", "mode=photo", *SAME, *MINE)
    assert again.returncode == 0 and "is finished" in again.stderr + again.stdout
    refused = run(place, "evaluate", f"run={trained}")
    assert refused.returncode == 2 and "allow=my_encoders.Moments" in refused.stderr
    done = run(place, "evaluate", f"run={trained}", "allow=my_encoders.Moments")
    assert done.returncode == 0, done.stderr
    assert json.loads((trained / "evaluation.json").read_text()) == json.loads((trained / "metrics.json").read_text())


@pytest.mark.slow
def test_it_stands_beside_other_encoders_and_is_embedded(place, trained):
    done = run(place, "train", "mode=clip", *SAME, *MINE)
    assert done.returncode == 0, done.stderr
    clip = place / "runs" / "clip-full-scratch-0"
    options = ["data=simulated", "data.objects=80", "seed=0", "out=embeddings", "allow=my_encoders.Moments"]
    done = run(place, "embed", f"model={clip}", *options)
    assert done.returncode == 0, done.stderr
    tables = [pq.read_table(path) for path in sorted((place / "embeddings").glob("*.parquet"))]
    assert sum(len(table) for table in tables) == 80 and "photometry" in tables[0].column_names


@pytest.mark.slow
def test_it_is_not_constructed_without_leave(trained):
    with pytest.raises(UserError, match=r"allow=my_encoders\.Moments"):
        astrom3.load(trained)


def test_a_folder_that_is_not_there_is_named(place):
    done = run(place, "train", "--config-dir=nowhere")
    assert done.returncode == 2 and "nowhere" in done.stderr and "no such folder" in done.stderr
