"""convert for galaxies: cutouts and spectra of users become a data set; bad input is listed; tables are matched."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from galaxy_survey import GRID, SIDE, save, survey

from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.convert.match import by_position
from astrom3.data.layouts import open_source
from astrom3.data.observed import locate, observations
from astrom3.errors import UserError

pytestmark = pytest.mark.slow

EDGE = (152 - SIDE) // 2
N = 24
COLUMNS = ("id=name", "label=kind", "image=cutout", "spectrum=spectrum", "targets=[log_mass]")
SKY = ("columns.ra=RA", "columns.dec=DEC")


def run(folder, out, *overrides):
    options = (f"table={folder}/galaxies.csv", f"out={out}", "workers=1", *COLUMNS, *SKY, *overrides)
    return convert(compose(list({o.partition("=")[0]: o for o in options}.values()), "convert"))


def rejected(root):
    with (root / "rejected.csv").open() as file:
        return {(r["object_id"], r["modality"], r["decision"]): r["reason"] for r in csv.DictReader(file)}


def observed(root):
    """Object id -> what a view sees of it."""
    source = open_source(root)
    tables, where = locate(source)
    names = {row: name for name, (_, row) in where.items()}
    return {names[one.row]: one for one in observations(tables[0], np.arange(len(tables[0])))}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a user, and the truth about them."""
    folder = tmp_path_factory.mktemp("survey") / "mine"
    _, truth = survey(folder, N)
    return folder, truth


@pytest.fixture(scope="module")
def placed(files, tmp_path_factory):
    """The data set with images in place."""
    out = tmp_path_factory.mktemp("placed") / "data"
    return out, run(files[0], out)


def test_images_stay_where_they_are_and_everything_arrives(files, placed):
    folder, truth = files
    root, summary = placed
    assert summary["objects"] == N and summary["present"] == {"image_file": N, "spectrum": N}
    assert "image" not in pq.read_schema(next((root / "objects").iterdir())).names
    about = json.loads((root / "dataset.json").read_text())
    assert about["kind"] == "galaxies" and about["images"] == {"root": str(folder), "bands": "grz"}
    seen = observed(root)
    for i in range(N):
        one = seen[f"G{i}"]
        np.testing.assert_array_equal(one.image[:, EDGE : EDGE + SIDE, EDGE : EDGE + SIDE], truth["image"][i].T)
        assert not one.image[:, :EDGE].any()
        good = (truth["ivar"][i] > 0) & (GRID > 3810) & (GRID < 9190)
        size = np.abs(truth["spectrum"][i]).max()
        tolerance = (1e-6, 0.5, 1e-5)[i % 3]  # SDSS's pixels are wider than DESI's
        if i:  # of the first, masked pixels are interpolated
            np.testing.assert_allclose(one.spectrum[1][good], truth["spectrum"][i][good], atol=tolerance * size)
    source = open_source(root)
    redshifts = source.targets("train", ["redshift", "log_mass", "mag_r", "ra"])
    numbers = [int(name[1:]) for name in source.catalogue("train").ids]
    np.testing.assert_allclose(redshifts[:, 0], truth["redshift"][numbers], atol=1e-5)
    assert set(source.classes) == set(truth["label"])
    said = rejected(root)
    assert said["G1", "images", "repaired"].startswith("32 x 32 pixels, cut or filled")
    assert "covers a part of 3600-9824" in said["G1", "spectra", "repaired"]
    assert summary["spectrum_coverage"]["grid"] == "3600-9824"


def test_masked_pixels_of_desi_are_interpolated(files, placed):
    truth = files[1]
    flux = observed(placed[0])["G0"].spectrum[1]
    first = int(np.flatnonzero(GRID > 5759.9)[0]) + 100  # of the camera R
    hidden = np.arange(first, first + 40)  # B, which ends at 5800 Angstrom, has not seen them
    line = np.interp(GRID[hidden], GRID[[hidden[0] - 1, hidden[-1] + 1]], flux[[hidden[0] - 1, hidden[-1] + 1]])
    np.testing.assert_allclose(flux[hidden], line, rtol=1e-4)
    assert np.abs(flux[hidden] - truth["spectrum"][0][hidden]).max() > 0


@pytest.mark.slow
def test_images_are_copied_where_asked_and_batches_are_the_same(files, placed, tmp_path, monkeypatch):
    from astrom3.training.build import build

    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    run(files[0], tmp_path / "copied", "images.copy=true")
    common = ["model=astroclip", "size=tiny", "mode=clip", "data=local", "trainer=cpu", "data.batch_size=4"]
    found = {}
    for name, root in (("placed", placed[0]), ("copied", tmp_path / "copied")):
        data, _ = build(compose([*common, f"data.path={root}"]))
        assert data.streaming is (name == "placed")
        rows = {}
        for batch in data.val_dataloader():
            ids = data.object_ids("validation")[batch["index"].numpy()]
            for place, one in enumerate(ids):
                rows[one] = {key: batch[key][place] for key in ("cutout/flux", "specformer/flux")}
        found[name] = rows
    assert found["placed"].keys() == found["copied"].keys() and found["placed"]
    for one, values in found["placed"].items():
        for key, tensor in values.items():
            torch.testing.assert_close(tensor, found["copied"][one][key], rtol=0, atol=0)
    masked, _ = build(compose([*common, f"data.path={placed[0]}", "mode=masked"]))
    assert masked.streaming is False  # spectra are in the data set, so they are stored


def test_bad_input_is_one_counted_reason_each(files, tmp_path):
    folder = tmp_path / "mine"
    rows, truth = survey(folder, 12, seed=5)
    image = truth["image"][0].transpose(2, 1, 0).copy()
    image[1, 3, 4] = np.nan
    np.save(folder / "nan.npy", image)
    np.save(folder / "two.npy", image[:2])
    np.save(folder / "small.npy", image[:, :8, :8])
    np.save(folder / "dark.npy", np.zeros((3, 152, 152), np.float32))
    (folder / "broken.fits").write_bytes((folder / rows[2]["cutout"]).read_bytes()[:3000])
    mask = np.zeros((SIDE, SIDE), np.int32)
    mask[:2] = 1
    parts = [fits.PrimaryHDU(np.nan_to_num(image)), fits.ImageHDU(mask, name="MASK")]
    fits.HDUList(parts).writeto(folder / "masked.fits")
    names = ("nan.npy", "two.npy", "small.npy", "dark.npy", "broken.fits", "masked.fits", "gone.npy")
    for row, name in zip(rows, names, strict=False):
        row["cutout"] = name
    flux = truth["spectrum"][7].astype(np.float64).copy()
    ivar = truth["ivar"][7].astype(np.float64).copy()
    flux[200:210] = np.nan
    ivar[300:320] = -1
    lines = [f"{w},{f},{i}" for w, f, i in zip(GRID, flux, ivar, strict=True)]
    (folder / "odd.csv").write_text("wavelength,flux,ivar\n" + "\n".join(lines) + "\n")
    short = [line for line in lines if float(line.split(",")[0]) < 6000]
    (folder / "short.csv").write_text("wavelength,flux,ivar\n" + "\n".join(short) + "\n")
    (folder / "noflux.csv").write_text("wavelength,light\n" + "5000,1\n" * 200)
    rows[7]["spectrum"] = "odd.csv"
    rows[8]["spectrum"] = "short.csv"
    rows[10]["spectrum"] = "noflux.csv"
    rows[11] |= {"spectrum": "", "cutout": "gone.fits"}
    save(folder / "galaxies.csv", rows)
    summary = run(folder, tmp_path / "out")
    said = rejected(tmp_path / "out")
    assert said["G0", "images", "repaired"].startswith("1 lost pixels set to 0")
    assert said["G1", "images", "rejected"].startswith("missing band: 2 planes")
    assert said["G2", "images", "rejected"].startswith("wrong size: 8 x 8 pixels")
    assert said["G3", "images", "rejected"] == "all-zero flux"
    assert said["G4", "images", "rejected"].startswith("corrupt or truncated FITS file")
    assert said["G5", "images", "repaired"].startswith(f"{3 * 2 * SIDE} lost pixels set to 0")
    assert said["G6", "images", "rejected"].startswith("no such file")
    assert "30 lost pixels interpolated" in said["G7", "spectra", "repaired"]  # one alone is bridged by resampling
    assert "covers less than half of 3600-9824" in said["G8", "spectra", "rejected"]
    assert "no column known as flux" in said["G10", "spectra", "rejected"]
    assert said["G11", "object", "rejected"] == "no usable image or spectrum"
    assert summary["objects"] == 11 and summary["input_objects"] == 12
    kinds = summary["decisions"]["rejected"]["images"]
    assert kinds["no such file"] == 2 and kinds["missing band"] == kinds["wrong size"] == 1


def test_what_does_not_fit_is_one_sentence(files, tmp_path):
    folder = files[0]
    for override, sentence in {
        "images.bands=gr": r"must name the bands g, r and z once",
        "objects=planets": "objects=planets does not exist",
        "objects=stars": "image= names cutouts of galaxies",
        "light_curve=cutout": "light_curve= is of light curves",
        "columns.mag_g=gmag": r"has no column gmag \(columns.mag_g=gmag\)",
        "match.table=nowhere.csv": "nowhere.csv: no such file",
        "targets=[image_file]": "has no column image_file",
        "spectra.format=elodie": "spectra.format=elodie is none of",
    }.items():
        with pytest.raises(UserError, match=sentence):
            run(folder, tmp_path / "out", override)
    assert not (tmp_path / "out").exists()


def test_votes_of_volunteers_are_answers_to_questions(tmp_path):
    from experiments.astroclip.questions import of_votes

    rows, _ = survey(tmp_path / "mine", 6, seed=7)
    votes = [40, 35, 34, 20, 2, 40]
    for i, row in enumerate(rows):
        row |= {"smooth-or-featured_total-votes": votes[i], "smooth-or-featured_smooth_debiased": 0.1 * i}
        row |= {"smooth-or-featured_featured_debiased": 1 - 0.1 * i, "bar_total-votes": 40 * (i % 2)}
        row |= {"bar_yes_debiased": 0.25, "bar_no_debiased": "" if i == 5 else 0.75}
    save(tmp_path / "mine" / "galaxies.csv", rows)
    run(tmp_path / "mine", tmp_path / "out", "targets=all")
    table = open_source(tmp_path / "out").tables["train"]
    order = [table.catalogue().ids.tolist().index(f"G{i}") for i in range(6)]
    voted = [name for name in table.target_names if name.endswith("_debiased")]
    first, bar = of_votes(table, voted, np.array(order), fewest=34)
    assert first.name == "smooth-or-featured" and first.answers == ("smooth", "featured")
    assert first.asked.tolist() == [True, True, False, False, False, True]
    np.testing.assert_allclose(first.fractions[5], [0.5, 0.5])
    assert bar.asked.tolist() == [False, True, False, True, False, False]
    training, _ = of_votes(table, voted, np.array(order), fewest=0)
    assert training.asked.tolist() == [True, True, True, True, False, True]


def test_a_file_that_vanished_after_the_conversion_is_listed(tmp_path):
    survey(tmp_path / "mine", 12, seed=6)
    run(tmp_path / "mine", tmp_path / "out")
    (tmp_path / "mine" / "cutout3.npy").unlink()
    seen = observed(tmp_path / "out")
    assert seen["G3"].image is None and "no such file" in seen["G3"].problems[0]
    assert seen["G4"].image is not None


def test_the_nearest_row_within_the_radius_belongs_to_one_object():
    mine = np.array([[10.0, 0.0], [10.0, 0.0001], [359.99999, 45.0], [50.0, 10.0], [np.nan, 1.0]])
    theirs = np.array([[10.0, 0.00012], [0.00001, 45.0], [50.0, 10.001]])
    partner, separation, reasons = by_position(mine, theirs, 1.0)
    assert partner.tolist() == [-1, 0, 1, -1, -1]
    assert separation[1] == pytest.approx(0.072, abs=1e-3)
    assert separation[2] == pytest.approx(3600 * 2e-5 * np.cos(np.pi / 4), rel=1e-3)
    assert reasons == {
        0: "its match is nearer to another object",
        3: "no match within 1 arcsec",
        4: "no position to match",
    }


@pytest.mark.parametrize("by", ["position", "id"])
def test_a_second_table_is_matched(files, tmp_path, by):
    folder, truth = files
    order = np.random.default_rng(0).permutation(N)[: N - 4]
    shift = 0.4 / 3600
    second = [
        {"targetid": 39_627_000_000_000_000 + int(i), "ra": truth["ra"][i], "dec": truth["dec"][i] + shift,
         "redshift": 7.0, "mass": truth["log_mass"][i]}
        for i in order
    ]  # fmt: skip
    save(tmp_path / "catalogue.csv", second)
    given = ["match.by=id", "match.id=targetid"] if by == "id" else ["match.radius=0.5"]
    out = tmp_path / "out"
    summary = run(folder, out, f"match.table={tmp_path}/catalogue.csv", "targets=[mass,redshift_2]", *given)
    assert summary["objects"] == N - 4 and summary["input_objects"] == N
    source = open_source(out)
    for split in source.rows:
        numbers = [int(name[1:]) for name in source.catalogue(split).ids]
        assert set(numbers) <= set(order.tolist())
        values = source.targets(split, ["mass", "redshift_2", "redshift"])
        np.testing.assert_allclose(values[:, 0], truth["log_mass"][numbers], atol=1e-9)
        np.testing.assert_allclose(values[:, 2], truth["redshift"][numbers], atol=1e-5)
        assert (values[:, 1] == 7).all()
    reason = "no match within" if by == "position" else "no row of catalogue.csv has its id"
    assert summary["decisions"]["rejected"]["object"] == {
        kind: 4 for kind in summary["decisions"]["rejected"]["object"] if kind.startswith(reason[:12])
    }
    kept = run(folder, tmp_path / "kept", f"match.table={tmp_path}/catalogue.csv", "match.unmatched=keep", *given)
    assert kept["objects"] == N


def test_spectra_as_lists_of_a_parquet_table(files, tmp_path):
    truth = files[1]
    rows = {
        "name": [f"G{i}" for i in range(6)],
        "flux": [truth["spectrum"][i].astype(float).tolist() for i in range(6)],
        "ivar": [truth["ivar"][i].astype(float).tolist() for i in range(6)],
        "redshift": truth["redshift"][:6].tolist(),
    }
    pq.write_table(pa.table(rows), tmp_path / "galaxies.parquet", row_group_size=4)
    options = [f"table={tmp_path}/galaxies.parquet", f"out={tmp_path}/out", "objects=galaxies", "id=name", "workers=1"]
    summary = convert(compose(options, "convert"))
    assert summary["present"] == {"spectrum": 6}
    for name, one in observed(tmp_path / "out").items():
        i = int(name[1:])
        good = truth["ivar"][i] > 0
        np.testing.assert_array_equal(one.spectrum[1][good], truth["spectrum"][i][good])
        assert one.image is None


def test_real_files_of_desi_with_their_redshifts(real_dir, tmp_path):
    desi = real_dir / "galaxies" / "desi"
    coadd = desi / "coadd-4-80613-thru20210324.fits"
    with fits.open(coadd) as hdus:
        targets = [int(value) for value in hdus["FIBERMAP"].data["TARGETID"]]
    save(tmp_path / "targets.csv", [{"TARGETID": target} for target in targets])
    options = [f"table={tmp_path}/targets.csv", f"out={tmp_path}/out", "objects=galaxies", "id=TARGETID", "workers=1"]
    options += [f'spectrum="{coadd}#{{TARGETID}}"', f"match.table={desi}/redrock-4-80613-thru20210324.fits"]
    options += ["match.by=id", "match.id=TARGETID", "targets=[Z]"]
    summary = convert(compose(options, "convert"))
    source = open_source(tmp_path / "out")
    assert summary["present"]["spectrum"] == len(set(targets))
    assert np.isfinite(np.concatenate([source.targets(split, ["Z"]) for split in source.rows])).all()
