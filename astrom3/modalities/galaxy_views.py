"""Views of galaxies: `specformer` (a spectrum on DESI's grid), `cutout` (an image in g, r, z), `cutout-crops` and
`magnitudes` (g, r, z of the catalogue).

Parker et al. 2024 (MNRAS 531, 4990), section 3. The store keeps raw flux; the encoders normalise it themselves, so
that a GPU does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from astrom3.draws import draw
from astrom3.errors import UserError
from astrom3.modalities.constants import MAGNITUDES
from astrom3.modalities.crops import CropSettings
from astrom3.modalities.quality import Checked, Decision, frozen
from astrom3.modalities.view import Arrays, Members, Reader, StoredView, View, register

PIXELS = 7781  # of a spectrum: 3600 + 0.8 i Angstrom, vacuum, observed
SIZE = 152  # pixels of an image's side
BANDS = 3  # g, r, z
FLUX = "specformer/flux"
CUTOUT = "cutout/flux"
GLOBAL_CROPS = "cutout/global"
LOCAL_CROPS = "cutout/local"
CROP_DRAW = 6  # purpose of draws, beside those of data/sampler.py, data/streaming.py and modalities/astromer_masks.py
REJECTIONS = ("", "more than half of the pixels lost", "all-zero flux", "of another size than the others")
LOST = 1  # codes, positions in REJECTIONS
DARK = 2
MISSHAPEN = 3


@dataclass(frozen=True)
class Rows:
    """Prepared objects of one size: values (n, ...) float32, zero where absent; present (n,) bool; verdict (n,) int8;
    repairs (n, 1) int64, how many pixels were mended."""

    values: np.ndarray
    present: np.ndarray
    verdict: np.ndarray
    repairs: np.ndarray


def prepare_flux(flux: np.ndarray, ivar: np.ndarray | None, there: np.ndarray) -> Rows:
    """Spectra (n, 7781) [1e-17 erg/s/cm2/Angstrom] and inverse variances of the same shape -> rows of a store.

    A pixel that is not finite, or whose inverse variance is not above 0, is lost: the flux of its neighbours is
    interpolated. A spectrum with more lost pixels than others, or without light, is rejected.
    """
    values = np.zeros(flux.shape, dtype=np.float32)
    verdict = np.zeros(len(flux), dtype=np.int8)
    repairs = np.zeros((len(flux), 1), dtype=np.int64)
    lost = ~np.isfinite(flux)
    if ivar is not None:
        lost |= ~(ivar > 0)
    counts = lost.sum(axis=1)
    grid = np.arange(flux.shape[1])
    for row in np.flatnonzero(there).tolist():
        if 2 * counts[row] > flux.shape[1]:
            verdict[row] = LOST
            continue
        values[row] = flux[row]
        if counts[row]:
            good = ~lost[row]
            values[row, lost[row]] = np.interp(grid[lost[row]], grid[good], flux[row, good])
            repairs[row, 0] = counts[row]
        if not values[row].any():
            verdict[row] = DARK
    return Rows(values, there & (verdict == 0), verdict, repairs)


def stacked_spectra(
    found: Sequence[Any], ids: Sequence[str], decisions: list[Decision]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux and inverse variance (n, 7781) float32 and there (n,) bool of what readers gave of n objects: flux, inverse
    variance and notes, or None. The notes are added to `decisions`."""
    flux = np.zeros((len(found), PIXELS), np.float32)
    ivar = np.zeros((len(found), PIXELS), np.float32)
    there = np.zeros(len(found), dtype=bool)
    for row, spectrum in enumerate(found):
        if spectrum is None:
            continue
        flux[row], ivar[row], notes = spectrum
        there[row] = True
        for note in notes:
            decisions.append(Decision(ids[row], "spectra", "repaired", note))
    return flux, ivar, there


def prepare_images(flux: np.ndarray, there: np.ndarray) -> Rows:
    """Images (n, 3, S, S) g, r, z [nanomaggies], survey orientation -> rows of a store. Pixels that are not finite
    become 0, the sky. An image with more of them than others, or without light, is rejected."""
    lost = ~np.isfinite(flux)
    counts = lost.sum(axis=(1, 2, 3))
    values = np.where(lost | ~there[:, None, None, None], 0, flux).astype(np.float32)
    verdict = np.where(~values.any(axis=(1, 2, 3)), DARK, 0)
    verdict = np.where(2 * counts > lost[0].size, LOST, verdict) if len(lost) else verdict
    verdict = np.where(there, verdict, 0).astype(np.int8)
    repairs = np.zeros((len(flux), 1), dtype=np.int64)
    repairs[there & (verdict == 0), 0] = counts[there & (verdict == 0)]
    return Rows(values, there & (verdict == 0), verdict, repairs)


class GalaxyView(StoredView):
    """A view whose layouts prepare rows of one size themselves (`prepare_flux`, `prepare_images`)."""

    ragged = False

    def check(self, offsets: np.ndarray, *columns: np.ndarray) -> Checked:
        """Ragged observations are those of stars."""
        raise UserError(f"the view {self.name} needs galaxies (data.survey=galaxies or a data set of galaxies)")

    def prepare(self, checked: Any) -> Rows:
        """Rows are prepared when they are read."""
        return checked


class RowReader(Reader):
    """Rows of a store as they are; zeros where an object has none."""

    def __init__(self, key: str, arrays: Arrays, members: Members) -> None:
        self.key = key
        self.values = frozen(arrays["values"], np.float32)
        self.slot = np.asarray(arrays["slot"])[members.rows]

    def rows(self, at: np.ndarray) -> np.ndarray:
        """(B, ...) float32 of the members `at`."""
        slot = self.slot[at]
        out = np.zeros((len(at), *self.values.shape[1:]), dtype=np.float32)
        out[slot >= 0] = self.values[slot[slot >= 0]]
        return out

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        return {self.key: torch.from_numpy(self.rows(at))}


class SpecFormerView(GalaxyView):
    """A spectrum (7781,) as SpecFormer takes it: flux, not normalised."""

    name = "specformer"
    modality = "spectra"
    draws = False
    keys = (FLUX,)
    values = (np.float32, (PIXELS,))
    words = (REJECTIONS, ("{} lost pixels interpolated",))

    def reader(self, arrays: Arrays, members: Members) -> RowReader:
        return RowReader(FLUX, arrays, members)

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        """Noise around a flux of 2."""
        return {FLUX: 2 + torch.randn(n, PIXELS, generator=generator)}


class CutoutView(GalaxyView):
    """An image (3, 152, 152): g, r, z in nanomaggies, survey orientation."""

    name = "cutout"
    modality = "images"
    draws = False
    keys: ClassVar[tuple[str, ...]] = (CUTOUT,)
    values = (np.float32, (BANDS, SIZE, SIZE))
    words = (REJECTIONS, ("{} lost pixels set to 0",))

    def reader(self, arrays: Arrays, members: Members) -> Reader:
        return RowReader(CUTOUT, arrays, members)

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        """Noise around a dark sky [nanomaggies]."""
        return {CUTOUT: 0.05 * torch.randn(n, BANDS, SIZE, SIZE, generator=generator)}


class CropsReader(RowReader):
    """Two global and some local crops of each image, drawn for (seed, epoch, object)."""

    def __init__(self, arrays: Arrays, members: Members, settings: CropSettings) -> None:
        super().__init__(CUTOUT, arrays, members)
        self.settings = settings
        self.positions = members.positions

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        drawn = self.settings
        large = np.empty((len(at), 2, BANDS, drawn.global_size, drawn.global_size), np.float32)
        small = np.empty((len(at), drawn.local_crops, BANDS, drawn.local_size, drawn.local_size), np.float32)
        keys = draw(seed, epoch or 0, CROP_DRAW, self.positions[at])
        for row, flux in enumerate(self.rows(at)):
            random = np.random.Generator(np.random.Philox(int(keys[row])))
            drawn.images(flux, random, [*large[row], *small[row]])
        return {GLOBAL_CROPS: torch.from_numpy(large), LOCAL_CROPS: torch.from_numpy(small)}


class CropsView(CutoutView):
    """Crops of an image for self-distillation, as network images, planes z, r, g, drawn anew every epoch.

    "cutout/global" (B, 2, 3, global_size, global_size), "cutout/local" (B, local_crops, 3, local_size, local_size).
    """

    name = "cutout-crops"
    draws = True
    keys = (GLOBAL_CROPS, LOCAL_CROPS)
    extras: ClassVar = {}

    def __init__(self, global_size: int = 144, local_size: int = 60, local_crops: int = 8) -> None:
        self.settings = CropSettings(global_size=global_size, local_size=local_size, local_crops=local_crops)

    @property
    def store(self) -> str:
        return "cutout"

    def reader(self, arrays: Arrays, members: Members) -> CropsReader:
        return CropsReader(arrays, members, self.settings)


class MagnitudesReader(Reader):
    """Rows of catalogue magnitudes."""

    def __init__(self, members: Members) -> None:
        assert members.columns is not None
        self.values = frozen(members.columns, np.float32)

    def fill(self, at: np.ndarray, seed: int = 0, epoch: int | None = None) -> dict[str, Tensor]:
        return {MAGNITUDES: torch.from_numpy(self.values[at])}


class MagnitudesView(View):
    """Total magnitudes of a galaxy: float32 (3,), g, r, z. A galaxy without one of them lacks the modality."""

    name = "magnitudes"
    modality = "photometry"
    file = "magnitudes"
    argument = "metadata"
    usage = 'metadata={"mag_g": g, "mag_r": r, "mag_z": z}'
    keys = (MAGNITUDES,)
    stored = False
    draws = False
    columns = ("mag_g", "mag_r", "mag_z")

    def reader(self, arrays: Arrays, members: Members) -> MagnitudesReader:
        return MagnitudesReader(members)

    def example(self, n: int, generator: torch.Generator, points: int | None = None) -> dict[str, Tensor]:
        """Magnitudes around 18."""
        return {MAGNITUDES: 18 + torch.randn(n, len(self.columns), generator=generator)}


def reads_galaxies(views: Mapping[str, View]) -> bool:
    """Whether all views of a model are views of galaxies."""
    return all(isinstance(view, GalaxyView | MagnitudesView) for view in views.values())


for _view in (SpecFormerView(), CutoutView(), CropsView(), MagnitudesView()):
    register(_view)
