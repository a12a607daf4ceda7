"""Facts about AstroCLIP's parts that the reference's numbers do not cover, most of them corrected variants."""

import numpy as np
import pytest
import torch

from astrom3.encoders.specformer import SpecFormer, spectrum_to_tokens
from astrom3.encoders.towers_astroclip import ImageTower, QueryAttention, SpectrumTower
from astrom3.encoders.vit import VisionTransformer
from astrom3.errors import UserError
from astrom3.modalities.crops import CropSettings, colour
from astrom3.modalities.cutout import network_image, stretch
from astrom3.tasks.alignment import alignment_loss
from astrom3.tasks.dino import sinkhorn_targets
from astrom3.tasks.masks import ChunkMasks
from astrom3.tasks.neighbours import neighbour_regression


def tiny_vit(**more):
    return VisionTransformer(img_size=48, embed_dim=24, depth=2, num_heads=3, **more)


def tiny_specformer(**more):
    return SpecFormer(embed_dim=24, num_layers=2, num_heads=3, max_len=64, **more)


def test_corrected_tokens_keep_a_whole_last_window():
    flux = torch.randn(2, 200) + 5
    kept = spectrum_to_tokens(flux, compat=False)
    published = spectrum_to_tokens(flux)
    assert kept.shape[1] == published.shape[1] + 1 == 20
    torch.testing.assert_close(kept[:, :-1], published)
    assert spectrum_to_tokens(flux[:, :195], compat=False).shape[1] == 19  # a partial window is dropped


def test_corrected_tokens_leave_bad_pixels_out():
    flux = torch.randn(1, 205) + 5
    valid = torch.ones(1, 205, dtype=torch.bool)
    valid[0, 20:24] = False
    damaged = flux.clone()
    damaged[0, 20:22] = float("nan")
    damaged[0, 22:24] = 1e9
    tokens = spectrum_to_tokens(damaged, compat=False, valid=valid)
    assert tokens.isfinite().all()
    good = flux[valid]
    assert tokens[0, 0, 0].item() == pytest.approx((good.mean().item() - 2) / 2, rel=1e-5)
    assert tokens[0, 0, 1].item() == pytest.approx((good.std().item() - 2) / 8, rel=1e-4)
    assert tokens[0, 3, 2:6].tolist() == [0, 0, 0, 0]


def test_one_query_attends_as_torch_does():
    torch.manual_seed(0)
    for token_dim in (24, 16):
        ours = QueryAttention(24, token_dim, 4)
        theirs = torch.nn.MultiheadAttention(24, 4, kdim=token_dim, vdim=token_dim, batch_first=True)
        torch.nn.init.normal_(theirs.in_proj_bias)
        ours.load_state_dict(theirs.state_dict())
        query, tokens = torch.randn(1, 1, 24), torch.randn(3, 7, token_dim)
        valid = torch.rand(3, 7) > 0.3
        valid[:, 0] = True
        arguments = {"key_padding_mask": ~valid, "average_attn_weights": False}
        expected, weights = theirs(query.expand(3, -1, -1), tokens, tokens, **arguments)
        torch.testing.assert_close(ours(query, tokens, valid), expected.squeeze(1))
        torch.testing.assert_close(ours.scores(query, tokens, valid), weights.squeeze(2))


def test_towers_take_a_batch_of_one_and_stored_tokens():
    flux = torch.rand(1, 3, 52, 52)
    for tower in (ImageTower(tiny_vit(), 16, 4), ImageTower(tiny_vit(), 16, 4, compat=True)):
        tower.eval()
        tokens, valid = tower.tokens(flux)
        assert tokens.shape[1] == valid.shape[1] == (16 if tower.compat else 17)
        assert tower(flux).shape == (1, tower.out_features)
        torch.testing.assert_close(tower.project(tokens), tower(flux))
        assert tower.attention(tokens).shape == (1, 4, 1, tokens.shape[1])


def test_a_frozen_tower_trains_its_head_alone():
    frozen = SpectrumTower(tiny_specformer(dropout=0.5), 16, 4).train()
    assert not frozen.backbone.training
    frozen(torch.randn(2, 205)).sum().backward()
    assert all(p.grad is None for p in frozen.backbone.parameters())
    live = SpectrumTower(tiny_specformer(), 16, 4, freeze=False).train()
    assert live.backbone.training
    live(torch.randn(2, 205)).sum().backward()
    assert {name for name, p in live.named_parameters() if p.grad is None} == {
        "backbone.head.weight",
        "backbone.head.bias",
    }


def test_stochastic_depth_is_the_mean_over_all_orders():
    """The expectation over which images keep a branch is the whole branch."""
    torch.manual_seed(0)
    block = tiny_vit(drop_path=0.5).blocks[0].train()
    x = torch.randn(2, 5, 24)
    orders = [torch.tensor([0, 1]), torch.tensor([1, 0])]
    mean = torch.stack([block._add_to_some(x, block.attend, order) for order in orders]).mean(dim=0)
    torch.testing.assert_close(mean, x + block.attend(x))


def test_stretch_is_the_same_in_both_places():
    flux = torch.rand(3, 40, 30) * 3 - 0.5
    np.testing.assert_allclose(colour(flux.numpy()), stretch(flux).numpy(), rtol=2e-6, atol=1e-7)
    dark = torch.zeros(3, 4, 4) - 0.03
    np.testing.assert_array_equal(colour(dark.numpy()), stretch(dark).numpy())


def test_q_counts():
    flux = torch.rand(3, 8, 8)
    assert not torch.equal(stretch(flux, q=5), stretch(flux))
    assert torch.equal(stretch(flux, q=5, compat=True), stretch(flux))


def test_an_image_without_three_bands_gets_a_sentence():
    with pytest.raises(UserError, match="does not hold the bands g, r, z"):
        network_image(torch.rand(2, 152, 152, 3))


def test_crops_repeat_with_their_generator():
    flux = np.random.default_rng(0).random((3, 152, 152), dtype=np.float32)
    first = CropSettings().images(flux, np.random.default_rng(5))
    again = CropSettings().images(flux, np.random.default_rng(5))
    assert [image.shape for image in first] == [(3, 144, 144)] * 2 + [(3, 60, 60)] * 8
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    with pytest.raises(UserError, match="too small for crops of 144"):
        CropSettings().images(flux[:, :100], np.random.default_rng(5))


def test_sinkhorn_is_that_of_plain_numbers():
    logits = torch.randn(6, 10).double()
    weights = (logits / 0.5).exp()
    for _ in range(3):
        weights /= weights.sum(dim=0, keepdim=True) * 10
        weights /= weights.sum(dim=1, keepdim=True) * 6
    torch.testing.assert_close(sinkhorn_targets(logits, 0.5).double(), weights * 6, rtol=1e-5, atol=1e-8)


def test_gathered_negatives_give_the_loss_of_the_whole_batch():
    images, spectra = torch.randn(6, 8), torch.randn(6, 8)
    whole = alignment_loss(images, spectra)
    parts = []
    for first in (0, 3):
        own = slice(first, first + 3)
        parts.append(alignment_loss(images[own], spectra[own], 15.5, images, spectra, first))
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_chunks_that_do_not_fit_get_a_sentence():
    with pytest.raises(UserError, match="6 masked runs of 50 tokens do not fit"):
        ChunkMasks().draw(2, 300)


def test_equal_rows_take_their_plain_mean():
    train = np.random.default_rng(0).normal(size=(50, 4))
    train[7] = train[3]
    targets = np.arange(50.0)
    assert neighbour_regression(train, targets, train[3:4], 8)[0] == pytest.approx(5.0)


def test_too_long_spectra_get_a_sentence():
    with pytest.raises(UserError, match="too long for this SpecFormer of max_len=64"):
        tiny_specformer()(torch.randn(1, 7781))
