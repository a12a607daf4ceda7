"""DESI spectra: coadd files of healpixels, tiles and custom requests, with many targets in each, gzipped or not.

A file holds the images <CAMERA>_WAVELENGTH (N,), <CAMERA>_FLUX (targets, N) [1e-17 erg/s/cm2/Angstrom], <CAMERA>_IVAR
and <CAMERA>_MASK of the cameras B, R and Z (or of one joined camera, BRZ), and the table FIBERMAP with TARGETID.
Wavelengths are in vacuum. The cameras overlap by some 40 and 100 Angstrom on a common grid of 0.8 Angstrom steps. There
pixels are averaged with their inverse variances as weights. Masked pixels and those without information are left out.

A target is named behind a number sign, "coadd-main-dark-27258.fits#39627652591521181"; a file of a single target
needs no name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy.io import fits

from astrom3.data.fingerprint import stamp
from astrom3.data.readers import ColumnError, ReadError, Spectrum
from astrom3.data.readers.fits_files import peek, read_fits
from astrom3.data.readers.sdss import without_blind_pixels

SAME_PIXEL = 0.05  # Angstrom, closer centres are one pixel


def is_desi(path: Path | str) -> bool:
    """Whether a file looks like a DESI coadd. Never raises."""
    file, _ = file_and_target(path)
    return peek(file, lambda hdus: bool(cameras(hdus)))


@dataclass(frozen=True)
class Coadd:
    """A file's targets (n,) int64, and by camera its wavelengths (N,), fluxes, inverse variances and masks (n, N)."""

    path: Path
    targets: np.ndarray
    cameras: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]]


def read_desi(path: Path | str, target: int | None = None) -> Spectrum:
    """Wavelength [Angstrom, vacuum], flux and inverse variance of one target, (N,) float64 each.

    target: its TARGETID; it may stand behind a number sign in the path. The last file stays in memory, since the
    targets of a survey share files of hundreds of megabytes.
    """
    file, named = file_and_target(path)
    chosen = target if target is not None else named
    try:
        now = tuple(stamp(file))
    except OSError:
        now = ()  # the reader says what is wrong
    return spectrum_of(coadd(file, now), chosen)


@lru_cache(maxsize=1)
def coadd(path: Path, now: tuple[int, ...]) -> Coadd:
    """A file as a whole. now: what changes when the file does."""
    return read_fits(path, _read)


def targets_of(path: Path | str) -> np.ndarray:
    """TARGETID of all targets of a file, (n,) int64."""
    return read_fits(Path(path), lambda path, hdus: _targets(path, hdus))


def file_and_target(path: Path | str) -> tuple[Path, int | None]:
    """A path and the target that is named behind a number sign; ReadError where that is no number."""
    text = str(path)
    file, sign, name = text.rpartition("#")
    if not sign or Path(text).exists():
        return Path(text), None
    try:
        return Path(file), int(name)
    except ValueError:
        raise ReadError(f"{file}: {name!r} is no TARGETID: name one as {file}#39627652591521181") from None


def cameras(hdus: fits.HDUList) -> list[str]:
    """Names of the cameras that a file has all images of, blue first."""
    names = {hdu.name for hdu in hdus}
    found = [name.removesuffix("_WAVELENGTH") for name in names if name.endswith("_WAVELENGTH")]
    return sorted(name for name in found if {f"{name}_FLUX", f"{name}_IVAR"} <= names)


def _targets(path: Path, hdus: fits.HDUList) -> np.ndarray:
    if "FIBERMAP" not in hdus or "TARGETID" not in hdus["FIBERMAP"].columns.names:
        raise ColumnError(f"{path}: no table FIBERMAP with TARGETID in it")
    return np.array(hdus["FIBERMAP"].data["TARGETID"], dtype=np.int64)


def _read(path: Path, hdus: fits.HDUList) -> Coadd:
    names = cameras(hdus)
    if not names:
        raise ColumnError(f"{path}: no DESI coadd; expected B_WAVELENGTH, B_FLUX, B_IVAR and those of R and Z")
    found = []
    for camera in names:
        wavelength = np.ravel(hdus[f"{camera}_WAVELENGTH"].data).astype(np.float64)
        flux = np.atleast_2d(hdus[f"{camera}_FLUX"].data)
        ivar = np.atleast_2d(hdus[f"{camera}_IVAR"].data)
        mask = np.atleast_2d(hdus[f"{camera}_MASK"].data) if f"{camera}_MASK" in hdus else None
        found.append((wavelength, flux, ivar, mask))
    return Coadd(path, _targets(path, hdus), found)


def spectrum_of(found: Coadd, target: int | None) -> Spectrum:
    """The spectrum of one target; its only one where none is named."""
    row = _row(found.path, found.targets, target)
    columns: list[list[np.ndarray]] = [[], [], []]
    for wavelength, fluxes, weights, masks in found.cameras:
        ivar = weights[row].astype(np.float64)
        if masks is not None:
            ivar = np.where(masks[row] != 0, 0.0, ivar)
        for column, values in zip(columns, (wavelength, fluxes[row].astype(np.float64), ivar), strict=True):
            column.append(values)
    return without_blind_pixels(*joined(*(np.concatenate(column) for column in columns)))


def _row(path: Path, ids: np.ndarray, target: int | None) -> int:
    if target is None:
        if len(ids) != 1:
            raise ReadError(f"{path}: {len(ids)} targets in it: name one behind the path, as in {path.name}#{ids[0]}")
        return 0
    rows = np.flatnonzero(ids == target)
    if not len(rows):
        raise ReadError(f"{path}: no target {target} among its {len(ids)}")
    return int(rows[0])


def joined(wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cameras' pixels (N,), sorted; pixels of the same wavelength become their weighted mean."""
    order = np.argsort(wavelength, kind="mergesort")
    wavelength = wavelength[order]
    flux = flux[order]
    ivar = ivar[order]
    usable = np.isfinite(flux) & np.isfinite(ivar)
    ivar = np.where(usable, np.maximum(ivar, 0.0), 0.0)
    flux = np.where(ivar > 0, flux, 0.0)

    is_first = np.concatenate([[True], np.diff(wavelength) > SAME_PIXEL])
    starts = np.flatnonzero(is_first)
    weight = np.add.reduceat(ivar, starts)
    light = np.add.reduceat(flux * ivar, starts)
    mean = np.divide(light, weight, out=np.zeros(len(starts)), where=weight > 0)
    return wavelength[starts], mean, weight
