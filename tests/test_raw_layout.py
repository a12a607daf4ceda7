"""The raw AstroM3Dataset: what was written comes back, and what is missing is said."""

import numpy as np
import pytest
from raw_layout import build_raw, dat_text

from astrom3.data.readers import ReadError
from astrom3.data.readers.raw import RawDataset, available_splits, parse_dat
from astrom3.errors import UserError
from astrom3.modalities.schema import ALL_COLS


@pytest.mark.parametrize("zipped", [True, False])
def test_raw_data_set_gives_back_what_was_written(tmp_path, zipped):
    objects = {o["id"]: o for o in build_raw(tmp_path / "raw", zipped=zipped)}
    data = RawDataset(tmp_path / "raw", "full", 42)
    assert data.classes == ("EW", "RRAB") and available_splits(tmp_path / "raw") == [("full", 42), ("sub10", 42)]
    n = 0
    for split in ("train", "validation", "test"):
        rows = data.split(split)
        for object_id, label, values, name, spectrum in zip(
            rows.ids, rows.labels, rows.values, rows.names, rows.spec_filenames, strict=True
        ):
            expected = objects[object_id]
            assert label == expected["target"]
            assert values.tolist() == [expected["values"][c] for c in ALL_COLS]
            if n % 10 == 0:
                curve = data.light_curve(name)
                np.testing.assert_allclose(np.stack(curve[:3]), np.stack(expected["light_curve"]), rtol=1e-12)
                np.testing.assert_array_equal(data.spectrum(spectrum, label).flux, expected["spectrum"][1])
            n += 1
    assert n == 40
    with pytest.raises(ReadError, match=r"ASASSN-V none.dat: no such file"):
        data.light_curve("ASASSN-V none")
    with pytest.raises(ReadError, match=r"no file none.fits.gz"):
        data.spectrum("none.fits.gz")


def test_raw_data_set_says_what_is_missing(tmp_path):
    build_raw(tmp_path / "bare", n=3)
    (tmp_path / "bare/photometry.zip").unlink()
    with pytest.raises(UserError, match=r"neither photometry.zip nor vardb_files"):
        RawDataset(tmp_path / "bare", "full", 42).light_curve("ASASSN-V")
    build_raw(tmp_path / "raw", n=12)
    with pytest.raises(UserError, match=r"has the splits \(sub/seed\) full/42, sub10/42"):
        RawDataset(tmp_path / "raw", "sub25", 42)
    csv_path = tmp_path / "raw/splits/full/42/train.csv"
    text = csv_path.read_text()
    csv_path.write_text(text.replace("rfr_score", "rfr"))
    with pytest.raises(UserError, match=r"train.csv lacks the columns rfr_score; it has"):
        RawDataset(tmp_path / "raw", "full", 42).split("train")
    csv_path.write_text(text[:-30])
    with pytest.raises(UserError, match=r"train.csv is not the CSV it should be"):
        RawDataset(tmp_path / "raw", "full", 42).split("train")
    csv_path.unlink()
    with pytest.raises(UserError, match=r"train.csv does not exist"):
        RawDataset(tmp_path / "raw", "full", 42).split("train")


def test_dat_files(tmp_path):
    text = dat_text([1.0, 2.0], [3.0, 4.0], [0.1, 0.2])
    assert parse_dat(tmp_path, text.encode()).flux.tolist() == [3, 4]
    assert parse_dat(tmp_path, text.replace("HJD MAG", "#HJD MAG").encode()).flux_err.tolist() == [0.1, 0.2]
    with pytest.raises(ReadError, match="no observations"):
        parse_dat(tmp_path, "\n".join(text.splitlines()[:2]).encode())
    with pytest.raises(ReadError, match="corrupt or truncated"):
        parse_dat(tmp_path, text[:-12].encode())
