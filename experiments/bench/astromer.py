"""Cases of the benchmark for Astromer: filling windows, training steps, inference, and the embedding of a survey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from experiments.bench.cases import Case, autocast, count
from experiments.bench.rows import ORIGINAL, Row, precisions

WINDOW = 200
SURVEY_POINTS = (60, 400)  # fewest and most points of a curve, uniform, as of AstroM3's light curves


def random_windows(n: int) -> dict[str, torch.Tensor]:
    """Batch keys of n windows of random curves with a fifth of the points hidden and half of them probed."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(*SURVEY_POINTS, (n, 1), generator=generator)
    valid = (torch.arange(WINDOW) < lengths).float()
    times = torch.randn(n, WINDOW, generator=generator) * 300 * valid
    magnitudes = torch.randn(n, WINDOW, generator=generator) * valid
    probed = (torch.rand(n, WINDOW, generator=generator) < 0.5).float() * valid
    hidden = (torch.rand(n, WINDOW, generator=generator) < 0.6).float() * probed
    return {"times": times, "magnitudes": magnitudes, "valid": valid, "hidden": hidden, "probed": probed}


def networks(ours: bool, version: int) -> torch.nn.Module:
    """Ours with its reconstruction head and the layers of this processor, or the plain variant with the same weights,
    in the published size."""
    from astrom3.encoders.astromer import MaskedAstromer
    from astrom3.encoders.cpu import accelerate
    from astrom3.hardware import keep_memory
    from experiments.bench import plain_astromer

    torch.manual_seed(0)
    own = MaskedAstromer(plain_astromer.published(version))
    if ours:
        keep_memory()
        return accelerate(own)  # as every training and every loaded model is
    return plain_astromer.adopt(plain_astromer.PlainAstromer(version, own.encoder.layers), own)


def masked_step(ours: bool, version: int, precision: str, batch: int, device: str = "cpu", **_: Any) -> Case:
    """One step of masked pre-training: forward, loss on probed points, backward, Adam."""
    net = networks(ours, version).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-5, fused=ours)
    data = {key: value.to(device) for key, value in random_windows(batch).items()}
    names = ("times", "magnitudes", "valid", "hidden") + (("probed",) if ours else ())
    inputs = [data[name] for name in names]

    def forward_backward() -> None:
        with autocast(device, precision):
            found = net(*inputs) if ours else net.reconstruct(*inputs)  # type: ignore[operator]
        residual = (found.float() - data["magnitudes"]).square() * data["probed"]
        (residual.sum(1) / data["probed"].sum(1).clamp(min=1)).mean().sqrt().backward()

    def once() -> None:
        optimizer.zero_grad()
        forward_backward()
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    flops = count(forward_backward) / batch
    once()
    once()
    return Case(once, batch, flops)


def window_inference(ours: bool, version: int, precision: str, batch: int, device: str = "cpu", **_: Any) -> Case:
    """Features of a batch of windows."""
    net = networks(ours, version).to(device).eval()
    data = random_windows(batch)
    inputs = [data[name].to(device) for name in ("times", "magnitudes", "valid")]

    def forward() -> None:
        with torch.inference_mode(), autocast(device, precision):
            if ours:
                net.encoder(*inputs)  # type: ignore[operator, union-attr]
            else:
                net.features(*inputs)  # type: ignore[operator]

    def once() -> None:
        forward()
        if device != "cpu":
            torch.cuda.synchronize()

    flops = count(forward) / batch
    once()
    once()
    return Case(once, batch, flops)


def masked_filling(ours: bool, curves: int, batch: int = 512, **_: Any) -> Case:
    """Windows with new masks from a store of curves. There is no plain variant."""
    from astrom3.modalities.view import Members, StoredView, get_view

    rng = np.random.default_rng(0)
    lengths = rng.integers(*SURVEY_POINTS, curves)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total = int(offsets[-1])
    flux = rng.normal(20, 1, total)
    columns = (rng.uniform(50000, 53000, total), flux, np.full(total, 0.3))
    view = get_view("astromer-masked")
    assert isinstance(view, StoredView)
    arrays = view.arrays(view.prepare(view.check(offsets, *columns)))
    everyone = np.arange(curves)
    nothing = np.zeros((curves, 0), np.float32)
    reader = view.reader(arrays, Members(everyone, everyone, nothing, nothing, True, np.full(curves, np.nan)))
    epoch = 0

    def once() -> None:
        nonlocal epoch
        for start in range(0, curves - batch + 1, batch):
            reader.fill(everyone[start : start + batch], 0, epoch)
        epoch += 1

    once()
    return Case(once, curves // batch * batch)


def survey_embedding(ours: bool, curves: int, batch: int = 256, **_: Any) -> Case:
    """Embeddings of a whole survey of light curves by a small Astromer 2, a batch at a time, nothing kept."""
    from astrom3.encoders.astromer import Astromer
    from astrom3.encoders.cpu import accelerate

    net = accelerate(Astromer(version=2, layers=2, d_model=64, n_heads=4, d_ff=128).eval())

    def once() -> None:
        with torch.inference_mode():
            for start in range(0, curves, batch):
                data = random_windows(min(batch, curves - start))
                net(data["times"], data["magnitudes"], data["valid"])

    return Case(once, curves)


CASES: dict[str, Callable[..., Case]] = {
    "masked_step": masked_step,
    "window_inference": window_inference,
    "masked_filling": masked_filling,
    "survey_embedding": survey_embedding,
}


def rows(full: bool, device: str) -> list[Row]:
    """Rows of both versions in the published size; targets of the issue: 1.5 times the plain variant."""
    batch = 512 if device != "cpu" else 128 if full else 64
    found = []
    for version in (1, 2):
        for precision in precisions(device):
            options = {"version": version, "precision": precision, "batch": batch, "device": device}
            plain = {"precision": "f32"}
            for case, verb, name in (
                ("masked_step", "step", f"Astromer {version} masked step, {precision}"),
                ("window_inference", "inference", f"Astromer {version} inference, {precision}"),
            ):
                original = ORIGINAL[f"astromer {version} {verb}"]
                found.append(Row(name, case, options, plain, ratio=1.5, original=original))
    if device == "cpu":
        found.append(Row("Astromer filling masked windows", "masked_filling", {"curves": 20_000}, None, rate=50_000))
        for curves in (10_000, 100_000) if full else (2_000,):
            name = f"Astromer embedding {curves:,} curves"
            found.append(Row(name, "survey_embedding", {"curves": curves}, None, 2))
    return found
