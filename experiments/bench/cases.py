"""What is measured: each case makes a function that does one repetition, ours or the plain variant, and says how many
objects that is and, for networks, how many operations. A worker process (worker.py) runs it when told to."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

Once = Callable[[], None]


@dataclass
class Case:
    """once: one repetition; objects: of a repetition; flops: per object, of matrix products and convolutions."""

    once: Once
    objects: int
    flops: float | None = None


# --- data -----------------------------------------------------------------------------------------------------------


def prepare(ours: bool, objects: int, plain_objects: int = 50, **_: Any) -> Case:
    """Parquet of the first layout into the store, on one thread."""
    from experiments.bench import surveys

    folder = surveys.first_layout(objects)
    if not ours:
        return plain_objects_case(folder, plain_objects)
    from astrom3.data.layouts import open_source
    from astrom3.data.store import open_store

    table = open_source(folder, "full", 42).table("train")

    def once() -> None:
        cache = Path(tempfile.mkdtemp(prefix="astrom3-bench-"))
        try:
            for modality in ("photometry", "spectra"):
                open_store(table, modality, cache, threads=1)
        finally:
            shutil.rmtree(cache)

    once()  # compiles the loops where no earlier process has
    return Case(once, objects)


def plain_objects_case(folder: Path, n: int) -> Case:
    from experiments.bench import surveys
    from experiments.bench.plain import PlainObjects

    data = PlainObjects(str(folder / "full_42" / "train-00000-of-00001.parquet"), surveys.statistics(folder))

    def once() -> None:
        for i in range(n):
            data[i]

    return Case(once, n)


def filling(ours: bool, objects: int, batch: int = 512, **_: Any) -> Case:
    """Training batches from the opened store, against the plain loader that preprocesses each object."""
    return loading(ours, objects, batch, streaming=False)


def streaming(ours: bool, objects: int, batch: int = 512, **_: Any) -> Case:
    """Training batches straight from parquet, preprocessing included, nothing stored."""
    return loading(ours, objects, batch, streaming=True)


def loading(ours: bool, objects: int, batch: int, streaming: bool) -> Case:
    from experiments.bench import surveys

    if not ours:
        from torch.utils.data import DataLoader, Subset

        from experiments.bench.plain import PlainObjects

        folder = surveys.first_layout(objects)
        data = PlainObjects(str(folder / "full_42" / "train-00000-of-00001.parquet"), surveys.statistics(folder))
        few = Subset(data, range(min(256, len(data))))
        plain = DataLoader(few, 32, shuffle=True, num_workers=2, persistent_workers=True)

        def once_plain() -> None:
            for _ in plain:
                pass

        once_plain()
        return Case(once_plain, len(few))
    from astrom3.data.datamodule import AstroM3DataModule
    from astrom3.data.origins import Local

    data_module: Any = AstroM3DataModule(Local(surveys.survey(objects)), batch_size=batch, streaming=streaming)
    data_module.prepare_data()
    data_module.setup("fit")
    loader = data_module.train_dataloader()

    epochs = 1 if streaming else max(1, 30_000 // objects)

    def once() -> None:
        for _ in range(epochs):
            loader.set_epoch(loader.position.epoch + 1)
            for _ in loader:
                pass

    once()
    return Case(once, epochs * len(loader) * batch)


# --- networks -------------------------------------------------------------------------------------------------------


def network(ours: bool, model: str) -> torch.nn.Module:
    """model: photo, spectra, meta, all or clip, in its published size with the dropouts of a published run."""
    from astrom3.encoders.towers import Classifier, MultimodalClassifier, MultimodalModel

    make = encoder_makers(ours)
    if model in make:
        return Classifier(make[model](), 10)
    backbone = MultimodalModel(
        {"photometry": make["photo"](), "spectra": make["spectra"](), "metadata": make["meta"]()}
    )
    return backbone if model == "clip" else MultimodalClassifier(backbone, 10)


def encoder_makers(ours: bool) -> dict[str, Callable[[], torch.nn.Module]]:
    """What makes the encoder of each modality."""
    if ours:
        from astrom3.encoders.galspecnet import GalSpecNet
        from astrom3.encoders.informer import InformerEncoder
        from astrom3.encoders.mlp import MetadataMLP

        return {
            "photo": InformerEncoder,
            "spectra": partial(GalSpecNet, dropout=0.2),
            "meta": partial(MetadataMLP, dropout=0.2),
        }
    from experiments.bench.plain import PlainGalSpecNet, PlainInformer, PlainMLP

    return {"photo": PlainInformer, "spectra": partial(PlainGalSpecNet, p=0.2), "meta": partial(PlainMLP, p=0.2)}


def random_batch(n: int, device: str) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(60, 400, (n,), generator=generator)
    mask = (torch.arange(200) < lengths[:, None]).float()
    shapes = {"photometry": (n, 200, 9), "spectra": (n, 3, 2575), "metadata": (n, 34)}
    batch = {k: torch.randn(shape, generator=generator) for k, shape in shapes.items()}
    batch |= {"mask": mask, "label": torch.randint(10, (n,), generator=generator)}
    batch["photometry"] *= mask.unsqueeze(-1)
    return {k: v.to(device) for k, v in batch.items()}


@contextmanager
def autocast(device: str, precision: str) -> Iterator[None]:
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        yield


def setting(ours: bool, model: str, batch: int, device: str, compiled: bool) -> tuple[torch.nn.Module, dict[str, Any]]:
    from astrom3.encoders.cpu import accelerate
    from astrom3.hardware import keep_memory

    torch.manual_seed(0)
    if ours and device == "cpu":
        keep_memory()
    net = network(ours, model).to(device)
    if ours:
        accelerate(net)
    if compiled:
        from astrom3.encoders.towers import compile_encoders

        compile_encoders(net)
    return net, random_batch(batch, device)


def step(
    ours: bool, model: str, precision: str, batch: int, device: str = "cpu", compiled: bool = False, **_: Any
) -> Case:
    """One training step: forward, loss, backward, clipping, Adam."""
    from astrom3.tasks.losses import contrastive_loss

    net, data = setting(ours, model, batch, device, compiled)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=ours)

    def forward_backward() -> None:
        with autocast(device, precision):
            out = net(data)
        if model == "clip":
            scales = {pair: net.scale(*pair) for pair in net.pairs}  # type: ignore[union-attr, operator]
            loss = contrastive_loss({m: e.float() for m, e in out.items()}, {}, scales)["loss"]
        else:
            loss = torch.nn.functional.cross_entropy(out.float(), data["label"])
        loss.backward()

    def once() -> None:
        optimizer.zero_grad()
        forward_backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 45.0)
        optimizer.step()
        if device != "cpu":
            torch.cuda.synchronize()

    flops = None if compiled else count(forward_backward) / batch
    once()
    once()
    return Case(once, batch, flops)


def inference(
    ours: bool, model: str, precision: str, batch: int, device: str = "cpu", compiled: bool = False, **_: Any
) -> Case:
    net, data = setting(ours, model, batch, device, compiled)
    net.eval()

    def forward() -> None:
        with torch.inference_mode(), autocast(device, precision):
            net(data)

    def once() -> None:
        forward()
        if device != "cpu":
            torch.cuda.synchronize()

    flops = None if compiled else count(forward) / batch
    once()
    once()
    return Case(once, batch, flops)


def count(function: Once) -> float:
    """Operations of the matrix products and convolutions in a call (two for a multiplication and an addition)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def matmul(ours: bool, precision: str, device: str = "cpu", **_: Any) -> Case:
    """The machine's own rate: products of square matrices, by torch's product or our layer, whichever is faster.
    `objects` is 1."""
    from astrom3.encoders.cpu.linear import Linear

    n = 8192 if device != "cpu" else 2048
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
    layer = Linear(n, n, bias=False, device=device, dtype=kind).requires_grad_(False)

    def seconds(product: Once) -> float:
        product()
        start = time.perf_counter()
        for _ in range(3):
            product()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    points = a.view(32, n // 32, n)  # as light curves lie in memory
    product = min((lambda: torch.matmul(a, b), lambda: layer(points)), key=seconds)

    def once() -> None:
        for _ in range(10):
            product()
        if device != "cpu":
            torch.cuda.synchronize()

    once()
    return Case(once, 1, 10 * 2.0 * n**3)


CASES: dict[str, Callable[..., Case]] = {
    "prepare": prepare,
    "filling": filling,
    "streaming": streaming,
    "step": step,
    "inference": inference,
    "matmul": matmul,
}
