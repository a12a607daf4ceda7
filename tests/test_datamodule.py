"""Batches: who is in them, which window, how ranks share them, how an interrupted epoch continues."""

import json

import lightning
import numpy as np
import pytest
import torch
from data_files import make_rows, write_ours
from processes import run_ranks

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.loader import PackedLoader
from astrom3.data.origins import Local
from astrom3.data.sampler import EpochSampler
from astrom3.errors import UserError
from astrom3.modalities import preprocess
from astrom3.modalities.schema import CLASSES


@pytest.fixture(scope="module")
def rows():
    return make_rows(60)


@pytest.fixture(scope="module")
def root(rows, tmp_path_factory):
    return write_ours(tmp_path_factory.mktemp("data") / "ours", rows)


@pytest.fixture(scope="module")
def module(root, tmp_path_factory):
    made = AstroM3DataModule(Local(root), batch_size=8, cache=tmp_path_factory.mktemp("cache"))
    made.setup()
    return made


def same(a, b):
    keys = ("index", "label", "photometry", "mask", "spectra", "metadata")
    return all(torch.equal(a[k], b[k]) for k in keys) and all(
        torch.equal(a["present"][m], b["present"][m]) for m in b["present"]
    )


def test_the_batch_is_the_one_of_the_schema(module):
    batch = next(iter(module.train_dataloader()))
    shapes = {k: (tuple(v.shape), v.dtype) for k, v in batch.items() if k != "present"}
    f, i = torch.float32, torch.int64
    assert shapes == {"index": ((8,), i), "label": ((8,), i), "photometry": ((8, 200, 9), f), "mask": ((8, 200), f),
                      "spectra": ((8, 3, 2575), f), "metadata": ((8, 34), f)}  # fmt: skip
    assert {m: (tuple(v.shape), v.dtype) for m, v in batch["present"].items()} == {
        m: ((8,), torch.bool) for m in ("photometry", "spectra", "metadata")
    }
    assert module.classes == CLASSES and module.num_classes == 10


def test_evaluation_batches_equal_object_by_object_preprocessing(rows, module):
    named = {r["object_id"]: r for r in rows}
    seen = []
    for batch in module.val_dataloader():
        ids = module.object_ids("validation")[batch["index"].numpy()]
        seen += ids.tolist()
        for i, name in enumerate(ids):
            row = named[name]
            values = np.array([[*row["photo_cols"].values(), *row["meta_cols"].values()]])
            scaled = module.normaliser.apply(values)[0]
            x, mask = preprocess.light_curve(*row["light_curve"].values(), scaled[:4])
            np.testing.assert_array_equal(batch["photometry"][i], x)
            np.testing.assert_array_equal(batch["mask"][i], mask)
            np.testing.assert_array_equal(batch["spectra"][i], preprocess.spectrum(*row["spectrum"].values()))
            np.testing.assert_array_equal(batch["metadata"][i], scaled[4:])
            assert CLASSES[batch["label"][i]] == row["label"]
    assert seen == [r["object_id"] for i, r in enumerate(rows) if i % 5 == 0]


def starts(loader, epoch):
    """First time of each object's window in a training epoch."""
    loader.set_epoch(epoch)
    return {
        int(i): float(t) for batch in loader for i, t in zip(batch["index"], batch["photometry"][:, 0, 0], strict=True)
    }


def test_windows_differ_by_epoch_and_object_and_are_reproducible(module):
    first, second = starts(module.train_dataloader(), 0), starts(module.train_dataloader(), 1)
    both = [i for i in first if i in second]
    split = module.splits["train"]
    lengths = dict(zip(split.positions.tolist(), split.readers["photometry"].lengths.tolist(), strict=True))
    long = [i for i in both if lengths[i] > 230]
    moved = [first[i] != second[i] for i in long]
    assert len(long) > 10 and np.mean(moved) > 0.8
    assert all(first[i] == 0 for i in both if lengths[i] <= 200)
    assert len({first[i] for i in long}) > 0.8 * len(long)
    assert first == starts(module.train_dataloader(), 0)  # another loader, the same draw
    other = AstroM3DataModule(module.origin, batch_size=4, cache=module.cache)
    other.setup("fit")
    again = starts(other.train_dataloader(), 0)  # another batch size: the window belongs to (seed, epoch, object)
    assert {i: again[i] for i in first} == first


def test_windows_are_uniform_over_the_curve():
    from astrom3.modalities.views import window_starts

    drawn = window_starts(np.full(20000, 299), np.arange(20000), seed=42, epoch=3)
    counts = np.bincount(drawn, minlength=100)
    assert len(counts) == 100 and abs(counts - 200).max() < 5 * 200**0.5
    assert window_starts(np.array([299, 200, 50]), np.arange(3), 0, None).tolist() == [49, 0, 0]


def test_two_ranks_partition_every_global_batch(module):
    split = module.splits["train"]
    whole = list(PackedLoader(split, EpochSampler(len(split), 42, batch_size=8), 42))
    halves = [list(PackedLoader(split, EpochSampler(len(split), 42, rank, 2, 8), 42)) for rank in (0, 1)]
    assert len(whole) == len(halves[0]) == len(halves[1]) == 4
    for batch, left, right in zip(whole, *halves, strict=True):
        joined = {k: torch.cat([left[k], right[k]]) for k in batch if k != "present"}
        joined["present"] = {m: torch.cat([left["present"][m], right["present"][m]]) for m in batch["present"]}
        assert same(batch, joined)


@pytest.mark.parametrize(
    ("n", "ranks", "size"), [(37, 1, 8), (37, 2, 8), (33, 2, 8), (33, 4, 8), (7, 2, 16), (3, 4, 8)]
)
def test_evaluation_sees_every_object_once(n, ranks, size):
    samplers = [EpochSampler(n, 0, rank, ranks, size, drop_last=False, shuffle=False) for rank in range(ranks)]
    indices = [[b.tolist() for b in s] for s in samplers]
    assert sorted(i for parts in indices for b in parts for i in b) == list(range(n))
    assert all(len(parts) == len(s) for parts, s in zip(indices, samplers, strict=True))
    alone = [b.tolist() for b in EpochSampler(n, 0, 0, 1, size, drop_last=False, shuffle=False)]
    together = [sorted(i for part in parts for i in part) for parts in zip(*indices, strict=True)]
    assert together == alone  # the contrastive loss of a batch depends on who is in it


def test_the_order_changes_each_epoch_and_depends_on_nothing_else():
    sampler = EpochSampler(100, seed=7, batch_size=10)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(np.concatenate(list(sampler)).tolist())
    assert orders[0] == orders[2] != orders[1] and sorted(orders[0]) == list(range(100))
    assert orders[0] != np.concatenate(list(EpochSampler(100, seed=8, batch_size=10))).tolist()


def test_sizes_of_training_batches():
    assert [len(b) for b in EpochSampler(25, 0, batch_size=10)] == [10, 10]
    assert [len(b) for b in EpochSampler(25, 0, batch_size=10, drop_last=False)] == [10, 10, 5]
    assert [len(b) for b in EpochSampler(7, 0, batch_size=10)] == [7]  # never nothing
    assert [len(b) for b in EpochSampler(7, 0, 1, 2, batch_size=10)] == [3]
    with pytest.raises(UserError, match="cannot be split evenly over 3 processes"):
        EpochSampler(100, 0, 0, 3, 10)
    with pytest.raises(UserError, match="too few for 4 processes"):
        EpochSampler(3, 0, 0, 4, 8)


def test_a_loader_continues_in_the_middle_of_an_epoch(module):
    loader = module.train_dataloader()
    loader.set_epoch(3)
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    state = loader.state_dict()
    rest = list(iterator)
    fresh = module.train_dataloader()
    fresh.load_state_dict(state)
    fresh.set_epoch(3)
    resumed = list(fresh)
    assert len(resumed) == len(rest) == 2 and all(same(a, b) for a, b in zip(rest, resumed, strict=True))
    assert len(list(fresh)) == 4  # the next time from the start again
    fresh.load_state_dict(state)
    fresh.set_epoch(4)
    assert len(list(fresh)) == 4


class Recorder(lightning.LightningModule):
    """Notes what it sees, and stops at a given step."""

    def __init__(self, stop=None, hook="on_train_batch_end"):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []
        self.stop, self.hook = stop, hook

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch["index"].tolist(), float(batch["photometry"].sum())))
        return (self.weight * batch["metadata"].sum()).sum()

    def save(self, hook):
        if (len(self.seen), hook) == (self.stop, self.hook):
            self.trainer.save_checkpoint(self.trainer.default_root_dir + "/stop.ckpt")

    def on_train_batch_end(self, *_):
        self.save("on_train_batch_end")

    def on_validation_end(self):
        self.save("on_validation_end")

    def on_train_epoch_end(self):
        self.save("on_train_epoch_end")

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def fit(root, cache, folder, stop=None, hook="", checkpoint=None, streaming=False):
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
    )  # fmt: skip
    data = AstroM3DataModule(Local(root), batch_size=8, cache=cache, streaming=streaming, shuffle_buffer=10)
    model = Recorder(stop, hook)
    trainer.fit(model, data, ckpt_path=checkpoint)
    return model.seen


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("stop", "hook"),
    [
        (2, "on_train_batch_end"),
        (4, "on_train_batch_end"),
        (6, "on_train_batch_end"),
        (4, "on_validation_end"),
        (8, "on_train_epoch_end"),
    ],
)
def test_lightning_resumes_with_exactly_the_remaining_batches(root, tmp_path, stop, hook, streaming):
    whole = fit(root, tmp_path / "cache", tmp_path, stop, hook, streaming=streaming)
    assert [epoch for epoch, *_ in whole] == [0] * 4 + [1] * 4 + [2] * 4  # Lightning sets the epoch by itself
    assert sorted(i for _, b, _ in whole[:4] for i in b) != sorted(i for _, b, _ in whole[4:8] for i in b) or (
        whole[0][1] != whole[4][1]
    )
    rest = fit(root, tmp_path / "cache", tmp_path, checkpoint=str(tmp_path / "stop.ckpt"), streaming=streaming)
    assert rest == whole[stop:]


def test_min_modalities_and_require_leave_out_and_list(tmp_path):
    rows = make_rows(20)
    rows[2]["spectrum"] = None
    rows[3]["spectrum"] = rows[3]["light_curve"] = None
    rows[4]["light_curve"]["flux"][:] = 3.0
    root = write_ours(tmp_path / "ours", rows)
    expected = {
        ("any", 1): (12, []),
        ("any", 2): (11, ["star 3"]),
        ("all", 1): (9, ["star 2", "star 3", "star 4"]),
    }
    for (require, least), (used, left_out) in expected.items():
        module = AstroM3DataModule(
            Local(root), batch_size=4, cache=tmp_path / "cache", require=require, min_modalities=least
        )
        module.setup("fit")
        counts = module.counts["train"]
        assert (counts["used"], counts["left_out"]) == (used, 12 - used)
        assert [d.object_id for d in module.rejected if d.modality == "object"] == left_out
        flat = ("star 4", "photometry", "rejected", "constant flux (median absolute deviation 0)")
        assert flat in module.rejected and counts["rejected"]["photometry"] == 1
        for batch in module.split_dataloader("train"):
            assert (batch["photometry"][~batch["present"]["photometry"]] == 0).all()
            assert (batch["spectra"][~batch["present"]["spectra"]] == 0).all()
            assert all(torch.isfinite(batch[k]).all() for k in ("photometry", "spectra", "metadata", "mask"))
    module.write_rejected(tmp_path / "rejected.csv")
    lines = (tmp_path / "rejected.csv").read_text().splitlines()
    assert lines[0] == "object_id,modality,decision,reason"
    assert 'star 3,object,rejected,"3 of photometry, spectra, metadata needed, usable: metadata"' in lines


def test_only_the_modalities_asked_for_are_read_and_given(root, tmp_path):
    module = AstroM3DataModule(Local(root), modalities=["spectra"], batch_size=8, cache=tmp_path)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert set(batch) == {"index", "label", "spectra", "present"} and set(batch["present"]) == {"spectra"}
    assert [p.name.split("-")[0] for p in tmp_path.iterdir() if p.is_dir() and p.name != "hashes"] == ["spectra"]


def test_a_split_without_usable_objects_is_an_error(tmp_path):
    rows = make_rows(20)
    for row in rows:
        row["spectrum"]["flux"][:] = 0
    root = write_ours(tmp_path / "ours", rows)
    module = AstroM3DataModule(Local(root), modalities=["spectra"], cache=tmp_path / "cache")
    with pytest.raises(UserError, match=r"No object of the train split .* can be used .*1 of spectra needed"):
        module.setup("fit")


def test_impossible_options_are_refused_at_once(root):
    for options, message in (
        ({"modalities": ["image"]}, "choose from photometry, spectra, metadata"),
        ({"modalities": ["spectra"], "min_modalities": 2}, "must lie between 1 and 1"),
        ({"require": "some"}, "choose any or all"),
    ):
        with pytest.raises(UserError, match=message):
            AstroM3DataModule(Local(root), **options)


def test_the_module_prepares_before_it_is_set_up(root, tmp_path):
    module = AstroM3DataModule(Local(root), cache=tmp_path)
    module.prepare_data()
    assert len([p for p in tmp_path.iterdir() if p.is_dir() and p.name != "hashes"]) == 2
    module.setup("test")
    assert list(module.counts) == ["test"] and len(module.test_dataloader()) == 1


DDP = """
import json, sys
from pathlib import Path
import lightning, torch
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Local

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), {"train": [], "validation": []}
    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch["index"].tolist())
        return (self.weight * batch["metadata"].sum()).sum()
    def validation_step(self, batch, batch_idx):
        self.seen["validation"].append(batch["index"].tolist())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)

if __name__ == "__main__":
    root, cache, streaming, out = sys.argv[1:5]
    data = AstroM3DataModule(Local(root), batch_size=8, eval_batch_size=5, cache=cache, streaming=streaming == "True")
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    model = Model()
    trainer.fit(model, data)
    Path(out, f"{trainer.global_rank}.json").write_text(json.dumps(model.seen))
"""


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_two_ranks_under_lightning_see_every_object_once(root, tmp_path, streaming):
    run_ranks(2, "-c", DDP, root, tmp_path / "cache", streaming, tmp_path)
    left, right = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for epoch in (0, 1):
        train = [i for part in (left, right) for batch in part["train"][4 * epoch : 4 * epoch + 4] for i in batch]
        assert len(train) == len(set(train)) == 32  # 36 objects, 4 global batches of 8
        validation = [i for part in (left, right) for b in part["validation"][3 * epoch : 3 * epoch + 3] for i in b]
        assert sorted(validation) == list(range(12))
    assert left["train"][:4] != left["train"][4:]
