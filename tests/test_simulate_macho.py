"""Facts about the simulated MACHO-like survey: bytes, cadence, magnitudes, errors, periods, labels."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from astrom3.errors import UserError
from astrom3.simulate import macho


@pytest.fixture(scope="module")
def stars() -> list[macho.Star]:
    return [macho.star(0, index) for index in range(300)]


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_two_workers_write_the_bytes_of_one(tmp_path):
    one = macho.write(tmp_path / "one", objects=530, seed=3, workers=1)
    two = macho.write(tmp_path / "two", objects=530, seed=3, workers=2)
    assert _hashes(one) == _hashes(two)
    rows = pq.read_table(one / "objects")
    assert rows.cast(macho.SCHEMA).num_rows == 530
    assert rows.schema.field("light_curve").metadata[b"unit"] == b"mag"
    curve = rows["light_curve"][527].as_py()
    same = macho.star(3, 527)
    assert curve["time"] == same.time.tolist()
    assert curve["mag"] == same.mag.tolist()
    assert curve["mag_err"] == same.mag_err.tolist()
    assert (one / "splits" / "sub10_0.parquet").is_file()


def test_without_labels_curves_are_the_same_and_labels_are_null(tmp_path):
    labelled = macho.write(tmp_path / "labelled", objects=12, workers=1)
    bare = macho.write(tmp_path / "bare", objects=12, workers=1, labelled=False)
    first = pq.read_table(labelled / "objects")
    second = pq.read_table(bare / "objects")
    assert first["light_curve"].equals(second["light_curve"])
    assert second["label"].null_count == 12
    dataset = json.loads((bare / "dataset.json").read_text())
    assert dataset["survey"] == {"unit": "mag", "band": "V", "time": "MJD"}
    assert dataset["counts"]["unlabelled"] == 12
    assert not (bare / "splits" / "sub10_0.parquet").exists()


def test_too_few_stars_are_refused(tmp_path):
    with pytest.raises(UserError, match="objects=2"):
        macho.write(tmp_path / "few", objects=2)


def test_cadence_is_that_of_macho(stars):
    steps = np.concatenate([np.diff(star.time) for star in stars])
    assert (steps > 0).all()
    assert steps.mean() == pytest.approx(2.9, abs=0.2)  # published: 2.9 +- 17.3 days
    assert steps.std() == pytest.approx(17.3, abs=1.5)
    span = np.array([np.ptp(star.time) for star in stars])
    assert ((span > 7 * 365) & (span < 8 * 365.25)).all()
    longest = np.array([np.diff(star.time).max() for star in stars])
    assert ((longest > 150) & (longest < 260)).all()


def test_curves_are_finite_and_vary_more_than_their_errors(stars):
    for star in stars:
        assert len(star.time) == len(star.mag) == len(star.mag_err)
        assert macho.POINTS[0] <= len(star.time) <= macho.POINTS[1]
        assert np.isfinite(star.mag).all()
        assert ((star.mag_err > 0) & (star.mag_err < 1)).all()
        assert 12 < np.median(star.mag) < 21.5
    faint = np.array([star.mag_err.mean() for star in stars])
    mean = np.array([star.mag.mean() for star in stars])
    assert np.corrcoef(mean, np.log(faint))[0, 1] > 0.9
    variable = [star.mag.std() > 1.2 * star.mag_err.mean() for star in stars]
    assert np.mean(variable) > 0.8


def test_classes_have_the_shares_and_periods_of_the_alcock_set(stars):
    labels = np.array([star.label for star in stars])
    total = sum(macho.COUNTS.values())
    for name, count in macho.COUNTS.items():
        expected = count / total
        assert (labels == name).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / len(stars)))
    period = {name: np.median([s.period for s in stars if s.label == name]) for name in macho.CLASSES}
    assert period["RRc"] < period["RRab"] < period["Cep_1"] < period["Cep_0"] < period["LPV"]


def test_a_curve_folded_at_its_period_scatters_less(stars):
    for label in ("RRab", "Cep_0"):
        ratios = []
        for star in [s for s in stars if s.label == label][:20]:
            order = np.argsort(star.time / star.period % 1)
            folded = np.std(np.diff(star.mag[order]))
            shuffled = np.std(star.mag) * np.sqrt(2)
            ratios.append(folded / shuffled)
        assert np.median(ratios) < 0.7, label
