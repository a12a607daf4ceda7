"""Packages that only some verbs need; a missing one is answered with the command that installs it."""

from __future__ import annotations

import importlib
from typing import Any

from astrom3.errors import UserError


def need(module: str, extra: str, what: str) -> Any:
    """The top package of `module`, imported; `what` needs it and the extra of pyproject.toml has it."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        missing = getattr(error, "name", None) or module
        raise UserError(f'{what} needs {missing}: pip install "astrom3[{extra}]"') from None
    return importlib.import_module(module.partition(".")[0])
