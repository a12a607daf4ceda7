"""A request's JSON -> objects that the model can read. Everything that is wrong becomes one sentence and a status.

    {"objects": [{"id": "a", "light_curve": {"time": [...], "flux": [...], "flux_err": [...]},
                  "spectrum": {"wavelength": [...], "flux": [...], "ivar": [...]}, "metadata": {"period": 0.56}}],
     "coverage": 0.9, "embedding": true}

One object may stand there by itself, without the list. null stands for a missing number. What a light curve, a spectrum
or the metadata may hold is checked by the readers of inference/observations.py. Text is never taken for a file name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from astrom3 import strict_json
from astrom3.data.readers.tables import USUAL
from astrom3.errors import UserError, printable
from astrom3.inference.conformal import check_coverage
from astrom3.inference.objects import KINDS, check
from astrom3.inference.trained import TrainedModel

OPTIONS = ("system", "zero_point", "air", "features", "band", "wavelengths")
FIELDS = ("objects", "coverage", "embedding", *OPTIONS)
HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that needs another one beside it
LONGEST_SENTENCE = 500  # letters, where it repeats what the client has sent
LONGEST = 200  # letters of an id, and of a name that is shown again
NUMBERS = {int, float, type(None)}  # types of what may stand in a list of them; a bool is none
COLUMNS = {
    "light_curve": ("time", "flux", "flux_err", "mag", "mag_err", "band"),
    "spectrum": ("wavelength", "flux", "flux_err", "ivar"),
}


class BadRequest(Exception):
    """What the client can put right, as one sentence. status: of HTTP, 400 to 499."""

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Largest body [bytes], most objects of a request, points of a light curve or spectrum, pixels of an image's side,
    and the seconds in which a body must arrive."""

    body: int
    objects: int
    points: int
    pixels: int
    seconds: float


@dataclass(frozen=True)
class Request:
    """ids: of the objects, their places where none are given. objects: place -> observations that can be read.
    rejected: place -> why the others cannot."""

    ids: list[str]
    objects: dict[int, dict[str, Any]]
    rejected: dict[int, str]
    coverage: float | None = None
    embedding: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def parse(body: bytes, model: TrainedModel, limits: Limits) -> Request:
    """Raises BadRequest for what is wrong with the whole request; of its objects, those that cannot be read are listed
    as rejected."""
    given = read_json(body)
    unknown = []
    for name in given:
        if name not in (*FIELDS, "id", *KINDS):
            unknown.append(name)
    if unknown:
        raise BadRequest(f"{shown(unknown[0])} is no field of a request: there are {', '.join(FIELDS)}")
    items = listed(given)
    if len(items) > limits.objects:
        raise BadRequest(f"{len(items)} objects are too many: send at most {limits.objects} in a request", 413)
    options = options_of(given)
    ids = []
    objects: dict[int, dict[str, Any]] = {}
    rejected: dict[int, str] = {}
    for place, item in enumerate(items):
        ids.append(id_of(item, place))
        try:
            observed = observations_of(item, limits)
            check(model, observed, options)
        except UserError as error:
            rejected[place] = printable(str(error), LONGEST_SENTENCE)
        else:
            objects[place] = observed
    return Request(ids, objects, rejected, coverage_of(given), flag(given, "embedding"), options)


def read_json(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8")
        found = strict_json.loads(text, no_number)
        if HALF_A_PAIR.search(text):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest("the body holds an escape such as \\ud800 that stands for no letter: leave it away") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise BadRequest("the body is no JSON: it is not in UTF-8") from None
    except ValueError as error:
        reason = "it holds a number of thousands of digits" if "int_max_str_digits" in str(error) else str(error)
        raise BadRequest(f"the body is no JSON: {reason}") from None
    if not isinstance(found, dict):
        raise BadRequest(f'the body is {kind_of(found)}, not an object of JSON such as {{"objects": [...]}}')
    return found


def no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON; write null where a value is missing")


def listed(given: Mapping[str, Any]) -> list[Any]:
    """The objects of a request, or the one that stands in it by itself."""
    alone = [name for name in ("id", *KINDS) if name in given]
    if "objects" not in given:
        if not alone:
            raise BadRequest(f"there are no objects: give objects, or {', '.join(KINDS)} of a single one")
        return [{name: given[name] for name in alone}]
    if alone:
        raise BadRequest(f"{alone[0]} stands beside objects: put it into one of them")
    items = given["objects"]
    if not isinstance(items, list):
        raise BadRequest(f"objects is {kind_of(items)}, not a list of objects")
    if not items:
        raise BadRequest("objects is an empty list: send at least one")
    for place, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadRequest(f"object {place} is {kind_of(item)}, not an object of JSON")
        unknown = [name for name in item if name not in ("id", *KINDS)]
        if unknown:
            raise BadRequest(
                f"{shown(unknown[0])} is no field of an object (object {place}): there are id, {', '.join(KINDS)}"
            )
    return items


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """How the observations are to be read; only what is given."""
    options = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    for name in ("system", "features", "band"):
        if name in options and not isinstance(options[name], str):
            raise BadRequest(f"{name} is {kind_of(options[name])}, not text")
    if "zero_point" in options:
        options["zero_point"] = number(options["zero_point"], "zero_point")
        if not options["zero_point"] > 0:
            raise BadRequest("zero_point must be a positive number, the flux of magnitude 0 in mJy")
    if "wavelengths" in options:
        options["wavelengths"] = wavelengths_of(options["wavelengths"])
    if "air" in options:
        options["air"] = flag(given, "air")
    return options


def wavelengths_of(given: Any) -> dict[str, float]:
    """Of bands by name [Angstrom]."""
    if not isinstance(given, dict):
        raise BadRequest(f"wavelengths is {kind_of(given)}, not wavelengths by the names of bands")
    found = {name: number(value, f"the wavelength of band {shown(name)}") for name, value in given.items()}
    if any(value <= 0 for value in found.values()):
        raise BadRequest("wavelengths must be positive numbers, in Angstrom")
    return found


def coverage_of(given: Mapping[str, Any]) -> float | None:
    if given.get("coverage") is None:
        return None
    coverage = number(given["coverage"], "coverage")
    try:
        check_coverage(coverage)
    except UserError as error:
        raise BadRequest(str(error)) from None
    return coverage


def flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise BadRequest(f"{name} is {kind_of(value)}, not true or false")


def number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{name} is {kind_of(value)}, not a number")
    try:
        found = float(value)
    except OverflowError:
        found = np.inf
    if not np.isfinite(found):
        raise BadRequest(f"{name} is too large a number")
    return found


# --- one object -------------------------------------------------------------------------------------------------------


def id_of(item: Mapping[str, Any], place: int) -> str:
    """The id of an object, its place in the list where it has none."""
    value = item.get("id")
    if value is None:
        return str(place)
    if isinstance(value, bool) or not isinstance(value, str | int) or len(str(value)) > LONGEST:
        raise BadRequest(f"id of object {place} is no text of at most {LONGEST} letters, nor a whole number")
    return str(value)


def observations_of(item: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Observations of an object as arrays. UserError where they are of another form or too large."""
    observed: dict[str, Any] = {}
    for kind in KINDS:
        value = item.get(kind)
        if value is None:
            continue
        if kind in COLUMNS:
            observed[kind] = columns_of(value, kind, limits.points)
        elif kind == "metadata":
            observed[kind] = catalogue_of(value)
        else:
            observed[kind] = image_of(value, limits.pixels)
    if not observed:
        raise UserError(f"the object holds no observations: give it {', '.join(KINDS)}")
    return observed


def columns_of(given: Any, kind: str, most: int) -> dict[str, Any]:
    """Columns by name, float64 (N,) each."""
    if not isinstance(given, dict):
        raise UserError(f'{kind} is {kind_of(given)}, not columns by name such as {{"{COLUMNS[kind][0]}": [...]}}')
    known = {name for column in COLUMNS[kind] for name in (column, *USUAL[column])}
    found: dict[str, Any] = {}
    for name, values in given.items():
        if name.lower() not in known:
            raise UserError(f"{shown(name)} is no column of a {kind}: there are {', '.join(COLUMNS[kind])}")
        if not isinstance(values, list):
            raise UserError(f"the column {name} of the {kind} is {kind_of(values)}, not a list of numbers")
        if len(values) > most:
            raise UserError(f"the column {name} of the {kind} has {len(values)} points: send at most {most}")
        if name.lower() in USUAL["band"]:
            found[name] = names_of(values, f"the column {name} of the {kind}")
        else:
            found[name] = numbers_of(values, f"the column {name} of the {kind}")
    return found


def names_of(values: list[Any], what: str) -> list[str]:
    """Names of bands, text or whole numbers."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise UserError(f"{what} holds {kind_of(value)}, not the name of a band")
    return [str(value) for value in values]


def numbers_of(values: list[Any], what: str) -> np.ndarray:
    """Float64 array of a list of numbers, NaN for null. UserError for anything else, true and infinite among it."""
    if not set(map(type, values)) <= NUMBERS:
        raise UserError(f"{what} is not a list of numbers")
    try:
        found = np.array(values, dtype=np.float64)
    except OverflowError:
        found = np.array([np.inf])
    if np.isinf(found).any():
        raise UserError(f"{what} holds numbers that are too large")
    return found


def catalogue_of(given: Any) -> dict[str, float | None]:
    """Catalogue columns by name."""
    if not isinstance(given, dict):
        raise UserError(f"metadata is {kind_of(given)}, not catalogue columns by name")
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise UserError(f"{shown(name)} of the metadata is {kind_of(value)}, not a number")
        if value is not None and not abs(value) < 1e300:
            raise UserError(f"{shown(name)} of the metadata is too large a number")
    return {name: None if value is None else float(value) for name, value in given.items()}


def image_of(given: Any, most: int) -> dict[str, np.ndarray]:
    """Planes by band, float32 (H, W) each."""
    if not isinstance(given, dict):
        raise UserError(f'image is {kind_of(given)}, not planes by band such as {{"g": [[...]], "r": ..., "z": ...}}')
    found = {}
    for name, rows in given.items():
        what = f"the plane {shown(name)} of the image"
        if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
            raise UserError(f"{what} is not a list of rows")
        if len(rows) > most or any(len(row) > most for row in rows):
            raise UserError(f"{what} has more than {most} pixels along a side: cut it")
        planes = [numbers_of(row, what) for row in rows]
        if len({len(row) for row in planes}) > 1:
            raise UserError(f"{what} has rows of unequal length")
        found[name] = np.stack(planes).astype(np.float32) if planes else np.zeros((0, 0), np.float32)
    return found


def shown(name: str) -> str:
    """A name from the request, no longer than fits into a sentence."""
    return name if len(name) <= 40 else name[:40] + "..."


def kind_of(value: object) -> str:
    """What JSON calls the kind of a value."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names[type(value)]
