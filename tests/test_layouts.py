"""The layouts: found by what is there, read to the same numbers, refused with a sentence where something is wrong."""

import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from data_files import make_rows, members, write_current, write_first, write_ours

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.layouts import open_source
from astrom3.data.origins import Local
from astrom3.errors import UserError
from astrom3.modalities.schema import ALL_COLS, CLASSES, UNLABELLED


@pytest.fixture(scope="module")
def rows():
    return make_rows(40)


@pytest.fixture(scope="module")
def folders(rows, tmp_path_factory):
    """The same objects in four ways."""
    root = tmp_path_factory.mktemp("layouts")
    return {
        "astrom3": write_ours(root / "ours", rows),
        "processed-1": write_first(root / "first", rows),
        "processed-1-norm": write_first(root / "norm", rows, normalised=True),
        "processed-2": write_current(root / "current", rows),
    }


def batches(folder, cache, split="train", **options):
    module = AstroM3DataModule(Local(folder), batch_size=8, cache=cache, **options)
    module.setup()
    loader = {"train": module.train_dataloader, "validation": module.val_dataloader, "test": module.test_dataloader}
    made = loader[split]()
    made.set_epoch(1)
    return list(made)


def test_each_layout_is_found_and_named(folders, caplog):
    for name, folder in folders.items():
        with caplog.at_level(logging.INFO):
            source = open_source(folder, "full", 42)
        assert source.layout == name.removesuffix("-norm")
        assert f"layout {source.layout}" in caplog.messages[-1]
        assert (source.normaliser is None) == (name in ("processed-1-norm", "processed-2"))
        assert {split: len(r) for split, r in source.rows.items()} == {"train": 24, "validation": 8, "test": 8}
        assert source.catalogue("test").labels.tolist() == [CLASSES.index(r) for r in ("EA", "ROT") * 4]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_our_layout_and_the_current_hub_layout_give_the_same_batches(folders, tmp_path, split):
    ours = batches(folders["astrom3"], tmp_path, split, pad_constants=False)
    hub = batches(folders["processed-2"], tmp_path, split)
    for a, b in zip(ours, hub, strict=True):
        for key in ("index", "label", "mask", "photometry", "spectra", "metadata"):
            torch.testing.assert_close(a[key], b[key], rtol=1e-6, atol=1e-6, msg=f"{split} {key}")


@pytest.mark.parametrize("name", ["processed-1", "processed-1-norm"])
def test_the_first_hub_layout_differs_by_its_float32_times_only(folders, tmp_path, name):
    """HJD near 2,457,000 has steps of 0.25 d in float32: times move by at most 0.125 d at either end of the curve, so
    scaled times by 0.25 d / span and the span by 0.25 d. Everything else agrees to float32 rounding (2e-6)."""
    ours = batches(folders["astrom3"], tmp_path)
    hub = batches(folders[name], tmp_path)
    for a, b in zip(ours, hub, strict=True):
        for key in ("index", "label", "mask", "spectra"):
            torch.testing.assert_close(a[key], b[key], rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(a["metadata"], b["metadata"], rtol=1e-4, atol=1e-4)  # z-score of float32 columns
        x, y = a["photometry"], b["photometry"]
        span = x[:, 0, 8] * 365
        assert ((x[..., 0] - y[..., 0]).abs().amax(dim=1) < 0.26 / span).all()
        assert (x[..., 8] - y[..., 8]).abs().max() < 0.26 / 365
        torch.testing.assert_close(x[..., [1, 2, 7]], y[..., [1, 2, 7]], rtol=2e-6, atol=2e-6)
        torch.testing.assert_close(x[..., 3:7], y[..., 3:7], rtol=1e-4, atol=1e-4)


def test_padded_rows_carry_the_constants_in_all_but_the_current_layout(folders, tmp_path):
    for name, folder in folders.items():
        for batch in batches(folder, tmp_path / name):
            padded = batch["photometry"][batch["mask"] == 0]
            assert len(padded) and (padded[:, 3:].any() == (name != "processed-2"))
            assert not padded[:, :3].any()


def test_hub_folder_variants_are_accepted(folders, tmp_path):
    original = folders["processed-1"] / "full_42"
    for layout in ("data/full_42/{}-00000-of-00001.parquet", "full_42/{}.parquet", "full_42/{}/0000.parquet"):
        root = tmp_path / str(abs(hash(layout)))
        for split in ("train", "validation", "test"):
            path = root / layout.format(split)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(original / f"{split}-00000-of-00001.parquet")
        assert len(open_source(root, "full", 42).rows["train"]) == 24
    assert open_source(original, "full", 42).layout == "processed-1"  # the configuration's folder itself


def test_a_missing_part_of_a_split_is_not_overlooked(folders, tmp_path):
    (tmp_path / "full_42").mkdir()
    source = folders["processed-1"] / "full_42" / "train-00000-of-00001.parquet"
    (tmp_path / "full_42" / "train-00000-of-00002.parquet").symlink_to(source)
    with pytest.raises(UserError, match="lacks 1 of the 2 parts of a split"):
        open_source(tmp_path, "full", 42)


def test_what_is_not_a_data_set_is_refused_by_what_was_found(folders, tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UserError, match=r"found holiday\.jpg; expected dataset\.json"):
        open_source(tmp_path, "full", 42)
    with pytest.raises(UserError, match="is not a folder"):
        open_source(tmp_path / "nowhere", "full", 42)
    with pytest.raises(UserError, match="has no split mine_0; it has: full_42"):
        open_source(folders["astrom3"], "mine", 0)


def test_wrong_columns_are_named(tmp_path):
    (tmp_path / "full_42").mkdir()
    pq.write_table(pa.table({"flux": [1.0], "label": ["EW"]}), tmp_path / "full_42" / "train.parquet")
    with pytest.raises(UserError, match="columns flux, label; expected photometry, spectra, metadata"):
        open_source(tmp_path, "full", 42)
    table = pa.table({"metadata": pa.array([[1.0]]), "label": ["EW"]})
    pq.write_table(table, tmp_path / "full_42" / "train.parquet")
    with pytest.raises(UserError, match="lacks the columns photometry, spectra"):
        open_source(tmp_path, "full", 42)


def test_a_truncated_parquet_file_is_named(folders, tmp_path):
    (tmp_path / "full_42").mkdir()
    whole = (folders["processed-1"] / "full_42" / "train-00000-of-00001.parquet").read_bytes()
    path = tmp_path / "full_42" / "train-00000-of-00001.parquet"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet cannot be read as parquet .*again"):
        open_source(tmp_path, "full", 42)
    spoilt = bytearray(whole)
    spoilt[5000:25000] = bytes(20000)  # the footer is fine, the pages are not
    path.write_bytes(spoilt)
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet"):
        module = AstroM3DataModule(Local(tmp_path), modalities=["photometry"], cache=tmp_path / "cache", batch_size=4)
        module.setup("fit")


def test_a_folder_named_norm_must_hold_normalised_values(rows, tmp_path):
    write_first(tmp_path, rows)
    (tmp_path / "full_42").rename(tmp_path / "full_42_norm")
    with pytest.raises(UserError, match=r"normalised, but the median of mean_vmag is"):
        open_source(tmp_path, "full", 42)


def test_rows_of_another_width_reject_their_object_only(rows, tmp_path):
    write_first(tmp_path, rows)
    path = tmp_path / "full_42" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    curves = table["photometry"].to_pylist()
    curves[2][5] = [1.0, 2.0]
    column = pa.array(curves, pa.list_(pa.list_(pa.float32())))
    pq.write_table(table.set_column(0, "photometry", column), path)
    pieces = list(open_source(tmp_path, "full", 42).chunks("train", "photometry"))
    lengths = np.concatenate([np.diff(piece.data.offsets) for piece in pieces])
    assert (lengths == 0).nonzero()[0].tolist() == [2]
    names = [f"{i}" for i in range(24)]
    assert [tuple(d) for p in pieces for d in p.decisions(names)] == [
        ("2", "photometry", "rejected", "columns of unequal length")
    ]


def test_null_observations_are_missing_not_rejected(tmp_path):
    rows = make_rows(20)
    for i in (2, 3, 8):
        rows[i]["light_curve"] = None
    for i in (3, 4):
        rows[i]["spectrum"] = None
    for name, write in (("astrom3", write_ours), ("processed-2", write_current)):
        module = AstroM3DataModule(Local(write(tmp_path / name, rows)), batch_size=4, cache=tmp_path / "cache")
        module.setup("fit")
        counts = module.counts["train"]  # objects 2 3 4 7 8 9 12 ...
        assert counts["missing"] == {"photometry": 3, "spectra": 2, "metadata": 0} and counts["used"] == 12
        assert counts["rejected"] == {} and module.rejected == []
    module = AstroM3DataModule(Local(tmp_path / "astrom3"), modalities=["photometry"], batch_size=4, cache=tmp_path)
    module.setup("fit")
    assert module.counts["train"]["used"] == 9
    assert [d.object_id for d in module.rejected] == ["star 2", "star 3", "star 8"]
    assert module.rejected[0].reason == "1 of photometry needed, usable: none"


def test_unknown_classes_and_missing_labels(tmp_path):
    rows = make_rows(20)
    write_first(tmp_path, rows)
    path = tmp_path / "full_42" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    labels = table["label"].to_pylist()
    labels[1], labels[4] = "YSO", None
    pq.write_table(table.set_column(3, "label", pa.array(labels)), path)
    source = open_source(tmp_path, "full", 42)
    assert source.catalogue("train").labels[[1, 4]].tolist() == [UNLABELLED, UNLABELLED]
    for labelled_only, used in ((True, 10), (False, 11)):
        module = AstroM3DataModule(Local(tmp_path), batch_size=4, cache=tmp_path / "c", labelled_only=labelled_only)
        module.setup("fit")
        assert module.counts["train"]["used"] == used and module.counts["train"]["unlabelled"] == 1
        assert ("train-000001", "object", "rejected", "unknown class YSO") in module.rejected
        assert (("train-000004", "object", "rejected", "no label") in module.rejected) == labelled_only


def test_a_split_that_names_an_absent_object_is_refused(rows, tmp_path):
    root = write_ours(tmp_path / "ours", rows)
    path = root / "splits" / "full_42.parquet"
    pq.write_table(pa.table({"object_id": ["star 1", "nobody"], "split": ["train", "test"]}), path)
    with pytest.raises(UserError, match=r"names 1 objects that are not in objects/ .*'nobody'"):
        open_source(root, "full", 42)


def test_another_version_of_our_layout_is_refused(rows, tmp_path):
    root = write_ours(tmp_path / "ours", rows)
    about = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(about | {"version": 99}))
    with pytest.raises(UserError, match="version 99; this program reads 'astrom3' version 2"):
        open_source(root, "full", 42)


def test_the_label_names_of_the_hub_file_decide_not_the_order(rows, tmp_path):
    """ClassLabel ids are read through the names stored with them."""
    root = write_current(tmp_path, rows)
    names = list(reversed(CLASSES))
    for path in (root / "full_42").glob("*.parquet"):
        table = pq.read_table(path)
        labels = pa.array([9 - i for i in table["label"].to_pylist()])
        feature = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.set_column(3, "label", labels).replace_schema_metadata({"huggingface": json.dumps(feature)})
        pq.write_table(table, path)
    ids = open_source(root, "full", 42).catalogue("train").labels
    assert [CLASSES[i] for i in ids] == [r["label"] for r in rows if r["object_id"] in set(members(rows)["train"])]


def test_datasets_extension_types_read_the_same(rows, tmp_path):
    """Files written by `datasets` with Array2D columns hold an extension type."""
    datasets = pytest.importorskip("datasets")
    root = write_current(tmp_path / "plain", rows)
    expected = [p for p in open_source(root, "full", 42).chunks("train", "spectra")]
    table = pq.read_table(root / "full_42" / "train-00000-of-00001.parquet")
    features = datasets.Features(
        {
            "photometry": datasets.Array2D(shape=(None, 9), dtype="float32"),
            "spectra": datasets.Array2D(shape=(3, 2575), dtype="float32"),
            "metadata": datasets.Sequence(datasets.Value("float32")),
            "label": datasets.ClassLabel(names=list(CLASSES)),
        }
    )
    made = datasets.Dataset.from_dict(table.to_pydict(), features=features)
    (tmp_path / "hf" / "full_42").mkdir(parents=True)
    made.to_parquet(str(tmp_path / "hf" / "full_42" / "train-00000-of-00001.parquet"))
    pieces = list(open_source(tmp_path / "hf", "full", 42).chunks("train", "spectra"))
    values = np.concatenate([p.data.values for p in pieces])
    np.testing.assert_array_equal(values, np.concatenate([p.data.values for p in expected]))


def test_fixed_size_lists_are_read_too(rows, tmp_path):
    write_first(tmp_path / "a", rows)
    expected = [p.data.values for p in open_source(tmp_path / "a", "full", 42).chunks("train", "photometry")]
    path = tmp_path / "a" / "full_42" / "train-00000-of-00001.parquet"
    table = pq.read_table(path)
    column = table["photometry"].combine_chunks().cast(pa.large_list(pa.list_(pa.float64(), 3)))
    (tmp_path / "b" / "full_42").mkdir(parents=True)
    pq.write_table(table.set_column(0, "photometry", column), tmp_path / "b" / "full_42" / "train.parquet")
    found = [p.data.values for p in open_source(tmp_path / "b", "full", 42).chunks("train", "photometry")]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_missing_parallax_reaches_the_network_as_the_train_mean(tmp_path):
    rows = make_rows(20)
    rows[2]["meta_cols"]["parallax"] = None
    module = AstroM3DataModule(Local(write_ours(tmp_path / "o", rows)), batch_size=12, cache=tmp_path / "cache")
    module.setup("fit")
    (batch,) = list(module.train_dataloader())
    row = batch["metadata"][batch["index"] == 0][0]
    assert row[ALL_COLS.index("parallax") - 4] == 0 and row[0] == 0 and torch.isfinite(batch["metadata"]).all()
    assert ("star 2", "metadata", "repaired", "parallax missing: set to the train mean") in module.rejected
