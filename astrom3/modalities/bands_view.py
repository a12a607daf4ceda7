"""The view `photometry-bands`: a light curve in any number of bands, every point with the wavelength of its band.

The channels are those of `photometry-scaled`, taken band by band, and one more. Flux and error are in units of the MAD
of the point's own band, and channels 7 and 9 say how much that band varies and how bright it is, so amplitudes and
colours are not lost. A curve in one band has the very numbers of `photometry-scaled` in the first eleven channels.

    channel  0     1     2          3 to 6                 7                 8          9           10     11
             time  flux  log error  features (PHOTO_COLS)  log MAD / median  log span  log median  phase  log(wave)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from astrom3.kernel import kernel
from astrom3.modalities.bands import CheckedBands, check_bands
from astrom3.modalities.constants import REFERENCE
from astrom3.modalities.ragged import offsets_of
from astrom3.modalities.scaled_view import (
    POINTS,
    REJECTED,
    ScaledReader,
    clipped,
    phase_of,
    place_of,
    scale_curve,
)
from astrom3.modalities.view import Arrays, Members, StoredView, register

NAME = "photometry-bands"
CHANNELS = 12
LIMITS = (-1.0, 1.0)  # of that channel: 550 Angstrom to 5.5 micrometres


@dataclass(frozen=True)
class BandCurves:
    """values (total, 6) float64 [day since the first point, flux, log error, log MAD / median, log median, log
    wavelength], offsets (n + 1,) int64, constants (n, 1) float32 [log span], verdict (n,) int8."""

    values: np.ndarray
    offsets: np.ndarray
    constants: np.ndarray
    verdict: np.ndarray


def prepare_bands(checked: CheckedBands) -> BandCurves:
    """Scale checked light curves band by band. A band whose numbers are beyond float64 is left out."""
    n = len(checked.offsets) - 1
    parts: list[np.ndarray] = []
    lengths = np.zeros(n, dtype=np.int64)
    constants = np.zeros((n, 1), dtype=np.float32)
    verdict = checked.verdict.copy()
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for i in range(n):
            part = slice(int(checked.offsets[i]), int(checked.offsets[i + 1]))
            if part.stop == part.start:
                continue
            time, flux, error = (column[part] for column in checked.columns)
            values = scale_bands(time, flux, error, checked.band[part])
            if not len(values):
                verdict[i] = REJECTED
                continue
            parts.append(values)
            lengths[i] = len(values)
            constants[i] = clipped(np.log10(values[-1, 0]), 8)
    values = np.concatenate([np.empty((0, 6)), *parts])
    return BandCurves(values, offsets_of(lengths), constants, verdict)


def scale_bands(time: np.ndarray, flux: np.ndarray, error: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Values (M, 6) of one light curve (N,) sorted by time, without the bands that cannot be scaled."""
    values = np.full((len(time), 6), np.nan)
    for length in np.unique(band):
        own = band == length
        scaled = scale_curve(time[own], flux[own], error[own])
        if scaled is None:
            continue
        points, (deviation, _, median) = scaled
        values[own, 1:3] = points[:, 1:]
        values[own, 3] = deviation
        values[own, 4] = median
        values[own, 5] = np.clip(np.log10((length or REFERENCE) / REFERENCE), *LIMITS)
    usable = ~np.isnan(values[:, 1])
    values[usable, 0] = time[usable] - time[usable][:1]
    return values[usable]


class BandsReader(ScaledReader):
    """Up to 512 points of each curve, with twelve channels, and their masks."""

    can_truncate = False
    channels = CHANNELS

    def write(self, *arrays: np.ndarray) -> None:
        _fill_points(*arrays)


@kernel
def _fill_points(
    values: np.ndarray,
    offsets: np.ndarray,
    rows: np.ndarray,
    shift: np.ndarray,
    constants: np.ndarray,
    periods: np.ndarray,
    x: np.ndarray,
    mask: np.ndarray,
) -> None:
    """Write the points of B curves into x (B, L, 12) and mask (B, L), both float32 and zero before.

    values (total, 6), offsets (n + 1,); rows (B,); shift (B,) in [0, 1) says which point of each L-th part of a long
    curve is taken; constants (B, 5): the features and log span; periods (B,) [day].
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
            for c in range(4):
                x[i, k, 3 + c] = constants[i, c]
            x[i, k, 7] = values[j, 3]
            x[i, k, 8] = constants[i, 4]
            x[i, k, 9] = values[j, 4]
            x[i, k, 10] = phase_of(time, periods[i], x[i, k, 0])
            x[i, k, 11] = values[j, 5]
            mask[i, k] = 1.0


class BandsPhotometry(StoredView):
    """A light curve in several bands: (512, 12), see the table above."""

    name = NAME
    modality = "photometry"
    keys = ("photometry", "mask")
    ragged = True
    several_bands = True
    values = (np.float64, (6,))
    extras: ClassVar = {"constants": (np.float32, (1,))}
    uses_features = True

    def __init__(self, points: int = POINTS) -> None:
        self.points = points

    def check(self, offsets: np.ndarray, *columns: np.ndarray) -> CheckedBands:
        """Columns are time, flux, error and, where it is known, the wavelength of the point's band [Angstrom]."""
        time, flux, error = columns[:3]
        band = columns[3] if len(columns) > 3 else np.zeros(len(time))
        return check_bands(offsets, time, flux, error, band)

    def prepare(self, checked: CheckedBands) -> BandCurves:
        return prepare_bands(checked)

    def reader(self, arrays: Arrays, members: Members) -> BandsReader:
        return BandsReader(arrays, members, self.points)


register(BandsPhotometry())
