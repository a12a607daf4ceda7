"""HATS catalogues, written and joined by the real `hats` and `lsdb`: read, embedded, resumed."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from astrom3.cli.config import compose
from astrom3.data.layouts.hats import HatsCatalogue, Partition, is_nested
from astrom3.embed.__main__ import embed
from astrom3.encoders.astromer import Astromer
from astrom3.errors import UserError
from astrom3.files import read_json
from astrom3.inference.trained import TrainedModel
from astrom3.published import native

pytestmark = pytest.mark.slow

lsdb = pytest.importorskip("lsdb")
OBJECTS = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A catalogue, its light curves by id, and a small encoder in a model folder."""
    from hats_files import write_catalogue

    root = tmp_path_factory.mktemp("hats")
    curves = write_catalogue(root / "sky", OBJECTS)
    torch.manual_seed(0)
    native.save(Astromer(1, layers=1, d_model=16, n_heads=2, d_ff=16), root / "model")
    return root, curves


def options(root, out, *more):
    return compose([f"model={root}/model", "data=hats", f"data.path={root}/sky", f"data.cache={root}/cache",
                    f"out={out}", "format=hats", "device=cpu", *more], "embed")  # fmt: skip


@pytest.fixture(scope="module")
def embedded(place):
    root, _ = place
    return root / "out", embed(options(root, root / "out", "data.label=type"))


@pytest.mark.slow
def test_lsdb_joins_the_embeddings_with_the_catalogue(place, embedded):
    root, curves = place
    out, summary = embedded
    assert summary["complete"] and summary["objects"] == OBJECTS - 1
    sky = lsdb.open_catalog(root / "sky")
    told = lsdb.open_catalog(out)
    how = {"suffixes": ("", "_e"), "suffix_method": "overlapping_columns"}
    joined = sky.join(told, left_on="objectid", right_on="objectid", **how).compute()
    assert len(joined) == OBJECTS - 1 and set(joined["objectid"]) <= set(curves)
    np.testing.assert_array_equal(joined["ra"].to_numpy(), joined["ra_e"].to_numpy())
    assert (joined["type"] == joined["label"]).all()


def test_numbers_are_those_of_single_curves_in_the_best_sampled_band(place, embedded):
    root, curves = place
    model = TrainedModel.load(root / "model", device="cpu")
    tables = [pq.read_table(path) for path in sorted((embedded[0] / "dataset").rglob("*.parquet"))]
    rows = pa.concat_tables(tables).slice(0, 20).to_pylist()
    names = [int(row["objectid"]) for row in rows]
    alone = model.embed(light_curve=[as_columns(curves[name]) for name in names], band="r")
    np.testing.assert_allclose(np.array([row["mean"] for row in rows]), alone.mean, atol=2e-5)


def as_columns(points):
    return {"time": points["mjd"], "mag": points["mag"], "mag_err": points["magerr"], "band": points["band"]}


def test_rows_keep_the_order_and_pixels_of_the_catalogue_and_the_rejected_are_listed(place, embedded):
    root, _ = place
    before = HatsCatalogue.open(root / "sky")
    after = HatsCatalogue.open(embedded[0])
    assert [(p.order, p.pixel) for p in after.partitions] == [(p.order, p.pixel) for p in before.partitions]
    for old, new in zip(before.partitions, after.partitions, strict=True):
        there = pq.read_table(old.path, columns=["_healpix_29", "objectid"])
        made = pq.read_table(new.path, columns=["_healpix_29", "objectid"])
        kept = there.filter(pc.is_in(there["objectid"], value_set=made["objectid"]))
        assert made.equals(kept)
    with open(embedded[0] / "_rejected.csv", newline="") as file:
        rejected = [row for row in csv.DictReader(file) if row["decision"] == "rejected"]
    assert {row["modality"] for row in rejected} <= {"photometry", "object"}
    assert len({row["object_id"] for row in rejected}) == 1


def test_only_the_partitions_that_are_missing_are_made_again(place, embedded):
    root, _ = place
    out, summary = embedded
    parts = HatsCatalogue.open(out).partitions
    first, others = parts[0], parts[1:]
    content = pq.read_table(first.path)
    times = [part.path.stat().st_mtime_ns for part in others]
    first.path.unlink()
    (out / "rejected" / f"Norder={first.order}-Npix={first.pixel}.csv").unlink()
    assert embed(options(root, out, "data.label=type")) == summary
    assert pq.read_table(first.path).equals(content)
    assert [part.path.stat().st_mtime_ns for part in others] == times
    with pytest.raises(UserError, match=r"other settings \(columns, data\)"):
        embed(options(root, out, "data.label=type", "data.band=g"))


def test_a_catalogue_is_embedded_as_plain_parquet_too(place):
    root, _ = place
    summary = embed(options(root, root / "plain", "format=parquet", "splits=[test]", "part=256"))
    assert summary["objects"]["test"] == OBJECTS // 10
    assert read_json(root / "plain" / "_manifest.json")["streaming"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["data.id=name"], "has no column name; it has objectid, ra, dec"),
        (["data.light_curve=ra"], "one column of light curves as structs of lists"),
        (["format=parquet", "data.label=ra"], "column ra holds numbers, which are no class names: predict them with"),
        (["data.band=z"], "has the bands g, r"),
        (["data=local", "data.path=x"], "give data=hats"),
        (["data.path=nowhere"], "nowhere is not a folder"),
        (["format=csv"], "format=csv does not exist"),
    ],
)
def test_mistakes_are_one_sentence(place, more, message):
    root, _ = place
    given = options(root, root / "never")
    with pytest.raises(UserError, match=message):
        given = options(root, root / "never", *more)
        embed(given)
    assert not (root / "never").exists()


def test_its_numbers_are_targets_and_its_split_follows_the_seed(place):
    from astrom3.data.origins import Hats

    source = Hats(place[0] / "sky").open("full", 42)
    assert source.table("train").target_names == ("objectid", "ra", "dec", "_healpix_29")
    assert np.isfinite(source.targets("test", ["dec", "ra"])).all()
    assert {split: len(rows) for split, rows in source.rows.items()} == {"train": 192, "validation": 24, "test": 24}
    again = Hats(place[0] / "sky", label="type").open("full", 42)
    assert again.classes == ("EA", "RRAB") and (again.rows["test"] == source.rows["test"]).all()
    assert not (Hats(place[0] / "sky").open("full", 0).rows["test"] == source.rows["test"]).all()


def test_names_and_kinds():
    assert Partition(5, 10023, None).name == "dataset/Norder=5/Dir=10000/Npix=10023.parquet"
    assert is_nested(pa.struct([("mjd", pa.list_(pa.float64()))])) and not is_nested(pa.list_(pa.float64()))
    assert not is_nested(pa.struct([("a", pa.float64())]))


def test_lists_of_unusual_names_are_named_on_the_command_line(place, tmp_path):
    """And parts of other units are never put beside those that are there."""
    from hats_files import write_catalogue

    root, _ = place
    write_catalogue(tmp_path / "sky", 20, names={"mjd": "when", "mag": "brightness"})
    given = [f"data.path={tmp_path}/sky", "data.band=r"]
    with pytest.raises(UserError, match=r"columns\.time to one of when, brightness, magerr, band"):
        embed(options(root, tmp_path / "out", *given))
    given += ["data.columns.time=when", "data.columns.mag=brightness"]
    assert embed(options(root, tmp_path / "out", *given))["objects"] == 19
    with pytest.raises(UserError, match=r"other settings \(data\)"):
        embed(options(root, tmp_path / "out", *given, "data.columns.system=AB"))


@pytest.mark.slow
def test_the_experiment_measures_a_small_catalogue(tmp_path):
    from experiments.hats import measure, table_of

    found = measure(tmp_path, 200, rows=100)
    assert found.rows == found.joined == found.objects == 200 and found.partitions >= 12
    assert found.processor > 0 and found.memory > 100
    assert table_of([found]).splitlines()[2].startswith("| 200 | ")
