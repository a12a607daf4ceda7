"""Two views of one light curve in one batch: an Informer and an Astromer are aligned with each other."""

import pytest
import torch
from data_files import make_rows, write_ours

from astrom3.cli.config import compose
from astrom3.training.build import build

TWO = [
    "mode=clip",
    "size=tiny",
    "seed=42",
    "data=local",
    "data.batch_size=8",
    "modalities=[photometry,curve]",
    "min_modalities=2",
    "~encoders.spectra",
    "~encoders.metadata",
    "+encoders.curve={_target_: astrom3.encoders.astromer.Astromer, layers: 1, d_model: 16, d_ff: 16, window: 50}",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("two")
    folder = write_ours(root / "ours", make_rows(40))
    return build(compose([*TWO, f"data.path={folder}", f"data.cache={root / 'cache'}"]))


def test_a_batch_holds_both_views_of_the_same_curves(built):
    data, _ = built
    assert {slot: view.name for slot, view in data.views.items()} == {"photometry": "photometry", "curve": "astromer"}
    batch = next(iter(data.split_dataloader("train")))
    assert batch["photometry"].shape[1:] == (200, 9) and batch["astromer/magnitudes"].shape[1] == 200
    assert set(batch["present"]) == {"photometry", "curve"} and "spectra" not in batch
    short = (batch["mask"].sum(1) < 200) & (batch["astromer/valid"].sum(1) < 200)
    assert short.any()
    for i in torch.flatten(short.nonzero()).tolist():  # the whole curve is in both windows
        points = int(batch["mask"][i].sum())
        assert points == int(batch["astromer/valid"][i].sum())
        time = batch["photometry"][i, :points, 0]
        days = batch["astromer/times"][i, :points]
        days = (days - days[0]) / (days[-1] - days[0])
        torch.testing.assert_close(time, days.float(), rtol=0, atol=1e-4)


def test_both_encoders_learn_of_each_other(built):
    data, module = built
    model = module.model
    assert model.pairs == [("photometry", "curve")]
    embeddings = model(next(iter(data.train_dataloader())))
    (embeddings["photometry"] @ embeddings["curve"].T).diagonal().sum().backward()
    for name in ("photometry", "curve"):
        assert any(p.grad is not None and p.grad.any() for p in model.encoders[name].parameters())
