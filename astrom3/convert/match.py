"""Cross-match of the table of objects with a second table, by position on the sky or by id.

By position the nearest row of the second table within a radius is taken (astropy's `match_to_catalog_sky`), and a row
of it belongs to the nearest object only. By id one or several columns must be equal as text, such as release, brickid,
objid. The columns of the second table join those of the first; one of the same name gets "_2" behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.data.readers.table_files import read_table
from astrom3.errors import UserError
from astrom3.modalities.quality import Decision

SEPARATION = "separation"  # [arcsec], a column of a match by position
KINDS = ("position", "id")
UNMATCHED = ("reject", "keep")


@dataclass(frozen=True)
class Match:
    """The joined table, the rows (n,) of the first table that are in it, what was left out, and what to say of it."""

    table: pa.Table
    rows: np.ndarray
    decisions: list[Decision]
    sentence: str


def cross_match(
    path: Path,
    table: pa.Table,
    ids: str,
    sky: tuple[str | None, str | None],
    options: Mapping[str, Any],
    text: Sequence[str],
) -> Match:
    """Match a table of objects that was read from `path`. ids: its column of names. sky: its columns of right ascension
    and declination [degree], None for the usual ones. options: `match` of conf/convert.yaml. text: columns of both
    tables that are read as text."""
    if options["by"] not in KINDS:
        raise UserError(f"match.by={options['by']} does not exist: it is position or id.")
    if options["unmatched"] not in UNMATCHED:
        raise UserError(f"match.unmatched={options['unmatched']} does not exist: it is reject or keep.")

    second_path = Path(options["table"])
    if options["by"] == "id":
        first_keys, second_keys = key_names(options)
        second = read_table(second_path, strings=[*text, *second_keys])
        partner, sentence = by_id(path, table, first_keys, second_path, second, second_keys)
        alone = np.flatnonzero(partner < 0).tolist()
        reasons = dict.fromkeys(alone, f"no row of {second_path.name} has its id")
        separation = None
    else:
        second = read_table(second_path, strings=text)
        first_sky = positions(path, table, sky)
        second_sky = positions(second_path, second, (options["ra"], options["dec"]))
        partner, separation, reasons = by_position(first_sky, second_sky, float(options["radius"]))
        sentence = f"within {options['radius']:g} arcsec"

    is_matched = partner >= 0
    if not is_matched.any():
        raise UserError(
            f"no object of {path} has a match in {second_path} ({sentence}): are the columns the right ones?"
        )

    names = [str(value) for value in table[ids].to_pylist()]
    if options["unmatched"] == "reject":
        rows = np.flatnonzero(is_matched)
        decision = "rejected"
    else:
        rows = np.arange(len(table))
        decision = "repaired"

    decisions = []
    for row, reason in sorted(reasons.items()):
        decisions.append(Decision(names[row], "object", decision, reason))

    joined = beside(table.take(pa.array(rows)), second, partner[rows])
    if separation is not None and SEPARATION not in joined.column_names:
        field = pa.field(SEPARATION, pa.float64(), metadata={"unit": "arcsec"})
        column = pa.array(separation[rows], mask=~is_matched[rows])
        joined = joined.append_column(field, column)

    summary = f"{int(is_matched.sum())} of {len(table)} objects matched with {second_path}, {sentence}"
    return Match(joined, rows, decisions, summary)


def key_names(options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Columns of ids in the first and in the second table."""
    second = as_list(options["id"])
    first = as_list(options["own_id"]) or second
    if not second or len(first) != len(second):
        raise UserError(
            "match.by=id needs match.id=<columns of match.table>, and as many in match.own_id if they differ."
        )
    return first, second


def as_list(given: Any) -> list[str]:
    """One name or several as a list."""
    if given is None:
        return []
    return [given] if isinstance(given, str) else [str(name) for name in given]


def by_id(
    path: Path, first: pa.Table, first_keys: list[str], second_path: Path, second: pa.Table, second_keys: list[str]
) -> tuple[np.ndarray, str]:
    """Row of the second table (n,) of every row of the first, -1 without one, and a sentence."""
    place: dict[tuple[str, ...], int] = {}
    twice = 0
    for row, key in enumerate(keys_of(second_path, second, second_keys)):
        if key is None:
            continue
        if key in place:
            twice += 1
        else:
            place[key] = row

    partner = []
    for key in keys_of(path, first, first_keys):
        partner.append(-1 if key is None else place.get(key, -1))
    sentence = f"by {', '.join(second_keys)}"
    if twice:
        sentence += f"; {twice} rows of {second_path.name} have an id that another row has, the first is taken"
    return np.array(partner, dtype=np.int64), sentence


def keys_of(path: Path, table: pa.Table, names: Sequence[str]) -> list[tuple[str, ...] | None]:
    """Ids as text, None where a part is missing."""
    columns = []
    for name in names:
        if name not in table.column_names:
            raise UserError(f"{path} has no column {name} to match by; it has {', '.join(table.column_names)}.")
        cells = ["" if value is None else str(value).strip() for value in table[name].to_pylist()]
        columns.append(cells)
    return [key if all(key) else None for key in zip(*columns, strict=True)]


def positions(path: Path, table: pa.Table, names: tuple[str | None, str | None]) -> np.ndarray:
    """Right ascension and declination (n, 2) float64 [degree], NaN where they are missing or impossible."""
    columns = []
    for usual, given in zip(("ra", "dec"), names, strict=True):
        known = [name for name in table.column_names if name == given or (given is None and name.lower() == usual)]
        if not known:
            there = ", ".join(table.column_names)
            raise UserError(f"{path} has no column {given or usual} to match positions; it has {there}.")
        name = known[0]
        cells = table[name].to_pylist()
        try:
            columns.append(np.array(cells, dtype=np.float64))  # null is NaN
        except (TypeError, ValueError):
            raise UserError(f"{path}: column {name} is not all numbers, so positions cannot be matched.") from None

    sky = np.stack(columns, axis=1)
    declination = sky[:, 1]
    is_missing = ~np.isfinite(sky).all(axis=1)
    is_impossible = np.abs(declination) > 90
    sky[is_missing | is_impossible] = np.nan
    return sky


def by_position(mine: np.ndarray, theirs: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Nearest row of `theirs` (m, 2) for each of `mine` (n, 2) [degree] within `radius` [arcsec], -1 without one, the
    separations (n,) [arcsec], and the reason by row of `mine` where there is none."""
    from astropy.coordinates import SkyCoord

    if not radius > 0:
        raise UserError(f"match.radius={radius:g} arcsec must be above 0.")

    partner = np.full(len(mine), -1, dtype=np.int64)
    separation = np.full(len(mine), np.inf)
    has_position = np.isfinite(mine[:, 0])
    known = np.flatnonzero(has_position)
    there = np.flatnonzero(np.isfinite(theirs[:, 0]))
    if len(known) and len(there):
        objects = SkyCoord(mine[known, 0], mine[known, 1], unit="deg")
        catalogue = SkyCoord(theirs[there, 0], theirs[there, 1], unit="deg")
        nearest, angle, _ = objects.match_to_catalog_sky(catalogue)
        partner[known] = there[nearest]
        separation[known] = angle.arcsec

    unknown = np.flatnonzero(~has_position).tolist()
    reasons = dict.fromkeys(unknown, "no position to match")
    for row in known.tolist():
        if not separation[row] <= radius:
            reasons[row] = f"no match within {radius:g} arcsec"
            partner[row] = -1

    taken: set[int] = set()
    order = np.argsort(separation, kind="stable")  # the nearest object takes a row
    for row in order.tolist():
        asked = int(partner[row])
        if asked < 0:
            continue
        if asked in taken:
            reasons[row] = "its match is nearer to another object"
            partner[row] = -1
        taken.add(asked)

    return partner, separation, reasons


def beside(first: pa.Table, second: pa.Table, partner: np.ndarray) -> pa.Table:
    """The columns of both tables; rows (n,) `partner` of the second beside those of the first, null where it is -1."""
    rows = pa.array(np.maximum(partner, 0), mask=partner < 0)
    joined = first
    for field in second.schema:
        name = f"{field.name}_2" if field.name in joined.column_names else field.name
        if name in joined.column_names:
            raise UserError(f"both tables have columns {field.name} and {name}: rename one of them.")
        column = second[field.name].take(rows)
        joined = joined.append_column(field.with_name(name), column)
    return joined
