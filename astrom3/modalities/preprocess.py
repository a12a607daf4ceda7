"""Per-object preprocessing, exactly as published (Rizhko & Bloom 2024, arXiv:2411.08842), many objects at a time.

Light curve: flux -> (flux - mean) / MAD, error -> error / MAD with the unscaled median absolute deviation, time ->
[0, 1] over the whole curve; constants log10(MAD) and span [365 d]. A window of 200 consecutive points (start given,
otherwise the centre) with six constants per row is the network's input; shorter curves are padded with mask 0.
Spectrum: linear interpolation to 3850, 3852 ... 8998 Angstrom; (flux - mean) / MAD, third / MAD, log10(MAD) with the
MAD over the non-zero flux. The third column is LAMOST's inverse variance: dividing it by MAD is what the published
weights were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from astrom3.errors import UserError
from astrom3.kernel import kernel
from astrom3.modalities.quality import NOT_FINITE, Checked, check_light_curves, check_spectra, frozen, list_decisions
from astrom3.modalities.schema import (
    PHOTO_CHANNELS,
    SEQ_LEN,
    SPECTRUM_CHANNELS,
    WAVELENGTH_COUNT,
    WAVELENGTH_START,
    WAVELENGTH_STEP,
)


@dataclass(frozen=True)
class LightCurves:
    """Prepared light curves: values (total, 3) float32 [time in [0, 1], flux, error], offsets (n + 1,) int64,
    constants (n, 2) float32 [log10(MAD), span / 365 d], verdict (n,) int8 (0 or a rejection code of quality.py).

    `photo` (n, 4) float32 are the normalised PHOTO_COLS where the layout keeps them with the curve, else None.
    """

    values: np.ndarray
    offsets: np.ndarray
    constants: np.ndarray
    verdict: np.ndarray
    photo: np.ndarray | None = None


@dataclass(frozen=True)
class Spectra:
    """Prepared spectra: values (n, 2, 2575) float32 [flux, third], log_mad (n,) float32, present (n,) bool, verdict."""

    values: np.ndarray
    log_mad: np.ndarray
    present: np.ndarray
    verdict: np.ndarray


def prepare_light_curves(checked: Checked) -> LightCurves:
    """Normalise checked light curves; the last guard rejects a curve whose prepared numbers are not finite."""
    n = len(checked.offsets) - 1
    values = np.empty((int(checked.offsets[-1]), 3), dtype=np.float32)
    offsets = np.zeros(n + 1, dtype=np.int64)
    constants = np.zeros((n, 2), dtype=np.float32)
    verdict = checked.verdict.copy()
    time, flux, flux_err = (frozen(column) for column in checked.columns)
    _light_curves(frozen(checked.offsets, np.int64), time, flux, flux_err, values, offsets, constants, verdict)
    return LightCurves(values[: offsets[-1]], offsets, constants, verdict)


def prepare_spectra(checked: Checked) -> Spectra:
    """Interpolate and normalise checked spectra; rows of missing or rejected spectra are 0."""
    n = len(checked.offsets) - 1
    values = np.empty((n, 2, WAVELENGTH_COUNT), dtype=np.float32)
    log_mad = np.zeros(n, dtype=np.float32)
    present = np.zeros(n, dtype=np.bool_)
    verdict = checked.verdict.copy()
    wavelength, flux, third = map(frozen, checked.columns)
    _spectra(frozen(checked.offsets, np.int64), wavelength, flux, third, values, log_mad, present, verdict)
    return Spectra(values, log_mad, present, verdict)


def light_curve(
    time: np.ndarray, flux: np.ndarray, flux_err: np.ndarray, photo: np.ndarray, start: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One light curve (N,) x 3 and its four normalised features -> x (200, 9), mask (200,), both float32.

    `start` is the first point of the window, the centre if None. Raises UserError where quality.py rejects the curve.
    """
    curves = prepare_light_curves(check_light_curves(np.array([0, len(time)]), time, flux, flux_err))
    if len(curves.values) == 0:
        reasons = [row.reason for row in list_decisions("photometry", [""], curves.verdict)]
        raise UserError(f"The light curve cannot be used: {reasons[0] if reasons else 'no points'}.")
    constants = np.concatenate([np.asarray(photo, dtype=np.float32), curves.constants[0]])[None]
    if start is None:
        start = centre(len(curves.values))
    starts = np.array([start], dtype=np.int64)
    x = np.empty((1, SEQ_LEN, PHOTO_CHANNELS), np.float32)
    mask = np.empty((1, SEQ_LEN), np.float32)
    fill_windows(curves.values, curves.offsets, np.zeros(1, np.int64), starts, constants, True, x, mask)
    return x[0], mask[0]


def spectrum(wavelength: np.ndarray, flux: np.ndarray, third: np.ndarray) -> np.ndarray:
    """One spectrum (M,) x 3 -> (3, 2575) float32. Raises UserError where quality.py rejects it."""
    spectra = prepare_spectra(check_spectra(np.array([0, len(wavelength)]), wavelength, flux, third))
    if not spectra.present[0]:
        reasons = [row.reason for row in list_decisions("spectra", [""], spectra.verdict)]
        raise UserError(f"The spectrum cannot be used: {reasons[0] if reasons else 'no pixels'}.")
    out = np.empty((SPECTRUM_CHANNELS, WAVELENGTH_COUNT), dtype=np.float32)
    out[:2] = spectra.values[0]
    out[2] = spectra.log_mad[0]
    return out


def centre(length: int) -> int:
    """First point of the evaluation window."""
    return max(length - SEQ_LEN, 0) // 2


@kernel
def _mad(values: np.ndarray) -> float:
    return np.median(np.abs(values - np.median(values)))


@kernel
def _light_curves(
    offsets: np.ndarray,
    time: np.ndarray,
    flux: np.ndarray,
    err: np.ndarray,
    values: np.ndarray,
    new_offsets: np.ndarray,
    constants: np.ndarray,
    verdict: np.ndarray,
) -> None:
    position = 0
    for i in range(len(offsets) - 1):
        a = offsets[i]
        b = offsets[i + 1]
        new_offsets[i + 1] = position
        if a == b:
            continue
        mean = np.mean(flux[a:b])
        mad = _mad(flux[a:b])
        first = time[a]  # sorted
        length = time[b - 1] - time[a]
        constants[i, 0], constants[i, 1] = np.log10(mad), length / 365
        finite = np.isfinite(constants[i, 0]) and np.isfinite(constants[i, 1])
        for j in range(a, b):
            k = position + j - a
            values[k, 0] = (time[j] - first) / length
            values[k, 1] = (flux[j] - mean) / mad
            values[k, 2] = err[j] / mad
            finite &= np.isfinite(values[k, 0]) and np.isfinite(values[k, 1]) and np.isfinite(values[k, 2])
        if finite:
            position += b - a
            new_offsets[i + 1] = position
        else:
            verdict[i] = NOT_FINITE_LIGHT_CURVE
            constants[i] = 0


@kernel
def _spectra(
    offsets: np.ndarray,
    wavelength: np.ndarray,
    flux: np.ndarray,
    third: np.ndarray,
    values: np.ndarray,
    log_mad: np.ndarray,
    present: np.ndarray,
    verdict: np.ndarray,
) -> None:
    grid_flux = np.empty(WAVELENGTH_COUNT)
    grid_third = np.empty(WAVELENGTH_COUNT)
    light = np.empty(WAVELENGTH_COUNT)
    for i in range(len(offsets) - 1):
        a = offsets[i]
        b = offsets[i + 1]
        if a == b:
            values[i] = 0
            continue
        _interpolate(wavelength[a:b], flux[a:b], third[a:b], grid_flux, grid_third)
        n = 0
        for k in range(WAVELENGTH_COUNT):
            if grid_flux[k] != 0:
                light[n] = grid_flux[k]
                n += 1
        mean = np.mean(grid_flux)
        mad = _mad(light[:n]) if n else 0.0
        log_mad[i] = np.log10(mad) if mad > 0 else np.nan
        finite = np.isfinite(log_mad[i])
        for k in range(WAVELENGTH_COUNT):
            values[i, 0, k] = (grid_flux[k] - mean) / mad if mad > 0 else 0.0
            values[i, 1, k] = grid_third[k] / mad if mad > 0 else 0.0
            finite &= np.isfinite(values[i, 0, k]) and np.isfinite(values[i, 1, k])
        present[i] = finite
        if not finite:
            values[i], log_mad[i] = 0, 0
            verdict[i] = CONSTANT_SPECTRUM if mad == 0 else NOT_FINITE_SPECTRUM


@kernel
def _interpolate(
    x: np.ndarray, flux: np.ndarray, third: np.ndarray, grid_flux: np.ndarray, grid_third: np.ndarray
) -> None:
    """np.interp of both columns on the common grid: increasing x (M,), ends held constant outside."""
    last = len(x) - 1
    j = 0
    for k in range(WAVELENGTH_COUNT):
        at = WAVELENGTH_START + WAVELENGTH_STEP * k
        while j < last and x[j + 1] <= at:
            j += 1
        if at <= x[0]:
            grid_flux[k], grid_third[k] = flux[0], third[0]
        elif j == last:
            grid_flux[k], grid_third[k] = flux[last], third[last]
        else:
            width = x[j + 1] - x[j]
            step = at - x[j]
            grid_flux[k] = (flux[j + 1] - flux[j]) / width * step + flux[j]
            grid_third[k] = (third[j + 1] - third[j]) / width * step + third[j]


NOT_FINITE_LIGHT_CURVE = NOT_FINITE["photometry"]
NOT_FINITE_SPECTRUM = NOT_FINITE["spectra"]
CONSTANT_SPECTRUM = 4


@kernel
def fill_windows(
    values: np.ndarray,
    offsets: np.ndarray,
    rows: np.ndarray,
    starts: np.ndarray,
    constants: np.ndarray,
    pad_constants: bool,
    x: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Write the windows of B light curves into x (B, 200, 9) and mask (B, 200), both float32.

    values (total, 3), offsets (n + 1,); rows (B,) object numbers; starts (B,) first points; constants (B, 6). A curve
    without points gives zeros. `pad_constants`: the constants stand in padded rows too, as in the first hub layout.
    """
    for i in range(len(rows)):
        begin = offsets[rows[i]] + starts[i]
        length = min(SEQ_LEN, offsets[rows[i] + 1] - begin)
        for k in range(SEQ_LEN):
            point = k < length
            mask[i, k] = 1.0 if point else 0.0
            for c in range(3):
                x[i, k, c] = values[begin + k, c] if point else 0.0
            written = point or (pad_constants and length > 0)
            for c in range(6):
                x[i, k, 3 + c] = constants[i, c] if written else 0.0
