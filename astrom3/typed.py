"""What a stored file must hold, written as Python types, and one function that compares.

    class Preprocessing(TypedDict):
        classes: list[str]
        pad_constants: NotRequired[bool]

    check(read_json(path), Preprocessing, path)

The types are those of annotations: int, float, bool, str, None, Any, unions, list[X], dict[str, X], tuple[X, ...],
Literal and TypedDict, in which keys beyond the named ones may stand. Constructors are described by their own
annotations (`check_arguments`). Numbers must be finite, and within the range that bounds.py has for their name.
A class stands for its instances, and what is none of these is not compared.
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from astrom3 import bounds
from astrom3.errors import UserError, shown

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
HALF_A_PAIR = re.compile("[\ud800-\udfff]")  # half a letter of UTF-16, which no file can hold
LISTS = (list, tuple, Sequence)
DEEPEST = 50  # levels of nesting
MOST_MEMBERS = 100  # of a list that a constructor is given, such as the widths of layers


class Mismatch(Exception):
    """Where, and what is there in place of what."""

    def __init__(self, key: str, value: Any, wanted: str):
        super().__init__(f"{key or 'the whole'} is {brief(value)}, not {wanted}")


def check(value: Any, wanted: Any, source: Path | str, advice: str = "copy or fetch it again") -> None:
    """Raise UserError with the file, the key and what should be there, where `value` is not of the type `wanted`."""
    try:
        compare(value, wanted, "")
    except (Mismatch, UserError) as error:
        raise UserError(f"{named(source)} is damaged or not of astrom3 ({error}): {advice}") from None


def check_arguments(kind: Any, arguments: Mapping[str, Any], source: Path | str) -> None:
    """The same for arguments of a class, by the annotations of its constructor. One without annotations takes any."""
    try:
        hints = get_type_hints(kind.__init__)
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker can resolve
        return
    parameters = inspect.signature(kind).parameters
    several = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for name, value in arguments.items():
        if isinstance(value, list | tuple) and len(value) > MOST_MEMBERS:
            raise UserError(f"{named(source)}: {name} has {len(value)} members ({kind.__name__}), far too many")
        if name not in parameters and not several:
            raise UserError(f"{named(source)}: {kind.__name__} has no argument {name}; it has {', '.join(parameters)}")
        try:
            compare(value, hints.get(name, Any), name)
        except (Mismatch, UserError) as error:
            raise UserError(f"{named(source)}: {error} ({kind.__name__})") from None
    absent = [name for name, p in parameters.items() if p.default is p.empty and name not in arguments]
    if absent and not several:
        raise UserError(f"{named(source)}: {kind.__name__} lacks its argument {absent[0]}")


def compare(value: Any, wanted: Any, key: str, depth: int = 0) -> None:
    """Raise Mismatch (or UserError for a number out of range) where `value` is not of the type."""
    if depth > DEEPEST:
        raise Mismatch(key, value, "nested that deeply")
    origin = get_origin(wanted)
    if wanted is Any:
        return
    if origin is NotRequired:
        compare(value, get_args(wanted)[0], key, depth)
    elif wanted in (int, float, bool, str, None, type(None)):
        compare_plain(value, type(None) if wanted is None else wanted, key)
    elif origin in (Union, types.UnionType):
        compare_union(value, get_args(wanted), key, depth)
    elif origin is Literal:
        if value not in get_args(wanted) or isinstance(value, bool):
            raise Mismatch(key, value, f"one of {', '.join(map(str, get_args(wanted)))}")
    elif is_typeddict(wanted):
        compare_keys(value, wanted, key, depth)
    elif (origin or wanted) in LISTS:
        compare_list(value, get_args(wanted), key, depth)
    elif (origin or wanted) in (dict, Mapping):
        compare_mapping(value, get_args(wanted), key, depth)
    elif isinstance(wanted, type) and not isinstance(value, wanted):
        raise Mismatch(key, value, f"a {wanted.__name__}")


def compare_plain(value: Any, wanted: type, key: str) -> None:
    """Numbers, text, true or false, null. A whole number does for a number."""
    kinds = (int, float) if wanted is float else (wanted,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and wanted is not bool):
        raise Mismatch(key, value, WORDS[wanted])
    if isinstance(value, str) and ("\0" in value or HALF_A_PAIR.search(value)):
        raise Mismatch(key, value, "text")
    if wanted in (int, float):
        number: Any = value
        if isinstance(number, float) and not math.isfinite(number):
            raise Mismatch(key, number, f"{WORDS[wanted]} that is finite")
        bounds.check_number(key, number)


def compare_union(value: Any, members: Sequence[Any], key: str, depth: int) -> None:
    """One of the members must do; the complaint is of the one that comes closest."""
    complaints: list[Exception] = []
    for member in members:
        try:
            compare(value, member, key, depth + 1)
            return
        except (Mismatch, UserError) as error:
            complaints.append(error)
    inner = [error for error in complaints if not str(error).startswith(f"{key or 'the whole'} is ")]
    if inner:
        raise inner[0]
    raise Mismatch(key, value, " or ".join(words(member) for member in members))


def compare_keys(value: Any, wanted: Any, key: str, depth: int) -> None:
    """A TypedDict: its required keys are there, and each named key is of its type."""
    if not isinstance(value, Mapping):
        raise Mismatch(key, value, "an object with keys")
    hints = get_type_hints(wanted, include_extras=True)
    absent = sorted(name for name, hint in hints.items() if get_origin(hint) is not NotRequired and name not in value)
    if absent:
        raise Mismatch(joined(key, absent[0]), None, words(hints[absent[0]]))
    for name, hint in hints.items():
        if name in value:
            compare(value[name], hint, joined(key, name), depth + 1)


def compare_list(value: Any, inner: Sequence[Any], key: str, depth: int) -> None:
    """A list, or a tuple of given types."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise Mismatch(key, value, "a list")
    repeated = len(inner) != 1 and not (len(inner) == 2 and inner[1] is Ellipsis)
    if inner and repeated and len(value) != len(inner):
        raise Mismatch(key, value, f"a list of {len(inner)}")
    for place, item in enumerate(value):
        if inner:
            compare(item, inner[place] if repeated else inner[0], f"{key}[{place}]", depth + 1)


def compare_mapping(value: Any, inner: Sequence[Any], key: str, depth: int) -> None:
    """Keys are text; values of one type."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise Mismatch(key, value, "an object with keys")
    for name, item in value.items():
        if inner:
            compare(item, inner[1], joined(key, name), depth + 1)


def words(wanted: Any) -> str:
    """A type as a reader of the sentence knows it."""
    origin = get_origin(wanted)
    if wanted in WORDS:
        return WORDS[wanted]
    if origin is NotRequired:
        return words(get_args(wanted)[0])
    if origin in (Union, types.UnionType):
        return " or ".join(words(member) for member in get_args(wanted))
    if (origin or wanted) in LISTS:
        return "a list"
    if is_typeddict(wanted) or (origin or wanted) in (dict, Mapping):
        return "an object with keys"
    return f"a {getattr(wanted, '__name__', wanted)}"


def joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else str(name)


def brief(value: object) -> str:
    """A value in a few characters."""
    if value is None:
        return "null or missing"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, int | float | str):
        text = repr(value) if not isinstance(value, bool) else str(value).lower()
        return text if len(text) <= 40 else text[:37] + "..."
    return f"a {type(value).__name__}"


def named(source: Path | str) -> str:
    """A path as logs show it, other text as it is."""
    return shown(source) if isinstance(source, Path) else source
