"""Layers that have loops of their own on the CPU: dropout, norm of a sum, linear; against torch's."""

import math

import numpy as np
import pytest
import torch

from astrom3.encoders.cpu.bfloat16 import array, stored, wide
from astrom3.encoders.cpu.dropout import Dropout, TransientDropout, draw_key, drop
from astrom3.encoders.cpu.linear import Linear
from astrom3.encoders.cpu.residual import ROWS, ResidualNorm
from astrom3.encoders.layers import for_products


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
    def run(layer):
        torch.manual_seed(1)
        x = torch.linspace(-2, 2, 4000, dtype=torch.float64).view(40, 100).requires_grad_()
        y = torch.nn.functional.gelu(x.mT)  # not contiguous
        (layer(y) ** 2).sum().backward()
        return x.grad

    torch.testing.assert_close(run(TransientDropout(0.3)), run(Dropout(0.3)))


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
    found = numbers_of(lambda: norm(x, branch, TransientDropout(p)), inputs, a, b, lowered)
    # In bfloat16 the separate way rounds the dropped branch and the gradients on the way, ours at the end only.
    near = {"rtol": 2e-2, "atol": 2e-2} if lowered else {"rtol": 1e-5, "atol": 1e-5}
    for ours, torchs in zip(found, expected, strict=True):
        assert ours.dtype == torchs.dtype
        torch.testing.assert_close(ours / torchs.abs().max(), torchs / torchs.abs().max(), **near)
    assert torch.equal(found[1], found[0].bfloat16() if lowered else found[0])
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
@pytest.mark.parametrize("kind", [Linear, torch.nn.Linear])
def test_linear_layers_give_the_same_numbers_however_they_are_done(shape, bias, kind):
    """Also on processors where they would not be done as convolutions."""
    torch.manual_seed(0)
    layer, x, g = kind(24, 40, bias=bias), torch.randn(shape), torch.randn(*shape[:-1], 40)
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


def test_linear_layers_in_bfloat16():
    torch.manual_seed(0)
    layer, x = Linear(32, 64), torch.randn(20, 50, 32)
    with torch.autocast("cpu", torch.bfloat16):
        out = [layer(x), torch.nn.Linear.forward(layer, x)]
    assert out[0].dtype == out[1].dtype == torch.bfloat16
    torch.testing.assert_close(*out, rtol=0.02, atol=0.02)


def test_bfloat16_is_read_and_rounded_as_torch_does():
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    read = np.array([wide(bits) for bits in array(every)])
    assert np.array_equal(read.view(np.uint32), every.float().numpy().view(np.uint32))
    x = torch.cat([torch.randn(5000), torch.tensor([0.0, -0.0, 1e-39, math.inf, -math.inf, 1 + 2**-8, 1 + 3 * 2**-8])])
    rounded = [stored(number, np.uint16(0)) for number in x.numpy()]
    assert np.array_equal(rounded, array(x.bfloat16()))
    assert wide(np.float32(3)) == stored(np.float32(3), np.float32(0)) == 3
