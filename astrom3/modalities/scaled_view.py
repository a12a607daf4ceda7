"""The view `photometry-scaled`: a light curve of any survey, every number in a range that is known beforehand.

The published view (preprocess.py) is what the published weights were trained on. It has raw numbers in it, log10(MAD)
in mJy, fluxes of thousands of MADs, errors without bound, and it cuts 200 neighbouring points out of a long curve. Here
fluxes and errors are compressed, catalogue features clipped, long curves thinned over all of their span, and each point
has its phase at twice the catalogue's period, so that a wrong factor of two hides nothing.

    channel  0     1     2          3 to 6                 7                 8          9              10
             time  flux  log error  features (PHOTO_COLS)  log MAD / median  log span   log median     phase

A network takes the keys of the published view (`photometry` and `mask`): both views are not for one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from astrom3.draws import WINDOW, draw
from astrom3.kernel import kernel
from astrom3.modalities.quality import NOT_FINITE, Checked, check_light_curves, frozen
from astrom3.modalities.schema import PHOTO_COLS
from astrom3.modalities.truncation import SHORTEST, cut_curves, kept_points
from astrom3.modalities.view import Arrays, Members, Reader, StoredView, register

NAME = "photometry-scaled"
POINTS = 512  # longest window
CHANNELS = 11
FEATURES = 3  # first of the channels of PHOTO_COLS
PHASE = 10
# Lowest and highest value of each channel; every number that reaches a network lies within.
RANGES = (
    (0.0, 1.0),  # time, 0 at the first point and 1 at the last of the curve
    (-10.0, 10.0),  # asinh((flux - median) / MAD)
    (-4.0, 4.0),  # log10(error / MAD)
    *((-5.0, 5.0),) * 4,  # z-scores of amplitude, period (log10), lksl_statistic and rfr_score
    (-6.0, 3.0),  # log10(MAD / |median|)
    (-4.0, 5.0),  # log10(span / day)
    (-10.0, 10.0),  # log10(|median| / mJy)
    (0.0, 1.0),  # phase at twice the period, 0 at the first point; without a period the time
)
LOWEST = np.array([low for low, _ in RANGES])
HIGHEST = np.array([high for _, high in RANGES])
SHORTEST_PERIOD = 1e-4  # day; a shorter one is taken as unknown
REJECTED = NOT_FINITE["photometry"]


@dataclass(frozen=True)
class ScaledCurves:
    """Scaled curves: values (total, 3) float64 [day since the first point, flux, log error], offsets (n + 1,) int64,
    constants (n, 3) float32 [log MAD / median, log span, log median], verdict (n,) int8 (a code of quality.py)."""

    values: np.ndarray
    offsets: np.ndarray
    constants: np.ndarray
    verdict: np.ndarray


def prepare_scaled(checked: Checked) -> ScaledCurves:
    """Scale checked light curves. One whose median or MAD is beyond float64 is rejected."""
    n = len(checked.offsets) - 1
    values = np.empty((int(checked.offsets[-1]), 3))
    offsets = np.zeros(n + 1, dtype=np.int64)
    constants = np.zeros((n, 3), dtype=np.float32)
    verdict = checked.verdict.copy()
    position = 0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for i in range(n):
            part = slice(int(checked.offsets[i]), int(checked.offsets[i + 1]))
            if part.stop > part.start:
                time, flux, error = (column[part] for column in checked.columns)
                scaled = scale_curve(time, flux, error)
                if scaled is None:
                    verdict[i] = REJECTED
                else:
                    values[position : position + len(time)] = scaled[0]
                    constants[i] = scaled[1]
                    position += len(time)
            offsets[i + 1] = position
    return ScaledCurves(values[:position], offsets, constants, verdict)


def scale_curve(time: np.ndarray, flux: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Values (N, 3) and constants (3,) of one curve sorted by time, (N,) each; None where they are not finite."""
    median = np.median(flux)
    mad = np.median(np.abs(flux - median))
    span = time[-1] - time[0]
    if not (np.isfinite(median) and np.isfinite(mad) and mad > 0 and np.isfinite(span)):
        return None
    height = np.arcsinh((flux - median) / mad)
    log_error = np.log10(error / mad)
    values = np.stack([time - time[0], clipped(height, 1), clipped(log_error, 2)], axis=1)
    brightness = np.abs(median)
    constants = [
        clipped(np.log10(mad / brightness), 7),
        clipped(np.log10(span), 8),
        clipped(np.log10(brightness), 9),
    ]
    return values, np.array(constants, dtype=np.float32)


def scale_again(values: np.ndarray, constants: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Values (N, 3) and constants (3,) of the first points of a scaled curve, scaled by themselves; None where they
    cannot be. The curve's median flux is taken to be positive."""
    mad = 10.0 ** float(constants[0])  # relative to the median
    flux = 1 + mad * np.sinh(values[:, 1])
    error = mad * 10.0 ** values[:, 2]
    scaled = scale_curve(values[:, 0], flux, error)
    if scaled is None or len(values) < SHORTEST:
        return None
    again = scaled[1]
    again[2] = clipped(again[2] + constants[2], 9)
    return scaled[0], again


def clipped(values: np.ndarray, channel: int) -> np.ndarray:
    """`values` within the range of a channel."""
    return np.clip(values, LOWEST[channel], HIGHEST[channel])


class StoredCurves(Reader):
    """What every reader of scaled curves has: the curves of the store, and the periods and places of its members."""

    def __init__(self, arrays: Arrays, members: Members) -> None:
        unknown = np.full(len(members.rows), np.nan)
        self.periods = unknown if members.periods is None else np.asarray(members.periods, dtype=np.float64)
        self.values = frozen(arrays["values"], np.float64)
        self.offsets = frozen(arrays["offsets"], np.int64)
        self.rows = frozen(members.rows, np.int64)
        self.positions = members.positions


class ScaledReader(StoredCurves):
    """Up to 512 points of each curve, with eleven channels, and their masks.

    A longer curve is thinned evenly: in training from a place that is drawn anew every epoch, otherwise always alike.
    A curve that is cut in training is scaled by what is left of it, and has no catalogue features and no period.
    """

    can_truncate = True
    channels = CHANNELS

    def __init__(self, arrays: Arrays, members: Members, points: int) -> None:
        super().__init__(arrays, members)
        features = np.clip(members.features, LOWEST[FEATURES], HIGHEST[FEATURES])
        self.constants = np.concatenate([features, arrays["constants"][members.rows]], axis=1).astype(np.float32)
        self.points = points

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        x = torch.zeros(len(at), self.points, self.channels)
        mask = torch.zeros(len(at), self.points)
        shift = np.full(len(at), 0.5)
        if epoch is not None:
            shift = draw(seed, epoch, WINDOW, self.positions[at]).astype(np.float64) / 2.0**64
        shift = np.minimum(shift, 0.999)
        if epoch is not None and self.truncation > 0:
            points = self.cut(at, seed, epoch)
        else:
            points = self.values, self.offsets, self.rows[at], self.constants[at], self.periods[at]
        values, offsets, rows, constants, periods = points
        self.write(values, offsets, rows, shift, constants, periods, x.numpy(), mask.numpy())
        return {"photometry": x, "mask": mask}

    def write(self, *arrays: np.ndarray) -> None:
        """Fill channels and masks, the last two of the arrays of `fill_points`."""
        fill_points(*arrays)

    def cut(self, at: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, ...]:
        """Values, offsets, rows, constants and periods of the members `at` (B,), some of them cut."""
        rows = self.rows[at]
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        kept = kept_points(lengths, self.positions[at], seed, epoch, self.truncation)
        values, offsets = cut_curves(self.values, self.offsets, rows, kept)
        constants = self.constants[at].copy()
        periods = self.periods[at].copy()
        for i in np.flatnonzero(kept < lengths).tolist():
            part = slice(offsets[i], offsets[i + 1])
            scaled = scale_again(values[part], constants[i, len(PHOTO_COLS) :])
            if scaled is not None:
                values[part] = scaled[0]
                constants[i, len(PHOTO_COLS) :] = scaled[1]
            constants[i, : len(PHOTO_COLS)] = 0
            periods[i] = np.nan
        return values, offsets, np.arange(len(at)), constants, periods


@kernel
def place_of(k: int, taken: int, length: int, shift: float) -> int:
    """Which of the `length` points of a curve is the k-th of those taken; `shift` as in `fill_points`."""
    if length > taken:
        return int((k + shift) * length / taken)
    return k


@kernel
def phase_of(time: float, period: float, otherwise: float) -> float:
    """Phase at twice the period; `otherwise` where the period is unknown."""
    if SHORTEST_PERIOD < period < np.inf:
        return (0.5 * time / period) % 1.0
    return otherwise


@kernel
def fill_points(
    values: np.ndarray,
    offsets: np.ndarray,
    rows: np.ndarray,
    shift: np.ndarray,
    constants: np.ndarray,
    periods: np.ndarray,
    x: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Write the points of B curves into x (B, L, 11) and mask (B, L), both float32 and zero before.

    values (total, 3) and offsets (n + 1,) of the store; rows (B,) object numbers; shift (B,) in [0, 1) says which point
    of each L-th part of a long curve is taken; constants (B, 7); periods (B,) [day].
    """
    for i in range(len(rows)):
        begin = offsets[rows[i]]
        length = offsets[rows[i] + 1] - begin
        taken = min(length, x.shape[1])
        if taken == 0:
            continue
        span = values[begin + length - 1, 0]
        for k in range(taken):
            j = begin + place_of(k, taken, length, shift[i])
            time = values[j, 0]
            x[i, k, 0] = min(time / span, 1.0)
            x[i, k, 1] = values[j, 1]
            x[i, k, 2] = values[j, 2]
            for c in range(7):
                x[i, k, 3 + c] = constants[i, c]
            x[i, k, 10] = phase_of(time, periods[i], x[i, k, 0])
            mask[i, k] = 1.0


class ScaledPhotometry(StoredView):
    """A light curve in known ranges: (512, 11), see the table above."""

    name = NAME
    modality = "photometry"
    keys = ("photometry", "mask")
    ragged = True
    values = (np.float64, (3,))
    extras: ClassVar = {"constants": (np.float32, (3,))}
    uses_features = True

    def __init__(self, points: int = POINTS) -> None:
        self.points = points

    def check(self, offsets: np.ndarray, *columns: np.ndarray) -> Checked:
        time, flux, error = columns
        return check_light_curves(offsets, time, flux, error, min_points=SHORTEST)

    def prepare(self, checked: Checked) -> ScaledCurves:
        return prepare_scaled(checked)

    def reader(self, arrays: Arrays, members: Members) -> ScaledReader:
        return ScaledReader(arrays, members, self.points)

    def without_features(self, batch: dict[str, Any], rows: Tensor) -> dict[str, Any]:
        if not len(rows):
            return batch
        x = batch["photometry"].clone()
        x[rows, :, FEATURES : FEATURES + len(PHOTO_COLS)] = 0
        x[rows, :, PHASE] = x[rows, :, 0]
        return batch | {"photometry": x}


register(ScaledPhotometry())
