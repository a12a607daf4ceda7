"""astrom3.load(...).embed and .classify on raw observations: the numbers of a data set, any form, clear refusals."""

import importlib.util
import subprocess
import sys

import numpy as np
import processes
import pytest
import torch
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time
from data_files import make_rows, write_ours
from hub_server import serve

import astrom3
from astrom3.cli.config import compose
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Local
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.files import write_json
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.trained import TrainedModel, WithStatistics
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import ALL_COLS, CLASSES
from astrom3.published import astrom3 as published
from astrom3.train import train

ROWS = make_rows(40)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_ours(tmp_path_factory.mktemp("data") / "survey", make_rows(40))


def saved(folder, network, statistics=True):
    """A model folder, with the statistics of the survey's objects."""
    published.save(network, folder)
    values = np.array([[{**r["photo_cols"], **r["meta_cols"]}[c] for c in ALL_COLS] for r in ROWS])
    normaliser = Normaliser.fit(values).to_dict() if statistics else None
    write_json(folder / "preprocessing.json", {"classes": list(CLASSES), "normaliser": normaliser})
    return folder


def trimodal():
    torch.manual_seed(0)
    small = InformerEncoder(d_model=16, n_heads=2, d_ff=32, e_layers=2)
    encoders = {"photometry": small, "spectra": GalSpecNet((3, 8, 8, 4, 4)), "metadata": MetadataMLP(hidden_dim=16)}
    return MultimodalModel(encoders, 24)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    photo = Classifier(InformerEncoder(d_model=16, n_heads=2, d_ff=32, e_layers=1), 10)
    return {
        "clip": astrom3.load(saved(root / "clip", trimodal())),
        "all": astrom3.load(saved(root / "all", MultimodalClassifier(trimodal(), 10))),
        "photo": astrom3.load(saved(root / "photo", photo)),
    }


def raw(row):
    """What a user would hand in."""
    return {
        "light_curve": None if row["light_curve"] is None else tuple(row["light_curve"].values()),
        "spectrum": None if row["spectrum"] is None else tuple(row["spectrum"].values()),
        "metadata": {**row["photo_cols"], **row["meta_cols"]},
    }


def many(rows):
    return {key: [raw(r)[key] for r in rows] for key in ("light_curve", "spectrum", "metadata")}


@pytest.mark.parametrize("name", ["clip", "all"])
def test_raw_objects_get_the_numbers_of_a_data_set(name, models, survey, tmp_path):
    model = models[name]
    origin = WithStatistics(Local(survey), model.normaliser)
    data = AstroM3DataModule(origin, labelled_only=False, cache=tmp_path, eval_batch_size=7)
    data.prepare_data()
    data.setup()
    known = {row["object_id"]: row for row in ROWS}
    for split in ("train", "validation", "test"):
        expected = Embeddings.of_split_of(model, data, split)
        found = model.embed(**many([known[i] for i in expected.ids]))
        for m in model.modalities:
            np.testing.assert_array_equal(found.present[m], expected.present[m])
            np.testing.assert_allclose(found.embeddings[m], expected.vectors[m], atol=2e-5)
        np.testing.assert_allclose(found.mean, expected.vectors["mean"], atol=2e-5)
        if name == "all":
            np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=2e-5)
            assert model.classify(**many([known[i] for i in expected.ids])).labels == [
                CLASSES[k] for k in expected.predicted
            ]


def test_every_form_of_a_light_curve_gives_the_same(models, tmp_path):
    time, flux, error = ROWS[0]["light_curve"].values()
    features = ROWS[0]["photo_cols"]
    expected = models["photo"].embed(light_curve=(time, flux, error), metadata=features).mean
    table = QTable({"hjd": time * u.day, "Flux": (flux / 1000) * u.Jy, "flux_err": error * u.mJy})
    zero = 3.631e6
    magnitude, sigma = -2.5 * np.log10(flux / zero), 2.5 / np.log(10) * error / flux
    file = tmp_path / "curve.csv"
    Table({"hjd": time, "flux": flux, "flux_err": error}).write(file)
    forms = [
        {"time": time * 24 * u.hour, "flux": flux * u.mJy, "flux_err": error},
        (Time(time + 2_450_000, format="jd"), flux, error),
        table, file, str(file),
    ]  # fmt: skip
    for form in forms:
        found = models["photo"].embed(light_curve=form, metadata=features).mean
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=str(type(form)))
    for form in ({"jd": time, "mag": magnitude, "mag_err": sigma}, (time, magnitude * u.mag, sigma * u.mag)):
        found = models["photo"].embed(light_curve=form, metadata=features, system="AB").mean
        np.testing.assert_allclose(found, expected, atol=1e-4)
        found = models["photo"].embed(light_curve=form, metadata=features)
        assert any("without zero_point" in decision.reason for decision in found.decisions)
        relative = models["photo"].embed(light_curve=(time, flux / zero * 1e6, error / zero * 1e6), metadata=features)
        np.testing.assert_allclose(found.mean, relative.mean, atol=1e-4)
    Table({"hjd": time, "mag": magnitude, "mag_err": sigma}).write(tmp_path / "magnitudes.csv")
    of_file = models["photo"].embed(light_curve=tmp_path / "magnitudes.csv", metadata=features)
    np.testing.assert_allclose(of_file.mean, found.mean, atol=1e-4)
    assert any("without zero_point" in decision.reason for decision in of_file.decisions)


def test_features_are_computed_where_they_are_not_given(models):
    curve = raw(ROWS[0])["light_curve"]
    computed = models["photo"].embed(light_curve=curve).mean
    from astrom3.modalities.features import light_curve_features

    given = models["photo"].embed(light_curve=curve, metadata=light_curve_features(*curve)).mean
    np.testing.assert_allclose(computed, given, atol=1e-6)
    other = models["photo"].embed(light_curve=curve, metadata={"period": 0.123}).mean
    assert np.abs(other - given).max() > 1e-4
    again = models["photo"].embed(light_curve=curve, metadata={"period": 0.123}, features="all").mean
    np.testing.assert_allclose(again, given, atol=1e-6)
    none = models["photo"].embed(light_curve=curve, features="none")
    assert any("set to the train mean" in d.reason for d in none.decisions)


def test_any_subset_of_the_modalities(models):
    one = raw(ROWS[0])
    everything = models["all"].embed(**one)
    for names in (["light_curve"], ["spectrum"], ["metadata"], ["spectrum", "metadata"]):
        found = models["all"].embed(**{name: one[name] for name in names})
        count = sum(bool(p[0]) for p in found.present.values())
        assert count == len(names)
        if "spectrum" in names:
            np.testing.assert_allclose(found.embeddings["spectra"], everything.embeddings["spectra"], atol=1e-6)
        assert np.isfinite(found.probabilities).all()


def test_bad_objects_among_many_are_listed_and_kept_in_place(models):
    good, short = raw(ROWS[0]), tuple(np.arange(5.0) for _ in range(3))
    found = models["all"].embed(
        light_curve=[good["light_curve"], short, None, "nowhere.csv"],
        spectrum=[good["spectrum"], None, (*good["spectrum"][:2], np.zeros(700)), None],
        metadata=[good["metadata"], None, None, None],
    )
    assert found.present["photometry"].tolist() == [True, False, False, False]
    reasons = {d.object_id: d.reason for d in found.decisions if d.decision == "rejected"}
    assert "fewer than 10 usable points" in reasons["1"] and "nowhere.csv: no such file" in reasons["3"]
    assert reasons["2"].startswith("all inverse variances 0") and not found.present["spectra"][2]
    classified = models["all"].classify(light_curve=[good["light_curve"], short], metadata=[good["metadata"], None])
    assert classified.labels[0] in CLASSES and classified.labels[1] is None
    assert abs(sum(classified.as_dicts()[0].values()) - 1) < 1e-5


def test_tables_of_metadata_and_masked_values(models):
    rows = [raw(r)["metadata"] for r in ROWS[:3]]
    expected = models["clip"].embed(metadata=rows).mean
    table = Table(rows=rows)
    np.testing.assert_allclose(models["clip"].embed(metadata=table).mean, expected, atol=1e-6)
    table["w4_mag"] = MaskedColumn(table["w4_mag"], mask=[True, False, False])
    found = models["clip"].embed(metadata=table)
    assert [d.object_id for d in found.decisions if "w4_mag missing" in d.reason] == ["0"]
    one = models["clip"].embed(metadata=rows[0] | {"parallax": rows[0]["parallax"] / 1000 * u.arcsec})
    np.testing.assert_allclose(one.mean[0], expected[0], atol=1e-5)


WRONG = [
    ("photo", {"light_curve": (np.arange(20.0), np.arange(20.0) * u.m, np.ones(20))}, "flux is in m, which cannot"),
    ("photo", {"light_curve": (np.arange(20.0), np.arange(19.0), np.ones(20))}, "unequal lengths: 20, 19, 20"),
    ("photo", {"light_curve": {"time": np.arange(20.0), "flux": np.ones(20)}}, "no column flux_err"),
    ("photo", {"light_curve": (np.arange(5.0), np.arange(5.0), np.ones(5))}, "fewer than 10 usable points"),
    ("photo", {"light_curve": (np.arange(20.0), np.ones(20), np.ones(20))}, "constant flux"),
    ("photo", {"light_curve": (["a"] * 20, np.ones(20), np.ones(20))}, "time is not all numbers"),
    ("photo", {"spectrum": (np.ones(3),) * 3}, "knows photometry, not spectra"),
    ("photo", {}, "nothing to work on"),
    ("photo", {"light_curve": "nowhere.csv"}, "nowhere.csv: no such file"),
    ("photo", {"light_curve": raw(ROWS[0])["light_curve"], "frequency": 1}, "options are system"),
    ("clip", {"metadata": {"paralax": 1.0}}, "did you mean parallax"),
    ("clip", {"metadata": {"parallax": 1.0 * u.mag}}, "parallax is in mag, which cannot"),
    ("clip", {"metadata": [{"parallax": 1.0}], "spectrum": [None, None]}, "unequal length"),
]


@pytest.mark.parametrize("name, given, message", WRONG, ids=[m for _, _, m in WRONG])
def test_what_cannot_be_used_is_said_in_a_sentence(name, given, message, models):
    with pytest.raises(UserError, match=message) as caught:
        models[name].embed(**given)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_head_does_not_classify(models):
    with pytest.raises(UserError, match="has no class head"):
        models["clip"].classify(**raw(ROWS[0]))


@pytest.mark.slow
def test_a_trained_run_carries_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    cfg = compose(["mode=meta", "size=tiny", "data=simulated", "data.objects=240", "trainer=cpu", "epochs=1",
                   f"root={tmp_path}", "trainer.enable_progress_bar=false"])  # fmt: skip
    train(cfg)
    model = astrom3.load(tmp_path / "meta-full-scratch-42")
    assert model.pad_constants and model.normaliser is not None
    assert model.classify(metadata=raw(ROWS[0])["metadata"]).labels[0] in CLASSES


@pytest.mark.slow
def test_published_models_take_their_statistics_from_the_hub(tmp_path, monkeypatch, models):
    name = "AstroMLCore/AstroM3-CLIP-12"
    published.save(trimodal(), tmp_path / name)
    info = models["clip"].normaliser.to_dict()
    write_json(place := tmp_path / "info.json", info)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with serve(tmp_path) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        code = (
            "import astrom3, sys, numpy as np\n"
            f"m = astrom3.load({name!r}, statistics=sys.argv[1] or None)\n"
            "x = np.arange(40.)\n"
            "print(m.embed(light_curve=(x, np.sin(x) + 9, x * 0 + 0.1)).mean.shape)"
        )

        def embed(statistics):
            return processes.run_module("-c", code, statistics)

        given = embed(str(place))
        assert given.returncode == 0 and "(1, 24)" in given.stdout, given.stderr
        missing = embed("")
        assert "fetch it on a machine that can" in missing.stderr and "splits/full/12/info.json" in missing.stderr
        folder = tmp_path / "AstroMLCore" / "AstroM3Dataset" / "splits" / "full" / "12"
        folder.mkdir(parents=True)
        write_json(folder / "info.json", info)
        found = embed("")
        assert found.returncode == 0 and found.stdout == given.stdout, found.stderr


def test_importing_astrom3_stays_light():
    code = "import sys, astrom3; print(sorted({'torch', 'hydra', 'lightning', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_evaluation_must_exist(models):
    with pytest.raises(UserError, match="evaluation=perhaps"):
        TrainedModel.load(models["clip"].name, evaluation="perhaps")


def test_frames_tables_and_time_series_of_others_are_light_curves():
    """What pandas, polars and astropy hold gives the embedding of the plain arrays."""
    pandas = pytest.importorskip("pandas")
    from astropy import units as u
    from astropy.table import Table
    from astropy.time import Time
    from astropy.timeseries import TimeSeries

    from astrom3.encoders.astromer import Astromer

    torch.manual_seed(0)
    encoder = Astromer(1, layers=1, d_model=16, n_heads=2, d_ff=16).eval()
    model = TrainedModel("made up", encoder, (), None)
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 900, 120))
    mag = 15 + rng.normal(0, 0.2, 120)
    error = np.full(120, 0.03)
    columns = {"time": time, "mag": mag, "mag_err": error}
    plain = model.embed(light_curve=np.stack([time, mag, error], axis=1)).mean
    series = TimeSeries(time=Time(time + 2450000, format="jd"), data={"mag": mag * u.mag, "mag_err": error * u.mag})
    given = {"dict": columns, "pandas": pandas.DataFrame(columns), "table": Table(columns), "series": series}
    if importlib.util.find_spec("polars"):
        import polars

        given["polars"] = polars.DataFrame(columns)
    for name, light_curve in given.items():
        np.testing.assert_allclose(model.embed(light_curve=light_curve).mean, plain, atol=1e-6, err_msg=name)
