"""Streaming: every object once, equal steps, the same numbers as the store, resume, bounded memory."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from data_files import make_rows, write_current, write_first, write_ours

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.layouts import open_source
from astrom3.data.origins import Local
from astrom3.data.shuffle_buffer import buffered
from astrom3.data.streaming import StreamDataset, StreamSplit
from astrom3.data.streaming_loader import StreamingLoader
from astrom3.errors import UserError
from astrom3.modalities.schema import MODALITIES


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    rows, root = make_rows(75), tmp_path_factory.mktemp("stream")
    return {
        "astrom3": write_ours(root / "ours", rows),
        "processed-1": write_first(root / "first", rows, row_group=7),
        "processed-2": write_current(root / "current", rows, row_group=10),
    }


def loader(folder, rank=0, ranks=1, workers=0, size=8, train=True, drop_last=True, buffer=12, split="train", **options):
    options = {"modalities": MODALITIES, "labelled_only": True, "min_modalities": 1} | options
    stream = StreamSplit(open_source(folder, "full", 42), split, options.pop("modalities"), **options)
    dataset = StreamDataset(stream, 42, rank, ranks, size, drop_last, train, buffer)
    return StreamingLoader(dataset, workers)


def indices(made, epoch=0):
    made.set_epoch(epoch)
    return [batch["index"].tolist() for batch in made]


@pytest.mark.parametrize("name", ["astrom3", "processed-1", "processed-2"])
@pytest.mark.parametrize("train", [True, False])
def test_each_object_once_over_two_ranks_and_two_workers(folders, name, train):
    parts = [
        indices(loader(folders[name], rank, 2, workers=2, train=train, drop_last=False), epoch=1) for rank in (0, 1)
    ]
    flat = [i for batches in parts for batch in batches for i in batch]
    # Training gives both ranks equally many: of 45 objects one is over.
    assert len(flat) == len(set(flat)) == (44 if train else 45)
    assert len(parts[0]) == len(parts[1]) == 6
    if train:
        assert [len(b) for b in parts[0]] == [len(b) for b in parts[1]]


def test_training_has_equal_steps_of_equal_size_and_the_announced_length(folders):
    for ranks, workers in ((1, 0), (2, 0), (2, 2)):
        for rank in range(ranks):
            made = loader(folders["processed-1"], rank, ranks, workers)
            assert [len(b) for b in indices(made)] == [8 // ranks] * 5 and len(made) == 5


def test_the_order_changes_with_the_epoch_and_is_reproducible(folders):
    made = loader(folders["processed-1"])
    first, second, again = indices(made, 0), indices(made, 1), indices(loader(folders["processed-1"]), 0)
    assert first == again != second
    flat = [i for batch in first for i in batch]
    assert flat != sorted(flat)


def test_streamed_batches_hold_the_same_numbers_as_the_store(folders, tmp_path):
    for name, folder in folders.items():
        packed = AstroM3DataModule(Local(folder), batch_size=4, cache=tmp_path)
        packed.setup("fit")
        for train in (True, False):
            reference = {}
            kept = packed.train_dataloader() if train else packed.val_dataloader()
            for batch in kept:
                for k, i in enumerate(batch["index"].tolist()):
                    reference[i] = {key: v[k] for key, v in batch.items() if key != "present"}
            made = loader(folder, train=train, drop_last=False, split="train" if train else "validation")
            for batch in made:
                for k, i in enumerate(batch["index"].tolist()):
                    if i in reference:
                        for key, value in reference[i].items():
                            assert torch.equal(batch[key][k], value), (name, key)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 3, 4])
def test_a_resumed_epoch_gives_the_same_remaining_batches(folders, workers, done):
    made = loader(folders["processed-1"], 1, 2, workers)
    made.set_epoch(2)
    iterator = iter(made)
    for _ in range(done):
        next(iterator)
    state = made.state_dict()
    rest = [(b["index"].tolist(), float(b["photometry"].sum()), float(b["spectra"].sum())) for b in iterator]
    fresh = loader(folders["processed-1"], 1, 2, workers)
    fresh.load_state_dict(state)
    fresh.set_epoch(2)
    resumed = [(b["index"].tolist(), float(b["photometry"].sum()), float(b["spectra"].sum())) for b in fresh]
    assert resumed == rest and len(rest) == 5 - done


def test_a_resumed_epoch_with_other_workers_is_refused(folders):
    state = loader(folders["processed-1"], workers=2).state_dict()
    with pytest.raises(UserError, match="same workers only"):
        loader(folders["processed-1"], workers=0).load_state_dict(state)


def test_the_buffer_mixes_no_further_than_its_size():
    keys = np.random.default_rng(0).integers(0, 2**63, 1000).astype(np.uint64)
    order = buffered(keys, 50)
    assert sorted(order) == list(range(1000))
    assert (order < np.arange(1000) + 50).all()  # nothing leaves before it was read
    assert np.corrcoef(order, np.arange(1000))[0, 1] < 0.999 and (order != np.arange(1000)).mean() > 0.9
    assert buffered(keys, 1).tolist() == list(range(1000))


def test_rejected_objects_are_listed_and_training_batches_stay_full(tmp_path):
    rows = make_rows(50)
    rows[2]["spectrum"]["flux"][:] = 0
    rows[13]["spectrum"]["ivar"][:] = 0
    root = write_ours(tmp_path / "ours", rows)
    module = AstroM3DataModule(Local(root), modalities=["spectra"], batch_size=5, streaming=True)
    module.setup()
    batches = [batch for batch in module.train_dataloader()]
    assert [len(b["index"]) for b in batches] == [5] * 6
    assert len({i for b in batches for i in b["index"].tolist()}) == 28  # two of them stand in twice
    found = {tuple(d) for d in module.rejected}
    assert ("star 2", "spectra", "rejected", "all-zero flux") in found
    assert ("star 13", "spectra", "rejected", "all inverse variances 0: no pixel was observed") in found
    assert ("star 13", "object", "rejected", "1 of spectra needed, usable: none") in found
    assert module.counts["train"]["used"] == 28
    evaluation = [i for b in module.split_dataloader("train") for i in b["index"].tolist()]
    assert len(evaluation) == len(set(evaluation)) == 28  # shorter, nothing doubled


def test_metadata_alone_reads_no_observations(folders, tmp_path):
    made = loader(folders["processed-1"], modalities=["metadata"])
    batch = next(iter(made))
    assert set(batch) == {"index", "label", "metadata", "present"} and batch["metadata"].shape == (8, 34)


def test_a_resumed_epoch_skips_row_groups_it_does_not_need(folders):
    made = loader(folders["processed-1"], buffer=1)
    read = []
    original = type(made.stream.split.table).batches

    class Watched(type(made.stream.split.table)):
        def batches(self, group, columns):
            read.append(group.number)
            return original(self, group, columns)

    made.stream.split.table.__class__ = Watched
    list(made)
    assert len(set(read)) == 7
    read.clear()
    made.load_state_dict({"epoch": 0, "done": 4, "workers": 1, "world_size": 1})
    list(made)
    assert len(set(read)) <= 2


@pytest.mark.slow
def test_memory_is_bounded_by_the_buffer_not_by_the_data(tmp_path):
    """Resident memory while streaming 1800 training objects through a buffer of 64."""
    write_first(tmp_path / "part", make_rows(250), row_group=50)
    folder = tmp_path / "all" / "full_42"
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        for k in range(12):
            source = tmp_path / "part" / "full_42" / f"{split}-00000-of-00001.parquet"
            shutil.copy(source, folder / f"{split}-{k:05d}-of-00012.parquet")
    code = f"""
import resource
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Local
module = AstroM3DataModule(Local({str(tmp_path / "all")!r}), batch_size=16, streaming=True, shuffle_buffer=64)
module.setup("fit")
loader = module.train_dataloader()
peak = []
for number, batch in enumerate(loader):
    peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(len(peak), peak[20], peak[-1])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    steps, early, late = map(float, result.stdout.split())
    assert steps == 112 and late - early < 20  # MB; the split's prepared spectra alone are 37 MB
