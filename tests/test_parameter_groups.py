"""Groups of parameters: no weight decay on vectors, and rates that fall from layer to layer."""

import pytest
import torch

from astrom3.encoders.astromer import Astromer
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.towers import Classifier, MultimodalModel
from astrom3.errors import UserError
from astrom3.tasks.optimisers import layers_below, make_optimizer
from astrom3.tasks.schedules import StepSchedule

OPTIONS = {"kind": "adamw", "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.3}


def informer():
    return InformerEncoder(d_model=8, n_heads=2, d_ff=8, e_layers=3, seq_len=20)


def rate_of(optimizer, parameter):
    (group,) = [group for group in optimizer.param_groups if any(p is parameter for p in group["params"])]
    return group["lr"], group["weight_decay"]


def test_rates_fall_from_the_end_of_an_encoder_to_its_beginning():
    model = MultimodalModel({"one": informer(), "two": Astromer(layers=2, d_model=8, n_heads=2, d_ff=8)}, 4)
    optimizer = make_optimizer(model, OPTIONS | {"layer_decay": 0.5, "no_decay": True}, fused=False)
    one, two = model.encoders["one"], model.encoders["two"]
    assert rate_of(optimizer, model.projections["one"].weight) == (0.1, 0.3)
    assert rate_of(optimizer, one.norm.weight) == (0.1, 0.0)
    rates = [rate_of(optimizer, layer.expand.weight)[0] for layer in one.layers]
    assert rates == pytest.approx([0.1 / 8, 0.1 / 4, 0.1 / 2])
    assert rate_of(optimizer, one.embedding.weight)[0] == pytest.approx(0.1 / 16)
    assert rate_of(optimizer, two.blocks[0].attn.q.bias) == (pytest.approx(0.1 / 4), 0.0)
    assert rate_of(optimizer, two.mask_token)[0] == pytest.approx(0.1 / 8)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))
    assert optimizer.param_groups[0]["lr"] == 0.1  # the rate that is logged


def test_without_groups_there_is_one():
    optimizer = make_optimizer(Classifier(informer(), 3), OPTIONS, fused=False)
    assert len(optimizer.param_groups) == 1
    assert set(layers_below(["first.weight", "second.weight"]).values()) == {0}


@pytest.mark.parametrize("kind", ["cosine", "constant", "noam"])
def test_schedules_keep_the_ratios(kind):
    model = Classifier(informer(), 3)
    optimizer = make_optimizer(model, OPTIONS | {"layer_decay": 0.5}, fused=False)
    schedule = StepSchedule(optimizer, kind, warmup_epochs=1)
    schedule.set(3, steps_per_epoch=10, epochs=4)
    rates = [group["lr"] for group in optimizer.param_groups]
    assert torch.tensor(rates).div(rates[0]).tolist() == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625])


def test_a_factor_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"optim\.layer_decay=0 must be above 0"):
        make_optimizer(informer(), OPTIONS | {"layer_decay": 0}, fused=False)
