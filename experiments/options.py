"""key=value arguments of the experiments that are not composed by Hydra, and the wall behind which they run.

    DEFAULTS = {"real": "", "out": Path("runs/x"), "epochs": Whole(12), "size": ("tiny", "small", "published")}

What a key takes is said by its default: a Path a folder (a file where the default has an ending) that is written, and
it is tried before anything is computed; a Whole a whole number in its range; a tuple one of its words, the first where
none is given; a text any text.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astrom3.cli import wall
from astrom3.errors import UserError, printable, shown
from astrom3.files import check_file
from astrom3.places import expanded


@dataclass(frozen=True)
class Whole:
    """A whole number, and between which it must be."""

    default: int
    least: int = 1
    most: int = 10**8


def read_options(arguments: list[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments over the defaults, each of the kind of its default."""
    given = read_pairs(arguments, list(defaults))
    options = {}
    for key, default in defaults.items():
        options[key] = value_of(key, given[key], default) if key in given else plain(default)
    return options


def read_pairs(arguments: list[str], known: list[str] | None = None) -> dict[str, str]:
    """Key -> value as they are written. UserError for what is no key=value, a key given twice or unknown.

    known: the keys that there are, None for any.
    """
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key:
            listed = f" with one of {', '.join(known)}" if known else ""
            raise UserError(f"{argument!r} is not of the form key=value: give key=value{listed}.")
        if known is not None and key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f": did you mean {near[0]}?" if near else f": there are {', '.join(known)}."
            raise UserError(f"there is no key {key}{hint}")
        if key in given:
            raise UserError(f"{key}= is given twice, as {given[key]!r} and as {value!r}: give it once.")
        given[key] = value
    return given


def plain(default: Any) -> Any:
    """The value where none is given."""
    if isinstance(default, Whole):
        return default.default
    return default[0] if isinstance(default, tuple) else default


def value_of(key: str, value: str, default: Any) -> Any:
    """The value in the kind of its default; UserError where it is none."""
    if isinstance(default, Whole):
        return whole(key, value, default.least, default.most)
    if isinstance(default, tuple):
        return one_of(key, value, default)
    if not value.strip() and plain(default):
        raise UserError(f"{key}= is empty: give a value, or leave {key} away.")
    if "\0" in value:
        raise UserError(f"{key}={value} holds a NUL, which no name of a file can: give another.")
    if isinstance(default, Path):
        return writable(key, value, file=bool(default.suffix))
    return str(expanded(value)) if value.startswith("~") else value


def whole(key: str, value: str, least: int = 1, most: int = 10**8) -> int:
    """A whole number in its range."""
    digits = value.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20:
        raise UserError(f"{key}={value} is no whole number from {least} to {most}.")
    if not least <= int(value) <= most:
        raise UserError(f"{key}={value}: it is a whole number from {least} to {most}.")
    return int(value)


def one_of(key: str, value: str, words: tuple[str, ...]) -> str:
    """One of the words that the key takes."""
    if value not in words:
        raise UserError(f"{key}={value} does not exist: it is one of {', '.join(words)}.")
    return value


def several_of(key: str, value: str, words: tuple[str, ...] | list[str]) -> list[str]:
    """Words with commas between them, each known and none twice."""
    found = [word.strip() for word in value.split(",")]
    for word in found:
        one_of(key, word, tuple(words))
        if found.count(word) > 1:
            raise UserError(f"{key}={value} names {word} twice: give it once.")
    return found


def writable(key: str, value: str | Path, file: bool = False) -> Path:
    """The path of a folder, or of a file, that can be written: hours of work end there.

    The folder is made to try it, and goes again. UserError or OSError where it cannot be.
    """
    path = expanded(value)
    if file:
        check_file(path, lambda _: True, overwrite=False, key=key)
    folder = path.parent if file else path
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f"{key}={shown(folder)} is a file: give a folder.")
    made = [parent for parent in (folder, *folder.parents) if not os.path.lexists(parent)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    finally:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()
    if not made and not os.access(folder, os.W_OK):
        raise UserError(f"{key}={shown(folder)} cannot be written to: give another folder.")
    return path


def run_from_command_line(
    name: str, defaults: Mapping[str, Any], run: Callable[[dict[str, Any]], str | None], level: int = logging.INFO
) -> None:
    """Call `run` with the options of the command line, the log on standard output, and print the text that it gives."""
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    text = answered(name, lambda: run(read_options(sys.argv[1:], defaults)))
    if text is not None:
        print(text)


def answered(name: str, run: Callable[[], Any]) -> Any:
    """What `run` gives. Whatever ends it becomes one sentence and an exit status, as for the verbs."""
    try:
        return run()
    except (Exception, KeyboardInterrupt) as error:
        sentence, status = wall.answer(error)
        wall.show(error)
        print(f"{name}: {printable(sentence)}", file=sys.stderr)
        sys.exit(status)
