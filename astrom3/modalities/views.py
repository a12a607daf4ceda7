"""The views of this package: those of AstroM3 (`photometry`, `spectra`, `metadata`) and of ASTROMER (`astromer`).

Rizhko & Bloom 2024 (arXiv:2411.08842); Donoso-Oliva et al. 2023 (A&A 670, A54).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from astrom3.draws import WINDOW as WINDOW_DRAW
from astrom3.draws import draw
from astrom3.kernel import kernel
from astrom3.modalities import astromer_view as windows
from astrom3.modalities.astromer_masks import HIDDEN, PROBED, TARGET, Fractions, mask_windows
from astrom3.modalities.magnitudes import prepare_fluxes
from astrom3.modalities.preprocess import (
    LightCurves,
    Spectra,
    fill_windows,
    prepare_light_curves,
    prepare_spectra,
)
from astrom3.modalities.quality import Checked, check_light_curves, check_spectra, frozen
from astrom3.modalities.resident import ResidentCurves, ResidentRows, ResidentSpectra
from astrom3.modalities.schema import META_COLS, PHOTO_CHANNELS, SEQ_LEN, SPECTRUM_CHANNELS, WAVELENGTH_COUNT
from astrom3.modalities.truncation import cut_curves, kept_points
from astrom3.modalities.view import Arrays, Members, Reader, StoredView, View, register

ZERO_POINT = 25.0  # magnitude of flux 1; windows are centred on their mean, so its value has no effect


class PhotometryReader(Reader):
    """Windows of 200 points with nine channels, and their masks."""

    def __init__(self, arrays: Arrays, members: Members) -> None:
        features = arrays["photo"][members.rows] if "photo" in arrays else members.features
        self.constants = np.concatenate([features, arrays["constants"][members.rows]], axis=1)  # (m, 6)
        self.points = frozen(arrays["values"], np.float32)
        self.offsets = frozen(arrays["offsets"], np.int64)
        self.rows = frozen(members.rows, np.int64)
        self.lengths = np.diff(self.offsets)[self.rows]
        self.positions = members.positions
        self.pad_constants = members.pad_constants

    def starts(self, at: np.ndarray, seed: int, epoch: int | None) -> np.ndarray:
        """First points of the windows of some members, see `window_starts`."""
        return window_starts(self.lengths[at], self.positions[at], seed, epoch)

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        x = torch.empty(len(at), SEQ_LEN, PHOTO_CHANNELS)
        mask = torch.empty(len(at), SEQ_LEN)
        starts = self.starts(at, seed, epoch)
        rows = self.rows[at]
        constants = self.constants[at]
        fill_windows(self.points, self.offsets, rows, starts, constants, self.pad_constants, x.numpy(), mask.numpy())
        return {"photometry": x, "mask": mask}

    def bounds(self, at: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts = self.starts(at, 0, None)
        return starts, np.minimum(starts + SEQ_LEN, self.lengths[at])


class Photometry(StoredView):
    """AstroM3's light curve: (200, 9), flux in units of its MAD, time in [0, 1], six constants beside each point."""

    name = "photometry"
    modality = "photometry"
    keys = ("photometry", "mask")
    ragged = True
    values = (np.float32, (3,))
    extras: ClassVar = {"constants": (np.float32, (2,)), "photo": (np.float32, (4,))}
    limits = (
        "Light curves: the band, cadence and the features period, amplitude, lksl_statistic and rfr_score of the "
        "training survey; those of another shift the embeddings (`astrom3.analyse what=[sensitivity]` says how far).",
        "The published attention draws keys at random; here they are constants, so results repeat.",
    )
    can_reside = True
    file_inputs: ClassVar = {"photometry": "x_enc"}  # as the `light-curve` package calls it
    cuts_windows = True
    uses_features = True

    def check(self, offsets: np.ndarray, *columns: np.ndarray) -> Checked:
        return check_light_curves(offsets, *columns)

    def prepare(self, checked: Checked) -> LightCurves:
        return prepare_light_curves(checked)

    def reader(self, arrays: Arrays, members: Members) -> PhotometryReader:
        return PhotometryReader(arrays, members)

    def resident(self, reader: Any, take: Any) -> ResidentCurves:
        return ResidentCurves(self.keys, reader, take)

    def resident_bytes(self, reader: Any) -> int:
        return 12 * int(reader.lengths.sum())

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        """Random channels, of which those of padding are 0."""
        mask = random_points(n, SEQ_LEN, points, generator)
        channels = torch.randn(n, SEQ_LEN, PHOTO_CHANNELS, generator=generator)
        return {"photometry": channels * mask.unsqueeze(-1), "mask": mask}


class SpectraReader(Reader):
    """Spectra on the common grid."""

    def __init__(self, arrays: Arrays, members: Members) -> None:
        self.spectra = frozen(arrays["values"], np.float32)
        self.log_mad = frozen(arrays["log_mad"], np.float32)
        self.slot = np.asarray(arrays["slot"])[members.rows]

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        spectra = torch.empty(len(at), SPECTRUM_CHANNELS, WAVELENGTH_COUNT)
        fill_spectra(self.spectra, self.log_mad, self.slot[at], spectra.numpy())
        return {"spectra": spectra}


class SpectraView(StoredView):
    """AstroM3's spectrum: (3, 2575), flux and inverse variance in units of the MAD, and log10(MAD)."""

    name = "spectra"
    modality = "spectra"
    draws = False
    keys = ("spectra",)
    can_reside = True
    limits = ("Spectra: 3850 to 8998 Angstrom, resolution and calibration as in LAMOST low resolution.",)
    ragged = False
    values = (np.float32, (2, WAVELENGTH_COUNT))
    extras: ClassVar = {"log_mad": (np.float32, ())}

    def check(self, offsets: np.ndarray, *columns: np.ndarray) -> Checked:
        return check_spectra(offsets, *columns)

    def prepare(self, checked: Checked) -> Spectra:
        return prepare_spectra(checked)

    def reader(self, arrays: Arrays, members: Members) -> SpectraReader:
        return SpectraReader(arrays, members)

    def resident(self, reader: Any, take: Any) -> ResidentSpectra:
        return ResidentSpectra(self.keys[0], reader, take)

    def resident_bytes(self, reader: Any) -> int:
        return int((reader.slot >= 0).sum()) * reader.spectra.itemsize * int(np.prod(reader.spectra.shape[1:]))

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        return {"spectra": torch.randn(n, SPECTRUM_CHANNELS, WAVELENGTH_COUNT, generator=generator)}


class MetadataReader(Reader):
    """Rows of normalised catalogue values."""

    def __init__(self, members: Members) -> None:
        self.metadata = members.metadata

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        return {"metadata": torch.from_numpy(self.metadata[at])}


class Metadata(View):
    """AstroM3's 34 catalogue columns, z-scored."""

    name = "metadata"
    modality = "metadata"
    draws = False
    keys = ("metadata",)
    can_reside = True
    limits = ("Catalogue values: unknown ones count as the mean of the training objects.",)
    stored = False
    uses_metadata = True

    def reader(self, arrays: Arrays, members: Members) -> MetadataReader:
        return MetadataReader(members)

    def resident(self, reader: Any, take: Any) -> ResidentRows:
        return ResidentRows(self.keys[0], reader.metadata, take)

    def resident_bytes(self, reader: Any) -> int:
        return reader.metadata.nbytes

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        return {"metadata": torch.randn(n, len(META_COLS), generator=generator)}


@dataclass(frozen=True)
class MagnitudeCurves:
    """Curves in magnitudes: values (total, 3) float64 [day, mag, mag], offsets (n + 1,), verdict (n,) int8."""

    values: np.ndarray
    offsets: np.ndarray
    verdict: np.ndarray


class AstromerReader(Reader):
    """Windows of a curve in magnitudes: one random window per epoch in training. In evaluation `fill` gives the central
    one and `fill_window` any of the consecutive ones."""

    def __init__(self, arrays: Arrays, members: Members, window: int, fractions: Fractions | None) -> None:
        self.points = frozen(arrays["values"], np.float64)
        self.offsets = frozen(arrays["offsets"], np.int64)
        self.rows = frozen(members.rows, np.int64)
        self.lengths = np.diff(self.offsets)[self.rows]
        self.positions = members.positions
        self.window = window
        self.fractions = fractions

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        lengths = self.lengths[at]
        if epoch is None:
            return self._fill(at, np.maximum(lengths - self.window, 0) // 2, seed, None)
        items = self.positions[at]
        if self.truncation > 0:
            lengths = kept_points(lengths, items, seed, epoch, self.truncation)
        starts = windows.random_starts(lengths, items, seed, epoch, self.window)
        return self._fill(at, starts, seed, epoch, lengths)

    def windows(self, at: np.ndarray) -> np.ndarray:
        lengths = self.lengths[at]
        return np.maximum(-(-lengths // self.window), 1)

    def fill_window(self, at: np.ndarray, number: np.ndarray, seed: int = 0) -> dict[str, Tensor]:
        return self._fill(at, self.bounds(at, number)[0], seed, None)

    def bounds(self, at: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lengths = self.lengths[at]
        latest = np.maximum(lengths - self.window, 0)  # the last window is shifted back to stay full
        starts = np.minimum(number * self.window, latest)
        return starts, np.minimum(starts + self.window, lengths)

    def _fill(
        self, at: np.ndarray, starts: np.ndarray, seed: int, epoch: int | None, kept: np.ndarray | None = None
    ) -> dict[str, Tensor]:
        """Windows that begin at `starts` (B,); kept (B,): how many first points of each curve there are."""
        batch = windows.empty_batch(len(at), self.window)
        points = self.points
        offsets = self.offsets
        rows = self.rows[at]
        if kept is not None and self.truncation > 0:
            points, offsets = cut_curves(points, offsets, rows, kept)
            rows = np.arange(len(at))
        windows.fill_windows(points, offsets, rows, starts, batch)
        if self.fractions is not None:
            mask_windows(batch, self.positions[at], seed, epoch or 0, self.fractions)
        return {key: torch.from_numpy(array) for key, array in batch.items()}


class AstromerView(StoredView):
    """ASTROMER's light curve: windows of time, magnitude and error, each centred on its mean over the window.

    With `fractions`, points are hidden for masked pre-training, anew every epoch.
    """

    modality = "photometry"
    cuts_windows = True
    ragged = True
    values = (np.float64, (3,))

    def __init__(self, name: str, window: int = windows.WINDOW, fractions: Fractions | None = None) -> None:
        self.name = name  # type: ignore[misc]
        masks = () if fractions is None else (TARGET, PROBED, HIDDEN)
        self.keys = (*windows.FILLED, *masks)  # type: ignore[misc]
        self.window = window
        self.fractions = fractions

    @property
    def store(self) -> str:
        return "astromer"

    def check(self, offsets: np.ndarray, *columns: np.ndarray) -> Checked:
        return check_light_curves(offsets, *columns, min_points=windows.MIN_POINTS)

    def prepare(self, checked: Checked) -> MagnitudeCurves:
        """Fluxes become magnitudes. A flux that is not positive has none, and its point is dropped and counted."""
        time, flux, error = checked.columns
        found = prepare_fluxes(checked.offsets, time, flux, error, ZERO_POINT)
        lost = (np.diff(checked.offsets) > 0) & ~found.usable
        verdict = np.where(lost, TOO_FEW, checked.verdict).astype(np.int8)
        checked.repairs[:, 0] += found.dropped + found.not_positive
        return MagnitudeCurves(found.values, found.offsets, verdict)

    def reader(self, arrays: Arrays, members: Members) -> AstromerReader:
        return AstromerReader(arrays, members, self.window, self.fractions)

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        """Random windows. Times of some hundred days and magnitudes around 0; a third of the points is hidden where
        some are."""
        valid = random_points(n, self.window, points, generator)
        found = {key: torch.randn(n, self.window, generator=generator) * valid for key in self.keys}
        found[windows.TIMES] *= 300
        found[windows.VALID] = valid
        for key in (PROBED, HIDDEN):
            if key in found:
                found[key] = valid * (torch.rand(n, self.window, generator=generator) < 1 / 3)
        return found


def random_points(n: int, length: int, points: int | None, generator: torch.Generator) -> Tensor:
    """1 for the first points of n windows and 0 for padding, (n, length); points: of each, None: random."""
    counts = torch.randint(1, length + 1, (n, 1), generator=generator)
    if points is not None:
        counts = torch.full((n, 1), min(points, length))
    return (torch.arange(length) < counts).float()


TOO_FEW = 1  # code in quality.LIGHT_CURVE_REJECTIONS

for _view in (
    Photometry(),
    SpectraView(),
    Metadata(),
    AstromerView("astromer"),
    AstromerView("astromer-masked", fractions=Fractions()),
):
    register(_view)


def window_starts(lengths: np.ndarray, items: np.ndarray, seed: int, epoch: int | None) -> np.ndarray:
    """First points of windows in curves of `lengths` (B,): drawn for (seed, epoch, item), the centre without epoch."""
    room = np.maximum(lengths - SEQ_LEN, 0)
    if epoch is None:
        return room // 2
    return (draw(seed, epoch, WINDOW_DRAW, items) % (room + 1).astype(np.uint64)).astype(np.int64)


@kernel
def fill_spectra(values: np.ndarray, log_mad: np.ndarray, slot: np.ndarray, out: np.ndarray) -> None:
    """values (m, 2, 2575), log_mad (m,), slot (B,) with -1 for none -> out (B, 3, 2575)."""
    for i in range(len(slot)):
        if slot[i] < 0:
            out[i] = 0
        else:
            out[i, :2] = values[slot[i]]
            out[i, 2] = log_mad[slot[i]]


def readers_of(
    views: Mapping[str, View],
    arrays: Mapping[str, Arrays],
    members: Members,
    columns: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Slot -> reader. arrays: by name of the store; columns: slot -> what its view reads of the catalogue (m, c)."""
    own = {slot: replace(members, columns=values) for slot, values in (columns or {}).items()}
    return {slot: view.reader(arrays.get(view.store, {}), own.get(slot, members)) for slot, view in views.items()}
