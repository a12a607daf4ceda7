"""Everything about one object of a large map and its neighbours: the contents of a small page, made on demand."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from astrom3.data.layouts.table import Source
from astrom3.data.observed import locate
from astrom3.explore.blocks import BLOCK, Blocks
from astrom3.explore.content import Content
from astrom3.explore.crossing import ARROW
from astrom3.explore.packing import armour, pack
from astrom3.explore.stored_map import StoredMap
from astrom3.explore.writing import about, observed
from astrom3.inference.embeddings import MEAN, Embeddings
from astrom3.modalities.catalogue import Normaliser

MOST = 8  # neighbours of a kind: with seven kinds, all of a page fit into one block
BITS = 16  # of a pixel of a spectrum


class Objects:
    """Objects of a map with their observations, read from the data set when they are asked for."""

    def __init__(self, stored: StoredMap, source: Source, normaliser: Normaliser | None, top: int):
        self.stored = stored
        self.source = source
        self.normaliser = normaliser
        self.top = min(top, MOST)
        self.tables = list(locate(source)[0])

    def kinds(self) -> list[tuple[str, str, str]]:
        """Name of each kind of neighbours, the embedding asked by and the one that is looked through."""
        names = self.stored.about["vectors"]
        found = [(name, name, name) for name in names]
        modalities = [name for name in names if name != MEAN]
        if self.stored.about["kind"] == "galaxies":
            for asked, told in permutations(modalities, 2):
                found.append((f"{asked}{ARROW}{told}", asked, told))
        return found

    def page(self, row: int) -> dict[str, Any]:
        """at: the object's number on the page; rows: of its objects on the map; about and blocks as in a page."""
        near = {}
        everybody = {row}
        for name, asked, told in self.kinds():
            near[name] = self.stored.near(row, asked, told, self.top)
            everybody.update(near[name][0].tolist())

        chosen = np.array(sorted(everybody))[:BLOCK]
        columns = self.stored.columns
        table = np.asarray(columns["table"][chosen], np.int64)
        place = np.asarray(columns["row"][chosen], np.int64)
        order = np.lexsort((place, table % (len(self.tables) + 1)))  # the absent ones, -1, come last
        chosen = chosen[order]
        number = dict(zip(chosen.tolist(), range(len(chosen)), strict=True))
        at = number[row]
        neighbours = {}
        for name, (rows, cosine) in near.items():
            index = np.full((len(chosen), self.top), -1, np.int32)
            similar = np.full((len(chosen), self.top), np.nan, np.float32)
            index[at, : len(rows)] = [number[one] for one in rows.tolist()]
            similar[at, : len(rows)] = cosine
            neighbours[name] = (index, similar)

        content = self.content(chosen, table[order], place[order], neighbours)
        blocks = Blocks(BITS)
        texts = {}
        for some in observed(content):
            if content.of_galaxies:
                texts["images-0"] = armour(blocks.images(some))
            else:
                texts["curves-0"] = armour(blocks.light_curves(some))
            texts["spectra-0"] = armour(blocks.spectra(some))

        texts["core"] = armour(pack(content.arrays()))
        said = about(content, self.stored.about["title"], blocks)
        return {
            "at": at,
            "rows": chosen.tolist(),
            "about": said,
            "blocks": texts,
        }

    def content(self, rows: np.ndarray, table: np.ndarray, place: np.ndarray, neighbours: dict[str, Any]) -> Content:
        """Of these rows of the map."""
        stored = self.stored
        columns = stored.columns
        names = stored.about["vectors"]
        probabilities = np.array(columns["probabilities"][rows]) if "probabilities" in columns else None
        present = {}
        vectors = {}
        scores: dict[str, dict[str, np.ndarray]] = {}
        for name in names:
            vectors[name] = np.array(columns[f"vectors-{name}"][rows])
            if name != MEAN:
                present[name] = np.array(columns[f"present-{name}"][rows])
            scores[name] = {}
            for kind in ("own", "other", "nearest"):
                scores[name][kind] = np.array(columns[f"{kind}-{name}"][rows])

        objects = Embeddings(
            np.array(stored.names(rows.tolist()), dtype=str),
            np.array(columns["label"][rows], np.int64),
            np.array(stored.about["splits"], dtype=str)[columns["split"][rows]],
            present,
            vectors,
            probabilities,
            tuple(stored.about["classes"]),
            stored.about["model"],
        )
        return Content(
            objects,
            len(stored),
            self.source,
            self.normaliser,
            self.tables,
            table,
            place,
            np.array(columns["xy"][rows]),
            stored.about["how"],
            scores,
            neighbours,
            np.array(columns["values"][rows], np.float64),
            {},
            tuple(stored.about["columns"]),
        )
