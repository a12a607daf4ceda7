"""JSON in which a key stands once: of two values under one key nobody can say which was meant."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any


def loads(text: str | bytes, parse_constant: Callable[[str], Any] | None = None) -> Any:
    """As json.loads; ValueError where an object has a key twice. parse_constant: of NaN, Infinity and -Infinity."""
    return json.loads(text, object_pairs_hook=once, parse_constant=parse_constant)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
    raise ValueError(f"the key {twice[:40]!r} stands twice")
