"""The published data of AstroCLIP, read where they lie: rows, splits, orientation, resume, bad files."""

import datasets
import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from galaxy_files import PIXELS, galaxies, nested, table_of, write_images, write_paired_file, write_pairs
from hub_server import serve

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.layouts import open_source
from astrom3.data.origins import Hub, Local
from astrom3.data.streaming import StreamSplit
from astrom3.errors import UserError

VIEWS = {"spectra": "specformer", "images": "cutout"}
TRAIN, TEST = galaxies(20, 1), galaxies(6, 2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"), TRAIN, TEST)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "astroclip"
    features = datasets.Features(
        image=datasets.Array3D((152, 152, 3), "float32"),
        spectrum=datasets.Array2D((PIXELS, 1), "float32"),
        redshift=datasets.Value("float32"),
        targetid=datasets.Value("int64"),
    )
    parts = {split: datasets.Dataset.from_dict(dict(columns), features) for split, columns in
             (("train", TRAIN), ("test", TEST))}  # fmt: skip
    datasets.DatasetDict(parts).save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def hdf5(tmp_path_factory):
    path = tmp_path_factory.mktemp("hdf5") / "astroclip.hdf5"
    return write_paired_file(path, [galaxies(15, 3), galaxies(10, 4)])


@pytest.mark.slow
def test_pairs_on_the_hub_are_read_in_ranges_and_never_downloaded(tmp_path, monkeypatch):
    repo = "Somebody/AstroCLIP"
    write_pairs(tmp_path / "hub" / repo, TRAIN, TEST, group=2)
    with serve(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        for streaming in (True, False):
            given = {"labelled_only": False, "batch_size": 2, "shuffle_buffer": 2, "views": VIEWS, "cache": tmp_path}
            data = AstroM3DataModule(Hub(repo), modalities=tuple(VIEWS), streaming=streaming, **given)
            data.prepare_data()
            data.setup()
            check_rows(data, "validation", TRAIN, np.arange(18, 20))
            assert data.source.note == "read from its files on the hub" and data.streaming
    whole = sum(path.stat().st_size for path in (tmp_path / "hub").rglob("*.parquet"))
    assert sum(length for *_, length in server.sent) < whole / 2
    assert not [path for path in (tmp_path / "home").rglob("*.parquet")] and not (tmp_path / "specformer").exists()


def module(path, **options):
    given = {"labelled_only": False, "batch_size": 4, "shuffle_buffer": 4, "views": VIEWS, "modalities": tuple(VIEWS)}
    data = AstroM3DataModule(Local(path), **(given | options))
    data.prepare_data()
    data.setup()
    return data


def check_rows(data, split, columns, rows):
    """The batches of a split are these rows of the published columns, in the survey's orientation."""
    ids = data.object_ids(split)
    assert ids.tolist() == [str(i) for i in columns["targetid"][rows]]
    index = []
    for batch in data.split_dataloader(split):
        at = rows[batch["index"].numpy()]
        index += at.tolist()
        np.testing.assert_array_equal(batch["cutout/flux"], columns["image"][at].transpose(0, 3, 2, 1))
        np.testing.assert_array_equal(batch["specformer/flux"], columns["spectrum"][at][..., 0])
    assert index == rows.tolist()


@pytest.mark.parametrize("form", ["pairs", "saved"])
def test_published_splits_and_the_last_tenth_of_train_validates(form, request, tmp_path, monkeypatch):
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    data = module(request.getfixturevalue(form))
    assert data.streaming and not (tmp_path / "cache").exists()
    check_rows(data, "train", TRAIN, np.arange(18))
    check_rows(data, "validation", TRAIN, np.arange(18, 20))
    check_rows(data, "test", TEST, np.arange(6))
    np.testing.assert_allclose(data.source.targets("test", ["redshift"])[:, 0], TEST["redshift"])
    assert data.source.table("train").target_names == ("redshift",)


def test_the_paired_file_is_split_in_every_group(hdf5):
    for path in (hdf5, hdf5.parent):
        data = module(path)
        both = {name: np.concatenate([galaxies(15, 3)[name], galaxies(10, 4)[name]]) for name in TRAIN}
        check_rows(data, "train", both, np.array([*range(11), *range(15, 22)]))
        check_rows(data, "validation", both, np.array([11, 22]))
        check_rows(data, "test", both, np.array([12, 13, 14, 23, 24]))
    np.testing.assert_allclose(data.source.targets("test", ["redshift"])[:, 0], both["redshift"][[12, 13, 14, 23, 24]])


def test_images_alone_are_split_by_the_published_permutation(tmp_path):
    images = write_images(tmp_path, {"south": [6, 5], "north": [7]})
    north = images[11:]
    images = np.concatenate([north, images[:11]])
    order = np.random.default_rng(42).permutation(18)
    data = module(tmp_path, views={"images": "cutout"}, modalities=("images",))
    expected = {"train": order[:16], "validation": order[16:17], "test": order[17:]}
    for split, rows in expected.items():
        assert data.object_ids(split).tolist() == rows.tolist()
        for batch in data.split_dataloader(split):
            np.testing.assert_array_equal(batch["cutout/flux"], images[rows[batch["index"].numpy()]])
    assert data.source.table("train").target_names == ("ra", "dec", "release", "brickid", "objid")
    with pytest.raises(UserError, match="has no spectra, only images: choose a mode"):
        next(iter(module(tmp_path).split_dataloader("train")))


def test_tens_of_millions_of_images_need_no_memory_for_what_they_do_not_have(tmp_path):
    write_images(tmp_path, {"north": [40]})
    source = open_source(tmp_path)
    catalogue = source.catalogue("train")
    assert catalogue.values.shape == (38, 38) and catalogue.values.strides[0] == 0
    split = StreamSplit(source, "train", {"images": "cutout"}, labelled_only=False, min_modalities=1)
    assert split.metadata.strides[0] == 0 and split.photo.strides[0] == 0 and len(split) == 38


def epoch(loader, number):
    loader.set_epoch(number)
    return [batch["index"].tolist() for batch in loader]


@pytest.mark.parametrize("form", ["pairs", "saved", "hdf5"])
def test_every_epoch_has_its_order_and_is_resumed_exactly(form, request):
    path = request.getfixturevalue(form)
    data = module(path)
    loader = data.train_dataloader()
    first, second = epoch(loader, 0), epoch(loader, 1)
    assert first != second
    again = module(path).train_dataloader()
    again.load_state_dict(again.state_dict() | {"epoch": 1, "done": 2})
    assert [batch["index"].tolist() for batch in again] == second[2:]
    counts = np.bincount(np.concatenate(first), minlength=18)
    assert counts.max() == 1 and counts.sum() == 16


def test_ranks_and_workers_share_the_rows(pairs):
    from astrom3.data.streaming import StreamDataset
    from astrom3.data.streaming_loader import StreamingLoader

    split = module(pairs).splits["train"]
    seen = []
    for rank in range(2):
        stream = StreamDataset(split, 0, rank, 2, 4, False, True, buffer=4)
        seen += [i for batch in StreamingLoader(stream, num_workers=2) for i in batch["index"].tolist()]
    assert sorted(seen) == list(range(18))


def test_a_part_of_the_rows_by_sub(pairs):
    source = open_source(pairs, "sub25", 0)
    assert {split: len(rows) for split, rows in source.rows.items()} == {"train": 5, "validation": 1, "test": 2}
    with pytest.raises(UserError, match="sub=half is none of the paired galaxies"):
        open_source(pairs, "half", 0)


@pytest.mark.slow
def test_a_row_of_another_size_is_rejected_and_counted(tmp_path):
    columns = galaxies(10, 6)
    rows = nested(columns["image"]).to_pylist()
    rows[3] = rows[3][:100]
    table = table_of(columns)
    table = table.set_column(0, "image", [rows]).cast(table.schema)
    pq.write_table(table, tmp_path / "train.parquet")
    data = module(tmp_path, min_modalities=2)
    with_images = [batch["index"].tolist() for batch in data.split_dataloader("train")]
    assert 3 not in np.concatenate(with_images)
    found = {(d.object_id, d.modality, d.reason) for d in data.rejected}
    name = str(columns["targetid"][3])
    assert (name, "images", "of another size than the others") in found


def test_broken_files_are_said_in_one_sentence(tmp_path, pairs):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00002.parquet").symlink_to(pairs / "data" / "train-00000-of-00002.parquet")
    with pytest.raises(UserError, match="lacks 1 of the 2 parts of a split"):
        open_source(tmp_path)
    other = tmp_path / "pairs.h5"
    write_paired_file(other, [galaxies(4, 7)])
    with h5py.File(other, "a") as file:
        del file["0/spectra"]
    with pytest.raises(UserError, match="group 0 lacks spectra"):
        open_source(other)
    short = tmp_path / "short"
    short.mkdir()
    columns = galaxies(4, 8)
    pq.write_table(table_of(columns | {"spectrum": columns["spectrum"][:, :5000]}), short / "train-x.parquet")
    with pytest.raises(UserError, match="a spectrum has 5000 pixels where the grid of SpecFormer has 7781"):
        next(iter(module(short).split_dataloader("train")))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "state.json").write_text('{"_data_files": [{"filename": "../../etc/passwd"}]}')
    with pytest.raises(UserError, match="lists no Arrow files"):
        open_source(tmp_path / "damaged")


def test_batches_are_what_the_model_takes(pairs):
    batch = next(iter(module(pairs).train_dataloader()))
    assert batch["cutout/flux"].shape == (4, 3, 152, 152) and batch["cutout/flux"].dtype == torch.float32
    assert batch["label"].tolist() == [-1] * 4 and bool(batch["present"]["spectra"].all())
