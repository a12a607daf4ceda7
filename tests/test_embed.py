"""python -m astrom3.embed: the same parquet whatever is killed, shared out or run side by side."""

import csv
import os
import random
import shutil
import signal
import sys
import time

import numpy as np
import processes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import make_rows, write_current, write_first, write_ours
from small_models import rows_with_gaps, save_model

from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.schema import CLASSES, UNLABELLED

pytestmark = pytest.mark.slow

N = 90


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A survey with gaps and a small trimodal classifier, untrained."""
    root = tmp_path_factory.mktemp("embed")
    write_ours(root / "survey", rows_with_gaps(N))
    save_model(root / "model", root / "survey")
    return root


def command(place, out, *options):
    return [sys.executable, "-m", "astrom3.embed", f"model={place}/model", "data=local", f"data.path={place}/survey",
            f"data.cache={place}/cache", f"out={out}", "part=8", "batch=4", *options]  # fmt: skip


def embed(place, out, *options, **environment):
    done = processes.run(command(place, out, *options), capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return Embeddings.read(out)


@pytest.fixture(scope="module")
def whole(place):
    return place / "whole", embed(place, place / "whole")


def same(a, b):
    """Folders with the same parts, number for number."""
    names = sorted(p.name for p in a.glob("*.parquet"))
    assert names == sorted(p.name for p in b.glob("*.parquet")) and names
    for name in names:
        assert pq.read_table(a / name).equals(pq.read_table(b / name)), name
    assert (a / "_rejected.csv").read_text() == (b / "_rejected.csv").read_text()
    assert not list(b.glob("*.tmp"))


def test_every_object_is_there_once_with_what_it_has(whole):
    folder, found = whole
    objects = {row["object_id"]: row for row in rows_with_gaps(N)}
    assert sorted(found.ids) == sorted(objects)
    for i, name in enumerate(found.ids):
        row = objects[name]
        assert found.present["spectra"][i] == (row["spectrum"] is not None)
        usable = row["light_curve"] is not None and len(row["light_curve"]["time"]) >= 10
        assert found.present["photometry"][i] == usable
        label = row["label"]
        assert found.labels[i] == (UNLABELLED if label is None else CLASSES.index(label))
    for m, there in found.present.items():
        norms = np.linalg.norm(found.vectors[m], axis=1)
        np.testing.assert_allclose(norms, there, atol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
    count = sum(p.astype(int) for p in found.present.values())
    np.testing.assert_allclose(found.vectors["mean"] * count[:, None], sum(found.vectors[m] for m in found.present),
                               atol=1e-5)  # fmt: skip
    rejected = list(csv.DictReader((folder / "_rejected.csv").open()))
    assert [r["object_id"] for r in rejected if "fewer than 10" in r["reason"]] == [rows_with_gaps(N)[1]["object_id"]]
    said = list(csv.DictReader((folder / "_predictions.csv").open()))
    assert [r["object_id"] for r in said] == list(found.ids)
    names = [found.classes[i] if i != UNLABELLED else "" for i in found.predicted]
    assert [r["predicted"] for r in said] == names
    first = [float(said[0][f"p({name})"]) for name in found.classes[: found.probabilities.shape[1]]]
    np.testing.assert_allclose(first, found.probabilities[0], rtol=1e-4)
    assert len(pq.read_table(folder)) == len(found)  # the folder as it is, as pandas.read_parquet reads it
    schema = pq.read_schema(next(folder.glob("test-*.parquet")))
    assert schema.field("spectra").type == pa.list_(pa.float32(), 24)


@pytest.mark.slow
def test_kills_lose_nothing_and_double_nothing(place, whole):
    out, rng = place / "killed", random.Random(0)
    kills = 0
    for _ in range(40):
        process = processes.Started(*command(place, out)[2:], env=os.environ | {"OMP_NUM_THREADS": "1"})
        before = len(list(out.glob("*.parquet")))
        limit = time.monotonic() + 60
        while process.poll() is None and len(list(out.glob("*.parquet"))) <= before and time.monotonic() < limit:
            time.sleep(0.002)  # until a part has been written: then at a random moment of the next ones
        time.sleep(rng.random() * 0.05)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if kills == 3:
            break
    assert kills >= 2
    embed(place, out)
    for left in out.glob("*.tmp"):
        left.unlink()  # of a killed process: no reader looks at it
    same(whole[0], out)


@pytest.mark.slow
def test_processes_and_jobs_of_an_array_make_the_same_files(place, whole):
    embed(place, place / "two", "processes=2")
    same(whole[0], place / "two")
    with pytest.raises(UserError, match="that its manifest names"):  # its part is written, the whole cannot be read yet
        embed(place, place / "array", SLURM_ARRAY_TASK_ID="4", SLURM_ARRAY_TASK_MIN="3", SLURM_ARRAY_TASK_COUNT="2")
    assert not (place / "array" / "_summary.json").exists()
    embed(place, place / "array", "shard=0", "shards=2")
    same(whole[0], place / "array")


@pytest.mark.slow
def test_streaming_gives_the_same_numbers(place, whole):
    found = embed(place, place / "streamed", "data.streaming=true")
    expected = whole[1]
    order, reference = np.argsort(found.ids), np.argsort(expected.ids)
    np.testing.assert_array_equal(found.ids[order], expected.ids[reference])
    for name in expected.vectors:
        np.testing.assert_allclose(found.vectors[name][order], expected.vectors[name][reference], atol=1e-5)


@pytest.mark.slow
def test_two_workers_of_ray_make_the_same_files(place, whole):
    pytest.importorskip("ray.data")
    embed(place, place / "ray", "engine=ray", "workers=2", RAY_USAGE_STATS_ENABLED="0")
    same(whole[0], place / "ray")


@pytest.mark.slow
def test_a_folder_of_something_else_is_refused_by_name(place, whole):
    copy = place / "copy"
    shutil.copytree(whole[0], copy)
    done = processes.run(command(place, copy, "part=16"), capture_output=True, text=True)
    assert done.returncode == 2 and "other settings (part)" in done.stderr
    embed(place, copy, "part=16", "overwrite=true")
    assert len(list(copy.glob("train-*.parquet"))) < len(list(whole[0].glob("train-*.parquet")))


@pytest.mark.parametrize("options, message", [
    (["part=6"], "must be a multiple of batch=4"),
    (["splits=[train,everything]"], "there are train, validation, test"),
    (["shard=2", "shards=2"], "shard from 0 to shards - 1"),
    (["engine=spark"], "engine=spark does not exist"),
    (["modle=x"], "there is no key modle: did you mean"),
])  # fmt: skip
def test_mistakes_are_answered_in_a_sentence(options, message, place):
    done = processes.run(command(place, place / "none", *options), capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_embeddings_of_other_layouts(place, tmp_path):
    from astrom3.cli.config import compose
    from astrom3.inference.trained import TrainedModel, data_of

    model = TrainedModel.load(place / "model")
    for write in (write_first, write_current):
        path = write(tmp_path / write.__name__, make_rows(60))
        cfg = compose(["model=x", "data=local", f"data.path={path}", f"data.cache={tmp_path}"], "embed")
        found = Embeddings.of_split_of(model, data_of(model, cfg.data, "full", 42), "test")
        assert len(found) and all(p.all() for p in found.present.values())


def test_what_is_no_table_of_embeddings_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no embeddings"):
        Embeddings.read(tmp_path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="is not a table of embeddings"):
        Embeddings.read(tmp_path)


def test_a_missing_extra_is_named():
    from astrom3.extras import need

    with pytest.raises(UserError, match=r'pip install "astrom3\[scale\]"'):
        need("no_such_package_at_all", "scale", "engine=ray")
