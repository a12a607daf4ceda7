"""The user's table of objects: ids, labels, paths of light curves and spectra, catalogue columns."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.data.readers.table_files import read_table
from astrom3.data.rows import is_numeric
from astrom3.errors import UserError
from astrom3.modalities.catalogue import DERIVED
from astrom3.modalities.quality import Decision
from astrom3.modalities.schema import ALL_COLS, CLASSES

WIDTH = re.compile(r"0?[<>^]?\d{0,2}s?")  # in a pattern of names of files: {id:05}


@dataclass(frozen=True)
class Objects:
    """n objects to convert. References are paths (or what the reader takes), None where there is none."""

    ids: list[str]
    labels: list[str | None]
    values: np.ndarray  # (n, 38) float64 in the order of ALL_COLS, NaN where unknown
    light_curves: list[Any]
    spectra: list[Any]
    classes: tuple[str, ...]
    decisions: list[Decision] = field(default_factory=list)
    n_left_out: int = 0  # rows of the input that are not among the n
    targets: Mapping[str, str | None] = field(default_factory=dict)  # numbers to predict -> unit
    target_values: np.ndarray | None = None  # (n, T) float64, NaN where unknown
    further_columns: tuple[str, ...] = ()  # names of the table's other numbers
    images: list[Any] | None = None  # references to cutouts, of galaxies

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int) -> Objects:
        """Objects start:stop, without the decisions."""
        part = slice(start, stop)
        return Objects(
            self.ids[part],
            self.labels[part],
            self.values[part],
            self.light_curves[part],
            self.spectra[part],
            self.classes,
            targets=self.targets,
            target_values=None if self.target_values is None else self.target_values[part],
            images=None if self.images is None else self.images[part],
        )

    def add_targets(self, rows: Sequence[dict[str, Any]]) -> None:
        """Put the known numbers to predict into one row for each object."""
        if self.target_values is None:
            return
        for row, numbers in zip(rows, self.target_values.tolist(), strict=True):
            known = {}
            for name, number in zip(self.targets, numbers, strict=True):
                if number == number:
                    known[name] = number
            row["targets"] = known or None


def read_objects(
    path: Path | str,
    *,
    id: str,
    label: str | None = None,
    light_curve: str | None = None,
    spectrum: str | None = None,
    root: Path | str | None = None,
    columns: Mapping[str, str | None] | None = None,
    labels: Mapping[str, str] | None = None,
    classes: Sequence[str] | str | None = None,
    unknown: str = "reject",
    nested: bool = False,
    elsewhere: bool = False,
    targets: Sequence[str] | Mapping[str, str | None] | str | None = None,
    image: str | None = None,
    table: pa.Table | None = None,
    nested_spectra: bool = False,
) -> Objects:
    """Read a table with one row per object.

    id, label, light_curve, spectrum: names of columns; the last two may also be patterns of columns, such as
    "curves/{id}.dat". Relative paths start at `root`, by default the table's folder. columns: catalogue column -> name
    in the table (default: the same name). labels: label in the table -> class. classes: default the ten of AstroM3;
    "all": those found. unknown: objects of other classes are left out ("reject") or lose their label ("unlabelled").
    nested: light curves stand in the table as lists, and a reference is the number of the row. elsewhere: they are in
    another table, and references are put in later.
    targets: columns of numbers to predict, alone or with their units, or "all" numbers; a table with targets and
    without label has no classes. image: as spectrum, of galaxies. table: what stands at `path`, where it was read
    already. nested_spectra: spectra stand in the table as lists.
    """
    path = Path(path)
    if unknown not in ("reject", "unlabelled"):
        raise UserError(f"unknown={unknown} is neither reject nor unlabelled.")

    given = light_curve or spectrum or image
    if given is None and not columns and not (nested or elsewhere or nested_spectra):
        raise UserError(
            f"give light_curve=<column>, spectrum=<column> or catalogue columns: {path} is not used otherwise."
        )

    patterns = {"id": id, "label": label, "light_curve": light_curve, "spectrum": spectrum, "image": image}
    used = columns_named(*patterns.values())
    table = read_table(path, strings=used) if table is None else table
    for key, pattern in patterns.items():
        for name in _fields(pattern) if pattern else []:
            if name not in table.column_names:
                raise UserError(
                    f"{path} has no column {name} ({key}={pattern}); it has {', '.join(table.column_names)}."
                )

    folder = Path(root) if root is not None else path.parent
    text: dict[str, list[str | None]] = {}
    for name in used:
        text[name] = list(map(_text, table[name].to_pylist()))
    ids = [value or "" for value in text[id]]
    renamed = labels or {}
    mapped: list[str | None] = [None] * len(ids)
    if label is not None:
        mapped = [None if value is None else renamed.get(value, value) for value in text[label]]
        refuse_numbers(path, label, mapped, renamed, classes)
    known = () if targets and label is None and classes is None else _classes(classes, mapped)

    keep, decisions = of_known_classes(ids, mapped, known, unknown)
    values = catalogue_values(path, table, columns or {})
    every_row: list[Any] = list(range(len(ids)))
    curves = every_row if nested else _paths(text, light_curve, folder)
    spectra = every_row if nested_spectra else _paths(text, spectrum, folder)
    images = None if image is None else _paths(text, image, folder)
    named = {*used, *(columns or {}).values()}
    if targets == "all":
        targets = further_numbers(table, named)
    units = target_units(table, targets)

    def kept(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in keep]

    return Objects(
        kept(ids),
        kept(mapped),
        values[keep],
        kept(curves),
        kept(spectra),
        known,
        decisions,
        len(ids) - len(keep),
        units,
        target_values(path, table, list(units))[keep],
        further_numbers(table, {*named, *units, *ALL_COLS}),
        None if images is None else kept(images),
    )


def of_known_classes(
    ids: list[str], labels: list[str | None], known: Sequence[str], unknown: str
) -> tuple[list[int], list[Decision]]:
    """Rows to keep, and what is said of objects of other classes: left out, or `labels` has none in their place."""
    keep: list[int] = []
    decisions = []
    for row, value in enumerate(labels):
        if value is not None and value not in known:
            if unknown == "reject":  # here already: its files need not be read
                decisions.append(Decision(ids[row], "object", "rejected", f"unknown class: {value}"))
                continue
            decisions.append(Decision(ids[row], "object", "repaired", f"unknown class, kept without label: {value}"))
            labels[row] = None
        keep.append(row)
    return keep, decisions


def columns_named(*patterns: str | None) -> list[str]:
    """Columns that are read as text: those of ids, labels and paths."""
    names = []
    for pattern in patterns:
        if pattern:
            names += _fields(pattern)
    return names


def refuse_numbers(
    path: Path,
    column: str,
    found: Sequence[str | None],
    labels: Mapping[str, str],
    classes: Sequence[str] | str | None,
) -> None:
    """Numbers are no class names, unless `labels` or `classes` say so."""
    said = set(labels.values())
    if classes is not None and not isinstance(classes, str):
        said.update(map(str, classes))
    values = [value for value in found if value is not None and value not in said]
    if values and all(map(is_number, values)):
        raise UserError(
            f"{path}: column {column} holds numbers ({values[0]}), which are no class names: predict them with "
            f"targets=[{column}], or name the classes with labels={{{values[0]}:EW}} or classes=[...]."
        )


def target_units(table: pa.Table, targets: Sequence[str] | Mapping[str, str | None] | str | None) -> dict[str, Any]:
    """Target -> unit: as given, else what the table's file says, else None."""
    if isinstance(targets, str):
        targets = [targets]
    given = dict(targets) if isinstance(targets, Mapping) else dict.fromkeys(targets or ())
    units: dict[str, Any] = {}
    for name, unit in given.items():
        metadata = table.schema.field(name).metadata if name in table.column_names else None
        units[name] = unit or (metadata or {}).get(b"unit", b"").decode() or None
    return units


def target_values(path: Path, table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Numbers to predict (n, T) float64, NaN where unknown."""
    values = np.full((table.num_rows, len(names)), np.nan)
    for i, name in enumerate(names):
        if name not in table.column_names:
            raise UserError(f"{path} has no column {name} (targets={name}); it has {', '.join(table.column_names)}.")
        values[:, i] = _floats(path, table[name], name)
    values[~np.isfinite(values)] = np.nan
    return values


def further_numbers(table: pa.Table, used: set[str | None]) -> tuple[str, ...]:
    """Columns of numbers that nothing else uses."""
    return tuple(field.name for field in table.schema if field.name not in used and is_numeric(field.type))


def is_number(text: str) -> bool:
    """Whether a cell reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text(value: object) -> str | None:
    """A cell as text; None where it is empty, null or NaN."""
    text = "" if value is None or value != value else str(value).strip()
    return text or None


def _classes(classes: Sequence[str] | str | None, labels: Sequence[str | None]) -> tuple[str, ...]:
    if classes is None:
        return CLASSES
    if classes == "all":
        return tuple(sorted({label for label in labels if label is not None}))
    if isinstance(classes, str):
        raise UserError(f"classes={classes} is neither a list of names nor `all`.")
    return tuple(str(c) for c in classes)


def _fields(pattern: str) -> list[str]:
    """Columns of a pattern such as "curves/{id}.dat"; a string without braces is a column itself."""
    if "{" not in pattern:
        return [pattern]
    try:
        found = []
        for _, name, width, _ in string.Formatter().parse(pattern):
            if WIDTH.fullmatch(width or "") is None:
                raise ValueError(f"{width!r} is no width of at most 99 letters")
            if name:
                found.append(name)
        return found
    except ValueError as error:
        raise UserError(f"{pattern!r} is not a pattern like curves/{{id}}.dat: {error}.") from None


def _paths(text: Mapping[str, list[str | None]], pattern: str | None, folder: Path) -> list[Path | None]:
    n = len(next(iter(text.values())))
    if pattern is None:
        return [None] * n

    names = _fields(pattern)
    paths: list[Path | None] = []
    for i in range(n):
        cells = {name: text[name][i] for name in names}
        if None in cells.values():
            paths.append(None)
        elif "{" in pattern:
            paths.append(folder / pattern.format(**cells))
        else:
            paths.append(folder / str(cells[pattern]))

    return paths


def catalogue_values(path: Path, table: pa.Table, columns: Mapping[str, str | None]) -> np.ndarray:
    """Catalogue values (n, 38); galactic coordinates from ra and dec [degree] where l and b are not given."""
    surplus = sorted(set(columns) - set(ALL_COLS) - {"ra", "dec"})
    if surplus:
        raise UserError(f"columns.{surplus[0]} is no catalogue column; there are ra, dec, {', '.join(ALL_COLS)}.")

    values = np.full((table.num_rows, len(ALL_COLS)), np.nan)
    at = {name: number for number, name in enumerate(ALL_COLS)}
    sky = {}
    for name in (*ALL_COLS, "ra", "dec"):
        asked = columns.get(name)
        if asked is not None and asked not in table.column_names:
            there = ", ".join(table.column_names)
            raise UserError(f"{path} has no column {asked} (columns.{name}={asked}); it has {there}.")
        column = name if asked is None else asked
        if column not in table.column_names:
            continue
        numbers = _floats(path, table[column], column)
        if name in at:
            values[:, at[name]] = numbers
        else:
            sky[name] = numbers

    with np.errstate(all="ignore"):
        for name, (parts, derive) in DERIVED.items():
            given = values[:, at[name]]
            derived = derive(*(values[:, at[part]] for part in parts))
            values[:, at[name]] = np.where(np.isfinite(given), given, derived)

    galactic = values[:, [at["l"], at["b"]]]
    if len(sky) == 2 and np.isnan(galactic).any():
        values = _galactic(values, at, sky["ra"], sky["dec"])
    values[~np.isfinite(values)] = np.nan
    return values


def _floats(path: Path, column: pa.ChunkedArray, name: str) -> np.ndarray:
    try:
        return np.array([np.nan if v is None or v == "" else float(v) for v in column.to_pylist()])
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: column {name} is not all numbers ({error}); map another one with columns.") from None


def _galactic(values: np.ndarray, at: Mapping[str, int], ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    from astropy.coordinates import SkyCoord

    good = np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90)
    good &= np.isnan(values[:, at["l"]]) | np.isnan(values[:, at["b"]])
    sky = SkyCoord(ra[good], dec[good], unit="deg").galactic
    values[good, at["l"]], values[good, at["b"]] = sky.l.deg, sky.b.deg
    return values
