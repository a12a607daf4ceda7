"""Cutouts of galaxies and their spectra on the grid of SpecFormer, from files of users.

A cutout is a FITS image, as the Legacy Survey's cutout service hands it out, or a .npy array, of flux in nanomaggies,
bands first (3, H, W) or last (H, W, 3), in the survey's orientation. A spectrum comes from SDSS, DESI, LAMOST or plain
columns and is resampled by the rule of modalities/resampling.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from astrom3.data.readers import ReadError, Spectrum
from astrom3.data.readers.auto import SpectrumReader
from astrom3.data.readers.desi import is_desi, read_desi
from astrom3.data.readers.fits_files import read_fits
from astrom3.data.readers.sdss import is_sdss, read_sdss
from astrom3.data.readers.table_files import suffix
from astrom3.data.readers.tables import SpectrumColumns
from astrom3.errors import UserError
from astrom3.files import check_regular
from astrom3.modalities.galaxy_views import PIXELS
from astrom3.modalities.resampling import resample

BANDS = ("g", "r", "z")
GRID = 3600.0 + 0.8 * np.arange(PIXELS)  # of SpecFormer: observed, vacuum [Angstrom]
LEAST_COVERED = 0.5  # of the grid
FEWEST_PIXELS = 100  # of a spectrum, as of those of stars
LARGEST_FLUX = 1e30  # float32 ends at 3e38, and squares of it are taken
SMALLEST_SIDE = 16  # pixels
LARGEST_SIDE = 4096
LOST_PIXELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mask": lambda marks: marks != 0,
    "invvar": lambda weights: ~(weights > 0),
}  # extension of a FITS file -> which pixels it marks as lost
SPECTRUM_FORMATS = ("auto", "desi", "sdss", "lamost", "columns")


@dataclass(frozen=True)
class CutoutReader:
    """path -> flux float32 (3, H, W) in g, r, z. bands: letters of the bands in the file, in order; where the header of
    a FITS file names its bands, that is believed."""

    bands: str = "grz"

    def __post_init__(self) -> None:
        missing = []
        for band in BANDS:
            if band not in self.bands:
                missing.append(band)
        if missing or len(set(self.bands)) < len(self.bands):
            raise UserError(f"images.bands={self.bands} must name the bands g, r and z once, in the order of the files")

    def __call__(self, path: Path | str) -> np.ndarray:
        """Reads one file; ReadError where it is missing, damaged, of another shape, or lacks a band."""
        path = Path(path)
        if suffix(path) == ".npy":
            return three_bands(read_npy(path), self.bands, str(path))
        return read_fits(path, lambda path, hdus: _cutout(path, hdus, self.bands))


@dataclass(frozen=True)
class GridReader:
    """path -> flux and inverse variance on the grid of SpecFormer. nested: reads spectra that are lists in a table,
    whose references are numbers of rows."""

    format: str = "auto"
    columns: SpectrumColumns = field(default_factory=SpectrumColumns)
    nested: Callable[[int], Spectrum] | None = None

    def __post_init__(self) -> None:
        if self.format not in SPECTRUM_FORMATS:
            raise UserError(f"spectra.format={self.format} is none of {', '.join(SPECTRUM_FORMATS)}.")

    def raw(self, path: Path | str) -> Spectrum:
        """The spectrum as the file has it. A DESI target may be named behind a number sign."""
        if self.nested is not None:
            return self.nested(path)  # type: ignore[arg-type]
        if self.format == "desi" or (self.format == "auto" and is_desi(path)):
            return read_desi(path)
        if self.format == "sdss" or (self.format == "auto" and is_sdss(path)):
            return read_sdss(path)
        return SpectrumReader(self.format, self.columns)(Path(path))

    def __call__(self, path: Path | str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Flux and inverse variance float32 (7781,), 0 where not observed, and what was left out."""
        return on_grid(self.raw(path), str(path))


def on_grid(spectrum: Spectrum, name: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """A spectrum on the grid of SpecFormer: flux and inverse variance float32 (7781,), 0 where not observed, and notes.

    Inverse variances that are negative mark no observation, so they become 0. ReadError where less than half of the
    grid is observed, or numbers are too large for float32.
    """
    notes = list(spectrum.notes)
    negative = int((spectrum.ivar < 0).sum())
    if negative:
        notes.append(f"{negative} negative inverse variances set to 0")
    lost = int((~np.isfinite(spectrum.flux) | ~np.isfinite(spectrum.ivar)).sum())
    if lost:
        notes.append(f"{lost} pixels that are not finite left out")
    if len(spectrum.wavelength) < FEWEST_PIXELS:
        raise ReadError(f"{name}: fewer than {FEWEST_PIXELS} pixels")
    found = resample(spectrum.wavelength, spectrum.flux, spectrum.ivar, GRID)
    if found.coverage < LEAST_COVERED:
        raise ReadError(f"{name}: covers less than half of {GRID[0]:g}-{GRID[-1]:g} Angstrom ({found.coverage:.0%})")
    if max(np.abs(found.flux).max(), found.ivar.max()) > LARGEST_FLUX:
        raise ReadError(f"{name}: flux or inverse variance beyond 1e30: give it in 1e-17 erg/s/cm2/Angstrom")
    return found.flux.astype(np.float32), found.ivar.astype(np.float32), tuple(notes)


def read_npy(path: Path) -> np.ndarray:
    """An array of numbers from a .npy file, without pickles."""
    try:
        check_regular(path)
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ReadError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ReadError(f"{path}: corrupt or no array of numbers ({reason[:120]})") from None


def three_bands(array: Any, bands: Sequence[str], name: str) -> np.ndarray:
    """Bands first or last, in the order of `bands` -> float32 (3, H, W) in g, r, z; ReadError where that fails."""
    image = np.asarray(array)
    if image.dtype == np.uint8:
        raise ReadError(f"{name}: a picture of 8 bits, not flux: give nanomaggies")
    if image.dtype.kind not in "fiu" or image.ndim != 3:
        raise ReadError(f"{name}: an image of g, r, z has the shape (3, H, W), not {image.shape} of {image.dtype}")
    if image.shape[0] != len(bands) and image.shape[2] == len(bands):
        image = np.moveaxis(image, 2, 0)
    planes, height, width = image.shape
    if planes != len(bands):
        raise ReadError(f"{name}: missing band: {planes} planes where the bands {''.join(bands)} are expected")
    if min(height, width) < SMALLEST_SIDE or max(height, width) > LARGEST_SIDE:
        raise ReadError(f"{name}: wrong size: {height} x {width} pixels")

    order = [list(bands).index(band) for band in BANDS]
    flux = image[order].astype(np.float64)
    largest = np.abs(np.nan_to_num(flux)).max()
    if largest > LARGEST_FLUX:
        raise ReadError(f"{name}: flux beyond 1e30: give it in nanomaggies")
    return flux.astype(np.float32)


def bands_of_dict(planes: Mapping[str, Any], name: str) -> np.ndarray:
    """Planes (H, W) by band -> float32 (3, H, W) in g, r, z."""
    missing = [band for band in BANDS if band not in planes]
    if missing:
        raise ReadError(f"{name}: missing band: {', '.join(missing)}")
    shapes = {np.shape(planes[band]) for band in BANDS}
    if len(shapes) > 1:
        raise ReadError(f"{name}: wrong size: the bands have different shapes ({sorted(shapes)})")
    return three_bands(np.stack([np.asarray(planes[band]) for band in BANDS]), BANDS, name)


def _cutout(path: Path, hdus: fits.HDUList, bands: str) -> np.ndarray:
    """The image of a FITS file: a cube, or one image for each band whose extension is named by it. Pixels that an
    extension MASK marks, or whose inverse variance in an extension INVVAR is not above 0, become NaN."""
    by_name = {str(hdu.name).lower(): hdu for hdu in hdus}
    if all(band in by_name for band in BANDS):
        image = bands_of_dict({band: by_name[band].data for band in BANDS}, str(path))
    else:
        image = _first_cube(path, hdus, bands)
    for name, is_lost in LOST_PIXELS.items():
        if name in by_name and by_name[name].data is not None:
            lost = lost_pixels(path, by_name[name].data, is_lost, image.shape)
            image[:, :, :] = np.where(lost, np.nan, image)
    return image


def _first_cube(path: Path, hdus: fits.HDUList, bands: str) -> np.ndarray:
    """The first image of a FITS file, whose bands are those of its header, else `bands`."""
    for hdu in hdus:
        if getattr(hdu, "data", None) is None or not isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU):
            continue
        if hdu.data.ndim == 2:
            raise ReadError(f"{path}: missing band: one image where g, r and z are needed")
        named = _named_bands(hdu.header) or tuple(bands)
        return three_bands(np.array(hdu.data), named, str(path))
    raise ReadError(f"{path}: no image in it")


def lost_pixels(
    path: Path, marks: np.ndarray, is_lost: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Which pixels (3, H, W) an image of marks says are lost: (H, W) for all bands, or (3, H, W)."""
    if marks.shape not in (shape, shape[1:]):
        raise ReadError(f"{path}: wrong size: the mask is of shape {marks.shape}, the image of {shape}")
    return np.broadcast_to(is_lost(np.array(marks)), shape)


def _named_bands(header: fits.Header) -> tuple[str, ...]:
    """Bands that a header of the Legacy Survey names, as "grz" or "g,r,z"."""
    text = str(header.get("BANDS", ""))
    return tuple(re.sub(r"[^a-zA-Z]", "", text).lower())
