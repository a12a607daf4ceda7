"""The command astrom3.search: by id, by raw observations, and its mistakes."""

import csv
import hashlib
import json

import numpy as np
import processes
import pytest
import torch
from data_files import make_rows
from search_index import N, made_up, make_place, nearest, search

from astrom3.cli.config import compose
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier
from astrom3.errors import UserError
from astrom3.files import write_json
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import ALL_COLS, CLASSES
from astrom3.published import astrom3 as published
from astrom3.search.__main__ import embedded
from astrom3.search.index import Index

pytest.importorskip("lancedb")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("search"))


def test_without_the_extra_one_sentence(place):
    code = "import sys; sys.modules['lancedb'] = None; from astrom3.search.__main__ import main; main()"
    done = processes.run_module("-c", code, f"index={place}/index", "id=star 1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert 'the search needs lancedb: pip install "astrom3[search]"' in done.stderr


@pytest.mark.slow
def test_the_command_by_id_and_its_mistakes(place):
    done = search(place, "id=star 10", "top=3", "out=found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "found.json").read_text())
    expected, _ = nearest(made_up(), made_up().vectors["mean"][10], "mean", 4, np.ones(N, bool))
    assert [row["object_id"] for row in found] == expected[1:] and all(e in done.stdout for e in expected[1:])
    across = search(place, "id=star 10", "by=photometry", "find=spectra", "where=\"label = 'b' AND period < 3\"",
                    "out=found.csv")  # fmt: skip
    assert across.returncode == 0, across.stderr
    objects, row = made_up(), np.arange(N)
    among = objects.present["spectra"] & (objects.labels == 1) & (row < 300) & (row != 10) & (row != 5)
    expected, _ = nearest(objects, objects.vectors["photometry"][10], "spectra", 5, among)
    with open(place / "found.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["object_id"] for r in rows] == expected and "period" in rows[0] and "period" in across.stdout
    for options, message in (
        ([], "nothing to do"), (["id=nobody"], "has no object nobody"), (["id=star 1", "top=0"], "top=0"),
        (["id=star 1", "spectrum=x.fits"], "two queries"), (["id=star 1", "out=x.txt"], "must end in .json or .csv"),
        (["id=star 1", "catalogue=x.csv"], "when it is built"), (["id=star 1", "bye=mean"], "there is no key bye"),
    ):  # fmt: skip
        done = search(place, *options)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_command_by_raw_observations(tmp_path):
    rows = make_rows(30)
    values = np.array([[{**r["photo_cols"], **r["meta_cols"]}[c] for c in ALL_COLS] for r in rows])
    torch.manual_seed(0)
    published.save(Classifier(MetadataMLP(hidden_dim=24), 10), tmp_path / "model")
    write_json(tmp_path / "model" / "preprocessing.json",
               {"classes": list(CLASSES), "normaliser": Normaliser.fit(values).to_dict()})  # fmt: skip
    import astrom3

    model = astrom3.load(tmp_path / "model")
    found = model.embed(metadata=[r["meta_cols"] for r in rows])
    labels = np.array([CLASSES.index(r["label"]) for r in rows])
    objects = Embeddings(np.array([r["object_id"] for r in rows]), labels, np.full(30, "train"), found.present,
                         found.embeddings | {"mean": found.mean}, found.probabilities, CLASSES, "model")  # fmt: skip
    objects.write(tmp_path / "e.parquet")
    (tmp_path / "star.json").write_text(json.dumps(rows[12]["meta_cols"]))
    done = search(tmp_path, "embeddings=e.parquet", "metadata=star.json", "top=1", "out=found.csv")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "found.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["object_id"] == rows[12]["object_id"] and float(row["similarity"]) == pytest.approx(1, abs=1e-4)
    assert "predicted" in row
    with open(tmp_path / "star.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[3]["meta_cols"]))
        writer.writeheader()
        writer.writerow(rows[3]["meta_cols"])
    index = Index.open(tmp_path / "index")
    assert index.about["model"]["name"] == "model"
    cfg = compose([f"index={tmp_path}/index", f"metadata={tmp_path}/star.csv", f"model={tmp_path}/model"], "search")
    np.testing.assert_allclose(embedded(cfg, index), found.mean[3], atol=1e-5)
    torch.manual_seed(1)
    published.save(Classifier(MetadataMLP(hidden_dim=24), 10), tmp_path / "other")
    weights = hashlib.sha256((tmp_path / "model" / published.WEIGHTS).read_bytes()).hexdigest()
    index.about["model"]["weights"] = weights
    np.testing.assert_allclose(embedded(cfg, index), found.mean[3], atol=1e-5)
    cfg.model = str(tmp_path / "other")
    with pytest.raises(UserError, match=r"other is not the model that the embeddings in .* were made with"):
        embedded(cfg, index)
    wrong = search(tmp_path, "metadata=star.json", "by=photometry")
    assert wrong.returncode == 2 and "by=photometry: that modality is not among" in wrong.stderr
    (tmp_path / "model").rename(tmp_path / "moved")
    gone = search(tmp_path, "metadata=star.json")
    assert gone.returncode == 2 and "give model=<where it is now>" in gone.stderr
