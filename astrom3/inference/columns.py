"""Columns and units of what users hand in: mappings, astropy tables, data frames, quantities, masked values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from astrom3.data.readers.tables import USUAL
from astrom3.errors import UserError, first_line

MISSING = ("NAType", "NaTType")  # what pandas has for a value that is not there
COARSEST = 0.01  # day
# Kinds of numpy that would become numbers of another meaning.
NO_NUMBERS = {
    "M": "dates: give days, such as astropy.time.Time(dates).jd",
    "m": "spans of time: give days",
    "c": "complex numbers",
    "V": "records",
}


def columns_of(given: Any, what: str) -> dict[str, Any]:
    """Columns of a mapping, an astropy table or a data frame, by lower-case name."""
    names = getattr(given, "colnames", None) or getattr(given, "columns", None)
    if names is None and isinstance(given, Mapping):
        names = given
    names = [] if names is None or callable(names) else list(names)
    if not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"a {what} is a file, three arrays in a tuple, or columns by name, not {type(given).__name__}")
    found: dict[str, Any] = {}
    for name in names:
        if name.lower() in found:
            raise UserError(f"the {what} has the column {name.lower()} twice: leave one of them away")
        found[name.lower()] = given[name]
    return found


def find(columns: Mapping[str, Any], kind: str) -> Any:
    """The column of a kind under any of its usual names, or None."""
    for name in (kind, *USUAL[kind]):
        if name in columns:
            return columns[name]
    return None


def pick(columns: Mapping[str, Any], kind: str, what: str) -> Any:
    """The column of a kind; UserError where there is none. what: is read, for the message."""
    column = find(columns, kind)
    if column is None:
        raise UserError(f"the {what} has no column {kind} (nor {', '.join(USUAL[kind])}); it has {', '.join(columns)}")
    return column


def unit_of(values: Any) -> Any:
    """The unit of a column of astropy or of a Quantity, None without."""
    return getattr(values, "unit", None)


def days(time: Any) -> np.ndarray:
    """Days, from numbers, a Quantity or an astropy Time."""
    if type(time).__name__ == "Time":
        return np.atleast_1d(np.asarray(unmasked(time.jd), dtype=np.float64))
    found = numbers(time, "day", "time")
    refuse_coarse(time, found)
    return found


def refuse_coarse(time: Any, days: np.ndarray) -> None:
    """UserError where times were rounded: float32 has Julian dates in steps of a quarter of a day."""
    kind = getattr(time, "dtype", None)
    if kind not in (np.dtype(np.float32), np.dtype(np.float16)) or not np.isfinite(days).any():
        return
    step = float(np.spacing(np.abs(days[np.isfinite(days)]).max().astype(kind)))
    if step > COARSEST:
        raise UserError(f"times of {kind} are rounded to {step:g} days here: give float64, or subtract the first one")


def unmasked(values: Any) -> Any:
    """The same with NaN where a value is masked, of numpy's masked arrays and of astropy's masked columns."""
    mask = getattr(values, "mask", None)
    bare = getattr(values, "unmasked", values)
    if mask is None or not hasattr(values, "filled") or not np.any(mask):
        return bare
    plain = np.array(getattr(bare, "value", values), dtype=np.float64, ndmin=1)
    return np.where(np.asarray(mask), np.nan, plain)


def numbers(values: Any, unit: str | None, what: str) -> np.ndarray:
    """Float64 (N,) in `unit` (None: as it is); masked values are NaN. Numbers without a unit are taken to be in it."""
    from astropy import units as u

    given = unit_of(values)
    plain = plain_numbers(values, what)
    if given is None or unit is None or str(given) in ("", "dimensionless"):
        return plain

    refusal = UserError(f"{what} is in {given}, which cannot be converted to {unit}")
    if unit == "mag":  # of whatever system
        if "mag" not in str(given):
            raise refusal
        return plain

    try:
        quantity = u.Quantity(plain, given)
        return np.asarray(quantity.to_value(unit, equivalencies=u.spectral()))
    except (u.UnitConversionError, u.UnitTypeError, ValueError):
        raise refusal from None


def factor_to(unit: str, values: Any) -> float:
    """What numbers with a unit are multiplied by, so that they are in `unit`; 1 for numbers without one."""
    from astropy import units as u

    own = unit_of(values)
    if own is None or str(own) in ("", "dimensionless"):
        return 1.0
    try:
        return float(u.Unit(own).to(u.Unit(unit)))
    except (u.UnitConversionError, ValueError, TypeError):
        raise UserError(f"flux is in {own}, which cannot be converted to {unit}") from None


def plain_numbers(values: Any, what: str) -> np.ndarray:
    """Float64 (N,) of whatever numpy takes for numbers. UserError for dates, complex numbers and all else."""
    try:
        values = unmasked(values)
        if values is None or isinstance(values, datetime | timedelta):
            raise TypeError(f"it is {values}")
        given = np.asarray(getattr(values, "value", values))
        if given.dtype.kind in NO_NUMBERS:
            raise TypeError(f"it holds {NO_NUMBERS[given.dtype.kind]}")
        plain = np.array(given, dtype=np.float64, ndmin=1)
    except Exception as error:  # objects of any package may raise anything
        reason = re.sub(r"np\.str_\((.*)\)", r"\1", first_line(error))
        raise UserError(f"{what} is not all numbers ({reason})") from None
    if plain.ndim != 1:
        raise UserError(f"{what} has shape {plain.shape}: one number for each point is needed")
    return plain


def scalar(value: Any, unit: str, name: str) -> float | None:
    """One catalogue value in its unit, None where missing."""
    if value is None or value is np.ma.masked or type(value).__name__ in MISSING:
        return None
    if type(value) is float:
        return value
    found = numbers(value, unit or None, name)
    if len(found) != 1:
        raise UserError(f"{name} of an object holds {len(found)} numbers: give one")
    return float(found[0])


def same_length(what: str, *columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three columns as they are; UserError where their lengths differ. what: they belong to, for the message."""
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise UserError(f"the columns of the {what} have unequal lengths: {', '.join(map(str, lengths))}")
    first, second, third = columns
    return first, second, third
