"""AstroCLIP's trainings on two gloo processes against one with the global batch: losses, gradients, the centres."""

import csv
import os
import shutil

import numpy as np
import pytest
import torch
from processes import CONTEXT, finish, run_ranks
from torch.nn.parallel import DistributedDataParallel

from astrom3.encoders.dino_head import Branch, DINOHead
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.towers import Classifier
from astrom3.encoders.vit import VisionTransformer
from astrom3.published import native
from astrom3.tasks.distributed import gather_rows, mean_over_ranks
from astrom3.tasks.masked_spectrum import masked_spectrum_loss, reconstruct
from astrom3.tasks.masks import ChunkMasks
from astrom3.tasks.self_distillation import Centres, Crops, distillation_losses

pytestmark = pytest.mark.slow

TASKS = ("masked", "distil", "clip", "clip and masked", "spectra")
GALAXIES = 8
PIXELS = 1501


def own(x, rank, world):
    share = len(x) // world
    return x[rank * share : (rank + 1) * share]


def batch(rank, world):
    """One rank's part of a global batch of 8 galaxies, of which the first rank of two has no image."""
    random = torch.Generator().manual_seed(5)
    whole = {
        "index": torch.arange(GALAXIES),
        "label": torch.arange(GALAXIES) % 3,
        "specformer/flux": torch.randn(GALAXIES, PIXELS, generator=random).cumsum(1),
        "cutout/flux": torch.rand(GALAXIES, 3, 24, 24, generator=random),
        "magnitudes/grz": 18 + torch.randn(GALAXIES, 3, generator=random),
    }
    present = {
        "photometry": torch.tensor([True] * 8),
        "spectra": torch.tensor([True, True, False, True, True, True, True, False]),
        "images": torch.tensor([False] * 4 + [True] * 4),
    }
    part = {key: own(value, rank, world) for key, value in whole.items()}
    return part | {"present": {slot: own(there, rank, world) for slot, there in present.items()}}


class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = SpecFormer(16, 2, 2, max_len=160)

    def forward(self, part):
        parts = reconstruct(self.model, part["specformer/flux"], ChunkMasks(3, 20), part["index"], (1, 4))
        return masked_spectrum_loss(*parts, over_ranks=True)


class Distil(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.student, self.teacher = (
            Branch(VisionTransformer(24, 12, 16, 2, 2, layer_scale=1.0), DINOHead(16, 32, 2, 16, 8)) for _ in range(2)
        )
        self.teacher.requires_grad_(False)
        self.centres = Centres(32)

    def forward(self, part):
        """Crops are drawn for the whole batch. The first rank has many masked patches, the second one."""
        rank, world = part["rank"], part["world"]
        random = torch.Generator().manual_seed(6)
        large = torch.rand(2, GALAXIES, 3, 24, 24, generator=random)
        small = torch.rand(3, GALAXIES, 3, 12, 12, generator=random)
        masks = torch.zeros(2, GALAXIES, 4, dtype=torch.bool)
        masks[:, :4, :2] = True
        masks[1, 6, 3] = True
        mine = [torch.cat([own(kind, rank, world) for kind in crops]) for crops in (large, small, masks)]
        return distillation_losses(
            self.student, self.teacher, Crops(*mine), self.centres, 0.05, mean_over_ranks=mean_over_ranks,
            gather=gather_rows,
        )["loss"]  # fmt: skip


class Aligned(torch.nn.Module):
    def __init__(self, tasks):
        super().__init__()
        from astrom3.encoders.aligned_towers import AlignedTowers
        from astrom3.encoders.magnitudes import MagnitudeMLP
        from astrom3.tasks.alignment_task import AlignmentModule

        encoders = {
            "photometry": MagnitudeMLP(16, 1),
            "spectra": SpecFormer(16, 1, 2, max_len=160),
            "images": VisionTransformer(24, 12, 16, 1, 2, layer_scale=1.0),
        }
        model = AlignedTowers(encoders, 16, 2, 0.0, frozen=False, learnable=True)
        self.module = AlignmentModule(model, ("a",), {}, {}, tasks=tasks, chunks=3, width=20).eval()

    def forward(self, part):
        return self.module._losses(part)[0]["loss"]


class Classified(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Classifier(SpecFormer(16, 1, 2, max_len=160), 3)

    def forward(self, part):
        return torch.nn.functional.cross_entropy(self.model(part), part["label"])


MADE = {
    "masked": Masked, "distil": Distil, "clip": lambda: Aligned(("contrastive",)),
    "clip and masked": lambda: Aligned(("contrastive", "masked")), "spectra": Classified,
}  # fmt: skip


def gradients(task, rank=0, world=1):
    """Loss, gradient of every parameter that learns, and the centres, after DDP's averaging."""
    torch.manual_seed(2)
    loss_of = MADE[task]()
    parameters = {name: p for name, p in loss_of.named_parameters() if p.requires_grad}
    wrapped = DistributedDataParallel(loss_of) if world > 1 else loss_of
    loss = wrapped(batch(rank, world) | {"rank": rank, "world": world})
    loss.backward()
    centres = {name: value for name, value in loss_of.named_buffers() if name.startswith("centres")}
    return {"loss": mean_over_ranks(loss.detach())} | {name: p.grad for name, p in parameters.items()} | centres


def one_rank(rank, world, meeting, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    results = {task: gradients(task, rank, world) for task in TASKS}
    torch.distributed.barrier()
    if rank == 0:
        torch.save(results, out)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    out = folder / "gradients.pt"
    ranks = [CONTEXT.Process(target=one_rank, args=(rank, 2, folder / "meeting", out)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    assert [finish(rank) for rank in ranks] == [0, 0]
    return torch.load(out, weights_only=True)


@pytest.mark.parametrize("task", TASKS)
def test_two_processes_have_the_loss_and_gradients_of_one(task, together):
    alone = gradients(task)
    found = together[task]
    assert set(alone) == set(found) and len(alone) > 15
    for name, value in alone.items():
        assert value is not None and found[name] is not None, name
        size = value.abs().max().clamp(min=1e-3)
        assert (value - found[name]).abs().max() / size < 2e-5, (name, float((value - found[name]).abs().max()))
    if task == "distil":
        assert found["centres.ibot.value"].abs().max() > 0


def trained(root, cache, mode, trainer, devices, *extra):
    """Rows of metrics.csv of a tiny run by `astrom3.train` in processes as torchrun starts them, and its folder."""
    options = ["model=astroclip", f"mode={mode}", "size=tiny", "data=simulated", "data.objects=24", "data.batch_size=8",
               f"trainer={trainer}", f"trainer.devices={devices}", "trainer.accelerator=cpu", f"root={root}",
               "trainer.enable_progress_bar=false", *extra]  # fmt: skip
    environment = {**os.environ, "ASTROM3_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    run_ranks(devices, "astrom3.train", *options, env=environment)
    folder = root / f"astroclip-{mode}-full-scratch-42"
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file)), folder


@pytest.mark.slow
def test_a_spread_network_distils_as_a_replicated_one_and_goes_on(tmp_path, galaxy_cache):
    """trainer=fsdp against trainer=ddp; then the run is taken back to its first epoch and ends as it did."""
    replicated, _ = trained(tmp_path / "ddp", galaxy_cache, "distil", "ddp", 2)
    spread, folder = trained(tmp_path / "fsdp", galaxy_cache, "distil", "fsdp", 2)
    # The logarithm of small distances enlarges what rounding and Adam's first steps make different.
    for one, two, tolerance in zip(replicated, spread, (1e-5, 2e-3), strict=True):
        for key in ("train/loss", "val/loss", "train/loss/koleo", "train/loss/ibot"):
            assert float(one[key]) == pytest.approx(float(two[key]), rel=tolerance), key
    model = native.load(folder / "model").state_dict()
    shutil.copy(folder / "checkpoints" / "previous.ckpt", folder / "checkpoints" / "last.ckpt")
    (folder / "metrics.json").unlink()
    again, _ = trained(tmp_path / "fsdp", galaxy_cache, "distil", "fsdp", 2)
    assert again == spread
    torch.testing.assert_close(native.load(folder / "model").state_dict(), model, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["masked", "distil", "clip"])
def test_two_processes_in_bfloat16_go_on_exactly_and_log_to_wandb_offline(mode, tmp_path, galaxy_cache):
    """A run of two epochs is taken back to its first and ends with the same numbers and the same bits."""
    pytest.importorskip("wandb")
    extra = ("trainer.precision=bf16-mixed", "logger=wandb_offline", "epochs=2")
    whole, folder = trained(tmp_path, galaxy_cache, mode, "ddp", 2, *extra)
    assert list((folder / "wandb").glob("offline-run-*"))
    ended = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    shutil.copy(folder / "checkpoints" / "previous.ckpt", folder / "checkpoints" / "last.ckpt")
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    (folder / "metrics.json").unlink()
    again, _ = trained(tmp_path, galaxy_cache, mode, "ddp", 2, *extra)
    assert again == whole and all(np.isfinite(float(row["val/loss"])) for row in again)
    resumed = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    torch.testing.assert_close(resumed["state_dict"], ended["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(resumed["optimizer_states"], ended["optimizer_states"], rtol=0, atol=0)
