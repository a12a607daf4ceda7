"""Regression: its targets in the survey, its scores, its runs; class-balanced training."""

import csv
import json
import os

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_files import make_rows
from omegaconf import OmegaConf
from processes import run_module

import astrom3
from astrom3.cli.config import compose, quote_groups
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.layouts import open_source
from astrom3.data.origins import Local
from astrom3.data.sampler import EpochSampler
from astrom3.data.writer import DatasetWriter
from astrom3.encoders.heads import classifier
from astrom3.encoders.magnitudes import MagnitudeMLP
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.schema import CLASSES, META_COLS, object_schema
from astrom3.published import native
from astrom3.tasks.classification import balanced_weights
from astrom3.tasks.regression import masked_mse, regression_scores, train_statistics
from astrom3.train import train

SMALL = ["size=tiny", "trainer=cpu", "data=local", "trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """80 objects without labels: `feh` follows from two catalogue columns, `age` is known for every third object."""
    rows = make_rows(80)
    for i, row in enumerate(rows):
        row["label"] = None
        feh = 3 * (row["meta_cols"]["j_mag"] - 12) - 2 * (row["meta_cols"]["pmra"] - 12)
        row["targets"] = {"feh": feh if i % 10 else None, "age": 5.0 + i if i % 3 == 0 else None}
    rows[10]["targets"] = None
    root = tmp_path_factory.mktemp("survey") / "set"
    with DatasetWriter(root, classes=[], name="t", provenance={}, targets={"feh": "dex", "age": None}) as writer:
        writer.write(rows)
        return writer.finish([42])


def module_of(root, cache, targets, **options):
    data = AstroM3DataModule(
        Local(root), modalities=["metadata"], labelled_only=False, targets=targets, cache=cache, **options
    )
    data.prepare_data()
    data.setup()
    return data


def test_the_survey_keeps_targets_with_units(survey):
    about = json.loads((survey / "dataset.json").read_text())
    assert about["version"] == 2
    assert about["targets"] == [{"name": "feh", "unit": "dex"}, {"name": "age", "unit": None}]
    assert about["modalities"] == ["photometry", "spectra", "metadata"]
    assert pq.read_schema(survey / "objects/objects-00000.parquet").equals(object_schema(["feh", "age"]))
    source = open_source(survey)
    assert source.units == {"feh": "dex"}
    with pytest.raises(UserError, match=r"target=mass is not known for the objects of .*; it has: feh, age, amplitude"):
        source.targets("train", ["mass"])


@pytest.mark.parametrize("streaming", [False, True])
def test_batches_hold_the_targets_of_their_objects(survey, tmp_path, streaming):
    data = module_of(survey, tmp_path, ["feh", "age"], streaming=streaming)
    stored = {row["object_id"]: row["targets"] for row in pq.read_table(survey / "objects").to_pylist()}
    ids = data.object_ids("train")
    seen = 0
    for batch in data.split_dataloader("train"):
        assert batch["target"].dtype == torch.float32
        for index, values in zip(batch["index"].tolist(), batch["target"], strict=True):
            for name, value in zip(("feh", "age"), values.tolist(), strict=True):
                expected = stored[ids[index]][name]
                assert np.isnan(value) if expected is None else value == pytest.approx(expected, rel=1e-6)
            seen += 1
    aimless = sum(not (stored[i] and any(v is not None for v in stored[i].values())) for i in ids)
    assert aimless > 0
    assert seen == len(ids) - aimless
    assert sum(d.reason == "no target" for d in data.splits["train"].decisions) == aimless


def test_further_plain_columns_and_catalogue_columns_are_targets_too(survey, tmp_path):
    for path in [*survey.rglob("*")]:
        if path.is_file():
            copy = tmp_path / path.relative_to(survey)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    path = tmp_path / "objects/objects-00000.parquet"
    table = pq.read_table(path)
    redshift = np.linspace(0, 1, len(table))
    pq.write_table(table.append_column("redshift", pa.array(redshift)), path)
    source = open_source(tmp_path)
    found = source.targets("train", ["redshift", "parallax"])
    np.testing.assert_allclose(found[:, 0], redshift[source.rows["train"]])
    assert np.isfinite(found[:, 1]).all()


def test_scores_of_known_numbers():
    true = np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 3.0], [3.0, 5.0]])
    predicted = np.array([[0.0, 2.0], [1.5, 9.0], [2.0, 3.0], [3.0, 4.0]])
    scores = regression_scores(predicted, true, ["redshift", "age"])
    redshift = scores["targets"]["redshift"]
    assert redshift["n"] == 4
    assert redshift["r2"] == pytest.approx(1 - 0.25 / 5)
    assert redshift["mae"] == pytest.approx(0.125)
    assert redshift["outliers"] == 0.25  # 0.5 / (1 + 1) is beyond 0.15
    assert redshift["sigma_nmad"] == 0
    age = scores["targets"]["age"]
    assert (age["n"], age["mae"]) == (3, pytest.approx(2 / 3))
    assert age["r2"] == pytest.approx(1 - 2 / 8)
    assert "outliers" not in age
    assert scores["r2"] == pytest.approx((redshift["r2"] + age["r2"]) / 2)


def test_sigma_nmad_is_the_deviation_of_a_gaussian():
    rng = np.random.default_rng(0)
    z = rng.uniform(0, 2, 100_000)
    scores = regression_scores((z + 0.02 * (1 + z) * rng.normal(size=len(z)))[:, None], z[:, None], ["z"])
    assert scores["targets"]["z"]["sigma_nmad"] == pytest.approx(0.02, rel=0.02)


def test_unknown_targets_have_no_part_in_the_loss():
    predicted = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = masked_mse(predicted, torch.tensor([[0.0, np.nan], [np.nan, 2.0]]))
    loss.backward()
    assert loss.item() == pytest.approx((1 + 4) / 2)
    assert predicted.grad.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert masked_mse(predicted, torch.full((2, 2), np.nan)).item() == 0


@pytest.mark.parametrize(
    ("values", "message"), [([np.nan, np.nan], "is not known for any training object"), ([2.0, 2.0], "is 2 for every")]
)
def test_targets_that_cannot_be_learned_are_one_sentence(values, message):
    with pytest.raises(UserError, match=f"target=feh {message}"):
        train_statistics(np.array(values)[:, None], ["feh"])


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """600 objects with catalogue columns alone; `feh` follows from two of them, `age` from none."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(600):
        values = dict(zip(META_COLS, rng.normal(12, 0.1, len(META_COLS)).tolist(), strict=True))
        feh = 3 * (values["ruwe"] - 12) - 2 * (values["pmra"] - 12)
        targets = {"feh": feh if i % 10 else None, "age": rng.normal() if i % 3 == 0 else None}
        rows.append({"object_id": f"star {i}", "meta_cols": values, "targets": targets})
    root = tmp_path_factory.mktemp("many") / "set"
    with DatasetWriter(root, classes=[], name="t", provenance={}, targets={"feh": "dex", "age": None}) as writer:
        writer.write(rows)
        return writer.finish([42])


@pytest.mark.slow
def test_a_regression_learns_what_follows_from_its_inputs(many, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [*SMALL, f"data.path={many}", f"data.cache={tmp_path}/cache", "mode=meta", "target=[feh,age]"]
    learning = ["epochs=25", "early_stopping.patience=25", "optim.lr=0.01", "schedule=constant", "data.batch_size=40"]
    scores = train(compose([*options, *learning, "encoders.metadata.dropout=0.0"]))
    assert scores["targets"]["feh"]["r2"] > 0.7
    assert scores["targets"]["feh"]["unit"] == "dex"
    assert scores["targets"]["feh"]["n"] > scores["targets"]["age"]["n"] > 0
    run = tmp_path / "runs/meta-feh+age-full-scratch-42"
    assert (run / "regression.png").is_file()
    known = json.loads((run / "model/preprocessing.json").read_text())["targets"]
    assert [target["name"] for target in known] == ["feh", "age"]
    assert known[0]["std"] > 0
    rows = (run / "metrics.csv").read_text().splitlines()
    assert "val/r2" in rows[0]


def test_a_survey_without_classes_is_not_classified(survey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [*SMALL, f"data.path={survey}", f"data.cache={tmp_path}/cache", "mode=meta", "epochs=1"]
    with pytest.raises(
        UserError, match=r"No object of the train split|has no classes, so there is nothing to classify"
    ):
        train(compose(options))


@pytest.mark.parametrize(
    ("overrides", "run"),
    [
        (["target=redshift"], "runs/photo-redshift-full-scratch-42"),
        (["target=[a,b]", "shots=20"], "runs/photo-a+b-shot20-scratch-42"),
        (["target=null"], "runs/photo-full-scratch-42"),
    ],
)
def test_targets_are_chosen_on_the_command_line(overrides, run):
    cfg = compose(["mode=photo", *overrides])
    assert cfg.run == run
    assert OmegaConf.to_container(cfg.datamodule)["targets"] == OmegaConf.to_container(cfg)["target"]
    assert cfg.module._target_.endswith(".RegressionModule") == (overrides[0] != "target=null")
    assert quote_groups(quote_groups(overrides)) == quote_groups(overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=clip", "target=feh"], "target=feh is a number to predict, and mode=clip predicts none"),
        (["mode=photo", "task=regression"], "task=regression needs the number to predict"),
        (["mode=photo", "target=feh", "balance=weights"], "balance=weights is for a classification"),
        (["mode=photo", "balance=both"], "balance=both does not exist: it is one of none, sampling, weights"),
    ],
)
def test_mistakes_are_one_sentence(overrides, message):
    with pytest.raises(UserError, match=message):
        compose(overrides)


# --- balanced classes -------------------------------------------------------------------------------------------------

LABELS = np.repeat([0, 1, 2], [80, 17, 3])


def test_balanced_sampling_draws_every_class_equally_often():
    sampler = EpochSampler(100, seed=1, batch_size=20, labels=LABELS)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = np.concatenate(list(sampler))
        assert sorted(np.bincount(LABELS[order])) == [33, 33, 34]
        times = np.bincount(order, minlength=100)
        assert times[LABELS == 0].max() == 1  # of a frequent class, no object comes twice
        assert set(times[LABELS == 2]) <= {11, 12}
        orders.append(order)
    assert set(orders[0][LABELS[orders[0]] == 0]) != set(orders[1][LABELS[orders[1]] == 0])
    sampler.set_epoch(0)
    assert (np.concatenate(list(sampler)) == orders[0]).all()


def test_balanced_ranks_share_every_batch():
    whole = list(EpochSampler(100, 1, batch_size=20, labels=LABELS))
    halves = [list(EpochSampler(100, 1, rank, 2, 20, labels=LABELS)) for rank in (0, 1)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert batch.tolist() == [*first, *second]


def test_weights_make_all_classes_count_alike():
    weights = balanced_weights(np.array([0] * 6 + [2] * 2 + [-1] * 4), 3)
    assert weights == pytest.approx([8 / 12, 0, 2.0])


def test_a_balanced_loader_resumes_within_an_epoch(survey, tmp_path):
    root = tmp_path / "labelled"
    rows = make_rows(60)
    for i, row in enumerate(rows):
        row["label"] = "EW" if i % 6 else "RRAB"
    with DatasetWriter(root, classes=CLASSES, name="t", provenance={}) as writer:
        writer.write(rows)
        writer.finish([42])
    data = module_of(root, tmp_path / "cache", None, balance="sampling", batch_size=12)
    loader = data.train_dataloader()
    loader.set_epoch(3)
    whole = [batch["index"].tolist() for batch in loader]
    labels = np.concatenate(
        [data.splits["train"].labels[data.splits["train"].positions.searchsorted(i)] for i in whole]
    )
    assert abs((labels == CLASSES.index("EW")).mean() - 0.5) < 0.15
    again = data.train_dataloader()
    again.load_state_dict({"epoch": 3, "done": 2})
    assert [batch["index"].tolist() for batch in again] == whole[2:]


def saved(folder, network, scales):
    """A model folder of a regression."""
    native.save(network, folder)
    about = {"classes": [], "normaliser": None, "targets": scales}
    (folder / "preprocessing.json").write_text(json.dumps(about))
    return astrom3.load(folder, device="cpu")


SCALES = [
    {"name": "feh", "unit": "dex", "mean": -1.0, "std": 0.5},
    {"name": "teff", "unit": None, "mean": 5000.0, "std": 700.0},
]


def test_a_regression_is_embedded_by_its_encoder(tmp_path):
    """Its head predicts numbers, so nothing is classified."""
    model = saved(tmp_path, classifier(MetadataMLP(34, 8), 2), SCALES)
    assert not model.has_head and model.modalities == ("metadata",)
    found = model.encode({"metadata": torch.randn(3, 34)})
    assert found.mean.shape == (3, model.width) and found.probabilities is None
    with pytest.raises(UserError, match=r"tells no classes, it predicts numbers \(feh, teff\): call predict"):
        model.classify(metadata={"ruwe": 1.0})


@pytest.mark.parametrize("together", [True, False], ids=["together", "alone"])
def test_a_regression_predicts_in_the_units_of_the_survey(together, tmp_path):
    torch.manual_seed(0)
    encoders = {"spectra": SpecFormer(8, 1, 2), "photometry": MagnitudeMLP(8, 1)}
    network = MultimodalClassifier(MultimodalModel(encoders, 8), 2) if together else Classifier(encoders["spectra"], 2)
    model = saved(tmp_path, network, SCALES)
    flux = 1 + 0.1 * np.sin(np.arange(7781) / 50)
    found = model.predict(spectrum=[flux, None], ids=["A", "B"])
    batch = {"specformer/flux": torch.tensor(flux, dtype=torch.float32)[None], "magnitudes/grz": torch.zeros(1, 3)}
    batch["present"] = {"spectra": torch.tensor([True]), "photometry": torch.tensor([False])}
    with torch.inference_mode():
        outputs = network.eval()(batch)[0].numpy()
    np.testing.assert_allclose(found.numbers[0], outputs * [0.5, 700] + [-1, 5000], rtol=1e-5)
    assert np.isnan(found.numbers[1]).all() and found.units == ("dex", None)
    assert found.as_dicts()[0] == {
        "feh": pytest.approx(found.numbers[0, 0]),
        "teff": pytest.approx(found.numbers[0, 1]),
    }
    assert found.to_arrow().column_names == ["object_id", "predicted_feh", "predicted_teff"]
    assert model.whole.num_classes == 2 and model.network is not model.whole


def test_a_model_of_classes_predicts_no_numbers(tmp_path):
    model = TrainedModel("made up", Classifier(MetadataMLP(34, 8), 2).eval(), ("a", "b"), None)
    with pytest.raises(
        UserError, match="made up predicts no numbers: load a run that was trained with target=<column>"
    ):
        model.predict(metadata={"ruwe": 1.0})


def test_a_head_that_has_not_as_many_outputs_as_targets_is_another_models(tmp_path):
    with pytest.raises(UserError, match="names 1 targets, the head has 2: it belongs to another model"):
        saved(tmp_path, classifier(MetadataMLP(34, 8), 2), SCALES[:1])


@pytest.mark.slow
def test_numbers_are_written_by_embed_and_exported(many, tmp_path):
    """The same in the table, in the csv, in Python from the exported folder, and under onnxruntime."""
    environment = {**os.environ, "ASTROM3_CACHE": str(tmp_path / "cache")}
    data = ["data=local", f"data.path={many}"]
    for verb, *words in (
        ("train", "mode=meta", "target=[feh,age]", "size=tiny", "epochs=1", "trainer=cpu", "root=runs", *data),
        ("embed", "model=runs/meta-feh+age-full-scratch-42", "out=vectors"),
        ("export", "model=runs/meta-feh+age-full-scratch-42", "out=exported"),
    ):
        done = run_module(f"astrom3.{verb}", *words, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
    found = Embeddings.read(tmp_path / "vectors")
    assert found.targets == ("feh", "age") and np.isfinite(found.numbers).all()
    rows = {row["object_id"]: row for row in csv.DictReader((tmp_path / "vectors" / "_predictions.csv").open())}
    assert len(rows) == len(found)
    for name, numbers in zip(found.ids, found.numbers, strict=True):
        assert [float(rows[name][f"predicted_{target}"]) for target in found.targets] == pytest.approx(
            numbers, rel=1e-4
        )

    model = astrom3.load(tmp_path / "exported", device="cpu")
    inputs = torch.randn(4, 34)
    told = model.encode({"metadata": inputs}).numbers
    session = onnxruntime.InferenceSession(tmp_path / "exported" / "onnx" / "metadata_regression.onnx")
    np.testing.assert_allclose(session.run(["numbers"], {"metadata": inputs.numpy()})[0], told, rtol=1e-4, atol=1e-4)
