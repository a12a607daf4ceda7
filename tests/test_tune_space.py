"""The space of a search and the draws from it."""

import pytest
from omegaconf import OmegaConf

from astrom3.cli.config import compose
from astrom3.places import CONFIG_DIR
from astrom3.tune.space import Range, read_space


@pytest.mark.parametrize(
    ("mode", "encoders"),
    [
        ("photo", ["photometry"]),
        ("spectra", ["spectra"]),
        ("meta", ["metadata"]),
        ("all", ["metadata", "photometry", "spectra"]),
        ("clip", ["metadata", "photometry", "spectra"]),
    ],
)
def test_the_space_is_the_published_one(mode, encoders):
    cfg = compose([f"mode={mode}"], "tune")
    assert read_space(cfg) == {
        **{f"encoders.{e}.dropout": Range("uniform", 0.0, 0.4) for e in encoders},
        "optim.beta1": Range("uniform", 0.7, 0.99),
        "optim.lr": Range("log", 1e-5, 1e-2),
        "optim.weight_decay": Range("log", 1e-5, 1e-1),
        "schedule.factor": Range("uniform", 0.1, 1.0),
    }
    assert (cfg.tune.trials, cfg.tune.seed) == (100, 42)


def test_the_published_hyper_parameters_lie_in_the_space():
    space = read_space(compose(["mode=all"], "tune"))
    keys = {"lr": "optim.lr", "beta1": "optim.beta1", "weight_decay": "optim.weight_decay",
            "scheduler_factor": "schedule.factor", "p_dropout": "encoders.photometry.dropout",
            "s_dropout": "encoders.spectra.dropout", "m_dropout": "encoders.metadata.dropout"}  # fmt: skip
    compared = 0
    for mode in ("photo", "spectra", "meta", "all"):
        for starts in OmegaConf.load(CONFIG_DIR / "published" / f"astrom3-{mode}.yaml").values():
            for values in starts.values():
                for name in keys.keys() & values.keys():
                    assert space[keys[name]].low <= values[name] <= space[keys[name]].high, (mode, name)
                    compared += 1
    assert compared == 4 * 2 * (3 * 5 + 7)


def test_keys_are_added_changed_and_removed_on_the_command_line():
    changes = ["~tune.space.optim.beta1", "tune.space.optim.lr.high=1e-3", "tune.space.encoders.each.dropout.low=0.1",
               "+tune.space.data.batch_size={kind: int, low: 8, high: 64}",
               "+tune.space.encoders.spectra.dropout={kind: uniform, low: 0.2, high: 0.3}"]  # fmt: skip
    space = read_space(compose(["mode=all", *changes], "tune"))
    assert "optim.beta1" not in space and space["optim.lr"].high == 1e-3
    assert space["data.batch_size"] == Range("int", 8, 64)
    assert [space[f"encoders.{e}.dropout"].low for e in ("photometry", "spectra")] == [0.1, 0.2]


def drawn_trials(number, value, seed=42):
    import optuna

    from astrom3.tune.study import draw

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = read_space(compose(["mode=photo"], "tune")) | {"data.batch_size": Range("int", 8, 64)}
    trials = []
    for i in range(number):
        left = draw(space, seed, trials)
        done = optuna.trial.create_trial(params=left.params, distributions=left.distributions, value=value(left))
        done.number = i
        trials.append(done)
    return space, trials


@pytest.mark.slow
def test_draws_lie_between_the_bounds_and_spread_as_published():
    space, trials = drawn_trials(60, lambda t: 1.0)
    for key, r in space.items():
        values = sorted(t.params[key] for t in trials)
        assert r.low <= values[0] and values[-1] <= r.high
        assert len(set(values)) > 20
    rates = sorted(t.params["optim.lr"] for t in trials)
    assert 1e-4 < rates[30] < 1.5e-3  # the middle of the logarithms, 3e-4; that of the numbers is 5e-3
    assert all(isinstance(t.params["data.batch_size"], int) for t in trials)


@pytest.mark.slow
def test_a_draw_depends_on_seed_number_and_values_alone_and_learns_from_them():
    low, again, high = (drawn_trials(30, v)[1] for v in (lambda t: t.params["optim.beta1"],) * 2 + (
        lambda t: -t.params["optim.beta1"],))  # fmt: skip
    assert [t.params for t in low] == [t.params for t in again]
    assert [t.params for t in low[:10]] == [t.params for t in high[:10]]  # random ones
    assert low[0].params != drawn_trials(1, lambda t: 1.0, seed=0)[1][0].params
    mean = [sum(t.params["optim.beta1"] for t in trials[15:]) / 15 for trials in (low, high)]
    assert mean[0] < 0.8 and mean[1] > 0.9
