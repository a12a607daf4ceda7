"""Raw observations of galaxies in, a batch out: images and spectra as users hold them in their hands.

An image is a file (FITS or .npy), an array or tensor (3, H, W) or (H, W, 3) of g, r, z in nanomaggies in the survey's
orientation, or planes by band, {"g": ..., "r": ..., "z": ...}. A spectrum is a file (SDSS, DESI, LAMOST or columns),
flux on the grid of SpecFormer (7781,), or (wavelength, flux, ivar) in any unit that converts. A list, or an array with
one axis more, means many objects. None stands where an object lacks one. Magnitudes stand in rows of a catalogue,
{"mag_g": .., "mag_r": .., "mag_z": ..}, of which an object has all or none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from astrom3.data.packed import Batch
from astrom3.data.readers import ReadError
from astrom3.data.readers.cutouts import BANDS, CutoutReader, GridReader, bands_of_dict, on_grid, three_bands
from astrom3.errors import UserError, first_line
from astrom3.inference.columns import factor_to, unit_of
from astrom3.inference.observations import Options, Prepared, listed_rows, spectrum_of
from astrom3.modalities.galaxy_views import (
    PIXELS,
    SIZE,
    GalaxyView,
    Rows,
    prepare_flux,
    prepare_images,
    stacked_spectra,
)
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, list_decisions
from astrom3.modalities.schema import META_COLS, PHOTO_COLS
from astrom3.modalities.view import Members, View

SPECTRA = of_argument("spectrum")
ROWS = "rows of the catalogue"
FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"  # of DESI, which the published networks were trained on
AXES = {"images": 3, SPECTRA: 1}  # of one observation in an array


def prepare(images: Any, spectra: Any, views: Mapping[str, View], air: bool = False, rows: Any = None) -> Prepared:
    """Images, spectra and rows of a catalogue of one object or of n objects, prepared for the views of a model.

    Raises UserError where nothing is given, where lists are of unequal length, and where the only object cannot be
    read; of many, those that cannot be read are listed.
    """
    given = {"images": listed("images", images), SPECTRA: listed(SPECTRA, spectra), ROWS: listed_rows(rows)}
    lengths = {modality: len(items) for modality, items in given.items() if items is not None}
    if not lengths:
        raise UserError("nothing to work on: give images= or spectra=")
    if len(set(lengths.values())) > 1:
        counted = " and ".join(f"{length} {modality}" for modality, length in lengths.items())
        raise UserError(f"{counted}: give None where one is missing")

    n = next(iter(lengths.values()))
    if not n:
        raise UserError("the list of galaxies is empty: give at least one")

    ids = [str(number) for number in range(n)]
    decisions: list[Decision] = []
    batch: Batch = {}
    present = {}
    handed = {}
    for slot, view in views.items():
        items = given.get(view.modality if isinstance(view, GalaxyView) else ROWS)
        items = [None] * n if items is None else items
        handed[slot] = np.array([item is not None for item in items])
        if not isinstance(view, GalaxyView):
            columns = np.array([numbers_of(item, view.columns) for item in items])
            present[slot] = torch.from_numpy(np.isfinite(columns).all(axis=1))
            columns = np.nan_to_num(columns, posinf=0.0, neginf=0.0)
            batch |= view.reader({}, members(n, columns.astype(np.float32))).fill(np.arange(n))
            continue
        rows = image_rows(items, decisions) if view.modality == "images" else flux_rows(items, air, decisions)
        decisions += list_decisions(view.modality, ids, rows.verdict, rows.repairs, view.words)
        arrays = view.arrays(rows)
        present[slot] = torch.from_numpy(view.present(arrays))
        batch |= view.reader(arrays, members(n)).fill(np.arange(n))

    batch["present"] = present
    return Prepared(batch, decisions, handed)


def numbers_of(row: Any, columns: Sequence[str]) -> list[float]:
    """Values of a row of a catalogue, NaN where it has none. UserError for a name that no column has and for text."""
    if row is None:
        return [np.nan] * len(columns)
    if not isinstance(row, Mapping):
        raise UserError(f"a row of the catalogue is a {type(row).__name__}: give a dict of {', '.join(columns)}")
    unknown = sorted(str(name) for name in row if name not in columns)
    if unknown:
        raise UserError(f"{unknown[0]} is no column that the model reads: there are {', '.join(columns)}")
    found = []
    for name in columns:
        value = row.get(name)
        try:
            found.append(np.nan if value is None else float(value))
        except (TypeError, ValueError):
            raise UserError(f"{name}={value!r} of the catalogue is no number") from None
    return found


def check_galaxy(image: Any, spectrum: Any, air: bool, row: Any, views: Mapping[str, View]) -> None:
    """Raise UserError where the image, the spectrum or the catalogue's row of one galaxy, None where it lacks one,
    cannot be read."""
    if image is None and spectrum is None and row is None:
        raise UserError("nothing to work on: give images= or spectra=")
    for view in views.values():
        numbers_of(row if view.columns else None, view.columns)
    if image is not None:
        image_of(image)
    if spectrum is not None:
        flux_of(spectrum, air)


def members(n: int, columns: np.ndarray | None = None) -> Members:
    """n objects without catalogue values of stars. columns: (n, c) float32, those that a view names."""
    everyone = np.arange(n)
    features = np.zeros((n, len(PHOTO_COLS)), np.float32)
    metadata = np.zeros((n, len(META_COLS)), np.float32)
    return Members(everyone, everyone, features, metadata, columns=columns)


def listed(modality: str, given: Any) -> list[Any] | None:
    """Observations one by one: of a list, of an array with one axis more than one observation has, or the only one."""
    if given is None:
        return None
    if isinstance(given, list):
        return list(given)
    array = as_array(given)
    if array is None:
        return [given]
    if modality == SPECTRA and array.ndim > 1 and array.shape[-1] == 1:
        array = array[..., 0]
    return list(array) if array.ndim > AXES[modality] else [array]


def as_array(given: Any) -> np.ndarray | None:
    """An array or a tensor as an array, NaN where it is masked; None for everything else."""
    if isinstance(given, torch.Tensor):
        return array_of(given, "the tensor")
    if isinstance(given, np.ma.MaskedArray) and given.dtype.kind in "fiu":
        return np.ma.filled(given.astype(np.float64), np.nan)
    return given if isinstance(given, np.ndarray) else None


def array_of(given: Any, what: str) -> np.ndarray:
    """Whatever numpy makes an array of, and tensors of any kind. ReadError where that fails."""
    try:
        if not isinstance(given, torch.Tensor):
            return np.asarray(given)
        dense = given.detach().cpu().to_dense()
        return (dense.float() if dense.dtype == torch.bfloat16 else dense).numpy()
    except Exception as error:  # objects of any package may raise anything
        raise ReadError(f"{what}: no array of numbers ({first_line(error)})") from None


def read_each(modality: str, items: Sequence[Any], read: Any, decisions: list[Decision]) -> list[Any]:
    """What `read` makes of each; of many, one that cannot be read is listed; the only one raises."""
    found = []
    for number, item in enumerate(items):
        try:
            found.append(None if item is None else read(item))
        except ReadError as error:
            if len(items) == 1:
                raise
            decisions.append(Decision(str(number), modality, "rejected", str(error)))
            found.append(None)
    return found


def image_rows(items: Sequence[Any], decisions: list[Decision]) -> Rows:
    """Prepared images of n objects."""
    from astrom3.data.layouts.galaxy_rows import cut_to_size

    found = read_each("images", items, image_of, decisions)
    flux = np.zeros((len(items), len(BANDS), SIZE, SIZE), np.float32)
    for number, image in enumerate(found):
        if image is not None:
            flux[number] = cut_to_size(image[None])[0]
    return prepare_images(flux, np.array([image is not None for image in found]))


def flux_rows(items: Sequence[Any], air: bool, decisions: list[Decision]) -> Rows:
    """Prepared spectra of n objects."""
    found = read_each(SPECTRA, items, lambda item: flux_of(item, air), decisions)
    numbers = [str(number) for number in range(len(items))]
    return prepare_flux(*stacked_spectra(found, numbers, decisions))


def image_of(given: Any) -> np.ndarray:
    """One image as float32 (3, H, W)."""
    if isinstance(given, str | os.PathLike):
        return CutoutReader()(Path(given))
    if isinstance(given, Mapping):
        planes = {band: array_of(plane, f"the plane {band} of the image") for band, plane in given.items()}
        return bands_of_dict(planes, "the image")
    if unit_of(given) is not None:
        raise ReadError(f"the image: it is in {unit_of(given)}: give nanomaggies without a unit")
    array = as_array(given)
    return three_bands(array_of(given, "the image") if array is None else array, BANDS, "the image")


def flux_of(given: Any, air: bool) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """One spectrum as flux and inverse variance (7781,), and what was left out."""
    if isinstance(given, str | os.PathLike):
        return GridReader()(str(given))
    array = as_array(given)
    if array is not None:
        if array.dtype.kind not in "fiu":
            raise ReadError(f"the spectrum: an array of {array.dtype}, not of numbers")
        scale = factor_to(FLUX_UNIT, given)
        with np.errstate(over="ignore"):
            flux = (np.asarray(array).reshape(-1) * scale).astype(np.float32)
        if len(flux) != PIXELS:
            raise ReadError(
                f"the spectrum: {len(flux)} numbers without wavelengths; give {PIXELS} on the grid 3600 + 0.8 i "
                "Angstrom, or (wavelength, flux, ivar)"
            )
        return flux, np.ones(PIXELS, np.float32), ()
    return on_grid(spectrum_of(given, Options(air=air), flux_unit=FLUX_UNIT), "the spectrum")
