"""Light curves of any length as vectors: mean, maximum or sequence, by window and by object, also as parquet."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import astrom3
from astrom3.cli.config import compose
from astrom3.embed.__main__ import embed
from astrom3.encoders.astromer import Astromer
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.towers import Classifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.trained import TrainedModel
from astrom3.modalities.astromer_view import empty_batch, fill_windows
from astrom3.modalities.schema import CLASSES
from astrom3.published import native
from astrom3.simulate.origin import Simulated

pytestmark = pytest.mark.slow

LENGTHS = (470, 400, 37, 200, 5)
WIDTH = 16


def curves(lengths=LENGTHS):
    """Arrays (L, 3) of time, magnitude and error, as ASTROMER's users have them."""
    rng = np.random.default_rng(1)
    found = []
    for n in lengths:
        time = 50000 + np.sort(rng.uniform(0, 900, n))
        found.append(np.stack([time, 15 + rng.normal(0, 0.2, n), np.full(n, 0.03)], axis=1))
    return found


def astromer(version=2):
    torch.manual_seed(version)
    return Astromer(version, layers=2, d_model=WIDTH, n_heads=2, d_ff=32).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained encoder with a class head, in the native form."""
    folder = tmp_path_factory.mktemp("model")
    native.save(Classifier(astromer(), len(CLASSES)), folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return astrom3.load(folder, device="cpu")


def tokens(curve, start, stop):
    """The encoder's tokens of points start ... stop - 1 of a curve, as one window alone."""
    batch = empty_batch(1)
    piece = curve[start:stop]
    fill_windows(piece, np.array([0, len(piece)]), np.zeros(1, np.int64), np.zeros(1, np.int64), batch)
    encoder = astromer()
    with torch.inference_mode():
        found, _ = encoder.tokens(*(torch.from_numpy(batch[key]) for key in encoder.inputs))
    return found[0, : len(piece)].numpy()


def test_a_window_has_the_vector_of_its_points_alone(model):
    given = curves()
    found = model.embed(light_curve=given, pooling="mean", per="window")
    assert found.objects.tolist() == [0, 0, 0, 1, 1, 2, 3, 4]
    assert found.windows.tolist() == [0, 1, 2, 0, 1, 0, 0, 0]
    assert found.starts.tolist() == [0, 200, 270, 0, 200, 0, 0, 0]
    assert found.ends.tolist() == [200, 400, 470, 200, 400, 37, 200, 5]
    highest = model.embed(light_curve=given, pooling="max", per="window")
    for row in range(len(found)):
        points = tokens(given[found.objects[row]], found.starts[row], found.ends[row])
        np.testing.assert_allclose(found.vectors[row], points.mean(0), atol=2e-4)
        np.testing.assert_allclose(highest.vectors[row], points.max(0), atol=2e-4)


def test_an_object_counts_every_point_once(model):
    given = curves()
    parts = [tokens(given[0], 0, 200), tokens(given[0], 200, 400), tokens(given[0], 270, 470)[130:]]
    points = np.concatenate(parts)
    assert len(points) == 470
    mean = model.embed(light_curve=given, pooling="mean")
    highest = model.embed(light_curve=given, pooling="max")
    sequence = model.embed(light_curve=given, pooling="sequence")
    np.testing.assert_allclose(mean.vectors[0], points.mean(0), atol=2e-4)
    np.testing.assert_allclose(highest.vectors[0], points.max(0), atol=2e-4)
    np.testing.assert_allclose(sequence.vectors[0], points, atol=2e-4)
    assert [vectors.shape for vectors in sequence.vectors] == [(n, WIDTH) for n in LENGTHS]
    assert mean.objects.tolist() == [0, 1, 2, 3, 4] and mean.ends.tolist() == list(LENGTHS)


def test_rows_stand_in_the_order_given(model):
    given = curves([30] * 12)
    mean = model.embed(light_curve=given, pooling="mean").vectors
    turned = model.embed(light_curve=given[::-1], pooling="mean").vectors
    np.testing.assert_allclose(turned[::-1], mean, atol=1e-6)
    assert len(np.unique(mean.round(5), axis=0)) == 12


def test_what_cannot_be_used_has_no_window_and_an_empty_vector(model):
    given = [*curves([60]), curves([60])[0][:4]]
    windows = model.embed(light_curve=given, pooling="mean", per="window")
    assert windows.objects.tolist() == [0]
    assert [decision.object_id for decision in windows.decisions if decision.decision == "rejected"] == ["1"]
    objects = model.embed(light_curve=given, pooling="mean")
    assert objects.vectors[0].any() and not objects.vectors[1].any()
    assert [len(v) for v in model.embed(light_curve=given, pooling="sequence").vectors] == [60, 0]
    with pytest.raises(UserError, match="cannot be used"):
        model.embed(light_curve=given[1], pooling="mean")


def test_many_windows_go_through_in_pieces(model, monkeypatch):
    given = curves([1700, 900])
    whole = model.embed(light_curve=given, pooling="mean").vectors
    monkeypatch.setattr("astrom3.inference.windows.AT_ONCE", 3)
    np.testing.assert_allclose(model.embed(light_curve=given, pooling="mean").vectors, whole, atol=1e-6)


def test_a_window_of_a_trimodal_model_is_in_the_common_space():
    torch.manual_seed(0)
    network = MultimodalModel({"photometry": astromer()}, hidden_dim=12).eval()
    model = TrainedModel("made up", network, CLASSES, None)
    given = curves([150, 420])
    pooled = model.embed(light_curve=given, pooling="mean", per="window")
    assert pooled.vectors.shape == (4, 12)
    np.testing.assert_allclose(np.linalg.norm(pooled.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(pooled.vectors[0], model.embed(light_curve=given[0]).mean[0], atol=1e-5)
    assert model.embed(light_curve=given, pooling="sequence").vectors[1].shape == (420, WIDTH)


def test_wrong_words_are_answered(model):
    for options, words in (
        ({"pooling": "median"}, "one of mean, max, sequence"),
        ({"pooling": "mean", "per": "night"}, "one of object, window"),
        ({"per": "window"}, "needs pooling="),
    ):
        with pytest.raises(UserError, match=words):
            model.embed(light_curve=curves([30]), **options)


def test_the_view_of_astrom3_gives_its_one_window():
    torch.manual_seed(0)
    encoder = InformerEncoder(d_model=16, n_heads=2, d_ff=32, e_layers=1, evaluation="fixed")
    model = TrainedModel("made up", encoder.eval(), (), Simulated(40).open("full", 0).normaliser)
    rng = np.random.default_rng(0)
    curve = np.sort(rng.uniform(0, 500, 300)), rng.normal(20, 1, 300), np.full(300, 0.3)
    found = model.embed(light_curve=curve, pooling="mean", per="window")
    assert (found.starts.tolist(), found.ends.tolist()) == ([50], [250])
    np.testing.assert_allclose(found.vectors, model.embed(light_curve=curve).mean, atol=1e-5)


def test_a_model_that_projects_whole_windows_has_nothing_to_pool():
    from small_models import trimodal

    model = TrainedModel("made up", trimodal().eval(), (), Simulated(40).open("full", 0).normaliser)
    rng = np.random.default_rng(0)
    curve = np.sort(rng.uniform(0, 500, 300)), rng.normal(20, 1, 300), np.full(300, 0.3)
    for options in ({"pooling": "mean"}, {"pooling": "max", "per": "window"}):
        with pytest.raises(UserError, match="nothing to pool: say pooling=sequence"):
            model.embed(light_curve=curve, **options)
    assert model.embed(light_curve=curve, pooling="sequence").vectors[0].shape[1] == 16


@pytest.fixture(scope="module")
def written(tmp_path_factory, folder):
    """Folders of embeddings by (pooling, per), of the same simulated survey."""
    root = tmp_path_factory.mktemp("parquet")
    same = [f"model={folder}", "data=simulated", "data.objects=60", "seed=0", f"data.cache={root}", f"data.root={root}"]
    found = {}
    for pooling, per in ((None, "object"), ("mean", "object"), ("max", "window"), ("sequence", "object")):
        out = root / f"{pooling}-{per}"
        keys = [] if pooling is None else [f"pooling={pooling}", f"per={per}"]
        embed(compose([*same, *keys, f"out={out}", "part=32", "batch=16"], "embed"))
        found[pooling, per] = out
    return found


def read(folder):
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("[!_]*.parquet"))])


def test_parquet_of_windows_and_sequences(written):
    windows = read(written["max", "window"])
    assert windows.column_names == ["object_id", "label", "split", "window", "start", "end", "photometry"]
    assert windows.schema.field("photometry").type == pa.list_(pa.float32(), WIDTH)
    sequences = read(written["sequence", "object"])
    points = {row["object_id"]: row for row in sequences.to_pylist()}
    assert len(points) == 60
    for row in points.values():
        assert len(row["photometry"]) == row["end"] - row["start"]
        assert {len(vector) for vector in row["photometry"]} == {WIDTH}
    for row in windows.to_pylist():
        sequence = np.array(points[row["object_id"]]["photometry"])
        if row["window"] == 0:
            np.testing.assert_allclose(row["photometry"], sequence[: row["end"]].max(0), atol=1e-6)
    assert max(windows["window"].to_pylist()) > 0  # there are long curves among them


def test_pooled_objects_are_embeddings_as_others_are(written):
    pooled = Embeddings.read(written["mean", "object"])
    central = Embeddings.read(written[None, "object"])
    sequences = {
        row["object_id"]: np.array(row["photometry"]) for row in read(written["sequence", "object"]).to_pylist()
    }
    assert pooled.ids.tolist() == central.ids.tolist() and pooled.labels.tolist() == central.labels.tolist()
    np.testing.assert_array_equal(pooled.probabilities, central.probabilities)
    for name, vector in zip(pooled.ids.tolist(), pooled.vectors["mean"], strict=True):
        np.testing.assert_allclose(vector, sequences[name].mean(0), atol=1e-5)
    short = np.array([len(sequences[name]) <= 200 for name in pooled.ids.tolist()])
    assert short.any() and not short.all()
    np.testing.assert_allclose(pooled.vectors["mean"][short], central.vectors["mean"][short], atol=1e-5)
    assert np.abs(pooled.vectors["mean"][~short] - central.vectors["mean"][~short]).max() > 1e-3


def test_windows_are_not_taken_for_objects(written):
    with pytest.raises(UserError, match="per=object"):
        Embeddings.read(written["max", "window"])
