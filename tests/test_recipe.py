"""recipe=survey: its view's numbers and ranges, its network, its configuration, a small run from end to end."""

import json

import numpy as np
import pytest
import torch

from astrom3.cli.config import compose
from astrom3.encoders.folded import FoldedEncoder
from astrom3.errors import UserError
from astrom3.modalities.scaled_view import POINTS, RANGES, prepare_scaled
from astrom3.modalities.schema import PHOTO_COLS
from astrom3.modalities.view import Members, get_view

PERIOD = 0.37
LOWEST = torch.tensor([low for low, _ in RANGES])
HIGHEST = torch.tensor([high for _, high in RANGES])


def cosine(n, seed=0):
    """Times [day], flux [mJy] and error of n points of a star of period 0.37 d."""
    time = np.sort(np.random.default_rng(seed).random(n)) * 400 + 2457000
    return time, 5 + np.cos(2 * np.pi * time / PERIOD), np.full(n, 0.1)


def batch_of(curves, features=None, periods=None, epoch=None, positions=None):
    """(B, 512, 11) and (B, 512) of curves (time, flux, error) as the view gives them."""
    view = get_view("photometry-scaled")
    n = len(curves)
    offsets = np.concatenate([[0], np.cumsum([len(c[0]) for c in curves])])
    checked = view.check(offsets, *(np.concatenate([c[k] for c in curves]) for k in range(3)))
    features = np.zeros((n, 4), np.float32) if features is None else np.asarray(features, np.float32)
    periods = np.full(n, PERIOD) if periods is None else np.asarray(periods, float)
    positions = np.arange(n) if positions is None else positions
    members = Members(np.arange(n), positions, features, np.zeros((n, 0), np.float32), True, periods)
    filled = view.reader(view.arrays(view.prepare(checked)), members).fill(np.arange(n), 1, epoch)
    return filled["photometry"], filled["mask"]


def test_channels_are_what_the_table_says():
    time, flux, error = cosine(300)
    features = [[0.1, -0.2, 0.3, 0.4]]
    x, mask = batch_of([(time, flux, error)], features)
    assert x.shape == (1, POINTS, 11) and mask.sum() == 300 and not x[0, 300:].any()
    median = np.median(flux)
    mad = np.median(np.abs(flux - median))
    span = time[-1] - time[0]
    expected = np.column_stack([
        (time - time[0]) / span, np.arcsinh((flux - median) / mad), np.log10(error / mad),
        np.tile([*features[0], np.log10(mad / median), np.log10(span), np.log10(median)], (300, 1)),
        (time - time[0]) / (2 * PERIOD) % 1,
    ])  # fmt: skip
    np.testing.assert_allclose(x[0, :300].numpy(), expected, atol=2e-6)


def test_a_long_curve_is_thinned_over_all_of_it():
    curve = cosine(5000)
    x, mask = batch_of([curve])
    assert mask.all() and (x[0, 1:, 0] > x[0, :-1, 0]).all()
    assert x[0, 0, 0] < 2e-3 and x[0, -1, 0] > 0.998
    assert torch.equal(x, batch_of([curve])[0])
    first, second = (batch_of([curve], epoch=e)[0] for e in (0, 1))
    assert not torch.equal(first, second) and torch.equal(first, batch_of([curve], epoch=0)[0])


def test_no_number_leaves_its_range_whatever_the_curve_and_its_features():
    rng = np.random.default_rng(0)
    time, flux, error = cosine(600)
    spikes = np.where(rng.random(600) < 0.2, 1e30 * rng.normal(size=600), flux)
    curves = [
        (time, spikes, error),
        (time, flux - np.median(flux), 0 * error),
        (time, 1e-30 * flux, 1e30 * error),
        (time * 1e-9, flux, error),
        (time * 1e6, 1e250 * flux, error),
        (time, -flux, error),
        (time[:10], flux[:10], error[:10]),
    ]
    features = [[1e30, -1e30, 900.0, -7.0]] * len(curves)
    for periods in (0.0, -3.0, np.nan, np.inf, 1e-300, 1e300, 900.0):
        for epoch in (None, 3):
            x, mask = batch_of(curves, features, [periods] * len(curves), epoch)
            points = x[mask > 0]
            assert len(points) > 2000 and points.isfinite().all()
            assert (points >= LOWEST).all() and (points <= HIGHEST).all()
            network = FoldedEncoder(width=8, out_features=16, phases=16).train()
            assert network(x, mask).isfinite().all()


def test_a_curve_beyond_float64_is_rejected():
    time, flux, error = cosine(50)
    view = get_view("photometry-scaled")
    with np.errstate(over="ignore"):
        found = prepare_scaled(view.check(np.array([0, 50]), time, flux * 3e307, error))
    assert found.verdict[0] > 0 and len(found.values) == 0


@pytest.fixture
def network():
    torch.manual_seed(0)
    return FoldedEncoder(width=8, out_features=16, phases=16).eval()


def test_where_the_phase_begins_does_not_matter(network):
    x, mask = batch_of([cosine(300)])
    moved = x.clone()
    moved[..., -1] = (moved[..., -1] + 3 / 16) % 1
    torch.testing.assert_close(network(x, mask), network(moved, mask), atol=1e-4, rtol=1e-4)
    moved[..., -1] = moved[..., 0]
    assert (network(x, mask) - network(moved, mask)).abs().max() > 1e-3


def test_padding_and_neighbours_in_the_batch_do_not_matter(network):
    curves = [cosine(40, 1), cosine(500, 2), cosine(90, 3)]
    together = network(*batch_of(curves))
    for i, curve in enumerate(curves):
        alone = network(*batch_of([curve], positions=np.array([i])))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


def test_a_batch_in_which_no_object_has_a_light_curve_gives_no_rows(network):
    x, mask = batch_of([cosine(40)])
    assert network(x[:0], mask[:0]).shape == (0, 16)
    network.train()
    assert network(x[:0], mask[:0]).shape == (0, 16)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_thinning_keeps_points_that_are_there():
    mask = torch.zeros(200, 100)
    mask[:, :60] = 1
    mask[0, 10:] = 0
    torch.manual_seed(0)
    kept = FoldedEncoder(width=8, out_features=16, phases=16, thinning=0.5).thin(mask)
    assert (kept <= mask).all() and kept[0].sum() == 10
    assert 0.70 < float(kept[1:].sum() / mask[1:].sum()) < 0.80


@pytest.mark.slow
def test_the_recipe_composes_and_the_default_is_the_published_one():
    published = compose(["mode=photo", "size=small"])
    assert published == compose(["mode=photo", "size=small", "recipe=published"])
    assert published.encoders.photometry._target_.endswith("InformerEncoder")
    for mode in ("photo", "all", "clip"):
        cfg = compose([f"mode={mode}", "size=small", "recipe=survey", "data=local", "data.path=x"])
        assert cfg.encoders.photometry._target_.endswith("FoldedEncoder")
        assert cfg.optim.kind == "adamw" and cfg.schedule.kind == "cosine" and cfg.trainer.gradient_clip_val
        assert cfg.run == f"runs/{mode}-full-scratch-42"
    assert compose(["mode=photo", "recipe=survey", "size=small", "optim.lr=0.5"]).optim.lr == 0.5


def test_where_the_recipe_does_not_fit_it_says_so():
    with pytest.raises(UserError, match="recipe=survey is about light curves, and this mode has none"):
        compose(["mode=meta", "recipe=survey"])
    with pytest.raises(UserError, match="leave model=astromer2 away"):
        compose(["mode=photo", "model=astromer2", "recipe=survey"])


@pytest.mark.slow
def test_a_small_run_trains_and_raw_curves_get_the_probabilities_of_the_data_set(tmp_path, monkeypatch):
    import astrom3
    from astrom3.data.observed import locate, observations
    from astrom3.inference.embeddings import Embeddings
    from astrom3.inference.trained import data_of
    from astrom3.train import train

    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    here = ["data=simulated", "data.objects=150"]
    cfg = compose(["mode=photo", "size=tiny", "recipe=survey", "epochs=2", "trainer=cpu",
                   "trainer.enable_progress_bar=false", f"root={tmp_path}", *here])  # fmt: skip
    scores = train(cfg)
    run = tmp_path / "photo-full-scratch-42"
    assert scores["n"] > 5 and json.loads((run / "model/preprocessing.json").read_text())["views"] == {
        "photometry": "photometry-scaled"
    }
    model = astrom3.load(run, device="cpu")
    data = data_of(model, cfg.data, "full", 42)
    stored = Embeddings.of_split_of(model, data, "test")
    source = data.source
    tables, where = locate(source)
    rows = np.array([where[str(name)][1] for name in stored.ids])
    order = np.argsort(rows)
    values = tables[0].catalogue().values[rows[order], : len(PHOTO_COLS)]
    metadata = [dict(zip(PHOTO_COLS, row.tolist(), strict=True)) for row in values]
    curves = [found.light_curve for found in observations(tables[0], rows[order])]
    given = [i for i, curve in enumerate(curves) if curve is not None]
    raw = model.classify(light_curve=[curves[i] for i in given], metadata=[metadata[i] for i in given])
    expected = stored.probabilities[order][given]
    usable = ~np.isnan(raw.probabilities).any(axis=1)
    assert usable.sum() > 5
    np.testing.assert_allclose(raw.probabilities[usable], expected[usable], atol=1e-4)
