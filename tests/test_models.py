"""The encoders and what is built around them, beyond the conformance vectors."""

import math

import pytest
import torch

from astrom3.models import linear
from astrom3.models.distinctive import _by_product, distinctive
from astrom3.models.dropout import Dropout, draw_key, drop
from astrom3.models.galspecnet import GalSpecNet
from astrom3.models.informer import InformerEncoder, ProbSparseAttention
from astrom3.models.mlp import MetadataMLP
from astrom3.models.multimodal import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.models.published import count_parameters
from astrom3.models.residual import ROWS, ResidualNorm, for_products

SMALL = {"d_model": 16, "n_heads": 4, "d_ff": 32, "e_layers": 2}


def make_batch(n, generator=None):
    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    present = {m: torch.ones(n, dtype=torch.bool) for m in ("photometry", "spectra", "metadata")}
    return {"photometry": draw(n, 200, 9), "mask": torch.ones(n, 200), "spectra": draw(n, 3, 2575),
            "metadata": draw(n, 34), "label": torch.arange(n) % 10, "present": present}  # fmt: skip


def small_model():
    return MultimodalModel(
        {"photometry": InformerEncoder(**SMALL), "spectra": GalSpecNet(), "metadata": MetadataMLP(hidden_dim=32)}, 24
    )


def test_published_size():
    encoders = {"photometry": InformerEncoder(), "spectra": GalSpecNet(), "metadata": MetadataMLP()}
    assert [e.out_features for e in encoders.values()] == [25_600, 1184, 512]
    assert count_parameters(MultimodalModel(encoders)) == 15_869_827


def naive_attention(layer, x, keys):
    """ProbSparse attention of one object in loops: scores of the drawn keys, the best queries attend, the rest mean."""
    length, d_model = x.shape
    heads, dim = layer.n_heads, d_model // layer.n_heads
    q, k, v = (f(x).view(length, heads, dim).transpose(0, 1) for f in (layer.query, layer.key, layer.value))
    out = torch.empty(heads, length, dim, dtype=x.dtype)
    for h in range(heads):
        distinct = []
        for t in range(length):
            drawn = torch.stack([q[h, t] @ k[h, j] for j in keys[t]])
            distinct.append((drawn.max() - drawn.sum() / length).item())
        best = sorted(range(length), key=lambda t: -distinct[t])[: keys.shape[1]]
        out[h] = v[h].mean(0)
        for t in best:
            out[h, t] = torch.softmax(q[h, t] @ k[h].T / math.sqrt(dim), 0) @ v[h]
    if layer.head_merge == "published":
        return layer.out(out.reshape(length, d_model))
    return layer.out(out.transpose(0, 1).reshape(length, d_model))


@pytest.mark.parametrize("head_merge", ["published", "usual"])
@pytest.mark.parametrize("length", [40, 41, 7])
def test_attention_equals_the_naive_one(head_merge, length):
    torch.manual_seed(0)
    layer = ProbSparseAttention(16, 4, 1, head_merge).double()
    x = torch.randn(3, length, 16, dtype=torch.float64)
    keys = torch.randint(length, (length, layer.sample_size(length)))
    ours = layer(x, keys)
    reference = torch.stack([naive_attention(layer, one, keys) for one in x])
    torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 50, 32), (9, 7, 8), (1, 200, 128)])
def test_drawn_scores_are_those_of_the_whole_product(dtype, shape):
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    keys = torch.randint(shape[1], (shape[1], 5), generator=generator)
    found = distinctive(query, key, keys, 4)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found, _by_product(query.to(found.dtype), key.to(found.dtype), keys, 4))


@pytest.mark.parametrize("head_merge", ["published", "usual"])
def test_sparse_path_with_all_queries_equals_full_attention(head_merge):
    torch.manual_seed(0)
    layer = ProbSparseAttention(16, 4, 1, head_merge).double()
    x = torch.randn(2, 30, 16, dtype=torch.float64)
    everyone = torch.arange(30).expand(2, 4, 30)
    torch.testing.assert_close(layer._attend_some(x, everyone), layer(x, full=True))


def test_the_two_head_merges_differ():
    torch.manual_seed(0)
    published = InformerEncoder(**SMALL, evaluation="full").eval()
    usual = InformerEncoder(**SMALL, evaluation="full", head_merge="usual").eval()
    usual.load_state_dict(published.state_dict())
    x, mask = torch.randn(2, 200, 9), torch.ones(2, 200)
    assert (published(x, mask) - usual(x, mask)).norm() > 0.1 * published(x, mask).norm()


@pytest.mark.parametrize("evaluation", ["fixed", "full"])
def test_deterministic_evaluation(evaluation):
    encoder = InformerEncoder(**SMALL, evaluation=evaluation).eval()
    x, mask = torch.randn(4, 200, 9), torch.ones(4, 200)
    assert torch.equal(encoder(x, mask), encoder(x, mask))
    torch.testing.assert_close(encoder(x, mask)[1:2], encoder(x[1:2], mask[1:2]))  # the batch does not matter


def test_sampled_evaluation_draws_and_follows_the_seed():
    encoder = InformerEncoder(**SMALL).eval()
    x, mask = torch.randn(4, 200, 9), torch.ones(4, 200)
    assert not torch.equal(encoder(x, mask), encoder(x, mask))
    first = [torch.manual_seed(3) and encoder(x, mask) for _ in range(2)]
    assert torch.equal(*first)


def test_masked_points_give_zero_features():
    encoder = InformerEncoder(**SMALL).eval()
    mask = torch.ones(1, 200)
    mask[:, 150:] = 0
    assert not encoder(torch.randn(1, 200, 9), mask).view(200, 16)[150:].any()


def test_published_dropout_is_always_a_tenth():
    rates = {m.p for m in InformerEncoder(dropout=0.3).modules() if isinstance(m, Dropout)}
    assert rates == {0.1}
    rates = {m.p for m in InformerEncoder(dropout=0.3, honour_dropout=True).modules() if isinstance(m, Dropout)}
    assert rates == {0.3}


def keep_mask(n, p, key=None):
    """Which of n elements are kept, as 0 and 1 in float64."""
    ones = torch.ones(n)
    return (drop(ones, draw_key() if key is None else key, p, torch.empty(n)) != 0).double()


@pytest.mark.parametrize("p", [0.1, 0.35, 0.5])
def test_dropout_keeps_the_share_and_the_mean(p):
    torch.manual_seed(0)
    n = 1_000_003
    assert abs(keep_mask(n, p).mean().item() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    x = Dropout(p)(torch.ones(n))
    assert abs(x.mean().item() - 1) < 0.01
    assert torch.equal(Dropout(p).eval()(x), x)


def test_dropout_masks_of_neighbours_are_independent():
    torch.manual_seed(0)
    mask = keep_mask(400_000, 0.3)
    for lag in (1, 2, 3, 4, 8, 128, 200, 512):
        correlation = torch.corrcoef(torch.stack([mask[:-lag], mask[lag:]]))[0, 1]
        assert abs(correlation) < 0.01, lag


def test_dropout_masks_of_calls_are_independent():
    torch.manual_seed(0)
    n, p = 200_000, 0.5
    masks = torch.stack([keep_mask(n, p) for _ in range(8)] + [keep_mask(n, p, (k, 7)) for k in range(4)])
    masks = torch.cat([masks, torch.stack([keep_mask(n, p, (0, k)) for k in range(4)])])
    correlation = torch.corrcoef(masks).fill_diagonal_(0).abs()
    assert torch.equal(keep_mask(n, p, (0, 7)), masks[8])
    assert correlation.max() < 5 / math.sqrt(n)
    # Runs of four elements: all sixteen patterns as often as they should be (chi-square with 15 degrees of freedom).
    patterns = (masks.view(len(masks), -1, 4) * torch.tensor([8.0, 4.0, 2.0, 1.0])).sum(-1).long()
    for row in patterns:
        counts = torch.bincount(row, minlength=16).double()
        assert ((counts - n / 64) ** 2 / (n / 64)).sum() < 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dropout_scales_as_torch_does_in_every_precision(dtype):
    x = torch.cat([torch.randn(300_000), torch.tensor([math.inf, -math.inf, 0.0, -0.0, 1e-39])]).to(dtype)
    key = (5, 6)
    kept = drop(torch.ones(x.shape), key, 0.3, torch.empty(x.shape)) != 0
    wide = x if dtype == torch.float64 else x.float()
    expected = (wide * (1 / 0.7 if dtype == torch.float64 else torch.tensor(1 / 0.7))).to(dtype)
    torch.testing.assert_close(
        drop(x, key, 0.3, torch.empty_like(x)), torch.where(kept, expected, 0), rtol=0, atol=0, equal_nan=True
    )
    assert torch.equal(drop(again := x.clone(), key, 0.3, again), drop(x, key, 0.3, torch.empty_like(x)))
    nan = drop(torch.full((9,), math.nan, dtype=dtype), key, 0.0, torch.empty(9, dtype=dtype))
    assert nan.isnan().all()


def test_dropout_does_not_depend_on_the_number_of_threads():
    x, threads = torch.randn(1_000_000), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = drop(x, (1, 2), 0.2, torch.empty_like(x))
        torch.set_num_threads(4)
        assert torch.equal(drop(x, (1, 2), 0.2, torch.empty_like(x)), alone)
    finally:
        torch.set_num_threads(threads)


def test_dropout_in_place_has_the_gradients_of_dropout():
    def run(inplace):
        torch.manual_seed(1)
        x = torch.linspace(-2, 2, 4000, dtype=torch.float64).view(40, 100).requires_grad_()
        y = torch.nn.functional.gelu(x.mT)  # not contiguous
        (Dropout(0.3, inplace)(y) ** 2).sum().backward()
        return x.grad

    torch.testing.assert_close(run(True), run(False))


def residual_case(lowered, shape=(37, 100, 48)):
    """Norm, x, branch and random numbers to weigh the outputs with; more rows than one share of them."""
    assert math.prod(shape[:-1]) > ROWS
    generator = torch.Generator().manual_seed(2)
    norm = ResidualNorm(shape[-1])
    for p in norm.parameters():
        torch.nn.init.normal_(p, generator=generator)
    x, branch, a, b = (torch.randn(shape, generator=generator) for _ in range(4))
    branch = branch.bfloat16() if lowered else branch
    return norm, x.requires_grad_(), branch.requires_grad_(), a, b


def numbers_of(function, inputs, a, b, lowered):
    """Both outputs of function(), and the gradients of the inputs."""
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=lowered):
        out, low = function()
    loss = (out * a).sum() + (low.float() * b).sum()
    return out.detach(), low.detach(), *torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("lowered", [False, True])
@pytest.mark.parametrize("p", [0.0, 0.1])
def test_the_norm_of_a_sum_has_the_numbers_and_gradients_of_torch(p, lowered):
    norm, x, branch, a, b = residual_case(lowered)
    inputs = (x, branch, norm.weight, norm.bias)

    def separate():
        out = torch.nn.LayerNorm.forward(norm, x + Dropout(p)(branch))
        return out, for_products(out)

    expected = numbers_of(separate, inputs, a, b, lowered)
    found = numbers_of(lambda: norm(x, branch, Dropout(p, inplace=True)), inputs, a, b, lowered)
    # In bfloat16 the separate way rounds the dropped branch and the gradients on the way, ours at the end only.
    near = {"rtol": 2e-2, "atol": 2e-2} if lowered else {"rtol": 1e-5, "atol": 1e-5}
    for ours, torchs in zip(found, expected, strict=True):
        assert ours.dtype == torchs.dtype
        torch.testing.assert_close(ours / torchs.abs().max(), torchs / torchs.abs().max(), **near)
    assert torch.equal(found[1], for_products(found[0]) if not lowered else found[0].bfloat16())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=lowered):
        torch.manual_seed(3)
        again = norm(x, branch, Dropout(p))
    assert torch.equal(again[0], found[0]) and torch.equal(again[1], found[1])


def test_the_norm_of_a_sum_does_not_depend_on_the_number_of_threads():
    norm, x, branch, a, b = residual_case(lowered=True)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 4):
            torch.set_num_threads(n)
            inputs = (x, branch, norm.weight, norm.bias)
            found.append(numbers_of(lambda: norm(x, branch, Dropout(0.2)), inputs, a, b, lowered=True))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_norm_of_a_sum_in_float64_is_torchs():
    norm = ResidualNorm(8).double()
    x, branch = torch.randn(3, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    out, same = norm(x, branch, Dropout(0.0))
    assert same is out and torch.equal(out, torch.nn.functional.layer_norm(x + branch, (8,)))
    empty = ResidualNorm(8)(torch.zeros(0, 8), torch.zeros(0, 8), Dropout(0.1))[0]
    empty.sum().backward()
    assert empty.shape == (0, 8)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_any_batch_size_trains(n):
    model, batch = MultimodalClassifier(small_model(), 10), make_batch(n)
    model(batch).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_fusion_averages_the_embeddings_that_exist():
    torch.manual_seed(0)
    backbone = small_model().eval()
    for encoder in backbone.encoders.values():
        encoder.evaluation = "full"
    batch = make_batch(4)
    batch["present"]["spectra"] = torch.tensor([True, False, True, False])
    batch["spectra"][~batch["present"]["spectra"]] = 0
    model = MultimodalClassifier(backbone, 10).eval()
    embeddings = backbone(batch)
    expected = (embeddings["photometry"] + embeddings["metadata"]) / 2
    torch.testing.assert_close(model.fuse(embeddings, batch["present"])[1], expected[1])
    everything = sum(embeddings[m] for m in embeddings) / 3
    torch.testing.assert_close(model.fuse(embeddings, batch["present"])[0], everything[0])


def test_absent_rows_do_not_touch_the_others():
    torch.manual_seed(0)
    backbone = small_model().eval()
    batch = make_batch(4)
    whole = backbone.embed("spectra", batch)
    batch["present"]["spectra"][2] = False
    part = backbone.embed("spectra", batch)
    torch.testing.assert_close(part[[0, 1, 3]], whole[[0, 1, 3]])
    assert not part[2].any()


def test_logit_scale_starts_at_the_clamp_without_gradient_and_the_variant_has_one():
    published, variant = small_model(), small_model()
    variant.clamp = "parameter"
    for model, expected in ((published, 0.0), (variant, 100.0)):
        scale = model.scale("photometry", "spectra")
        scale.backward()
        assert scale.item() == pytest.approx(100)
        assert model.logit_scales["photometry_spectra"].grad.item() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        variant.logit_scales["photometry_spectra"].fill_(7.0)
    variant.clamp_parameters()
    assert variant.logit_scales["photometry_spectra"].item() == pytest.approx(math.log(100))


def test_a_fourth_modality_is_one_encoder():
    class ImageEncoder(torch.nn.Module):
        inputs = ("image",)
        out_features = 12

        def forward(self, image):
            return image.flatten(1)

    model = MultimodalModel({"image": ImageEncoder(), "metadata": MetadataMLP(hidden_dim=8)}, 6)
    embeddings = model({"image": torch.randn(2, 3, 2, 2), "metadata": torch.randn(2, 34)})
    assert {k: v.shape for k, v in embeddings.items()} == {"image": (2, 6), "metadata": (2, 6)}
    assert Classifier(ImageEncoder(), 4)({"image": torch.randn(2, 3, 2, 2)}).shape == (2, 4)


def test_dropout_passes_gradients_through_what_it_kept():
    torch.manual_seed(0)
    x = torch.randn(50, 7, dtype=torch.float64, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.6)
    torch.testing.assert_close(x.grad, kept.double() / 0.6)


@pytest.mark.parametrize("shape", [(16, 200, 24), (40, 24), (16, 3, 2, 24), (4, 200, 24)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("forced", [True, False])
def test_linear_layers_give_the_same_numbers_however_they_are_done(shape, bias, forced, monkeypatch):
    """Also on processors where they would not be done as convolutions."""
    monkeypatch.setattr(linear, "convolution_is_faster", lambda: forced)
    torch.manual_seed(0)
    layer, x, g = linear.Linear(24, 40, bias=bias), torch.randn(shape), torch.randn(*shape[:-1], 40)
    found = []
    for function, dtype in ((layer, torch.float32), (None, torch.float64)):
        inputs = x.to(dtype).requires_grad_()
        parameters = [p.detach().to(dtype).requires_grad_() for p in layer.parameters()]
        if function is None:
            out = torch.nn.functional.linear(inputs, *parameters)
        else:
            parameters = list(layer.parameters())
            out = layer(inputs)
        assert out.shape == (*shape[:-1], 40) and out.is_contiguous()
        found.append([out, *torch.autograd.grad(out, [inputs, *parameters], g.to(dtype))])
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-4)


def test_linear_layers_in_bfloat16(monkeypatch):
    torch.manual_seed(0)
    layer, x = linear.Linear(32, 64), torch.randn(20, 50, 32)
    out = []
    for forced in (True, False):
        monkeypatch.setattr(linear, "convolution_is_faster", lambda forced=forced: forced)
        with torch.autocast("cpu", torch.bfloat16):
            out.append(layer(x))
    assert out[0].dtype == out[1].dtype == torch.bfloat16
    torch.testing.assert_close(*out, rtol=0.02, atol=0.02)


def test_the_encoder_is_the_same_with_layers_done_as_convolutions(monkeypatch):
    torch.manual_seed(0)
    encoder = InformerEncoder(evaluation="fixed").eval()
    x, mask = torch.randn(16, 200, 9), torch.ones(16, 200)
    out = []
    for forced in (True, False):
        monkeypatch.setattr(linear, "convolution_is_faster", lambda forced=forced: forced)
        out.append(encoder(x, mask))
    assert not torch.equal(*out)  # two ways
    torch.testing.assert_close(*out, rtol=1e-5, atol=2e-5)
