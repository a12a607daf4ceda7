"""key=value arguments of the experiments that are not composed by Hydra."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from astrom3.errors import UserError


def read_options(arguments: list[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments over the defaults. A key whose default is a whole number takes whole numbers alone."""
    options = dict(defaults)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in defaults or (defaults[key] and not value):
            raise UserError(f"{argument}: give key=value with one of {', '.join(defaults)}.")
        try:
            options[key] = int(value) if isinstance(defaults[key], int) else value
        except ValueError:
            raise UserError(f"{argument}: {key} is a whole number.") from None
    return options


def run_from_command_line(
    name: str, defaults: Mapping[str, Any], run: Callable[[dict[str, Any]], str | None], level: int = logging.INFO
) -> None:
    """Call `run` with the options of the command line, the log on standard output, and print the text that it gives.

    A mistake of the user ends the program with one sentence.
    """
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    try:
        text = run(read_options(sys.argv[1:], defaults))
    except UserError as error:
        sys.exit(f"{name}: {error}")
    if text is not None:
        print(text)
