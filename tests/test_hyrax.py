"""Our encoders in the real hyrax, where it is installed (it needs torchvision, so it is in no extra of ours)."""

import numpy as np
import pytest
import torch

hyrax = pytest.importorskip("hyrax")
OBJECTS = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set of light curves, and a small encoder in a model folder."""
    from data_files import make_rows

    from astrom3.data.writer import DatasetWriter
    from astrom3.encoders.astromer import Astromer
    from astrom3.published import native

    root = tmp_path_factory.mktemp("hyrax")
    with DatasetWriter(root / "data", classes=(), name="t", provenance={}) as writer:
        writer.write([row | {"label": None, "spectrum": None, "meta_cols": None} for row in make_rows(OBJECTS)])
        writer.finish([42])
    torch.manual_seed(0)
    native.save(Astromer(1, layers=1, d_model=16, n_heads=2, d_ff=16), root / "model")
    return root


def configuration(root):
    session = hyrax.Hyrax()
    session.set_config("model.name", "astrom3.inference.hyrax.Astrom3Encoder")
    session.config["astrom3"] = {"model": str(root / "model"), "split": "all", "seed": 42}
    return session


def test_the_data_set_and_the_model_give_our_embeddings(place, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(place / "cache"))
    from astrom3.data.layouts import open_source
    from astrom3.data.observed import observations
    from astrom3.inference.hyrax import Astrom3Dataset, Astrom3Encoder
    from astrom3.inference.trained import TrainedModel

    config = configuration(place).config
    objects = Astrom3Dataset(config, str(place / "data"))
    model = Astrom3Encoder(config)
    assert len(objects) == OBJECTS
    names = [*model.trained.inputs, "present", "object_id"]
    fields = {name: np.stack([getattr(objects, f"get_{name}")(i) for i in range(OBJECTS)]) for name in names}
    inputs = Astrom3Encoder.prepare_inputs({"data": fields})
    found = model.infer_batch(tuple(torch.from_numpy(values) for values in inputs))
    source = open_source(place / "data")
    table = source.table("train")
    ids = table.catalogue().ids.tolist()
    curves = {ids[one.row]: one.light_curve for one in observations(table, np.arange(OBJECTS))}
    alone = TrainedModel.load(place / "model", device="cpu")
    expected = alone.embed(light_curve=[tuple(curves[name]) for name in fields["object_id"].tolist()]).mean
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
