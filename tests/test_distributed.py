"""Several real processes (gloo) against one: losses, gradients of every parameter, metrics, two nodes by torchrun."""

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import CONTEXT, finish, free_port, run_module

from astrom3.cli.config import compose
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.ring import RingEncoder, VariabilityEncoder
from astrom3.encoders.towers import MultimodalClassifier, MultimodalModel
from astrom3.modalities.constants import CHANNELS, FEATURES, RING, SCALAR, SCALARS
from astrom3.modalities.variability import COUNT
from astrom3.tasks.classification import ClassificationModule
from astrom3.tasks.contrastive import ContrastiveModule
from astrom3.tasks.grouping import GroupingModule

pytestmark = pytest.mark.slow

OPTIM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0}
SCHEDULE = {"warmup_epochs": 1, "factor": 0.5, "patience": 1}
CLASSES = ("EA", "EW", "SR")
OBJECTS, POINTS, PIXELS = 16, 20, 600


def curves(missing, dtype):
    """A global batch of 16 folded curves with their features. "some": the first rank of four has no features, and
    the others have unlike numbers of them."""
    generator = torch.Generator().manual_seed(2)
    out = {
        RING: torch.randn(OBJECTS, CHANNELS, 64, generator=generator, dtype=dtype),
        SCALAR: torch.randn(OBJECTS, SCALARS, generator=generator, dtype=dtype),
        FEATURES: torch.randn(OBJECTS, COUNT, generator=generator, dtype=dtype),
        "label": torch.arange(OBJECTS) % 3,
        "index": torch.arange(OBJECTS).flip(0),
    }
    present = {m: torch.ones(OBJECTS, dtype=torch.bool) for m in ("photometry", "features")}
    if missing == "some":
        present["features"][:4] = False
        present["features"][11] = False
        present["photometry"][[6, 7, 9]] = False
    return out | {"present": present}


def grouping(dtype):
    """Pre-training with groups of like curves, its aims drawn at random."""
    torch.manual_seed(0)
    encoders = {
        "photometry": RingEncoder(width=4, out_features=8),
        "features": VariabilityEncoder(out_features=8, steps=2),
    }
    made = GroupingModule(MultimodalModel(encoders, 8, start_scale=3.0), CLASSES, OPTIM, SCHEDULE, tasks=5, groups=3)
    made.aims["train"] = torch.randint(0, 3, (OBJECTS, 5)), torch.randn(OBJECTS, COUNT, dtype=dtype)
    return made.to(dtype).eval()


def batch(missing, dtype):
    """One global batch of 16 objects. "some": light curves, spectra and metadata absent here and there, and no
    spectrum at all among the first four (the first rank of four has none)."""
    generator = torch.Generator().manual_seed(1)
    out = {
        "photometry": torch.randn(OBJECTS, POINTS, 9, generator=generator, dtype=dtype),
        "mask": torch.ones(OBJECTS, POINTS, dtype=dtype),
        "spectra": torch.randn(OBJECTS, 3, PIXELS, generator=generator, dtype=dtype),
        "metadata": torch.randn(OBJECTS, 34, generator=generator, dtype=dtype),
        "label": torch.arange(OBJECTS) % 3,
    }
    present = {m: torch.ones(OBJECTS, dtype=torch.bool) for m in ("photometry", "spectra", "metadata")}
    if missing == "some":
        present["spectra"][:4] = False
        present["spectra"][11] = False
        present["photometry"][[6, 7, 9]] = False
        present["metadata"][[5, 12]] = False
    return out | {"present": present}


def module(task, dtype):
    """The training module with small real encoders. In evaluation mode every query attends and nothing is dropped."""
    torch.manual_seed(0)
    encoders = {
        "photometry": InformerEncoder(seq_len=POINTS, d_model=16, d_ff=32, e_layers=2, evaluation="full"),
        "spectra": GalSpecNet((3, 4, 4, 4), pixels=PIXELS),
        "metadata": MetadataMLP(34, 16),
    }
    backbone = MultimodalModel(encoders, hidden_dim=8)
    if task == "clip":
        made = ContrastiveModule(backbone, CLASSES, OPTIM, SCHEDULE)
        for scale in backbone.logit_scales.values():
            scale.data.fill_(1.0)  # at ln 100 the published clamp gives no gradient
    else:
        model = partial(MultimodalClassifier, backbone)
        made = ClassificationModule(model, CLASSES, OPTIM, SCHEDULE)
    return made.to(dtype).eval()


class Loss(torch.nn.Module):
    """What a training step differentiates."""

    def __init__(self, task, inner):
        super().__init__()
        self.task, self.inner = task, inner

    def forward(self, part):
        if self.task == "clip":
            return self.inner._losses(part)[0]["loss"]
        if self.task == "grouping":
            part = self.inner.encoded(part)
            return 0.1 * self.inner._losses(part)[0]["loss"] + self.inner.self_made(part, "train")
        return torch.nn.functional.cross_entropy(self.inner(part), part["label"])


@pytest.mark.parametrize("missing", ["none", "some"])
def test_a_batch_that_is_encoded_once_gives_both_losses_as_before(missing):
    found = {}
    for once in (True, False):
        made = grouping(torch.float64)
        part = curves(missing, torch.float64)
        part = made.encoded(part) if once else part
        loss = made._losses(part)[0]["loss"] + made.self_made(part, "train")
        loss.backward()
        found[once] = loss.detach(), {name: p.grad for name, p in made.named_parameters()}
    torch.testing.assert_close(found[True], found[False], rtol=1e-10, atol=1e-12)


def gradients(task, missing, dtype, rank=0, world=1):
    share = OBJECTS // world
    if task == "grouping":
        loss_of = Loss(task, grouping(dtype))
        whole = curves(missing, dtype)
    else:
        loss_of = Loss(task, module(task, dtype))
        whole = batch(missing, dtype)
    rows = slice(rank * share, (rank + 1) * share)
    part = {k: v[rows] for k, v in whole.items() if k != "present"}
    part["present"] = {m: p[rows] for m, p in whole["present"].items()}
    parameters = {k: p for k, p in loss_of.named_parameters() if p.requires_grad}
    wrapped = torch.nn.parallel.DistributedDataParallel(loss_of) if world > 1 else loss_of
    loss = wrapped(part)
    loss.backward()
    mean = loss.detach().clone()
    if world > 1:
        torch.distributed.all_reduce(mean)
    return {"loss": mean / world} | {k: p.grad for k, p in parameters.items()}


def one_rank(rank, world, meeting, cases, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    results = {str(case): gradients(*case, rank, world) for case in cases}
    torch.distributed.barrier()
    if rank == 0:
        torch.save(results, out)
    torch.distributed.destroy_process_group()


CASES = [(task, missing, dtype) for task in ("clip", "all", "grouping") for missing in ("none", "some")
         for dtype in (torch.float32, torch.float64)]  # fmt: skip


@pytest.mark.parametrize("world", [2, 4])
def test_loss_and_gradient_of_every_parameter_equal_those_of_one_process(world, tmp_path):
    """float32 to 3e-5, float64 to 1e-10 of the largest gradient of each parameter; DDP averages over the processes."""
    out = tmp_path / "gradients.pt"
    ranks = [CONTEXT.Process(target=one_rank, args=(r, world, tmp_path / "meeting", CASES, out)) for r in range(world)]
    for rank in ranks:
        rank.start()
    assert [finish(rank) for rank in ranks] == [0] * world
    found = torch.load(out, weights_only=True)
    for case in CASES:
        alone, together = gradients(*case), found[str(case)]
        assert set(alone) == set(together) and len(alone) > 20
        tolerance = 1e-10 if case[2] is torch.float64 else 3e-5
        for name, value in alone.items():
            assert value is not None and together[name] is not None, (case, name)
            assert value.abs().max() > 0 or "logit" not in name, (case, name)
            # A key's bias changes no attention weight: its gradient is rounding (1e-17 in float64), of its weight's.
            size = alone[name.replace("key.bias", "key.weight")].abs().max()
            difference = (value - together[name]).abs().max() / size.clamp(min=1e-3)
            assert difference < tolerance, (case, name, float(difference))


TINY = ["size=tiny", "data=simulated", "data.objects=243", "data.missing_spectra=0.3", "data.missing_light_curves=0.2",
        "data.batch_size=64", "data.eval_batch_size=10", "trainer.enable_progress_bar=false",
        "trainer.precision=64-true", "encoders.photometry.evaluation=full", "encoders.photometry.honour_dropout=true",
        "encoders.photometry.factor=40",
        *(f"encoders.{m}.dropout=0.0" for m in ("photometry", "spectra", "metadata"))]  # fmt: skip


def on_two_nodes(module, environment, folder):
    """Run a module with its arguments by two agents of torchrun that meet each other, one process each."""
    meet = ["torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=1",
            f"--rdzv-endpoint=127.0.0.1:{free_port()}", "-m"]  # fmt: skip
    command = [sys.executable, "-m", *meet, *module]
    logs = [(folder / f"nodes-{i}.log").open("w") for i in range(2)]
    agents = [subprocess.Popen(command, env=environment, stdout=log, stderr=log) for log in logs]
    ends = [agent.wait(300) for agent in agents]
    said = [(folder / f"nodes-{i}.log").read_text() for i in range(2)]
    assert ends == [0, 0], "\n".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["clip"])
def test_runs_of_two_processes_and_of_two_nodes_have_the_numbers_of_one(mode, tmp_path):
    """Dropout and drawn keys off, so that only the order of sums differs. Evaluation batches of 10 leave ragged ends:
    no object is doubled or padded, so counts are the same and losses agree to rounding."""
    environment = {**os.environ, "ASTROM3_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    train = ["astrom3.train", *TINY, f"mode={mode}", "trainer=ddp", "trainer.accelerator=cpu"]
    nodes = [*train, "trainer.devices=1", "trainer.num_nodes=2", f"root={tmp_path / 'nodes'}"]
    commands = {
        "one": [*train, "trainer.devices=1", f"root={tmp_path / 'one'}"],
        "two": [*train, f"root={tmp_path / 'two'}"],
    }
    for command in commands.values():
        done = run_module(*command, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    on_two_nodes(nodes, environment, tmp_path)
    runs = {}
    for name in (*commands, "nodes"):
        folder = tmp_path / name / f"{mode}-full-scratch-42"
        table = list(csv.DictReader((folder / "metrics.csv").open()))
        runs[name] = table, json.loads((folder / "metrics.json").read_text())
    for name in ("two", "nodes"):
        for one, other in zip(runs["one"][0], runs[name][0], strict=True):
            for key in ("train/loss", "val/loss", "val/accuracy", "lr"):
                assert float(one[key]) == pytest.approx(float(other[key]), rel=1e-6), (name, key)
        alone, together = runs["one"][1], runs[name][1]
        if mode == "all":
            assert alone == together  # confusion matrix, accuracy, F1: counts
        else:
            assert alone["clip_accuracy"] == together["clip_accuracy"]
            assert alone["centroid_accuracy"] == together["centroid_accuracy"]
            assert alone["loss"] == pytest.approx(together["loss"], rel=1e-6)


def train_and_list_threads(rank, port, root, out):
    torchrun = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    os.environ.update(torchrun)
    torch.set_num_threads(1)
    from astrom3.train import train

    train(compose([*TINY, "mode=clip", "trainer=ddp", "trainer.accelerator=cpu", f"root={root}"]))
    left = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    out.with_suffix(f".{rank}").write_text("".join(left))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed by Linux only")
def test_no_thread_of_the_process_group_outlives_a_run(tmp_path):
    """One that does can abort the process as it ends, after all has gone well: torchrun then calls the run failed."""
    arguments = (free_port(), tmp_path, tmp_path / "left")
    ranks = [CONTEXT.Process(target=train_and_list_threads, args=(rank, *arguments)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    assert [finish(rank) for rank in ranks] == [0, 0]
    for rank in (0, 1):
        left = (tmp_path / f"left.{rank}").read_text()
        assert "python" in left
        assert "gloo" not in left and "tcpstore" not in left


def test_processes_of_another_number_than_configured_are_refused(monkeypatch, tmp_path):
    from astrom3.errors import UserError
    from astrom3.train import train

    for key, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    cfg = compose(["mode=meta", "data=simulated", f"root={tmp_path}", "trainer=ddp", "trainer.accelerator=cpu"])
    with pytest.raises(UserError, match=r"torchrun started 4 processes.*trainer\.devices=2.*num_nodes=1"):
        train(cfg)
