"""Classes with so few objects that a split has none of them, so that nobody loses one without a word.

The full splits are drawn without looking at classes, as the published ones are. A class of one object is then in one
of train, validation and test, and missing from the other two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from astrom3.modalities.schema import SPLITS


def rare_classes(classes: Sequence[str], splits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Classes that have objects, and a part of a full split without any of them, the rarest first.

    splits: name such as full_42 -> split -> class -> number of objects. Each entry has the name of the class, its
    number of objects, and for each part the names of the full splits in which it is missing there.
    """
    full = {name: counts for name, counts in splits.items() if name.startswith("full_")}
    found = []
    for name in classes:
        objects = max((sum(counts[split].get(name, 0) for split in SPLITS) for counts in full.values()), default=0)
        absent = {split: missing_from(full, split, name) for split in SPLITS}
        if objects and any(absent.values()):
            found.append(
                {"class": name, "objects": objects, "absent": {s: names for s, names in absent.items() if names}}
            )
    return sorted(found, key=lambda entry: entry["objects"])


def missing_from(full: Mapping[str, Any], split: str, name: str) -> list[str]:
    """The full splits whose part `split` has no object of a class."""
    found = []
    for stem, counts in full.items():
        if not counts[split].get(name, 0):
            found.append(stem)
    return found


def sentence(entry: Mapping[str, Any]) -> str:
    """What convert says of one of these classes."""
    objects = entry["objects"]
    parts = []
    for split, stems in entry["absent"].items():
        parts.append(f"{split} of {', '.join(stems)}")
    number = "1 object" if objects == 1 else f"{objects} objects"
    return f"class {entry['class']} has {number}, and none in {'; '.join(parts)}"
