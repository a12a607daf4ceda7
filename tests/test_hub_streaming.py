"""Streaming from the hub: an HTTP server on this machine counts the bytes that are read of each file."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_files import make_rows, write_current, write_first
from hub_server import serve

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.origins import Hub, Local
from astrom3.errors import UserError

pytestmark = pytest.mark.slow

FIRST = "MeriDK/AstroM3Processed"
CURRENT = "AstroMLCore/AstroM3Processed"
LONG = "Somebody/AstroM3Processed"  # the same objects 12 times
FOOTER = 1 << 16  # bytes of a file's end that pyarrow asks for at first
BATCH = 4


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """120 objects in both forms, in row groups of 8 objects."""
    folder = tmp_path_factory.mktemp("hub")
    rows = make_rows(120)
    write_first(folder / FIRST, rows, row_group=8)
    write_current(folder / CURRENT, rows, row_group=8)
    (folder / CURRENT / "README.md").write_text("a data set card")
    for path in (folder / CURRENT / "full_42").glob("*.parquet"):
        (folder / LONG / "full_42").mkdir(parents=True, exist_ok=True)
        table = pa.concat_tables([pq.read_table(path)] * 12)
        pq.write_table(table, folder / LONG / "full_42" / path.name, row_group_size=16)
    return folder


@pytest.fixture
def hub(repositories, monkeypatch, tmp_path):
    with serve(repositories) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        yield server


def streamed(repo, tmp_path, **options):
    options = {"batch_size": BATCH, "streaming": True} | options
    return AstroM3DataModule(Hub(repo=repo, cache_dir=tmp_path / "hub"), cache=tmp_path / "store", **options)


def column_bytes(path, names):
    """Bytes of the columns of these names, and of all."""
    metadata = pq.read_metadata(path)
    chosen, total = 0, 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            total += chunk.total_compressed_size
            if chunk.path_in_schema.split(".")[0] in names:
                chosen += chunk.total_compressed_size
    return chosen, total


@pytest.mark.parametrize(
    ("modalities", "columns"),
    [
        (("photometry", "spectra", "metadata"), ("photometry", "spectra", "metadata", "label")),
        (("photometry",), ("photometry", "metadata", "label")),
    ],
)
def test_an_epoch_transfers_the_columns_of_its_split_and_nothing_else(hub, tmp_path, modalities, columns):
    module = streamed(CURRENT, tmp_path, modalities=modalities)
    module.setup("fit")
    before = list(hub.sent)
    batches = [batch["index"].tolist() for batch in module.train_dataloader()]
    assert len({i for batch in batches for i in batch}) == 72
    file = hub.folder / CURRENT / "full_42" / "train-00000-of-00001.parquet"
    wanted, total = column_bytes(file, columns)
    footers = 3 * FOOTER  # of the three splits, which say what their columns are
    small = column_bytes(file.with_name("validation-00000-of-00001.parquet"), ("metadata", "label"))[0]
    sent = sum(length for _, _, length in hub.sent)
    assert wanted <= sent <= wanted + small + footers + 0.01 * wanted
    assert {name.split("/")[-1] for name, _, _ in hub.sent[len(before) :]} == {file.name}
    assert sent < total or len(modalities) > 1
    assert not list((tmp_path / "hub").rglob("*.parquet")) and not (tmp_path / "store").exists()


@pytest.mark.slow
def test_the_first_batch_comes_after_a_twentieth_of_the_bytes(hub, tmp_path):
    module = streamed(LONG, tmp_path)  # with the usual buffer of 4096 objects, more than there are
    module.setup("fit")
    loader = iter(module.train_dataloader())
    next(loader)
    split = hub.folder / LONG / "full_42" / "train-00000-of-00001.parquet"
    assert sum(length for _, _, length in hub.sent) < 0.05 * split.stat().st_size
    assert module.splits["train"].table.remote


@pytest.mark.parametrize("repo", [FIRST, CURRENT])
def test_the_numbers_are_those_of_the_files(hub, tmp_path, repo):
    local = AstroM3DataModule(Local(hub.folder / repo), batch_size=BATCH, streaming=True)
    remote = streamed(repo, tmp_path, num_workers=1)
    for module in (local, remote):
        module.setup("fit")
    pairs = zip(local.val_dataloader(), remote.val_dataloader(), strict=True)
    for one, other in pairs:
        for key in ("index", "photometry", "mask", "spectra", "metadata", "label"):
            assert torch.equal(one[key], other[key]), key
    if local.normaliser is not None:
        assert np.array_equal(local.normaliser.mean, remote.normaliser.mean)


def test_a_protocol_and_a_resumed_epoch(hub, tmp_path):
    module = streamed(CURRENT, tmp_path, sub="shot6", seed=42)
    module.setup("fit")
    loader = module.train_dataloader()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    rest = [batch["index"].tolist() for batch in iterator]
    fresh = streamed(CURRENT, tmp_path, sub="shot6", seed=42)
    fresh.setup("fit")
    again = fresh.train_dataloader()
    again.load_state_dict(state)
    assert [batch["index"].tolist() for batch in again] == rest and len(rest) == 6


def test_what_cannot_be_streamed_is_one_sentence(hub, tmp_path):
    with pytest.raises(UserError, match=r"has no full_7; choose another sub or seed, or use a local copy"):
        streamed(CURRENT, tmp_path, seed=7).setup("fit")
    with pytest.raises(UserError, match="has no data set AstroMLCore/Nothing"):
        streamed("AstroMLCore/Nothing", tmp_path).setup("fit")
    hub.broken = True
    with pytest.raises(UserError, match=r"failed .*; try again, or use a local copy"):
        streamed(CURRENT, tmp_path).setup("fit")
