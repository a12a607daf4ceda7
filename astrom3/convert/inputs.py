"""What `convert` is to read, from its options: a table of objects, long tables of observations, or the raw data set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.convert.conversion import Method, Recipe, terminable
from astrom3.convert.long_files import files_of
from astrom3.convert.match import as_list, cross_match
from astrom3.convert.raw import read_raw
from astrom3.data.readers import ReadError
from astrom3.data.readers.auto import LightCurveReader, SpectrumReader
from astrom3.data.readers.long import LongTable, Place, read_long
from astrom3.data.readers.nested import NestedReader, NestedSpectra, has_spectra, is_nested
from astrom3.data.readers.objects import Objects, columns_named, read_objects
from astrom3.data.readers.systems import RELATIVE_MEANS, RELATIVE_UNIT
from astrom3.data.readers.table_files import read_table
from astrom3.data.readers.tables import LightCurveColumns, SpectrumColumns
from astrom3.data.writer import PublishedSplit
from astrom3.errors import UserError
from astrom3.files import remove_leftovers, temporary_folder
from astrom3.modalities.quality import Decision
from astrom3.modalities.schema import ALL_COLS
from astrom3.progress import progress

PROBES = 5  # light curves that are tried to find what they are
TABLE_ONLY = ("label", "light_curve", "spectrum", "image", "labels", "classes", "targets", "band", "observations")
PASSED = ("id", "label", "light_curve", "spectrum", "root", "labels", "classes", "unknown", "targets")
NAMED = ("id", "label", "light_curve", "spectrum", "image")  # columns that are read as text
KINDS = ("auto", "stars", "galaxies")
OF_GALAXIES = ("redshift", "mag_g", "mag_r", "mag_z")  # numbers that galaxies have beside ra and dec


@dataclass(frozen=True)
class Inputs:
    """Objects and how to read them; published: splits to keep; sentences and warnings: what was understood, for the
    user."""

    objects: Objects
    recipe: Method
    published: Mapping[tuple[str, int], PublishedSplit] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def saying(self, sentence: str) -> Inputs:
        """With one more sentence, if there is one."""
        return replace(self, sentences=[sentence, *self.sentences]) if sentence else self


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
    if is_of_galaxies(options):
        yield galaxies(options)
        return
    if not long:
        yield stars(options)
        return

    remove_leftovers(out.absolute())
    folder = temporary_folder(out.absolute())
    try:
        with terminable():
            yield from_observations(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_of_galaxies(options: Mapping[str, Any]) -> bool:
    """Whether the objects are galaxies: as `objects` says, else where cutouts are given."""
    if options["objects"] not in KINDS:
        raise UserError(f"objects={options['objects']} does not exist: it is one of {', '.join(KINDS)}.")
    if options["objects"] == "stars" and options["image"] is not None:
        raise UserError("image= names cutouts of galaxies, and objects=stars was asked for: leave one of them away.")
    found = options["objects"] == "galaxies" or (options["objects"] == "auto" and options["image"] is not None)
    refused = [key for key in ("light_curve", "observations", "band") if options[key] is not None]
    if found and refused:
        raise UserError(f"{refused[0]}= is of light curves, which galaxies have none of: leave it away.")
    return found


def stars(options: Mapping[str, Any]) -> Inputs:
    """Objects of a table, with light curves in files, or as lists in the table itself."""
    curves = options["light_curves"]
    nested = options["light_curve"] is None and is_nested(options["table"], curves["columns"])
    match = matched(options)
    objects = read_objects(
        options["table"], **passed(options), columns=of_stars(options), nested=nested, table=match.table
    )
    if not nested:
        reader: Any = LightCurveReader(curves["format"], curves["band"], curve_columns(options), keep_bands=True)
        return understood(match.applied_to(objects), reader, options).saying(match.sentence)
    objects = replace(objects, light_curves=match.rows[objects.light_curves].tolist())
    reader = NestedReader(Path(options["table"]), curve_columns(options), curves["band"])
    return understood(match.applied_to(objects), reader, options).saying(match.sentence)


def galaxies(options: Mapping[str, Any]) -> Inputs:
    """Galaxies of a table, with cutouts in files, and spectra in files or as lists in the table itself."""
    from astrom3.convert.galaxies import GalaxyRecipe
    from astrom3.data.readers.cutouts import GRID, CutoutReader, GridReader

    path = Path(options["table"])
    columns = spectrum_columns(options)
    nested = options["spectrum"] is None and has_spectra(path, columns.flux)
    match = matched(options)
    table = with_usual_names(path, match.table, options["columns"])
    given = passed(options) | {"classes": options["classes"] or "all", "image": options["image"]}
    given["targets"] = all_targets(table, options["targets"], given)
    objects = match.applied_to(read_objects(path, **given, columns={}, table=table, nested_spectra=nested))
    reader = GridReader(options["spectra"]["format"], columns)
    read_spectrum: Any = reader
    if nested:
        objects = replace(objects, spectra=match.rows[objects.spectra].tolist())
        read_spectrum = GridReader(nested=NestedSpectra(path, columns, GRID))
    recipe = GalaxyRecipe(
        CutoutReader(options["images"]["bands"]),
        read_spectrum,
        images=options["image"] is not None,
        spectra=nested or options["spectrum"] is not None,
        copy=options["images"]["copy"],
        folder=Path(os.path.abspath(options["root"] or path.parent)),
    )
    if not (recipe.images or recipe.spectra):
        raise UserError(
            "galaxies need image=<column of cutouts>, spectrum=<column of spectra>, or lists of spectra in the table."
        )
    return Inputs(objects, recipe).saying(match.sentence)


def passed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that the reader of objects takes as they are."""
    return {key: options[key] for key in PASSED}


def of_stars(options: Mapping[str, Any]) -> dict[str, Any]:
    """Catalogue columns of stars."""
    return {name: column for name, column in options["columns"].items() if name not in OF_GALAXIES}


@dataclass(frozen=True)
class Matched:
    """A table of objects, cross-matched or as it was: rows (n,) of the file that are in it, and who was left out."""

    table: Any
    rows: np.ndarray
    decisions: Sequence[Decision] = ()
    sentence: str = ""

    def applied_to(self, objects: Objects) -> Objects:
        """The objects of the table, with what was decided on the others."""
        left_out = sum(decision.decision == "rejected" for decision in self.decisions)
        decisions = [*self.decisions, *objects.decisions]
        return replace(objects, decisions=decisions, n_left_out=objects.n_left_out + left_out)


def matched(options: Mapping[str, Any]) -> Matched:
    """The table of objects, joined with the second one where `match.table` names it."""
    path = Path(options["table"])
    text = columns_named(*(options[key] for key in NAMED))
    match = options["match"]
    first = read_table(path, strings=[*text, *as_list(match["own_id"] or match["id"])])
    if match["table"] is None:
        return Matched(first, np.arange(len(first)))
    if options["id"] not in first.column_names:
        raise UserError(f"{path} has no column {options['id']} (id=); it has {', '.join(first.column_names)}.")
    sky = options["columns"]["ra"], options["columns"]["dec"]
    found = cross_match(path, first, options["id"], sky, match, text)
    return Matched(found.table, found.rows, found.decisions, found.sentence)


def with_usual_names(path: Path, table: Any, columns: Mapping[str, str | None]) -> Any:
    """The table with the columns ra, dec, redshift and magnitudes that `columns` names under these names."""
    for name in ("ra", "dec", *OF_GALAXIES):
        given = columns.get(name)
        if given is None or given == name:
            continue
        if given not in table.column_names:
            have = ", ".join(table.column_names)
            raise UserError(f"{path} has no column {given} (columns.{name}={given}); it has {have}.")
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.rename_columns([name if old == given else old for old in table.column_names])
    return table


def all_targets(table: Any, targets: Any, given: Mapping[str, Any]) -> Any:
    """The targets of galaxies: those that were asked for, and position, redshift and magnitudes where they are."""
    if targets == "all":
        return targets
    asked = dict(targets) if isinstance(targets, Mapping) else dict.fromkeys(as_list(targets))
    named = columns_named(*(given[key] for key in NAMED))
    for name in ("ra", "dec", *OF_GALAXIES):
        if name in table.column_names and name not in named:
            asked.setdefault(name, None)
    return asked


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
        reasons = [f"{count} {reason}" for reason, count in table.left_out.items()]
        sentences.append(f"left out: {', '.join(reasons)}")
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
    match = matched(options)
    found = read_objects(
        options["table"], **passed(options), columns=of_stars(options), elsewhere=True, table=match.table
    )
    objects = match.applied_to(found)
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
    places = list(map(usable, table.places.values()))
    return Objects(ids, list(nothing), values, places, list(nothing), ())


def understood(objects: Objects, reader: Any, options: Mapping[str, Any]) -> Inputs:
    """The inputs, with what the first readable light curves say: columns, unit, whether points have bands."""
    spectra = options["spectra"]
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
            warnings.append(RELATIVE_MEANS.format(section="light_curves"))
    recipe = Recipe(
        reader,
        SpectrumReader(spectra["format"], spectrum_columns(options), spectra["resample"]),
        options["features"],
        bands,
        options["light_curves"]["wavelengths"],
    )
    return Inputs(objects, recipe, None, provenance, sentences, warnings)


def first_readable(reader: Any, references: Sequence[Any]) -> tuple[Any, Any] | None:
    """The first light curve that can be read, with its reference; None where none of the first can."""
    given = [reference for reference in references if reference is not None]
    for reference in given[:PROBES]:
        try:
            return reference, reader(reference)
        except ReadError:
            continue
    return None


def spectrum_columns(options: Mapping[str, Any]) -> SpectrumColumns:
    """How spectra in plain columns are read, of the options."""
    spectra = options["spectra"]
    return SpectrumColumns(**spectra["columns"], wavelength_unit=spectra["wavelength_unit"], air=spectra["air"])


def curve_columns(options: Mapping[str, Any]) -> LightCurveColumns:
    """How light curves are read, of the options."""
    curves = options["light_curves"]
    names = dict(curves["columns"])
    names.pop("id", None)
    units = {key: curves[key] for key in ("time_offset", "flux_unit", "zero_point", "system")}
    return LightCurveColumns(**names, **units)
