"""JSON as its standard has it: a key stands once (of two values nobody knows which was meant), and NaN is null."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
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


def without_nan(node: Any) -> Any:
    """The same nested mappings and lists with None for numbers that are not finite."""
    if isinstance(node, Mapping):
        return {key: without_nan(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [without_nan(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
