"""A training task and a survey that are not of this package: one Python file, and a YAML each (tests/foreign).

The task is trained, killed and resumed, evaluated and its model embedded; the survey is converted. The page
docs/pages/extending.md shows these very files.
"""

import json
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import processes
import pyarrow.parquet as pq
import pytest
import torch

from astrom3.cli.config import OWN_FOLDERS, compose, with_own_folders
from astrom3.embed.__main__ import embed
from astrom3.errors import UserError
from astrom3.evaluate import evaluate
from astrom3.inference.embeddings import Embeddings
from astrom3.train import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = Path(__file__).parent / "foreign"
TASK = "my_tasks.SameClass"
N = 60
RUN = "clip-same_class-full-scratch-0"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A user's folder with the files of tests/foreign."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(FOREIGN, folder, dirs_exist_ok=True)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("my_tasks", None)
    OWN_FOLDERS.clear()


def words(place, root, *more):
    """The command line of a training."""
    return [
        *("--config-dir", str(place / "my_conf"), "mode=clip", "task=same_class", f"root={root}"),
        *("modalities=[photometry,metadata]", "size=tiny", "trainer=cpu", "epochs=4", "data.batch_size=16"),
        *("trainer.enable_progress_bar=false", *data(place), *more),
    ]


def data(place):
    return ["data=simulated", f"data.objects={N}", "seed=0", f"data.cache={place}", f"data.root={place}"]


def train_there(folder, arguments):
    sys.path.insert(0, str(folder))
    torch.set_num_threads(1)
    train(compose(with_own_folders(arguments)))


def training(place, root):
    """A process that trains the run: the last digits are the same in every process of one kind."""
    arguments = words(place, root, f"allow={TASK}")
    process = processes.CONTEXT.Process(target=train_there, args=(str(place), arguments))
    process.start()
    return process


@pytest.fixture(scope="module")
def trained(place):
    assert processes.finish(training(place, place / "runs")) == 0
    return place / "runs" / RUN


def test_the_class_of_a_task_is_constructed_only_with_leave(place):
    with pytest.raises(UserError, match=rf"allow={TASK}"):
        compose(with_own_folders(words(place, place / "runs")))


def test_it_trains_by_its_own_loss_and_writes_its_own_scores(trained):
    scores = json.loads((trained / "metrics.json").read_text())
    assert set(scores) == {"seed", "stage", "loss", "accuracy_of_neighbours", "n"}
    rows = np.genfromtxt(trained / "metrics.csv", delimiter=",", names=True)
    assert rows["trainloss"][-1] < rows["trainloss"][0]
    last = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    watched = [value for value in last["callbacks"].values() if value.get("monitor") == "val/accuracy"]
    assert float(watched[0]["best_model_score"]) == pytest.approx(rows["valaccuracy"].max(), rel=1e-6)


def test_its_loss_is_that_of_the_paper(place):
    """Against the sums of the paper's equation 2, written out."""
    import my_tasks

    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=1)
    labels = torch.tensor([0, 1, 0, 2, 1, 0])
    task = my_tasks.SameClass(torch.nn.Identity(), "abc", {}, {}, temperature=0.5)
    task.model.forward = lambda batch: {"photometry": vectors}
    expected = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        same = [j for j in others if labels[j] == labels[i]]
        total = sum(torch.exp(vectors[i] @ vectors[j] / 0.5) for j in others)
        for j in same:
            expected -= torch.log(torch.exp(vectors[i] @ vectors[j] / 0.5) / total) / len(same)
    torch.testing.assert_close(task.scored({"label": labels})[0], expected / 6)


@pytest.mark.slow
def test_killed_it_resumes_exactly(place, trained):
    root = place / "broken"
    process = training(place, root)
    assert processes.wait_for(root / RUN / "checkpoints" / "last.ckpt", process, 200)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not (root / RUN / "metrics.json").exists()
    assert processes.finish(training(place, root)) == 0
    for name in ("metrics.csv", "metrics.json", "model/native.safetensors"):
        assert (root / RUN / name).read_bytes() == (trained / name).read_bytes(), name


def test_evaluation_gives_its_scores(trained):
    with pytest.raises(UserError, match=f"allow={TASK}"):
        evaluate(compose([f"run={trained}"], "evaluate"))
    evaluate(compose([f"run={trained}", f"allow={TASK}"], "evaluate"))
    scores = json.loads((trained / "metrics.json").read_text())
    again = json.loads((trained / "evaluation.json").read_text())
    assert again.pop("stage") == scores.pop("stage")
    assert again == pytest.approx(scores, rel=1e-6)  # another kind of process, another last digit


def test_its_model_is_embedded_without_the_task(place, trained):
    """The network is of this package, so nothing need be allowed."""
    embed(compose([*data(place), f"model={trained}", f"out={place / 'embeddings'}"], "embed"))
    found = Embeddings.read(place / "embeddings")
    assert len(found) == N and set(found.modalities) == {"photometry", "metadata"}


def test_a_survey_of_ones_own_is_converted(place):
    curves = place / "curves"
    curves.mkdir()
    rng = np.random.default_rng(0)
    rows = ["star,kind"]
    for number, kind in enumerate(["Mira", "Cepheid"] * 3):
        times = np.sort(rng.uniform(0, 300, 40))
        magnitudes = 14 + 0.3 * np.sin(times) + rng.normal(0, 0.02, 40)
        lines = [f"{t:.5f},{m:.4f},0.02" for t, m in zip(times, magnitudes, strict=True)]
        (curves / f"s{number}.csv").write_text("\n".join(["jd,v,e_v", *lines]))
        rows.append(f"s{number},{kind}")
    (curves / "stars.csv").write_text("\n".join(rows))
    done = processes.run_module(
        *("astrom3.convert", "--config-dir", "my_conf", "survey=mine", "table=curves/stars.csv", "out=converted"),
        *("features=none", "workers=1", "seeds=[42]"),
        cwd=place,
    )
    assert done.returncode == 0, done.stderr
    table = pq.read_table(place / "converted" / "objects")
    assert sorted(set(table["label"].to_pylist())) == ["DCEP", "M"] and len(table) == 6


def test_the_documentation_shows_these_very_files():
    page = (ROOT / "docs" / "pages" / "extending.md").read_text()
    shown = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    code = (FOREIGN / "my_tasks.py").read_text().split('"""\n\n', 1)[1]
    assert code in shown
    for name in ("task/same_class.yaml", "survey/mine.yaml"):
        assert (FOREIGN / "my_conf" / name).read_text() in shown, name
