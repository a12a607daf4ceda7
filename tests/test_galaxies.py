"""Simulated galaxies as the program reads them: views, layout, lost pixels, the same batches stored and streamed."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.layouts import open_source
from astrom3.data.origins import Local
from astrom3.errors import UserError
from astrom3.modalities.galaxy_views import CropsView, prepare_flux, prepare_images
from astrom3.simulate.galaxies.survey import TARGETS, draw, write
from astrom3.simulate.origin import Simulated

VIEWS = {"spectra": "specformer", "images": "cutout"}
OBJECTS = 24


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write(tmp_path_factory.mktemp("galaxies") / "survey", OBJECTS, seed=3, image_size=32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def module(path, cache, **options):
    given = {"labelled_only": False, "batch_size": 8, "cache": cache, "views": VIEWS, "modalities": tuple(VIEWS)}
    data = AstroM3DataModule(Local(path), **(given | options))
    data.prepare_data()
    data.setup()
    return data


def with_nulls(survey, folder, column, rows):
    """The same survey with a missing observation in some rows."""
    folder.mkdir()
    (folder / "objects").mkdir()
    for path in survey.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "splits").symlink_to(survey / "splits")
    for path in sorted((survey / "objects").glob("*.parquet")):
        table = pq.read_table(path)
        place = table.schema.get_field_index(column)
        values = table[column].combine_chunks().to_pylist()
        for row in rows:
            values[row] = None
        field = table.schema.field(place).with_nullable(True)
        table = table.set_column(place, field, pa.array(values, field.type))
        pq.write_table(table, folder / "objects" / path.name, row_group_size=8)
    return folder


def test_the_layout_knows_classes_splits_and_targets(survey):
    source = open_source(survey)
    truth = draw(3, 0, OBJECTS, 32)
    about = json.loads((survey / "dataset.json").read_text())
    assert source.layout == "galaxies" and source.note == "simulated data" and source.normaliser is None
    assert source.classes == tuple(about["classes"])
    table = source.table("train")
    assert sum(len(rows) for rows in source.rows.values()) == OBJECTS == len(table)
    np.testing.assert_array_equal(table.targets(list(TARGETS)), np.stack([truth[name] for name in TARGETS], axis=1))
    labels = [source.classes[label] for label in table.catalogue().labels]
    assert labels == truth["label"].tolist()
    with pytest.raises(UserError, match="no numbers mass; it has redshift"):
        table.targets(["mass"])


def test_batches_hold_the_flux_that_was_simulated(survey, cache):
    truth = draw(3, 0, OBJECTS, 32)
    data = module(survey, cache)
    seen = 0
    for split in ("train", "validation", "test"):
        rows = data.source.rows[split]
        for batch in data.split_dataloader(split):
            row = rows[batch["index"].numpy()]
            image = truth["image"][row].transpose(0, 3, 2, 1)
            flux = batch["cutout/flux"].numpy()
            assert flux.shape == (len(row), 3, 152, 152) and not flux[:, :, :60].any()
            np.testing.assert_array_equal(flux[:, :, 60:92, 60:92], image)
            good = truth["ivar"][row] > 0
            spectrum = batch["specformer/flux"].numpy()
            np.testing.assert_array_equal(spectrum[good], truth["spectrum"][row][good])
            assert np.isfinite(spectrum).all() and bool(batch["present"]["images"].all())
            seen += len(row)
    assert seen == OBJECTS


def test_streamed_batches_are_those_of_the_store(survey, cache):
    def by_object(data):
        batches = list(data.split_dataloader("train"))
        index = torch.cat([batch["index"] for batch in batches]).argsort()
        return {key: torch.cat([batch[key] for batch in batches])[index] for key in ("cutout/flux", "specformer/flux")}

    torch.testing.assert_close(
        by_object(module(survey, cache)), by_object(module(survey, cache, streaming=True)), rtol=0, atol=0
    )


def test_a_galaxy_without_a_spectrum_or_image_stays_with_zeros(survey, cache, tmp_path):
    lost = [0, 5, 11]
    data = module(with_nulls(survey, tmp_path / "lost", "spectrum", lost), cache, min_modalities=1)
    missing = {split: counts["missing"]["spectra"] for split, counts in data.counts.items()}
    assert sum(missing.values()) == len(lost)
    split = max(missing, key=missing.get)
    for batch in data.split_dataloader(split):
        there = batch["present"]["spectra"]
        rows = data.source.rows[split][batch["index"].numpy()]
        assert there.tolist() == [row not in lost for row in rows]
        assert not batch["specformer/flux"][~there].any() and bool(batch["present"]["images"].all())


def test_crops_are_drawn_for_the_epoch_and_the_object_alone(survey, cache):
    views = {"images": CropsView(global_size=96, local_size=36, local_crops=3)}
    data = module(survey, cache, views=views, modalities=("images",))
    split = data.splits["train"]
    one = split.batch(np.array([2, 4]), seed=1, epoch=5)
    again = split.batch(np.array([4]), seed=1, epoch=5)
    later = split.batch(np.array([4]), seed=1, epoch=6)
    assert one["cutout/global"].shape == (2, 2, 3, 96, 96) and one["cutout/local"].shape == (2, 3, 3, 36, 36)
    torch.testing.assert_close(one["cutout/local"][1:], again["cutout/local"], rtol=0, atol=0)
    assert not torch.equal(again["cutout/global"], later["cutout/global"])
    assert float(one["cutout/global"].min()) >= 0 and float(one["cutout/global"].max()) <= 1


def test_lost_pixels_are_mended_or_reject():
    flux = np.tile(np.arange(10, dtype=np.float32) + 1, (4, 1))
    ivar = np.ones_like(flux)
    flux[0, 4] = np.nan
    ivar[1, 2:4] = [0, -1]
    flux[2, :6] = np.inf
    flux[3] = 0
    rows = prepare_flux(flux, ivar, np.ones(4, bool))
    np.testing.assert_allclose(rows.values[0], np.arange(10) + 1)
    np.testing.assert_allclose(rows.values[1], np.arange(10) + 1)
    assert rows.repairs[:, 0].tolist() == [1, 2, 0, 0] and rows.verdict.tolist() == [0, 0, 1, 2]
    assert rows.present.tolist() == [True, True, False, False]
    image = np.ones((3, 3, 4, 4), np.float32)
    image[0, 1, 2, 3] = np.nan
    image[1] = np.nan
    rows = prepare_images(image, np.array([True, True, False]))
    assert rows.values[0].sum() == 47 and rows.repairs[:, 0].tolist() == [1, 0, 0]
    assert rows.present.tolist() == [True, False, False] and rows.verdict.tolist() == [0, 1, 0]


def test_what_galaxies_do_not_have_is_said(survey, cache, tmp_path):
    with pytest.raises(UserError, match="galaxies have no photometry: choose model=astroclip"):
        module(survey, cache, views={"photometry": "photometry"}, modalities=("photometry",))
    with pytest.raises(UserError, match=r"data\.missing_light_curves belongs to data\.survey=stars"):
        Simulated(10, root=tmp_path, missing_light_curves=0.5, survey="galaxies").open("full", 42)
    with pytest.raises(UserError, match=r"data\.survey=quasars does not exist"):
        Simulated(10, root=tmp_path, survey="quasars").open("full", 42)


def test_the_simulated_galaxies_are_made_once(tmp_path):
    origin = Simulated(6, seed=1, root=tmp_path, survey="galaxies")
    assert origin.open("full", 42).layout == "galaxies"
    made = [path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")]
    origin.open("full", 42)
    assert made == [path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")]
