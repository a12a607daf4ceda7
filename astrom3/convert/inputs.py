"""What `convert` is to read, from its options: a table of objects, long tables of observations, or the raw data set."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.convert.conversion import Recipe, read_raw, terminable
from astrom3.data.readers import ReadError
from astrom3.data.readers.auto import LightCurveReader, SpectrumReader
from astrom3.data.readers.long import LongTable, Place, read_long
from astrom3.data.readers.nested import NestedReader, is_nested
from astrom3.data.readers.objects import Objects, read_objects
from astrom3.data.readers.systems import RELATIVE_MEANS, RELATIVE_UNIT
from astrom3.data.readers.tables import LightCurveColumns, SpectrumColumns
from astrom3.data.writer import PublishedSplit
from astrom3.errors import UserError
from astrom3.files import remove_leftovers, temporary_folder
from astrom3.modalities.schema import ALL_COLS
from astrom3.progress import progress

PROBES = 5  # light curves that are tried to find what they are
TABLE_ONLY = ("label", "light_curve", "spectrum", "labels", "classes", "targets", "band", "observations")
PASSED = ("id", "label", "light_curve", "spectrum", "root", "columns", "labels", "classes", "unknown", "targets")


@dataclass(frozen=True)
class Inputs:
    """Objects and how to read them; published: splits to keep; sentences and warnings: what was understood, for the
    user."""

    objects: Objects
    recipe: Recipe
    published: Mapping[tuple[str, int], PublishedSplit] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def inputs_of(options: Mapping[str, Any], out: Path) -> Iterator[Inputs]:
    """The inputs of a conversion to `out`. Long tables are sorted into a folder beside it, which is removed after."""
    long = options["observations"] is not None
    given = options["table"] is not None or long
    if given == (options["raw"] is not None):
        raise UserError(
            "give either table=<file with one row per object>, observations=<table with one row per observation> or "
            "both, or raw=<folder of AstroM3Dataset>."
        )
    if options["raw"] is not None:
        surplus = [key for key in TABLE_ONLY if options[key] is not None]
        if surplus:
            raise UserError(f"{surplus[0]} is for table=...; the files of AstroM3Dataset (raw=...) say it themselves.")
        yield Inputs(*read_raw(options["raw"], options["features"]))
        return
    if not long:
        yield understood(*from_table(options), options)
        return
    remove_leftovers(out.absolute())
    folder = temporary_folder(out.absolute())
    try:
        with terminable():
            yield from_observations(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def from_table(options: Mapping[str, Any]) -> tuple[Objects, Any]:
    """Objects of a table, and the reader of their light curves: files, or lists in the table itself."""
    curves = options["light_curves"]
    nested = options["light_curve"] is None and is_nested(options["table"], curves["columns"])
    objects = read_objects(options["table"], **{key: options[key] for key in PASSED}, nested=nested)
    if nested:
        return objects, NestedReader(Path(options["table"]), curve_columns(options), curves["band"])
    return objects, LightCurveReader(curves["format"], curves["band"], curve_columns(options), keep_bands=True)


def from_observations(options: Mapping[str, Any], folder: Path) -> Inputs:
    """Objects whose light curves are in long tables, beside a table of objects or alone."""
    if options["light_curve"] is not None:
        raise UserError("light_curve= and observations= both say where light curves are: give one of them.")
    paths = files_of(options["observations"])
    curves = options["light_curves"]
    with progress("reading observations", unit="tables"):
        table = read_long(paths, curve_columns(options), curves["columns"]["id"], folder, curves["band"])
    sentences = [f"{paths[0]}: {table.rows} observations of {len(table.places)} objects"]
    if table.left_out:
        sentences.append("left out: " + ", ".join(f"{n} {why}" for why, n in table.left_out.items()))
    if options["table"] is None:
        refused = [key for key in ("label", "spectrum", "targets") if options[key] is not None]
        if refused:
            raise UserError(f"{refused[0]}= names a column of a table of objects: give that as table=<file>.")
        objects = objects_of(table)
    else:
        objects, unknown = with_table(options, table)
        if unknown:
            sentences.append(f"{unknown} of these objects are not in {options['table']}: they are left out")
    inputs = understood(objects, table.reader, options)
    return replace(inputs, sentences=[*sentences, *inputs.sentences])


def with_table(options: Mapping[str, Any], table: LongTable) -> tuple[Objects, int]:
    """Objects of a table with their observations, and how many objects have observations only."""
    objects = read_objects(options["table"], **{key: options[key] for key in PASSED}, elsewhere=True)
    places = [table.places.get(name) for name in objects.ids]
    if not any(places):
        example = next(iter(table.places), "")
        raise UserError(
            f"no id of {options['table']} ({objects.ids[0] if objects.ids else 'none'}) is among those of "
            f"{table.reader.source} ({example}): name the columns of ids with id= and light_curves.columns.id=."
        )
    unknown = len(table.places.keys() - set(objects.ids))
    return replace(objects, light_curves=[usable(place) for place in places]), unknown


def usable(place: Place | None) -> Place | None:
    """A place with observations, else None."""
    return place if place is not None and place.stop > place.start else None


def objects_of(table: LongTable) -> Objects:
    """Unlabelled objects with nothing but light curves."""
    ids = list(table.places)
    values = np.full((len(ids), len(ALL_COLS)), np.nan)
    nothing: list[Any] = [None] * len(ids)
    return Objects(ids, list(nothing), values, [usable(table.places[name]) for name in ids], list(nothing), ())


def files_of(given: str | Sequence[str]) -> list[Path]:
    """Long tables: a file, a folder, a pattern such as parts/*.parquet, or a list of those."""
    names = [given] if isinstance(given, str) else list(given)
    found: list[Path] = []
    for name in names:
        path = Path(str(name)).expanduser()
        if path.is_dir():
            found += sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".", "_")))
        elif path.exists() or not glob.has_magic(str(path)):
            found.append(path)
        else:
            found += [Path(file) for file in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        raise UserError(f"observations={given}: there is no such file.")
    return found


def understood(objects: Objects, reader: Any, options: Mapping[str, Any]) -> Inputs:
    """The inputs, with what the first readable light curves say: columns, unit, whether points have bands."""
    spectra = options["spectra"]
    spectrum_columns = SpectrumColumns(
        **spectra["columns"], wavelength_unit=spectra["wavelength_unit"], air=spectra["air"]
    )
    found = first_readable(reader, objects.light_curves)
    sentences: list[str] = []
    warnings: list[str] = []
    provenance: dict[str, Any] = {}
    bands = False
    if found is not None:
        reference, curve = found
        where = reference if isinstance(reference, Path) else getattr(reader, "source", options["table"])
        sentences.append(f"{where}: {reader.taken(reference)}")
        provenance["light_curves"] = reader.taken(reference)
        bands = curve.band is not None and options["light_curves"]["band"] is None
        if reader.relative(reference):
            provenance["flux_unit"] = RELATIVE_UNIT
            warnings.append(RELATIVE_MEANS)
    recipe = Recipe(
        reader,
        SpectrumReader(spectra["format"], spectrum_columns, spectra["resample"]),
        options["features"],
        bands,
        options["light_curves"]["wavelengths"],
    )
    return Inputs(objects, recipe, None, provenance, sentences, warnings)


def first_readable(reader: Any, references: Sequence[Any]) -> tuple[Any, Any] | None:
    """The first light curve that can be read, with its reference; None where none of the first can."""
    for reference in [reference for reference in references if reference is not None][:PROBES]:
        try:
            return reference, reader(reference)
        except ReadError:
            continue
    return None


def curve_columns(options: Mapping[str, Any]) -> LightCurveColumns:
    """How light curves are read, of the options."""
    curves = options["light_curves"]
    names = {key: name for key, name in curves["columns"].items() if key != "id"}
    units = {key: curves[key] for key in ("time_offset", "flux_unit", "zero_point", "system")}
    return LightCurveColumns(**names, **units)
