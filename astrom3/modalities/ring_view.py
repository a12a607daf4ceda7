"""Two views of one light curve for surveys of one's own: folded on a ring of 64 phases, and measured by hand.

Both read the store of `photometry-scaled` and the catalogue's period. In training each of them draws its own altered
form of the curve every epoch (altered.py), so that whoever compares the two learns what a survey's cadence and noise
leave unchanged. In evaluation the whole curve is read.

    key                    shape        view         content
    folded/ring            (B, 4, 64)   folded       mean flux, the same standardised, scatter, log density of points
    folded/scalars         (B, 5)       folded       log period, log span, log MAD / median, log median, log points
    variability/features   (B, 58)      variability  the features of variability.py
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from astrom3.draws import draw
from astrom3.kernel import kernel
from astrom3.modalities.altered import alter
from astrom3.modalities.constants import CHANNELS, FEATURES, RING, SCALAR, SCALARS
from astrom3.modalities.quality import frozen
from astrom3.modalities.scaled_view import SHORTEST_PERIOD, ScaledPhotometry, StoredCurves
from astrom3.modalities.variability import COUNT, measure
from astrom3.modalities.view import Arrays, Members, register

PHASES = 64
FOLDED_DRAW = 21  # purposes of draws, beside those of sampler.py, streaming.py and splits.py
MEASURED_DRAW = 22
FLOOR = 1e-3  # weight of the wide kernel that fills gaps in the folded curve
WIDE = 4.0  # its concentration


def ring_kernel(phases: int = PHASES) -> np.ndarray:
    """Weights (phases, phases) of a bin for a phase: a von Mises kernel one bin wide, and a wide one for gaps."""
    ring = np.arange(phases) / phases
    near = np.cos(2 * math.pi * (ring[:, None] - ring)) - 1
    return np.exp((phases / (2 * math.pi)) ** 2 * near) + FLOOR * np.exp(WIDE * near)


class CurveReader(StoredCurves):
    """What both readers have: the scaled curves, their constants and periods, and the draws of an epoch."""

    purpose: int

    def __init__(self, arrays: Arrays, members: Members) -> None:
        super().__init__(arrays, members)
        self.constants = frozen(arrays["constants"], np.float32)

    def states(self, at: np.ndarray, seed: int, epoch: int | None) -> np.ndarray:
        """Where the generators of the alterations start, uint64 (B,); 0 stands for no alteration."""
        if epoch is None:
            return np.zeros(len(at), dtype=np.uint64)
        return draw(seed, epoch, self.purpose, self.positions[at]) | np.uint64(1)


class RingReader(CurveReader):
    """Fills the keys of the view `folded`."""

    purpose = FOLDED_DRAW
    smoothing = ring_kernel()

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        ring = torch.zeros(len(at), CHANNELS, PHASES)
        scalars = torch.zeros(len(at), SCALARS)
        rows = self.rows[at]
        states = self.states(at, seed, epoch)
        fill_rings(
            self.values,
            self.offsets,
            self.constants,
            rows,
            self.periods[at],
            states,
            self.smoothing,
            ring.numpy(),
            scalars.numpy(),
        )
        return {RING: ring, SCALAR: scalars}


class MeasuredReader(CurveReader):
    """Fills the key of the view `variability`. Features of unaltered curves are computed once."""

    purpose = MEASURED_DRAW

    def __init__(self, arrays: Arrays, members: Members) -> None:
        super().__init__(arrays, members)
        self.known = np.full((len(members.rows), COUNT), np.nan, dtype=np.float32)

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        if epoch is None:
            missing = at[np.isnan(self.known[at, 0])]
            if len(missing):
                self.known[missing] = self.measured(missing, seed, None)
            return {FEATURES: torch.from_numpy(self.known[at])}
        return {FEATURES: torch.from_numpy(self.measured(at, seed, epoch))}

    def measured(self, at: np.ndarray, seed: int, epoch: int | None) -> np.ndarray:
        """Features (B, 58) float32 of some members."""
        out = np.zeros((len(at), COUNT), dtype=np.float32)
        rows = self.rows[at]
        states = self.states(at, seed, epoch)
        fill_features(self.values, self.offsets, self.constants, rows, self.periods[at], states, out)
        return out


@kernel
def curve_of(values: np.ndarray, constants: np.ndarray, period: float, start: np.uint64) -> tuple[np.ndarray, float]:
    """One curve in units of its median flux, (3, N) float64 [day, flux, error], altered where `start` is not 0.

    values (N, 3) and constants (3,) of the store. Gives the curve and the period.
    """
    n = len(values)
    curve = np.empty((3, n))
    scale = 10.0 ** constants[0]
    for i in range(n):
        curve[0, i] = values[i, 0]
        curve[1, i] = 1.0 + scale * math.sinh(values[i, 1])
        curve[2, i] = scale * 10.0 ** values[i, 2]
    if start == 0:
        return curve, period
    out = np.empty((3, n))
    state = np.array([start], dtype=np.uint64)
    kept, changed = alter(curve[0], curve[1], curve[2], period, state, out)
    return out[:, :kept].copy(), changed


@kernel
def fill_features(
    values: np.ndarray,
    offsets: np.ndarray,
    constants: np.ndarray,
    rows: np.ndarray,
    periods: np.ndarray,
    states: np.ndarray,
    out: np.ndarray,
) -> None:
    """Features of B curves into out (B, 58) float32, zero before."""
    for i in range(len(rows)):
        part = values[offsets[rows[i]] : offsets[rows[i] + 1]]
        if len(part) < 10:
            continue
        curve, period = curve_of(part, constants[rows[i]], periods[i], states[i])
        good = curve[1] > 0
        if good.sum() < 10:
            continue
        zero = -2.5 * constants[rows[i], 2]
        magnitude = zero - 2.5 * np.log10(curve[1][good])
        error = 1.0857 * curve[2][good] / curve[1][good]
        measure(curve[0][good], magnitude, error, period, out[i])


@kernel
def fill_rings(
    values: np.ndarray,
    offsets: np.ndarray,
    constants: np.ndarray,
    rows: np.ndarray,
    periods: np.ndarray,
    states: np.ndarray,
    smoothing: np.ndarray,
    ring: np.ndarray,
    scalars: np.ndarray,
) -> None:
    """Folded curves of B objects into ring (B, 4, 64) and scalars (B, 5), both float32 and zero before."""
    for i in range(len(rows)):
        part = values[offsets[rows[i]] : offsets[rows[i] + 1]]
        if len(part) == 0:
            continue
        own = constants[rows[i]]
        curve, period = curve_of(part, own, periods[i], states[i])
        fold_curve(curve, period, own, smoothing, ring[i], scalars[i])


@kernel
def fold_curve(
    curve: np.ndarray, period: float, own: np.ndarray, smoothing: np.ndarray, ring: np.ndarray, scalars: np.ndarray
) -> None:
    """One curve at twice its period on the ring; without a known period the whole span is the period."""
    n = curve.shape[1]
    known = SHORTEST_PERIOD < period < np.inf
    span = curve[0, -1] - curve[0, 0]
    turn = 2 * period
    if not known:
        turn = 1.0001 * max(span, 1e-9)
    middle = np.median(curve[1])
    mad = max(np.median(np.abs(curve[1] - middle)), 1e-9)
    binned = np.zeros((CHANNELS, PHASES))
    for j in range(n):
        height = math.asinh((curve[1, j] - middle) / mad)
        weight = 1.0 / (0.25 + min(curve[2, j] / mad, 10.0) ** 2)
        place = int(((curve[0, j] - curve[0, 0]) / turn % 1.0) * PHASES) % PHASES
        binned[0, place] += weight
        binned[1, place] += weight * height
        binned[2, place] += weight * height * height
        binned[3, place] += 1.0 / n
    smooth = binned @ smoothing
    mean = smooth[1] / smooth[0]
    centred = mean - mean.mean()
    deviation = math.sqrt((centred**2).mean() + 1e-4)
    for k in range(PHASES):
        ring[0, k] = mean[k]
        ring[1, k] = centred[k] / deviation
        ring[2, k] = math.sqrt(max(smooth[2, k] / smooth[0, k] - mean[k] ** 2, 0.0) + 1e-6)
        ring[3, k] = math.log10(1e-3 + smooth[3, k])
    if known:
        scalars[0] = min(max(math.log10(period), -4.0), 5.0)
    scalars[1] = math.log10(max(span, 1e-4))
    scalars[2] = min(max(math.log10(mad / max(abs(middle), 1e-9)), -6.0), 3.0)
    scalars[3] = own[2]
    scalars[4] = math.log10(n)


class FoldedView(ScaledPhotometry):
    """A light curve folded at twice its period."""

    name = "folded"
    keys = (RING, SCALAR)

    @property
    def store(self) -> str:
        return ScaledPhotometry.name

    def reader(self, arrays: Arrays, members: Members) -> CurveReader:  # type: ignore[override]
        return RingReader(arrays, members)


class VariabilityView(FoldedView):
    """Hand-made features of a light curve."""

    name = "variability"
    keys = (FEATURES,)  # type: ignore[assignment]

    def reader(self, arrays: Arrays, members: Members) -> CurveReader:  # type: ignore[override]
        return MeasuredReader(arrays, members)


register(FoldedView())
register(VariabilityView())
