"""Going on from another data set's run: the class head, and the statistics its weights were trained in."""

import pytest
import torch

from astrom3.cli.config import compose
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.errors import UserError
from astrom3.published import astrom3 as published
from astrom3.simulate.origin import Simulated
from astrom3.train import train
from astrom3.training.init import FromWeights

pytestmark = pytest.mark.slow

TINY = ["mode=photo", "size=tiny", "data=simulated", "trainer=cpu", "trainer.enable_progress_bar=false", "epochs=1"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run on one simulated survey, and the folder for stores."""
    folder = tmp_path_factory.mktemp("transfer")
    cfg = compose([*TINY, "data.objects=120", f"data.root={folder}", f"data.cache={folder}", f"root={folder}/first"])
    train(cfg)
    return cfg.run, folder


def test_head_is_taken_only_where_asked_for(first):
    source = published.load(first[0])
    fresh, whole, encoder = (published.build(published.read_config(published.find(first[0]))) for _ in range(3))
    FromWeights(first[0], head=True).apply(whole)
    own = encoder.head.weight.clone()
    FromWeights(first[0]).apply(encoder)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), source.state_dict().values(), strict=True)
    )
    assert torch.equal(encoder.head.weight, own) and not torch.equal(own, source.head.weight)
    fresh.head = torch.nn.Linear(fresh.head.in_features, 3)
    with pytest.raises(UserError, match=r"shape \(10, 3200\)"):
        FromWeights(first[0], head=True).apply(fresh)


def test_statistics_of_the_first_run_are_used_and_kept_in_the_second(first):
    run, folder = first
    other = [*TINY, "data.objects=90", "data.seed=1", f"data.root={folder}", f"data.cache={folder}"]
    cfg = compose([*other, f"root={folder}/second", "init=file", f"init.path={run}", "init.head=true",
                   f"data.statistics={run}"])  # fmt: skip
    train(cfg)
    saved = [(published.find(r) / "preprocessing.json").read_text() for r in (run, cfg.run)]
    assert saved[0] == saved[1]
    origin = Simulated(90, 1, folder)
    own, given = (AstroM3DataModule(origin, modalities=["photometry"], cache=folder, statistics=s) for s in (None, run))
    assert own.normaliser.mean[0] != given.normaliser.mean[0]
    with pytest.raises(UserError, match="must be the folder of a finished run"):
        AstroM3DataModule(origin, statistics=folder).normaliser  # noqa: B018
