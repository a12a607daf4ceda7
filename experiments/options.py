"""key=value arguments of the experiments that are not composed by Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astrom3.errors import UserError


def read_options(arguments: list[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments over the defaults. A key whose default is a whole number takes whole numbers alone."""
    options = dict(defaults)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in defaults:
            raise UserError(f"{argument}: give key=value with one of {', '.join(defaults)}.")
        try:
            options[key] = int(value) if isinstance(defaults[key], int) else value
        except ValueError:
            raise UserError(f"{argument}: {key} is a whole number.") from None
    return options
