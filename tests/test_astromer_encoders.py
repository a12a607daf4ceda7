"""Astromer encoders, masks and windows: what the vectors of the originals cannot say."""

import numpy as np
import pytest
import torch

from astrom3.encoders.astromer import Astromer, MaskedAstromer
from astrom3.encoders.cpu.tanh import Tanh
from astrom3.encoders.curve import CurveEmbedding, RawCurve
from astrom3.encoders.heads import HEADS, SequenceClassifier, build_head
from astrom3.export.astromer_onnx import write_onnx
from astrom3.modalities.astromer_masks import HIDDEN, PROBED, TARGET, Fractions, mask_counts, mask_windows
from astrom3.modalities.astromer_view import (
    MAGNITUDES,
    TIMES,
    VALID,
    empty_batch,
    fill_windows,
    random_starts,
    sequential_windows,
)
from astrom3.modalities.magnitudes import prepare_fluxes, prepare_magnitudes

SMALL = {"layers": 2, "d_model": 16, "n_heads": 2, "d_ff": 24, "dropout": 0.0}
LENGTHS = (200, 200, 130, 61, 60, 7, 5, 200) * 5


def windows(seed=0, lengths=LENGTHS):
    """A masked batch of windows of many lengths, as tensors."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = random.normal(size=(offsets[-1], 3))
    values[:, 0] *= 300
    values[:, 2] = 0.05
    batch = empty_batch(len(lengths))
    curves = np.arange(len(lengths))
    fill_windows(values, offsets, curves, np.zeros_like(curves), batch)
    mask_windows(batch, curves, seed, 0)
    return {name: torch.from_numpy(array) for name, array in batch.items()}


def perturbed(batch):
    """The batch with nonsense in place of every hidden magnitude."""
    hidden = batch[HIDDEN] > 0
    assert hidden.sum() > 1000
    magnitudes = torch.where(hidden, torch.full_like(batch[MAGNITUDES], torch.nan), batch[MAGNITUDES])
    return batch | {MAGNITUDES: magnitudes}


@pytest.mark.parametrize("options", [{}, {"hidden_value": "zero"}, {"mask_format": "plus_one"}], ids=str)
@pytest.mark.parametrize("version", [1, 2])
def test_hidden_magnitudes_change_no_output(version, options):
    encoder = Astromer(version=version, **SMALL, **options)
    model = MaskedAstromer(encoder)
    batch = windows()
    inputs = [batch[key] for key in model.inputs]
    others = [perturbed(batch)[key] for key in model.inputs]
    assert torch.equal(model(*inputs), model(*others))
    assert torch.equal(encoder(*inputs[:4]), encoder(*others[:4]))
    assert torch.equal(encoder.tokens(*inputs[:4])[0], encoder.tokens(*others[:4])[0])
    layers = zip(encoder.every_layer(*inputs[:4]), encoder.every_layer(*others[:4]), strict=True)
    assert all(torch.equal(ours, other) for ours, other in layers)


@pytest.mark.parametrize("version", [1, 2])
def test_the_originals_see_hidden_magnitudes(version):
    model = MaskedAstromer(Astromer(version=version, compat=f"v{version}", **SMALL))
    batch = windows()
    other = batch | {MAGNITUDES: batch[MAGNITUDES] + batch[HIDDEN]}
    outputs = [model(*[b[key] for key in model.inputs]) for b in (batch, other)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("version", [1, 2])
def test_buckets_give_what_padded_windows_give(version):
    torch.manual_seed(0)
    model = MaskedAstromer(Astromer(version=version, **SMALL))
    batch = windows()
    times, magnitudes, valid, hidden, probed = (batch[key] for key in model.inputs)
    layers = model.encoder.every_layer(times, magnitudes, valid, hidden)
    expected = model.head(layers[-1]) * probed
    output = model(times, magnitudes, valid, hidden, probed) * probed
    assert torch.allclose(output, expected, atol=2e-5)
    weights = torch.randn_like(output)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad((output * weights).sum(), parameters)
    references = torch.autograd.grad((expected * weights).sum(), parameters)
    largest = max(float(reference.norm()) for reference in references)
    for gradient, reference in zip(gradients, references, strict=True):
        assert (gradient - reference).norm() <= 1e-5 * largest + 1e-4 * reference.norm()
    tokens, visible = model.encoder.tokens(times, magnitudes, valid, hidden)
    assert torch.allclose(tokens, layers[-1] * valid.unsqueeze(-1), atol=2e-5)
    assert torch.equal(visible, valid * (1 - hidden) > 0)


def test_a_window_without_any_visible_point_is_finite():
    batch = windows(lengths=(5, 3, 40) * 8)
    everything = batch[VALID]
    nothing = torch.zeros_like(everything)
    for pool in ("mean", "max"):
        encoder = Astromer(pool=pool, **SMALL)
        hidden = encoder(batch[TIMES], batch[MAGNITUDES], everything, everything)
        absent = encoder(batch[TIMES], batch[MAGNITUDES], nothing)
        assert torch.equal(hidden, torch.zeros_like(hidden))
        assert torch.equal(absent, torch.zeros_like(absent))
    output = MaskedAstromer(encoder)(batch[TIMES], batch[MAGNITUDES], everything, everything, everything)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_ignores_padding_and_learns(kind):
    torch.manual_seed(0)
    batch = windows()
    shorter = {name: tensor[3:7, :70] for name, tensor in batch.items()}
    for encoder in (Astromer(version=2, **SMALL), CurveEmbedding(16), RawCurve()):
        if kind == "skip" and not isinstance(encoder, Astromer):
            continue
        model = SequenceClassifier(encoder, build_head(kind, encoder, 4, (12, 8), 6))
        logits = model.eval()(batch)
        assert logits.shape == (len(LENGTHS), 4)
        assert torch.allclose(model(shorter), logits[3:7], atol=1e-4)
        loss = torch.nn.functional.cross_entropy(model.train()(batch), torch.arange(len(LENGTHS)) % 4)
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.head.parameters())
        assert any(p.grad.abs().max() > 0 for p in model.head.parameters())


def test_tanh_is_that_of_torch_to_the_last_digits():
    tanh = Tanh()
    x = torch.cat([torch.linspace(-12, 12, 200_001), torch.linspace(-1e-3, 1e-3, 1001)])
    assert (tanh(x).double() - torch.tanh(x.double())).abs().max() < 4e-7
    assert tanh(x).abs().max() <= 1
    assert torch.equal(tanh(-x), -tanh(x))
    ends = tanh(torch.tensor([torch.inf, -torch.inf, 0.0, torch.nan]))
    assert ends[:3].tolist() == [1, -1, 0]
    assert ends[3].isnan()
    argument = torch.randn(3, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(tanh(argument).sum(), argument)
    assert torch.allclose(gradient, 1 - torch.tanh(argument.detach()) ** 2, atol=1e-6)


def test_masks_follow_from_seed_epoch_and_item_alone():
    first = windows(lengths=(200, 150, 20, 5))
    offsets = np.array([0, 200])
    values = np.random.default_rng(1).normal(size=(200, 3))

    def draw(items, seed, epoch):
        batch = empty_batch(len(items))
        fill_windows(values, offsets, np.zeros(len(items), np.int64), np.zeros(len(items), np.int64), batch)
        mask_windows(batch, np.array(items), seed, epoch)
        return batch

    batch = draw([7, 8, 9], 1, 3)
    alone = draw([8], 1, 3)
    for key in (MAGNITUDES, PROBED, HIDDEN):
        assert np.array_equal(batch[key][1], alone[key][0])
    for other in (draw([8], 1, 4), draw([8], 2, 3), draw([9], 1, 3)):
        assert not np.array_equal(other[HIDDEN], alone[HIDDEN])
    for i, n in enumerate((200, 150, 20, 5)):
        counts = mask_counts(n, Fractions())
        assert int(first[PROBED][i].sum()) == counts.probed
        assert int(first[HIDDEN][i].sum()) == counts.hidden
        changed = first[MAGNITUDES][i] != first[TARGET][i]
        assert int(changed.sum()) <= counts.random
        assert not (changed & ((first[PROBED][i] == 0) | (first[HIDDEN][i] == 1))).any()


def test_every_point_is_probed_hidden_and_replaced_equally_often():
    n = 20
    epochs = 4000
    values = np.arange(3.0 * n).reshape(n, 3)
    counts = np.zeros((3, n))
    items = np.arange(epochs)
    batch = empty_batch(epochs, n)
    fill_windows(values, np.array([0, n]), np.zeros(epochs, np.int64), np.zeros(epochs, np.int64), batch)
    mask_windows(batch, items, 0, 0)
    counts = [batch[PROBED].mean(0), batch[HIDDEN].mean(0), (batch[MAGNITUDES] != batch[TARGET]).mean(0)]
    expected = [0.5, 0.3, 0.1 * (1 - 1 / n)]  # 10, 6 and 2 of 20; a shuffle leaves 1 in n where it was
    for part, share in zip(counts, expected, strict=True):
        assert np.abs(part - share).max() < 5 * np.sqrt(share * (1 - share) / epochs)
    starts = random_starts(np.full(epochs, 203), items, 0, 0)
    assert np.array_equal(np.unique(starts), np.arange(4))
    assert np.abs(np.bincount(starts) / epochs - 0.25).max() < 0.035


def test_every_point_is_in_a_window_and_overlaps_are_counted():
    lengths = np.array([4, 5, 199, 200, 201, 400, 450, 1000])
    cut = sequential_windows(lengths)
    assert np.array_equal(np.bincount(cut.curves, minlength=8), [0, 1, 1, 1, 2, 2, 3, 5])
    for curve in range(1, 8):
        own = cut.curves == curve
        width = min(lengths[curve], 200)
        points = cut.starts[own][:, None] + np.arange(width)
        fresh = np.arange(width) >= cut.overlaps[own][:, None]
        assert np.array_equal(np.sort(points[fresh]), np.arange(lengths[curve]))


def test_magnitudes_are_checked_sorted_and_counted():
    time = np.array([3.0, 1.0, 2.0, 2.0, 5.0, 4.0, 6.0, np.nan, 1.0, 2.0, 3.0, 4.0])
    magnitude = np.array([13.0, 11.0, 12.0, 12.0, np.inf, 14.0, 16.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    error = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0, 1.0, 0.1])
    prepared = prepare_magnitudes(np.array([0, 8, 12]), time, magnitude, error)
    assert prepared.values[:, 0].tolist() == [1, 2, 3, 4, 6]
    assert prepared.values[:, 1].tolist() == [11, 12, 13, 14, 16]
    assert prepared.offsets.tolist() == [0, 5, 5]
    assert prepared.dropped.tolist() == [3, 2]  # of the first: a duplicate, an infinity, a NaN
    assert prepared.usable.tolist() == [True, False]


def test_fluxes_that_are_not_positive_are_dropped_and_counted():
    flux = np.array([100.0, 10.0, 0.0, 1.0, -3.0, 1.0, 1.0])
    prepared = prepare_fluxes(np.array([0, 7]), np.arange(7.0), flux, 0.05 * np.abs(flux), zero_point=25.0)
    assert np.allclose(prepared.values[:, 1], [20, 22.5, 25, 25, 25])
    assert np.allclose(prepared.values[:, 2], 0.05 * 2.5 / np.log(10))
    assert prepared.not_positive.tolist() == [2]
    assert prepared.dropped.tolist() == [0]


ONNX_OPTIONS = [{"version": 1, "compat": "v1"}, {"version": 2}, {"version": 2, "compat": "v2"}]


@pytest.mark.parametrize("options", ONNX_OPTIONS, ids=str)
def test_the_onnx_file_gives_what_torch_gives(options, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    encoder = Astromer(**(SMALL | options))
    assert write_onnx(encoder, tmp_path / "astromer.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "astromer.onnx"), providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == {"input", "times", "mask_in"}
    nothing = {name: np.zeros((1, 200, 1), np.float32) for name in ("input", "times", "mask_in")}
    mean, highest, _ = session.run(["mean", "max", "sequence"], nothing)
    assert np.all(mean == 0)
    assert np.all(highest == np.float32(-1e9))


def test_light_curve_embeds_with_our_file(tmp_path):
    embed = pytest.importorskip("light_curve.embed")
    onnxruntime = pytest.importorskip("onnxruntime")
    encoder = Astromer(version=1, compat="v1", **SMALL).eval()
    write_onnx(encoder, tmp_path / "astromer.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "astromer.onnx"), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    curve = random.normal(size=(120, 3)) + np.array([50000, 15, 0])
    curve[:, 0] = np.sort(random.uniform(50000, 52000, 120))
    batch = empty_batch(1)
    first = np.zeros(1, np.int64)
    fill_windows(curve, np.array([0, 120]), first, first, batch)
    with torch.inference_mode():
        expected = encoder(*(torch.from_numpy(batch[key]) for key in encoder.inputs))
    theirs = embed.Astromer1(session, output="mean")(curve[:, 0], curve[:, 1])
    assert np.abs(theirs.reshape(-1) - expected[0].numpy()).max() < 1e-4
