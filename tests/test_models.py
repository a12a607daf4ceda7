"""The encoders and what is built around them, beyond the conformance vectors."""

import math

import pytest
import torch
from torch import nn

from astrom3.encoders.cpu.distinctive import drawn_scores
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import Distinctiveness, InformerEncoder, ProbSparseAttention
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel
from astrom3.published.astrom3 import count_parameters

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
    found = drawn_scores(query, key, keys, 4)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found, Distinctiveness(4)(query.to(found.dtype), key.to(found.dtype), keys))


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
    rates = {m.p for m in InformerEncoder(dropout=0.3).modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.1}
    rates = {m.p for m in InformerEncoder(dropout=0.3, honour_dropout=True).modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.3}


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_either_activation_trains(activation):
    encoder = InformerEncoder(**SMALL, activation=activation)
    encoder(torch.randn(3, 200, 9), torch.ones(3, 200)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


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
