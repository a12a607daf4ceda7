"""An object is in one split, once: of copies in published splits one is kept, and the others are listed.

Where the data name their objects, copies are objects of one id. Files of AstroM3Processed on the hub name none: there,
copies are objects with the same catalogue values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from astrom3.data.layouts.table import Catalogue, Source
from astrom3.errors import shown
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.quality import Decision

log = logging.getLogger(__name__)
KEPT_FIRST = ("test", "validation", "train")  # a copy in the test split stays, the one in training goes
MOST = 5_000_000  # objects whose ids are compared; larger sets are images, named by their place in the sky
KNOWN = 10  # different catalogue values that an object needs to be told from others by them


def without_repeats(source: Source) -> Source:
    """The source without further copies of its objects, which are named in `repeated`."""
    tables = list(dict.fromkeys(source.tables[split] for split in source.rows))
    if sum(len(members) for members in source.rows.values()) > MOST or any(table.remote for table in tables):
        return source

    split_of: dict[str | bytes, str] = {}
    rows = dict(source.rows)
    repeated: dict[str, tuple[Decision, ...]] = {}
    copies: list[Decision] = []
    for split in (name for name in KEPT_FIRST if name in rows):
        catalogue = source.catalogue(split)
        kept = np.ones(len(catalogue.ids), dtype=bool)
        left_out = []
        for row, key in keys_of(catalogue, source.table(split).names_objects):
            if key not in split_of:
                split_of[key] = split
                continue
            kept[row] = False
            reason = f"the same object is in {split_of[key]}"
            if split_of[key] == split:
                reason += " twice"
            left_out.append(Decision(str(catalogue.ids[row]), "object", "left out", reason))
        rows[split] = rows[split][kept]
        repeated[split] = tuple(left_out)
        copies += left_out

    if not copies:
        return source

    first = copies[0]
    log.warning(
        "%s: %d copies of objects are left out and listed in rejected.csv (first: %s, %s)",
        shown(source.root),
        len(copies),
        first.object_id,
        first.reason,
    )
    chosen = replace(source, rows=rows, repeated=repeated)
    if source.layout == "processed-1" and source.normaliser is not None:  # raw data come with their statistics
        return replace(chosen, normaliser=Normaliser.fit(chosen.catalogue("train").values))
    return chosen


def keys_of(catalogue: Catalogue, named: bool) -> Iterator[tuple[int, str | bytes]]:
    """(row, what tells the object from others) of every object that can be told."""
    if named:
        for row, name in enumerate(catalogue.ids.tolist()):
            if name:
                yield row, name
        return
    if not len(catalogue.values) or catalogue.values.strides[0] == 0:  # no catalogue values at all
        return
    values = np.where(np.isfinite(catalogue.values), catalogue.values, np.nan)
    steps = np.diff(np.sort(values, axis=1), axis=1)
    known = np.flatnonzero((steps > 0).sum(axis=1) + 1 >= KNOWN)
    keys = [values[row].tobytes() for row in known.tolist()]
    if 2 * len(set(keys)) > len(keys):  # else values that many share, which tell nobody from others
        yield from zip(known.tolist(), keys, strict=True)
