"""Windows, loss weights and masks against numbers from the original ASTROMER data pipeline."""

import numpy as np
from safetensors.numpy import load_file

from astrom3.modalities.astromer_masks import HIDDEN, PROBED, Fractions, apply_masks, everything_visible, mask_counts
from astrom3.modalities.astromer_view import (
    ERRORS,
    MAGNITUDES,
    MIN_POINTS,
    TIMES,
    VALID,
    WEIGHTS,
    empty_batch,
    error_weights,
    fill_windows,
    sequential_windows,
)

FAMILY = "astromer"
COLUMNS = (TIMES, MAGNITUDES, ERRORS)
MAGNITUDE = 2e-5
ERROR = 1e-6
MJD = 0.05  # day: what float32 of the original is off near MJD 50000
SMALL_TIMES = 1e-3
WEIGHT = 1e-6  # absolute; weights are 0.001 to 1.001


def cut(curve, window, dtype, min_points=1):
    """All published windows of one curve (L, 3), filled."""
    lengths = np.array([len(curve)])
    windows = sequential_windows(lengths, window, min_points, duplicates=True)
    batch = empty_batch(len(windows.curves), window, dtype)
    fill_windows(curve, np.array([0, len(curve)]), windows.curves, windows.starts, batch)
    return windows, batch


class TestWindows:
    def kind(name, entry):
        return name.startswith("windows")

    def test_starts_ends_and_centred_columns(self, vector):
        path, entry = vector
        tensors = load_file(path)
        for case in entry["cases"]:
            name = case["case"]
            curve = tensors[f"{name}.curve"]
            windows, batch = cut(curve, case["window"], np.float64)
            assert np.array_equal(windows.starts, tensors[f"{name}.starts"])
            n = min(case["length"], case["window"])
            assert np.array_equal(windows.starts + n, tensors[f"{name}.ends"])
            assert np.all(batch[VALID].sum(1) == n)
            kept = sequential_windows(np.array([len(curve)]), case["window"], MIN_POINTS, duplicates=True)
            assert (len(kept.curves) > 0) == case["kept_by_length_filter"]

            ours = np.stack([batch[key][:, :n] for key in COLUMNS], axis=-1)
            assert np.abs(ours - tensors[f"{name}.windows_exact"]).max() <= 1e-9
            time = MJD if case["times"] == "MJD" else SMALL_TIMES
            off = np.abs(ours - tensors[f"{name}.windows"]).max(axis=(0, 1))
            assert np.all(off <= [time, MAGNITUDE, ERROR]), name


class TestErrorWeights:
    def kind(name, entry):
        return name.startswith("w_error")

    def test_every_case(self, vector):
        tensors = load_file(vector[0])
        cases = {name.split(".")[0] for name in tensors}
        assert cases
        for case in cases:
            ours = error_weights(tensors[f"{case}.errors"][..., 0])
            assert np.abs(ours - tensors[f"{case}.weights"][..., 0]).max() <= WEIGHT, case


class TestMasking:
    def kind(name, entry):
        return name.startswith("masking")

    def test_given_points_make_the_same_inputs(self, vector):
        path, entry = vector
        tensors = load_file(path)
        for case in entry["cases"]:
            chosen = {name.split(".", 1)[1]: t for name, t in tensors.items() if name.startswith(f"{case['case']}.")}
            window = chosen["window"]
            n = case["n"]
            names = ("probed", "same", "random", "replacement")
            magnitudes, probed, hidden = apply_masks(window[:, 1], *(chosen[name] for name in names))
            padding = np.ones(case["window"] - n, np.float32)
            assert np.array_equal(np.concatenate([magnitudes, 0 * padding]), chosen["input"])
            assert np.array_equal(np.concatenate([probed, 0 * padding]), chosen["mask_out"])
            assert np.array_equal(np.concatenate([hidden, padding]), chosen["mask_in"])
            assert np.array_equal(np.concatenate([window[:, 0], 0 * padding]), chosen["times"])
            fractions = Fractions(case["probed_fraction"], case["same_fraction"], case["random_fraction"])
            counts = tuple(case[f"n_{name}"] for name in ("probed", "same", "random", "hidden"))
            assert mask_counts(n, fractions) == counts


class TestMaskCounts:
    def kind(name, entry):
        return name.startswith("mask_counts")

    def test_every_length(self, vector):
        for name, table in load_file(vector[0]).items():
            probed, random, same = (float(part) for part in name.split("_")[1:])
            fractions = Fractions(probed, same, random)
            ours = [(n, *mask_counts(n, fractions)) for n in table[:, 0].tolist()]
            assert np.array_equal(ours, table), name


class TestPipeline:
    def kind(name, entry):
        return name.startswith("pipeline_classify")

    def test_curves_to_a_padded_batch_with_everything_visible(self, vector):
        tensors = load_file(vector[0])
        numbers = sorted(int(name.split(".")[1]) for name in tensors if name.startswith("curve."))
        curves = [tensors[f"curve.{number}"] for number in numbers]
        lengths = np.array([len(curve) for curve in curves])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        width = tensors["input"].shape[1]
        windows = sequential_windows(lengths, width, duplicates=True)
        assert np.array_equal(windows.curves, tensors["curve_of_window"])
        batch = empty_batch(len(windows.curves), width)
        fill_windows(np.concatenate(curves), offsets, windows.curves, windows.starts, batch)
        everything_visible(batch)

        expected = {name: tensors[name][..., 0] for name in ("input", "times", "mask_in", "mask_out", "w_error")}
        assert np.abs(batch[MAGNITUDES] - expected["input"]).max() <= MAGNITUDE
        assert np.abs(batch[TIMES] - expected["times"]).max() <= SMALL_TIMES
        masked = 1 - batch[VALID] * (1 - batch[HIDDEN])
        assert np.array_equal(masked, expected["mask_in"])
        assert np.array_equal(batch[PROBED], expected["mask_out"])
        # On padding the original has the weight of the mean error, which enters nothing.
        assert np.abs((batch[WEIGHTS] - expected["w_error"]) * batch[VALID]).max() <= WEIGHT
