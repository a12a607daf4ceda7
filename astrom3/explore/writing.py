"""The file: template.html with style, script and data in it, written block by block, renamed when it is whole.

Nothing in it reaches for the network, and its content security policy (hashes of its one script and one style) lets
no browser try. Names from data are only in JSON with `<` escaped, and the script writes them as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from astrom3.data.layouts.parquet import ParquetTable
from astrom3.data.observed import Observed, observations, units
from astrom3.explore.blocks import BLOCK, Blocks
from astrom3.explore.content import ABSENT, Content
from astrom3.explore.lines import FEATURES, GALAXY_FEATURES
from astrom3.explore.packing import armour, pack
from astrom3.files import replacing
from astrom3.inference.results import shown_name
from astrom3.modalities.catalogue import PERIOD
from astrom3.modalities.schema import COLUMN_UNITS, PHOTO_COLS

FOLDER = Path(__file__).parent
HEAD = 4096  # bytes in which a page says who has written it
GENERATOR = b'<meta name="generator" content="astrom3 explore">'
OLDER = b"default-src 'none'; script-src 'sha256-"  # pages of astrom3 0.1.0
UNITS_SHOWN = {"day": "d"}
SCRIPTS = ("packing.js", "plot.js", "palette.js", "viewport.js", "map.js", "details.js", "lists.js", "page.js")


def write(
    content: Content, path: Path, title: str, bits: int, points: int | None, advance: Callable[[int], Any]
) -> Any:
    """Returns the Tally of what became of the observations; advance: called with the number of objects done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = Blocks(bits, points)
    head, tail = page_around(title, SCRIPTS)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(head)
        for number, some in enumerate(observed(content)):
            if content.of_galaxies:
                element(file, f"images-{number}", armour(blocks.images(some)))
            else:
                element(file, f"curves-{number}", armour(blocks.light_curves(some)))
            element(file, f"spectra-{number}", armour(blocks.spectra(some)))
            advance(len(some))
        element(file, "core", armour(pack(content.arrays())))
        element(file, "about", as_json(about(content, title, blocks)))
        file.write(tail)

    return blocks.tally


def page_around(title: str, scripts: Sequence[str], allowed: str = "") -> tuple[str, str]:
    """The page before and after its data. scripts: files; allowed: more that its content security policy lets it."""
    sources = [(FOLDER / name).read_text("utf-8") for name in scripts]
    script = "\n".join(['(() => {\n"use strict";', *sources, "})();\n"])
    style = (FOLDER / "page.css").read_text("utf-8")
    policy = f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'{allowed}"
    template = (FOLDER / "template.html").read_text("utf-8")
    fields = {
        "title": html.escape(title),
        "policy": policy,
        "style": style,
        "script": script,
    }

    def filled(part: str) -> str:
        return re.sub(r"\{\{(\w+)\}\}", lambda found: fields[found[1]], part)

    head, _, tail = template.partition("<!-- data -->\n")
    return filled(head), filled(tail)


def is_page(path: Path) -> bool:
    """Whether a file is a page that this verb has written."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    return GENERATOR in head or OLDER in head


def digest(text: str) -> str:
    """Of an inline script or style, as a content security policy has it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def element(file: TextIO, name: str, text: str) -> None:
    """A block of data; browsers do not run a script of this type."""
    file.write(f'<script type="text/plain" id="{name}">{text}</script>\n')


def as_json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def observed(content: Content) -> Iterator[list[Observed]]:
    """BLOCK objects at a time, in the order of the page; fills in values and notes that stand beside light curves."""
    some: list[Observed] = []
    for i, found in enumerate(every(content)):
        if found.photo is not None:
            content.values[i, : len(PHOTO_COLS)] = found.photo
        if found.problems:
            notes = content.notes.setdefault(i, [])
            notes += [problem for problem in found.problems if problem not in notes]
        some.append(found)
        if len(some) == BLOCK:
            yield some
            some = []
    if some:
        yield some


def every(content: Content) -> Iterator[Observed]:
    for number, table in enumerate(content.tables):
        rows = content.row[content.table == number]
        found = observations(table, rows)
        for row in rows.tolist():
            one = next(found)
            if one.row != row:
                raise ValueError(f"row {one.row} of the data set where {row} was to come")
            yield one
    for _ in range(int((content.table == ABSENT).sum())):
        yield Observed(ABSENT, None, None, None, ("not in the data set that the page was made from",))


def about(content: Content, title: str, blocks: Blocks) -> dict[str, Any]:
    """What the page needs to know beside numbers."""
    e = content.objects
    source = content.source
    unit = units(source)
    tally = blocks.tally
    errors = tally.spectrum_errors
    galaxies = content.of_galaxies
    return {
        "kind": "galaxies" if galaxies else "stars",
        "crossings": [name for name in content.neighbours if name not in e.vectors],
        "title": title,
        "model": shown_name(e.model),
        "total": content.total,
        "ids": e.ids.tolist(),
        "data": f"{source.root.name}, {source.sub}_{source.seed}, layout {source.layout}",
        "note": source.note,
        "classes": list(e.classes),
        "splits": sorted(set(e.splits.tolist())),
        "vectors": list(e.vectors),
        "columns": list(content.columns),
        "column_units": column_units(content),
        "period_column": -1 if galaxies else PERIOD,
        "block": BLOCK,
        "how": content.how,
        "units": {
            "time": unit.time,
            "flux": unit.flux,
            "spectrum": unit.spectrum,
            "catalogue": unit.catalogue,
        },
        "time_step": unit.time_step,
        "neighbours": next(iter(content.neighbours.values()))[0].shape[1],
        "features": [f._asdict() for f in (GALAXY_FEATURES if galaxies else FEATURES)],
        "notes": {str(k): v for k, v in content.notes.items()},
        "precision": {
            "bits": blocks.bits,
            "points": blocks.points,
            "thinned": tally.thinned,
            "spectrum_error": float(np.median(errors)) if errors else 0.0,
            "points_not_finite": tally.points_not_finite,
            "pixels_not_finite": tally.pixels_not_finite,
            "light_curves": tally.light_curves,
            "spectra": tally.spectra,
        },
    }


def column_units(content: Content) -> list[str]:
    """Units of the catalogue columns: of galaxies as their files say, of stars where the values are as measured."""
    if not content.of_galaxies:
        if content.source.normaliser is None:
            return [""] * len(content.columns)
        units = [COLUMN_UNITS.get(name, "") for name in content.columns]
        return [UNITS_SHOWN.get(unit, unit) for unit in units]
    table = content.tables[0]
    if not isinstance(table, ParquetTable):
        return [""] * len(content.columns)
    metadata = [table.schema.field(name).metadata or {} for name in content.columns]
    return [about.get(b"unit", b"").decode() for about in metadata]
