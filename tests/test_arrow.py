"""Folders that `save_to_disk` of the library `datasets` wrote: the same objects give the same batches as parquet."""

import datasets
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
from astrom3.modalities.schema import SPLITS

datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def rows():
    return make_rows(40)


def as_saved(table):
    """A table of pyarrow as a data set, its columns as they are."""
    return datasets.Dataset(datasets.table.InMemoryTable(table))


def save_processed(source, target, **options):
    """The parquet files of full_42 as a DatasetDict."""
    parts = {split: as_saved(pq.read_table(source / f"{split}-00000-of-00001.parquet")) for split in SPLITS}
    datasets.DatasetDict(parts).save_to_disk(target, **options)


def batches(folder, cache, **options):
    """Object id -> batch row of the training split, in evaluation order."""
    module = AstroM3DataModule(Local(folder), batch_size=6, cache=cache, **options)
    module.setup("fit")
    ids = module.object_ids("train")
    found = {}
    for batch in module.split_dataloader("train"):
        for k, i in enumerate(batch["index"].tolist()):
            found[ids[i]] = {key: value[k] for key, value in batch.items() if key not in ("present", "index")}
    return found


def same(one, other):
    assert set(one) == set(other) and one
    for name, row in one.items():
        for key, value in row.items():
            torch.testing.assert_close(value, other[name][key], rtol=0, atol=0, msg=f"{name}, {key}")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("write", [write_first, write_current])
def test_the_columns_of_astrom3_processed(rows, tmp_path, write, streaming):
    parquet = write(tmp_path / "parquet", rows)
    save_processed(parquet / "full_42", tmp_path / "saved", num_shards={"train": 2, "validation": 1, "test": 1})
    source = open_source(tmp_path / "saved")
    assert source.layout == open_source(parquet).layout and len(source.rows["train"]) == 24
    cache = tmp_path / "cache"
    same(batches(parquet, cache, streaming=streaming), batches(tmp_path / "saved", cache, streaming=streaming))


def test_a_folder_of_configurations_is_chosen_from(rows, tmp_path):
    parquet = write_first(tmp_path / "parquet", rows)
    save_processed(parquet / "full_42", tmp_path / "saved" / "full_42")
    assert open_source(tmp_path / "saved", "full", 42).note.startswith("configuration full_42")
    with pytest.raises(UserError, match="holds no data set for full_0"):
        open_source(tmp_path / "saved", "full", 0)


def test_normalised_values_are_known_by_their_numbers(rows, tmp_path):
    parquet = write_first(tmp_path / "parquet", rows, normalised=True)
    save_processed(parquet / "full_42_norm", tmp_path / "saved")
    assert open_source(tmp_path / "saved").normaliser is None


def own_survey(folder, rows):
    """Objects of a survey with two classes of its own, as one table and as tables by split."""
    ours = write_ours(folder / "ours", rows)
    table = pa.concat_tables([pq.read_table(path) for path in sorted((ours / "objects").glob("*.parquet"))])
    labels = ["nova" if i % 2 else "quasar" for i in range(len(table))]
    table = table.set_column(table.column_names.index("label"), "label", pa.array(labels))
    ids = np.array(table["object_id"].to_pylist())
    parts = {split: table.take(np.flatnonzero(np.isin(ids, names))) for split, names in members(rows).items()}
    return table, parts


def test_objects_of_another_survey_with_class_labels(tmp_path):
    _, parts = own_survey(tmp_path, make_rows(40))
    saved = {split: as_saved(part).class_encode_column("label") for split, part in parts.items()}
    datasets.DatasetDict(saved).save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved")
    assert source.layout == "arrow" and source.classes == ("nova", "quasar")
    datasets.DatasetDict({split: as_saved(part) for split, part in parts.items()}).save_to_disk(tmp_path / "strings")
    cache = tmp_path / "cache"
    same(batches(tmp_path / "strings", cache), batches(tmp_path / "saved", cache))
    assert open_source(tmp_path / "saved", "shot3").catalogue("train").labels.tolist().count(0) == 3


def test_one_data_set_has_splits_drawn_from_the_seed(tmp_path):
    table, _ = own_survey(tmp_path, make_rows(40))
    as_saved(table).save_to_disk(tmp_path / "one")
    first = open_source(tmp_path / "one", "full", 1)
    second = open_source(tmp_path / "one", "full", 2)
    assert [len(first.rows[split]) for split in SPLITS] == [32, 4, 4]
    assert set(first.rows["test"]) != set(second.rows["test"])
    assert len(open_source(tmp_path / "one", "sub50", 1).rows["train"]) < 32


def test_what_is_damaged_or_unknown_is_one_sentence(rows, tmp_path):
    as_saved(pa.table({"a": [1]})).save_to_disk(tmp_path / "strange")
    with pytest.raises(UserError, match=r"has the columns a\. Known sets of columns are"):
        open_source(tmp_path / "strange")
    table, _ = own_survey(tmp_path, make_rows(12))
    as_saved(table).save_to_disk(tmp_path / "cut")
    file = next((tmp_path / "cut").glob("*.arrow"))
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(UserError, match="cannot be read as Arrow"):
        open_source(tmp_path / "cut")
    (tmp_path / "strange" / "state.json").write_text('{"_data_files": [{"filename": "../cut/data.arrow"}]}')
    with pytest.raises(UserError, match="lists no Arrow files of this folder"):
        open_source(tmp_path / "strange")
