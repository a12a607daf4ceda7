"""Classifiers of long light curves see every window and give one prediction per object."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from data_files import make_rows, write_ours
from processes import finish, training
from torch import nn

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Local
from astrom3.modalities.astromer_view import MAGNITUDES, TIMES, VALID, sequential_windows
from astrom3.modalities.schema import CLASSES
from astrom3.tasks.classification import ClassificationModule
from astrom3.tasks.windows import object_logits, pieces

OBJECTS = 40


class Slope(nn.Module):
    """Logits that depend on the window: its largest magnitude and time, times the number of the class."""

    def forward(self, batch):
        largest = batch[MAGNITUDES].amax(1) + 0.01 * batch[TIMES].amax(1)
        return torch.sin(largest.unsqueeze(1) * torch.arange(1, len(CLASSES) + 1))


@pytest.fixture
def folder(tmp_path):
    return write_ours(tmp_path / "survey", make_rows(OBJECTS))


def data_module(folder, tmp_path, **options):
    views = {"photometry": "astromer"}
    module = AstroM3DataModule(
        Local(folder), modalities=["photometry"], views=views, cache=tmp_path / "cache", eval_batch_size=3, **options
    )
    module.setup()
    return module


def test_evaluation_batches_hold_every_window_of_every_object(folder, tmp_path):
    module = data_module(folder, tmp_path, windows="every")
    reader = module.splits["test"].readers["photometry"]
    expected = sequential_windows(reader.lengths)
    batches = list(module.test_dataloader())
    index = torch.cat([batch["index"] for batch in batches])
    assert index.tolist() == expected.curves.tolist()
    assert len(index) > len(module.splits["test"])
    points = torch.cat([batch[VALID].sum(1) for batch in batches])
    assert points.tolist() == np.minimum(reader.lengths, 200)[expected.curves].tolist()
    longest = int(np.argmax(reader.lengths))
    row = int(np.flatnonzero(expected.curves == longest)[1])
    begin = reader.offsets[reader.rows[longest]] + expected.starts[row]
    times = reader.points[begin : begin + 200, 0]
    filled = torch.cat([batch[TIMES] for batch in batches])[row]
    np.testing.assert_allclose(filled, times - times.mean(), atol=1e-3)


def test_training_and_embedding_still_see_one_window_of_an_object(folder, tmp_path):
    module = data_module(folder, tmp_path, windows="every")
    for loader in (module.train_dataloader(), module.split_dataloader("test")):
        for batch in loader:
            assert len(batch["index"].unique()) == len(batch["index"])


def test_views_of_astrom3_are_not_cut(folder, tmp_path):
    modules = []
    for windows in ("one", "every"):
        module = AstroM3DataModule(Local(folder), cache=tmp_path / "cache", eval_batch_size=5, windows=windows)
        module.setup()
        modules.append(module)
    for one, every in zip(*(module.test_dataloader() for module in modules), strict=True):
        for key in ("index", "label", "photometry", "mask", "spectra", "metadata"):
            assert torch.equal(one[key], every[key])


def test_probabilities_of_windows_are_averaged():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5], [3.0, 1.0]])
    means, first = object_logits(logits, torch.tensor([7, 7, 7, 2]))
    assert first.tolist() == [0, 3]
    torch.testing.assert_close(means[0].exp(), logits[:3].softmax(-1).mean(0))
    assert torch.equal(means[1], logits[3])


def test_pieces_hold_as_many_rows_as_a_batch_has_objects():
    batch = {"index": torch.tensor([4, 4, 4, 9, 9]), "present": {"a": torch.ones(5, dtype=torch.bool)}}
    found = list(pieces(batch))
    assert [len(part["index"]) for part in found] == [2, 2, 1]
    assert [len(part["present"]["a"]) for part in found] == [2, 2, 1]


def scores(module, batches):
    """What the task reports for these batches."""
    task = ClassificationModule(lambda num_classes: Slope(), CLASSES, {}, {})
    task.log = lambda *args, **kwargs: None  # what Lightning's trainer provides
    for batch in batches:
        task.test_step(batch, 0)
    task.on_test_epoch_end()
    return task.results


def test_results_count_objects_and_windows_apart(folder, tmp_path):
    module = data_module(folder, tmp_path, windows="every")
    batches = list(module.test_dataloader())
    results = scores(module, batches)
    assert results["n"] == len(module.splits["test"])
    assert results["per_window"]["n"] == sum(len(batch["index"]) for batch in batches)
    probabilities = torch.cat([Slope()(batch).softmax(-1) for batch in batches])
    index = torch.cat([batch["index"] for batch in batches])
    labels = module.splits["test"].labels
    right = 0
    for k in range(len(labels)):
        right += int(probabilities[index == k].mean(0).argmax() == labels[k])
    assert results["accuracy"] == pytest.approx(right / len(labels))


def test_two_processes_count_what_one_counts(folder, tmp_path):
    from astrom3.data.loader import PackedLoader
    from astrom3.data.sampler import EpochSampler

    split = data_module(folder, tmp_path, windows="every").splits["test"]
    batches = []
    for rank in range(2):
        sampler = EpochSampler(len(split), 0, rank, 2, batch_size=3, shuffle=False)
        batches += list(PackedLoader(split, sampler, train=False, every_window=True))
    one = PackedLoader(split, EpochSampler(len(split), 0, batch_size=3, shuffle=False), train=False, every_window=True)
    assert scores(None, batches)["confusion"] == scores(None, list(one))["confusion"]
    assert scores(None, batches)["per_window"]["confusion"] == scores(None, list(one))["per_window"]["confusion"]


@pytest.mark.slow
def test_a_raw_curve_is_classified_by_the_train_command(folder, tmp_path):
    overrides = [
        "mode=photo", "model=astromer1", "encoder/photometry=raw", "head=lstm", "epochs=1", "trainer=cpu", "seed=42",
        "data=local", f"data.path={folder}", f"run={tmp_path / 'run'}", f"data.cache={tmp_path / 'cache'}",
        "data.batch_size=8", "trainer.enable_progress_bar=false",
    ]  # fmt: skip
    assert finish(training(overrides, tmp_path / "output")) == 0, (tmp_path / "output").read_text()
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["n"] == 8
    assert found["per_window"]["n"] > 8
