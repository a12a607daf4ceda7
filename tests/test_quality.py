"""Every decision on bad input: repaired or rejected, with its reason, and counted."""

import csv

import numpy as np
import pytest

from astrom3.modalities import catalogue_quality, quality
from astrom3.modalities.preprocess import prepare_light_curves, prepare_spectra
from astrom3.modalities.schema import ALL_COLS

N = 50
TIME = np.arange(N) * 1.5
FLUX = np.random.default_rng(0).normal(10, 1, N)
ERROR = np.full(N, 0.1)
WAVELENGTH = np.linspace(3700, 9100, 500)
LIGHT = np.random.default_rng(1).normal(100, 5, 500)
IVAR = np.ones(500)


def curve(time=TIME, flux=FLUX, error=ERROR):
    checked = quality.check_light_curves(np.array([0, len(time)]), time, flux, error)
    rows = checked.decisions(["a"])
    return checked, [(r.decision, r.reason) for r in rows]


def spectrum(wavelength=WAVELENGTH, flux=LIGHT, ivar=IVAR):
    checked = quality.check_spectra(np.array([0, len(wavelength)]), wavelength, flux, ivar)
    return checked, [(r.decision, r.reason) for r in checked.decisions(["a"])]


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


def test_good_input_is_left_alone():
    checked, rows = curve()
    assert rows == [] and checked.accepted.all()
    for ours, given in zip(checked.columns, (TIME, FLUX, ERROR), strict=True):
        np.testing.assert_array_equal(ours, given)
    assert spectrum()[1] == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_points_with_non_finite_numbers_are_dropped(column, value):
    columns = [TIME, FLUX, ERROR]
    columns[column] = changed(columns[column], [3, 7], value)
    checked, rows = curve(*columns)
    assert rows == [("repaired", "2 points with non-finite time, flux or error dropped")]
    np.testing.assert_array_equal(checked.columns[0], np.delete(TIME, [3, 7]))


def test_points_with_negative_error_are_dropped():
    checked, rows = curve(error=changed(ERROR, 5, -0.1))
    assert rows == [("repaired", "1 points with negative error dropped")] and len(checked.columns[0]) == N - 1


def test_unsorted_times_are_sorted_with_their_fluxes():
    order = np.random.default_rng(2).permutation(N)
    checked, rows = curve(TIME[order], FLUX[order], ERROR[order])
    assert rows == [("repaired", "times were unsorted: sorted")]
    np.testing.assert_array_equal(checked.columns[1], FLUX)


def test_exact_duplicates_are_dropped_and_repeated_times_kept():
    time = np.concatenate([TIME, TIME[:4]])
    flux = np.concatenate([FLUX, FLUX[:3], [99.0]])
    checked, rows = curve(time, flux, np.full(N + 4, 0.1))
    assert rows == [("repaired", "times were unsorted: sorted; 3 exact duplicate rows dropped")]
    assert len(checked.columns[0]) == N + 1 and 99.0 in checked.columns[1]
    rows_by_numpy = np.unique(np.stack([time, flux, np.full(N + 4, 0.1)], axis=1), axis=0)
    np.testing.assert_array_equal(np.stack(checked.columns, axis=1), rows_by_numpy)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ((TIME[:9], FLUX[:9], ERROR[:9]), "fewer than 10 usable points"),
        ((np.full(N, 5.0), FLUX, ERROR), "zero time span"),
        ((TIME, np.full(N, 3.0), ERROR), "constant flux (median absolute deviation 0)"),
        (
            (TIME, changed(np.full(N, 3.0), slice(0, 20), FLUX[:20]), ERROR),
            "constant flux (median absolute deviation 0)",
        ),
        (
            (changed(TIME, slice(0, 45), np.nan), FLUX, ERROR),
            "fewer than 10 usable points (after: 45 points with non-finite time, flux or error dropped)",
        ),
    ],
)
def test_rejected_light_curves_say_why_and_leave_no_points(columns, reason):
    checked, rows = curve(*columns)
    assert rows == [("rejected", reason)]
    assert not checked.accepted.any() and len(checked.columns[0]) == 0


def test_an_empty_curve_is_missing_not_rejected():
    checked, rows = curve(np.empty(0), np.empty(0), np.empty(0))
    assert rows == [] and not checked.accepted.any()


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ((WAVELENGTH, changed(LIGHT, [1, 2], np.nan), IVAR),
         "2 pixels with non-finite wavelength, flux or inverse variance dropped"),
        ((WAVELENGTH, LIGHT, changed(IVAR, 9, -1.0)), "1 negative inverse variances set to 0"),
        ((WAVELENGTH[::-1], LIGHT[::-1], IVAR), "wavelengths out of order: sorted"),
        ((changed(WAVELENGTH, 10, WAVELENGTH[9]), LIGHT, IVAR), "1 repeated wavelengths dropped, the first kept"),
    ],
)  # fmt: skip
def test_repaired_spectra(columns, reason):
    checked, rows = spectrum(*columns)
    assert rows == [("repaired", reason)] and checked.accepted.all()
    assert (np.diff(checked.columns[0]) > 0).all() and (checked.columns[2] >= 0).all()


def test_the_first_of_repeated_wavelengths_is_kept():
    checked, _ = spectrum(wavelength=changed(WAVELENGTH, 10, WAVELENGTH[9]))
    assert checked.columns[1][9] == LIGHT[9] and LIGHT[10] not in checked.columns[1]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ((WAVELENGTH[:99], LIGHT[:99], IVAR[:99]), "fewer than 100 usable pixels"),
        ((WAVELENGTH[:200], LIGHT[:200], IVAR[:200]), "covers less than half of 3850-8998 Angstrom"),
        ((WAVELENGTH, np.zeros(500), IVAR), "all-zero flux"),
        ((WAVELENGTH, LIGHT, np.zeros(500)), "all inverse variances 0: no pixel was observed"),
        (
            (WAVELENGTH, LIGHT, -IVAR),
            "all inverse variances 0: no pixel was observed (after: 500 negative inverse variances set to 0)",
        ),
        ((WAVELENGTH, np.full(500, 7.0), IVAR), "constant flux (median absolute deviation 0)"),
    ],
)
def test_rejected_spectra_say_why(columns, reason):
    checked, rows = spectrum(*columns)
    assert rows == [("rejected", reason)] and not checked.accepted.any()


def test_numbers_that_overflow_are_stopped_by_the_last_guard():
    flux = np.where(np.arange(N) % 2, 1e308, -1e308)
    curves = prepare_light_curves(curve(flux=flux)[0])
    reason = quality.list_decisions("photometry", ["a"], curves.verdict)[0].reason
    assert reason == "flux or error beyond 1e30: scale them"
    assert len(curves.values) == 0
    spectra = prepare_spectra(spectrum(flux=np.where(np.arange(500) % 2, 1e308, -1e308))[0])
    assert quality.list_decisions("spectra", ["a"], spectra.verdict)[0].reason == "prepared values not finite"
    assert not spectra.present.any() and not spectra.values.any()


def test_objects_in_one_chunk_do_not_disturb_each_other():
    offsets = np.array([0, N, N, N + 5, 2 * N + 5])
    columns = [np.concatenate([c, c[:5], c]) for c in (TIME, FLUX, ERROR)]
    checked = quality.check_light_curves(offsets, *columns)
    assert checked.accepted.tolist() == [True, False, False, True]
    assert [r.object_id for r in checked.decisions(["a", "b", "c", "d"])] == ["c"]
    np.testing.assert_array_equal(checked.columns[1], np.concatenate([FLUX, FLUX]))


def test_catalogue_decisions():
    values = np.full((5, 38), 5.0)
    values[1, ALL_COLS.index("parallax")] = np.nan
    values[2, ALL_COLS.index("parallax")] = -0.2
    values[3, 4 : 4 + 18] = np.inf
    values[4, ALL_COLS.index("period")] = 0.0
    present, rows = catalogue_quality.check_catalogue(values, list("abcde"))
    assert present.tolist() == [True, True, True, False, True]
    assert [tuple(r) for r in rows] == [
        ("b", "metadata", "repaired", "parallax missing: set to the train mean"),
        ("c", "metadata", "repaired", "parallax <= 0 counts as 1 mas in the absolute magnitudes"),
        ("d", "metadata", "rejected", "more than half of the 34 catalogue columns are missing: 18"),
        ("e", "photometry", "repaired", "period missing: set to the train mean"),
    ]


def test_rejected_csv_has_its_header_also_when_empty(tmp_path):
    quality.write_decisions(tmp_path / "none.csv", [])
    quality.write_decisions(tmp_path / "one.csv", [quality.Decision("a, b", "spectra", "rejected", "all-zero flux")])
    header = ["object_id", "modality", "decision", "reason"]
    read = {name: list(csv.reader((tmp_path / name).read_text().splitlines())) for name in ("none.csv", "one.csv")}
    assert read["none.csv"] == [header]
    assert read["one.csv"] == [header, ["a, b", "spectra", "rejected", "all-zero flux"]]
