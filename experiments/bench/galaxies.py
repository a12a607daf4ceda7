"""Cases of AstroCLIP: views of images, SpecFormer, self-distillation, alignment, streamed pairs. See cases.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.bench.cases import Case, autocast, count

SIDE = 152
PIXELS = 7781


def images(n: int) -> np.ndarray:
    """Cutouts (n, 3, 152, 152): noise around a bright centre, in nanomaggies."""
    random = np.random.default_rng(0)
    line = np.arange(SIDE) - SIDE / 2
    blob = np.exp(-np.hypot(line, line[:, None]) / 12)
    return (0.02 * random.standard_normal((n, 3, SIDE, SIDE)) + blob).astype(np.float32)


def spectra(n: int, device: str) -> Tensor:
    """Flux (n, 7781)."""
    return torch.randn(n, PIXELS, generator=torch.Generator().manual_seed(0)).add(2).to(device)


def cutout(ours: bool, batch: int = 64, **_: Any) -> Case:
    """Flux to network images."""
    flux = images(batch)
    if ours:
        from astrom3.modalities.cutout import network_image

        tensor = torch.from_numpy(flux)
        once: Callable[[], Any] = lambda: network_image(tensor)  # noqa: E731
    else:
        from experiments.bench.plain_galaxies import cutouts

        once = lambda: cutouts(flux)  # noqa: E731
    once()
    return Case(once, batch)


def crops(ours: bool, batch: int = 16, **_: Any) -> Case:
    """Two global and eight local crops of every image, with blur and noise, as network images."""
    from astrom3.modalities.crops import CropSettings
    from experiments.bench import plain_galaxies

    flux = images(batch)
    settings = CropSettings()

    def once() -> None:
        random = np.random.Generator(np.random.Philox(0))
        for image in flux:
            if ours:
                settings.images(image, random)
            else:
                plain_galaxies.crops(image, settings, random)

    once()
    return Case(once, batch)


def encoders(size: str, device: str) -> dict[str, Any]:
    """SpecFormer and the image encoder of a size."""
    from astrom3.encoders.specformer import SIZES as OF_SPECTRA
    from astrom3.encoders.specformer import SpecFormer
    from astrom3.encoders.vit import SIZES as OF_IMAGES
    from astrom3.encoders.vit import VisionTransformer

    torch.manual_seed(0)
    found: dict[str, nn.Module] = {
        "spectra": SpecFormer(**OF_SPECTRA[size]),
        "images": VisionTransformer(**OF_IMAGES[size]),
    }
    return {slot: encoder.to(device) for slot, encoder in found.items()}


def specformer(
    ours: bool,
    precision: str,
    batch: int,
    device: str = "cpu",
    size: str = "published",
    training: bool = True,
    **_: Any,
) -> Case:
    """A step of masked spectra (masks, forward, backward, clipping, AdamW), or inference."""
    from astrom3.encoders.transformer import some_tokens
    from astrom3.tasks.masked_spectrum import masked_spectrum_loss
    from astrom3.tasks.masks import ChunkMasks
    from experiments.bench.plain_galaxies import PlainSpecFormer

    keep(device)
    network: Any = encoders(size, device)["spectra"]
    network = network if ours else PlainSpecFormer(network)
    flux = spectra(batch, device)
    masks = ChunkMasks()

    def forward_backward() -> None:
        tokens = network.prepare(flux)
        offsets = masks.draw_for(torch.arange(batch), tokens.shape[1], 0, 0).to(device)
        masked = masks.apply(tokens, offsets)
        rows = masks.positions(offsets, tokens.shape[1]) if ours else None
        with autocast(device, precision):
            found = network.reconstruct(masked, rows) if ours else network.reconstruct(masked)
        if rows is not None:
            tokens = some_tokens(tokens, rows)
            masked = some_tokens(masked, rows)
        masked_spectrum_loss(found.float(), tokens, masked).backward()

    def forward() -> None:
        with torch.inference_mode(), autocast(device, precision):
            network.encode(network.prepare(flux)).mean(dim=1)

    return case(
        stepping(network, forward_backward, 1.0) if training else forward,
        forward_backward if training else forward,
        batch,
        device,
    )


def dino(ours: bool, precision: str, batch: int, device: str = "cpu", size: str = "published", **_: Any) -> Case:
    """A step of self-distillation on drawn crops: teacher, student, losses, clipping, AdamW, running mean."""
    from random import Random

    from astrom3.encoders.dino_head import Branch, DINOHead
    from astrom3.tasks.dino import update_teacher
    from astrom3.tasks.masks import crop_masks
    from astrom3.tasks.self_distillation import Centres, Crops, distillation_losses

    prototypes = 65536 if size == "published" else 256
    student, teacher = (
        Branch(encoder := encoders(size, device)["images"], DINOHead(encoder.embed_dim, prototypes).to(device))
        for _ in range(2)
    )
    teacher.requires_grad_(False)
    centres = Centres(prototypes).to(device)
    made = Crops(
        torch.rand(2 * batch, 3, 144, 144, device=device),
        torch.rand(8 * batch, 3, 60, 60, device=device),
        crop_masks(Random(0), 2 * batch).to(device),
    )

    def forward_backward() -> None:
        with autocast(device, precision):
            distillation_losses(student, teacher, made, centres, 0.05)["loss"].backward()

    step = stepping(student, forward_backward, 3.0)

    def once() -> None:
        step()
        update_teacher(teacher.parameters(), student.parameters(), 0.99)

    return case(once, forward_backward, batch, device)


def alignment(
    ours: bool, precision: str, batch: int, device: str = "cpu", size: str = "published", kept: bool = True, **_: Any
) -> Case:
    """A step of the alignment with frozen encoders. Ours, with `kept`, reads their outputs from the disk, the plain
    one computes them."""
    from astrom3.encoders.aligned_towers import AlignedTowers
    from astrom3.tasks.losses import contrastive_loss

    keep(device)
    parts = encoders(size, device)
    model = AlignedTowers(parts, parts["images"].embed_dim).to(device).train()
    flux = {"specformer/flux": spectra(batch, device), "cutout/flux": torch.from_numpy(images(batch)).to(device)}
    read = kept_batches(model, flux, batch, device) if ours and kept else lambda: flux

    def forward_backward() -> None:
        data = read()
        with autocast(device, precision):
            found = model(data)
        scales = {pair: model.scale(*pair) for pair in model.pairs}
        contrastive_loss({slot: e.float() for slot, e in found.items()}, {}, scales)["loss"].backward()

    return case(stepping(model, forward_backward, 1.0), forward_backward, batch, device)


def kept_batches(model: Any, flux: dict[str, Tensor], batch: int, device: str) -> Callable[[], dict[str, Tensor]]:
    """Batches of kept tokens, read from a temporary folder like those of a run."""
    from astrom3.data.kept import KeptOutputs
    from astrom3.encoders.towers import TOKENS

    folder = tempfile.TemporaryDirectory(prefix="astrom3-bench-")
    stores = {}
    for slot, tower in model.encoders.items():
        key = tower.inputs[0]
        with torch.no_grad():
            example = tower.tokens(flux[key][:1])[0][0].cpu()
        store = KeptOutputs(Path(folder.name) / slot, batch, example)
        for number in range(store.pieces):
            store.write(number, example.expand(len(store.members(number)), *example.shape))
        stores[TOKENS + key] = store

    def read() -> dict[str, Tensor]:
        assert folder.name
        return {key: store.rows(np.arange(batch)).to(device) for key, store in stores.items()}

    return read


def pairs(ours: bool, objects: int, batch: int = 64, **_: Any) -> Case:
    """Image-spectrum pairs streamed from local parquet, an epoch a repetition."""
    from astrom3.cli.config import compose
    from astrom3.training.build import build

    options = ["model=astroclip", "mode=clip", "size=tiny", "data=simulated", "data.streaming=true", "trainer=cpu"]
    data, _ = build(compose([*options, f"data.objects={objects}", f"data.batch_size={batch}"]))
    loader = data.train_dataloader()

    def once() -> None:
        loader.set_epoch(loader.position.epoch + 1)
        for _ in loader:
            pass

    once()
    return Case(once, len(loader) * batch)


def keep(device: str) -> None:
    from astrom3.hardware import keep_memory

    if device == "cpu":
        keep_memory()


def stepping(network: nn.Module, forward_backward: Callable[[], None], clip: float) -> Callable[[], None]:
    """A training step: gradients, clipping, AdamW."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5)

    def step() -> None:
        optimizer.zero_grad()
        forward_backward()
        nn.utils.clip_grad_norm_(learning, clip)
        optimizer.step()

    return step


def case(once: Callable[[], None], counted: Callable[[], None], batch: int, device: str) -> Case:
    """A case that waits for the device, with the operations of `counted`."""

    def waited() -> None:
        once()
        if device != "cpu":
            torch.cuda.synchronize()

    flops = count(counted) / batch
    waited()
    return Case(waited, batch, flops)


CASES: dict[str, Callable[..., Case]] = {
    "cutout": cutout,
    "crops": crops,
    "specformer": specformer,
    "dino": dino,
    "alignment": alignment,
    "pairs": pairs,
}
