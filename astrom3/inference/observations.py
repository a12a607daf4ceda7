"""Raw observations in, a batch out: what users hold in their hands, cleaned and prepared as a data set would be.

A light curve is a file, (time, flux, error) or columns by name (dict, astropy Table, DataFrame): time in days (or an
astropy Time), flux in mJy or any unit that converts, or magnitudes with `system` or `zero_point`. A spectrum is a
file, (wavelength, flux, ivar) or columns: Angstrom in vacuum or any unit that converts. Metadata are catalogue columns
by name (schema.py: META_COLS, and PHOTO_COLS where known; ra and dec stand in for l and b). A list means many objects.
A light curve may have a column of bands; see light_curves.py.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from astrom3.data.checked import grid_coverage, partly_covered
from astrom3.data.packed import Batch
from astrom3.data.readers import LightCurve, ReadError, Spectrum
from astrom3.data.readers.auto import SpectrumReader
from astrom3.data.readers.objects import catalogue_values
from astrom3.data.readers.tables import SpectrumColumns, vacuum_wavelength
from astrom3.errors import UserError
from astrom3.inference.columns import columns_of, factor_to, find, numbers, pick, same_length, scalar
from astrom3.inference.light_curves import Curves, light_curve_of
from astrom3.modalities.catalogue import PERIOD, Normaliser
from astrom3.modalities.catalogue_quality import check_catalogue
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, list_decisions
from astrom3.modalities.ragged import ragged
from astrom3.modalities.schema import ALL_COLS, COLUMN_UNITS, META_COLS, MODALITIES, PHOTO_COLS
from astrom3.modalities.view import Members, Reader, StoredView, View, views_of
from astrom3.typed import Mismatch, compare

FEATURES = ("missing", "all", "none")
FEATURES_ALONE = "features of a light curve alone, which is not given: give the light curve too"
LIGHT = of_argument("light_curve")
SPECTRUM = of_argument("spectrum")
CATALOGUE = of_argument("metadata")
KNOWN = (*ALL_COLS, "ra", "dec")  # catalogue columns


KINDS_OF_OPTIONS: dict[str, Any] = {
    "system": str | None,
    "zero_point": float | None,
    "air": bool | None,
    "features": str,
    "band": str | None,
}


@dataclass(frozen=True)
class Options:
    """system or zero_point (mJy of magnitude 0): of light curves in magnitudes. air: wavelengths are those in air.
    features: PHOTO_COLS are computed from the light curve where "missing" in the metadata, "all" always, "none".
    band: the one to take of light curves in several; None: networks of one band read the best sampled one, and networks
    of several bands all. wavelengths [Angstrom]: of bands that are not known by name."""

    system: str | None = None
    zero_point: float | None = None
    air: bool = False
    features: str = "missing"
    band: str | None = None
    wavelengths: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for option, kind in KINDS_OF_OPTIONS.items():
            check_option(option, getattr(self, option), kind)
        check_wavelengths(self.wavelengths)
        if self.features not in FEATURES:
            raise UserError(f"features={self.features!r} does not exist: it is one of {', '.join(FEATURES)}")


@dataclass(frozen=True)
class Prepared:
    """batch: as in schema.py without labels, n objects; decisions: what was repaired or rejected, by place in the list.
    given: modality -> bool (n,), what was handed in at all. readers: slot -> the reader of its prepared objects."""

    batch: Batch
    decisions: list[Decision]
    given: dict[str, np.ndarray]
    readers: dict[str, Reader] = field(default_factory=dict)


def prepare(
    light_curves: Any,
    spectra: Any,
    metadata: Any,
    normaliser: Normaliser | None,
    pad_constants: bool,
    options: Options,
    views: Mapping[str, View] | None = None,
) -> Prepared:
    """Light curves, spectra and metadata: None, one object or a list of objects (None where an object lacks it).

    views: what the model reads, modality -> view; the three of AstroM3 where it is not given.
    """
    wanted = views_of(MODALITIES) if views is None else views
    uses_features = any(view.uses_features for view in wanted.values())
    read = of_one_length({LIGHT: listed(light_curves), SPECTRUM: listed(spectra), CATALOGUE: listed_rows(metadata)})
    n = len(read[LIGHT])
    ids = [str(number) for number in range(n)]
    decisions = list[Decision]()
    light_read = read_all(LIGHT, read[LIGHT], lambda item: light_curve_of(item, options), decisions)
    curves = Curves(light_read, options.wavelengths)
    spectra_read = read_all(SPECTRUM, read[SPECTRUM], lambda item: spectrum_of(item, options, resample=True), decisions)
    for object_id, spectrum in zip(ids, spectra_read, strict=True):
        decisions += uncovered(object_id, spectrum)
    pixels = ragged(spectra_read)
    values = catalogue_of(read[CATALOGUE])
    if uses_features:
        curves.complete_features(values, options.features)

    has_metadata, notes = check_catalogue(values, ids)
    given = {}
    for modality, values_read in read.items():
        given[modality] = np.array([value is not None for value in values_read])
    own = {*META_COLS, "ra", "dec"}  # a dict with nothing but PHOTO_COLS goes with a light curve
    given[CATALOGUE] = np.array([not own.isdisjoint(row or ()) for row in read[CATALOGUE]])
    for i, row in enumerate(read[CATALOGUE]):
        if row and not (given[CATALOGUE][i] or given[LIGHT][i]):
            decisions.append(Decision(str(i), CATALOGUE, "rejected", FEATURES_ALONE))
    photo_wanted = given[LIGHT] & uses_features
    meta_wanted = given[CATALOGUE]
    for note in notes:
        is_wanted = photo_wanted if note.modality == LIGHT else meta_wanted
        if is_wanted[int(note.object_id)]:
            decisions.append(note)

    if normaliser is None and (photo_wanted.any() or meta_wanted.any()):
        raise UserError(
            "this model has no statistics to normalise catalogue columns with: load it with statistics=<the info.json "
            "of the data that it was trained on>"
        )

    has_metadata &= meta_wanted
    if normaliser is None:
        scaled = np.zeros((n, len(ALL_COLS)), np.float32)
        periods = np.full(n, np.nan)
    else:
        scaled = normaliser.apply(values)
        periods = values[:, PERIOD]

    features, columns = np.split(scaled, [len(PHOTO_COLS)], axis=1)
    metadata_rows = np.where(has_metadata[:, None], columns, np.float32(0))

    everyone = np.arange(n)
    nameless = np.full(n, "")
    members = Members(everyone, everyone, features, metadata_rows, pad_constants, periods, ids=nameless)
    batch: Batch = {}
    present = {}
    readers = {}
    for slot, view in wanted.items():
        arrays: dict[str, np.ndarray] = {}
        present[slot] = view.available(nameless) if view.has_own_files else has_metadata
        if isinstance(view, StoredView):
            observed = pixels
            if view.modality == LIGHT:
                decisions += [] if view.several_bands else curves.choices()
                observed = curves.columns(view.several_bands)
            checked = view.check(*observed)
            data = view.prepare(checked)
            arrays = view.arrays(data)
            present[slot] = view.present(arrays)
            decisions += list_decisions(view.modality, ids, data.verdict, checked.repairs)
        readers[slot] = view.reader(arrays, members)
        batch |= readers[slot].fill(everyone)

    batch["present"] = {slot: torch.from_numpy(there) for slot, there in present.items()}
    return Prepared(batch, decisions, given, readers)


def check_option(name: str, value: Any, kind: Any) -> None:
    """UserError where an option is not of the kind that it takes. Scalars of numpy do for those of Python."""
    try:
        compare(value.item() if isinstance(value, np.generic) else value, kind, name)
    except Mismatch as error:
        raise UserError(str(error)) from None


def check_wavelengths(given: Any) -> None:
    """UserError where the wavelengths of bands are no positive numbers by name."""
    if given is None:
        return
    if not isinstance(given, Mapping) or not all(isinstance(band, str) for band in given):
        raise UserError("wavelengths holds no numbers by the names of bands: give such as {'b1': 4500.0}, in Angstrom")
    for band, value in given.items():
        length = scalar(value, "Angstrom", f"the wavelength of band {band}")
        if length is None or not 0 < length < np.inf:
            raise UserError(f"the wavelength of band {band} is {length}: give a positive number, in Angstrom")


def of_one_length(items: Mapping[str, list[Any] | None]) -> dict[str, list[Any]]:
    """Modality -> what was handed in for each object, None where an object lacks it; UserError of unequal lengths."""
    lengths = {modality: len(item) for modality, item in items.items() if item is not None}
    if not lengths:
        raise UserError("nothing to work on: give light_curve, spectrum or metadata")
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{modality}: {length}" for modality, length in lengths.items())
        raise UserError(f"lists of unequal length ({listing}): give None where an object lacks one")
    n = next(iter(lengths.values()))
    if not n:
        raise UserError("the list of objects is empty: give at least one")
    return {modality: [None] * n if item is None else item for modality, item in items.items()}


def check_object(light_curve: Any, spectrum: Any, metadata: Any, options: Options) -> None:
    """Raise UserError where the observations of one object, None where it lacks one, cannot be read."""
    if light_curve is None and spectrum is None and metadata is None:
        raise UserError("nothing to work on: give light_curve, spectrum or metadata")
    if light_curve is not None:
        light_curve_of(light_curve, options)
    if spectrum is not None:
        spectrum_of(spectrum, options, resample=True)
    if metadata is not None:
        check_columns([metadata])
        for name, value in metadata.items():
            scalar(value, COLUMN_UNITS[name], name)


# --- one object -----------------------------------------------------------------------------------------------------


def listed(given: Any) -> list[Any] | None:
    """A list is many objects, anything else is one."""
    return None if given is None else list(given) if isinstance(given, list) else [given]


def listed_rows(given: Any) -> list[Any] | None:
    """Metadata: a list of dicts, or a table whose rows are the objects."""
    if given is None or isinstance(given, Mapping | list):
        return listed(given)
    names = getattr(given, "colnames", None) or list(getattr(given, "columns", ()))  # astropy, pandas
    if not len(names):
        raise UserError(f"metadata is a {type(given).__name__}: give a dict of catalogue columns, a list or a table")
    if type(given).__name__ == "Row":
        return [{name: given[name] for name in names}]
    if hasattr(given, "to_pylist"):  # Arrow
        return given.to_pylist()
    found = []
    for i in range(len(given)):
        found.append({name: nth(given[name], i) for name in names})
    return found


def nth(column: Any, place: int) -> Any:
    """A value of a column; that of a data frame is counted from 0, whatever its index says."""
    return column.iloc[place] if hasattr(column, "iloc") else column[place]


def read_all(modality: str, items: Sequence[Any], read: Any, decisions: list[Decision]) -> list[Any]:
    """LightCurve or Spectrum of every object, empty where there is none. Of many, one that cannot be read is listed; a
    single one raises."""
    observed = []
    for i, item in enumerate(items):
        result = LightCurve(np.empty(0), np.empty(0), np.empty(0))
        try:
            result = read(item) if item is not None else result
        except ReadError as error:
            if len(items) == 1:
                raise
            decisions.append(Decision(str(i), modality, "rejected", str(error)))
        decisions += [Decision(str(i), modality, "repaired", note) for note in result.notes]
        observed.append(result)
    return observed


def uncovered(object_id: str, spectrum: Spectrum) -> list[Decision]:
    """What is said of a spectrum that covers only a part of the wavelengths that networks of stars read."""
    wavelength = np.unique(spectrum[0][np.isfinite(spectrum[0])])
    return partly_covered(object_id, grid_coverage(wavelength)) if len(wavelength) > 1 else []


def spectrum_of(given: Any, options: Options, resample: bool = False, flux_unit: str | None = None) -> Spectrum:
    """Wavelength [Angstrom, vacuum], flux, inverse variance, (N,) each. resample: pixels of files of SDSS and DESI that
    are finer than LAMOST's are averaged to its sampling, as convert does. flux_unit: what a flux with a unit is
    converted to; None: networks of stars read the shape alone."""
    if isinstance(given, str | os.PathLike):
        return SpectrumReader(columns=SpectrumColumns(air=options.air), resample=resample)(Path(given))
    notes: tuple[str, ...] = ()
    if isinstance(given, tuple):
        if len(given) != 3:
            raise UserError(f"a spectrum is (wavelength, flux, ivar), three arrays, not {len(given)}")
        wavelength, flux, ivar = given
    else:
        names = columns_of(given, "spectrum")
        wavelength = pick(names, "wavelength", "spectrum")
        flux = pick(names, "flux", "spectrum")
        if find(names, "ivar") is None and (sigma := find(names, "flux_err")) is not None:
            error = numbers(sigma, None, "flux error")
            negative = int((error < 0).sum())
            notes = (f"{negative} negative flux errors: not observed there",) if negative else ()
            with np.errstate(divide="ignore"):
                ivar = np.where(error > 0, error**-2.0, np.where(np.isfinite(error), 0.0, np.nan))
        else:
            ivar = pick(names, "ivar", "spectrum")

    grid = numbers(wavelength, "Angstrom", "wavelength")
    grid = vacuum_wavelength(grid) if options.air else grid
    columns = same_length("spectrum", grid, numbers(flux, None, "flux"), numbers(ivar, None, "inverse variance"))
    scale = 1.0 if flux_unit is None else factor_to(flux_unit, flux)
    return Spectrum(columns[0], columns[1] * scale, columns[2] / scale**2, notes)


def check_columns(rows: Sequence[Any]) -> None:
    """UserError where the metadata of an object are no mapping, or name a column that no catalogue has."""
    for row in rows:
        if row is not None and not isinstance(row, Mapping):
            raise UserError(f"metadata of an object is a dict of catalogue columns, not a {type(row).__name__}")
        for name in row or ():
            if name not in KNOWN:
                near = difflib.get_close_matches(str(name).lower(), KNOWN, 2, 0.6)
                hint = f": did you mean {' or '.join(near)}?" if near else f" (there are {', '.join(KNOWN)})"
                raise UserError(f"{name} is no catalogue column{hint}")


def catalogue_of(rows: Sequence[Any]) -> np.ndarray:
    """Catalogue values (n, 38) of dicts of columns, NaN unknown."""
    check_columns(rows)
    named: set[str] = set()
    for row in rows:
        named.update(row or ())
    columns = {}
    for name in KNOWN:
        if name in named:
            values = [scalar((row or {}).get(name), COLUMN_UNITS[name], name) for row in rows]
            columns[name] = pa.array(values, pa.float64(), from_pandas=True)
    if not columns:
        return np.full((len(rows), len(ALL_COLS)), np.nan)
    return catalogue_values(Path(CATALOGUE), pa.table(columns), {})


def reason_of(decisions: Sequence[Decision], modality: str) -> str:
    """Why the only object lacks a modality that was handed in."""
    reasons = []
    for d in decisions:
        if d.modality == modality and d.decision == "rejected":
            reasons.append(d.reason)
    return reasons[0] if reasons else "nothing usable is left of it"
