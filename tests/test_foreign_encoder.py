"""Encoders and a modality that are not of this package: one Python file and two YAML files (tests/foreign).

They are trained, killed and resumed, saved, evaluated, started from, embedded, analysed, explored and exported, and
after loading constructed only with leave. docs/pages/extending.md shows these very files.
"""

import ast
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import processes
import pyarrow.parquet as pq
import pytest
import torch

import astrom3
from astrom3.analyse.__main__ import analyse
from astrom3.cli.config import OWN_FOLDERS, compose, with_own_folders
from astrom3.embed.__main__ import embed
from astrom3.errors import UserError
from astrom3.evaluate import evaluate
from astrom3.explore.__main__ import explore
from astrom3.export.__main__ import export
from astrom3.inference.embeddings import Embeddings
from astrom3.simulate.origin import Simulated
from astrom3.train import train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = Path(__file__).parent / "foreign"
MOMENTS = "my_encoders.Moments"
BOTH = "allow=[my_encoders.Moments,my_encoders.Horn]"
SAME = ["size=tiny", "trainer=cpu", "epochs=3", "data.batch_size=32", "trainer.enable_progress_bar=false"]
LIGHT = ["mode=photo", "encoder/photometry=moments", f"allow={MOMENTS}"]
PAIR = ["mode=clip", "encoder/photometry=moments", "+encoder/sound=horn", "modalities=[photometry,sound]", BOTH]
N = 80


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A user's folder with the files of tests/foreign, a simulated survey, and sounds of most of its objects."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(FOREIGN, folder, dirs_exist_ok=True)
    source = Simulated(N, root=folder).open("full", 0)
    ids = np.array(source.table("train").catalogue().ids, dtype=str)
    rng = np.random.default_rng(0)
    kept = rng.permutation(N)[: N - 12]
    levels = rng.normal(size=(len(kept), 12)).astype(np.float32)
    np.savez(folder / "sounds.npz", ids=ids[kept], levels=levels)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("my_encoders", None)
    OWN_FOLDERS.clear()


def data(place):
    return ["data=simulated", f"data.objects={N}", "seed=0", f"data.cache={place}", f"data.root={place}"]


def configured(place, root, keys, verb="train"):
    """The configuration of a run with the user's own folder of YAML files."""
    own = ["--config-dir", str(place / "my_conf")] if verb == "train" else []
    same = [*SAME, f"root={root}"] if verb == "train" else []
    return compose(with_own_folders([*own, *data(place), *same, *keys]), verb)


@pytest.fixture(scope="module")
def trained(place):
    train(configured(place, place / "runs", LIGHT))
    return place / "runs" / "photo-full-scratch-0"


@pytest.fixture(scope="module")
def pair(place):
    """Light curves and sounds in one space."""
    train(configured(place, place / "runs", PAIR))
    return place / "runs" / "clip-full-scratch-0"


@pytest.fixture(scope="module")
def embedded(place, pair):
    keys = [f"model={pair}", f"out={place / 'embeddings'}", BOTH]
    embed(configured(place, None, keys, "embed"))
    return place / "embeddings"


@pytest.mark.parametrize("run", ["trained", "pair"])
def test_it_is_saved_in_the_native_form_and_constructed_only_with_leave(run, request):
    folder = request.getfixturevalue(run)
    content = json.loads((folder / "model" / "native.json").read_text())
    assert json.dumps({"class": MOMENTS, "arguments": {"width": 6}}) in json.dumps(content)
    assert (folder / "metrics.json").is_file() and not (folder / "model" / "config.json").exists()
    with pytest.raises(UserError, match=r"allow=my_encoders\.(Moments|Horn)"):
        astrom3.load(folder)
    assert astrom3.load(folder, allow=[MOMENTS, "my_encoders.Horn"]).width in (6, 16, 512, 32)


def test_evaluation_gives_its_scores(place, trained):
    with pytest.raises(UserError, match=f"allow={MOMENTS}"):
        evaluate(compose([f"run={trained}"], "evaluate"))
    evaluate(compose([f"run={trained}", f"allow={MOMENTS}"], "evaluate"))
    assert json.loads((trained / "evaluation.json").read_text()) == json.loads((trained / "metrics.json").read_text())


@pytest.mark.slow
def test_killed_it_resumes_exactly(place):
    """From the command line, as a user starts it: the process is killed after its first epoch."""
    more = [*LIGHT, "epochs=8", "early_stopping.patience=8"]
    train(configured(place, place / "whole", more))
    words = ["--config-dir", "my_conf", *data(place), *SAME, f"root={place / 'broken'}", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = place / "broken" / "photo-full-scratch-0"
    process = processes.Started("astrom3.train", *words, cwd=place, env=environment)
    while process.poll() is None and not (run / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "metrics.json").exists(), "it was finished before it was killed"
    train(configured(place, place / "broken", more))
    whole = place / "whole" / run.name
    for name in ("metrics.csv", "metrics.json", "model/tensors.safetensors", "rejected.csv"):
        if (whole / name).exists():
            assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    one, two = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (run, whole))
    torch.testing.assert_close(one["state_dict"], two["state_dict"], rtol=0, atol=0)


def test_another_run_starts_from_it(place, pair):
    keys = [*LIGHT, "init=file", f"init.path={pair}", BOTH, "epochs=1", "optim.lr=1e-12"]
    train(configured(place, place / "started", keys))
    run = place / "started" / "photo-full-file-0"
    model = astrom3.load(run, allow=MOMENTS)
    given = astrom3.load(pair, allow=[MOMENTS, "my_encoders.Horn"])
    theirs = given.backbone.encoders["photometry"].linear.weight
    torch.testing.assert_close(model.encoder.linear.weight, theirs, rtol=0, atol=1e-6)


def test_a_new_modality_is_embedded(embedded):
    files = sorted(embedded.glob("[!_]*.parquet"))
    assert "sound" in pq.read_schema(files[0]).names
    found = Embeddings.read(embedded)
    assert set(found.modalities) == {"photometry", "sound"} and len(found) == N
    assert found.present["sound"].sum() == N - 12
    lost = ~found.present["sound"]
    np.testing.assert_allclose(found.vectors["mean"][lost], found.vectors["photometry"][lost], atol=1e-6)


def test_streaming_gives_the_same_embeddings(place, pair, embedded):
    keys = [f"model={pair}", f"out={place / 'streamed'}", BOTH, "data.streaming=true"]
    embed(configured(place, None, keys, "embed"))
    whole = Embeddings.read(embedded)
    found = Embeddings.read(place / "streamed")
    order = [found.ids.tolist().index(name) for name in whole.ids.tolist()]
    np.testing.assert_allclose(found.vectors["sound"][order], whole.vectors["sound"], atol=1e-5)


def test_raw_light_curves_are_embedded(pair):
    model = astrom3.load(pair, allow=[MOMENTS, "my_encoders.Horn"])
    rng = np.random.default_rng(0)
    curve = np.stack([np.sort(rng.uniform(0, 90, 50)), rng.normal(15, 0.1, 50), np.full(50, 0.02)], axis=1)
    found = model.embed(light_curve=[curve, curve[:40]])
    assert found.present["photometry"].all() and not found.present["sound"].any()
    np.testing.assert_allclose(found.mean, found.embeddings["photometry"], atol=1e-6)


@pytest.mark.slow
def test_it_is_analysed_and_explored(place, pair, embedded):
    what = "what=[retrieval,ablation,outliers]"
    keys = [f"model={pair}", f"embeddings={embedded}", f"out={place / 'analysis'}", BOTH, what]
    analyse(configured(place, None, keys, "analyse"))
    report = (place / "analysis" / "report.md").read_text()
    assert "sound" in report
    page = place / "page.html"
    keys = [f"model={pair}", f"embeddings={embedded}", f"out={page}", BOTH, "map=pca"]
    explore(configured(place, None, keys, "explore"))
    assert page.stat().st_size > 10_000


@pytest.mark.slow
def test_it_is_exported(place, pair):
    keys = [f"model={pair}", f"out={place / 'release'}", BOTH]
    differences = export(compose(keys, "export"))
    assert set(differences) == {
        "light_curve.onnx", "light_curve_embedding.onnx", "sound.onnx", "sound_embedding.onnx", "whole.onnx",
    }  # fmt: skip
    session = onnxruntime.InferenceSession(str(place / "release" / "onnx" / "sound.onnx"))
    assert [value.name for value in session.get_inputs()] == ["levels"]
    assert "sound" in (place / "release" / "README.md").read_text()


def test_the_documentation_shows_these_very_files():
    page = (ROOT / "docs" / "pages" / "extending.md").read_text()
    code = "".join(path.read_text() for path in sorted(FOREIGN.glob("*.py")))
    shown = []
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        for node in ast.parse(block).body:
            if isinstance(node, ast.ClassDef):
                assert ast.get_source_segment(block, node) in code, node.name
                shown.append(node.name)
    assert shown == ["Moments", "SoundReader", "SoundView", "Horn", "SameClass"]
    assert (FOREIGN / "my_conf" / "encoder" / "photometry" / "moments.yaml").read_text() in page


@pytest.mark.slow
def test_a_folder_that_is_not_there_is_named(place):
    done = processes.run_module("astrom3.train", "--config-dir=nowhere", cwd=place)
    assert done.returncode == 2 and "nowhere" in done.stderr and "no such folder" in done.stderr
