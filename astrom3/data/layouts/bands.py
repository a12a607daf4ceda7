"""Bands of a data set in our layout: which there are, which one a network of one band takes, and reading them.

dataset.json says "bands": [{"name", "wavelength" [Angstrom], "points", "objects"}], and the light curves have a fourth
list with the name of each point's band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.data.bands import best_sampled, need_wavelengths
from astrom3.data.layouts.parquet import columns_of_struct, member, unnest
from astrom3.errors import UserError

CHILD = "band"


@dataclass(frozen=True)
class Bands:
    """names: of all bands; chosen: the one that views of one band read; lengths: wavelengths by name [Angstrom]."""

    names: tuple[str, ...]
    chosen: str
    lengths: Mapping[str, float]

    @classmethod
    def of(cls, about: Mapping[str, Any], band: str | None, root: Path) -> Bands | None:
        """Those that dataset.json lists, None where points have no band. UserError where `band` is none of them."""
        listed = about.get("bands")
        if not listed:
            if band is not None:
                raise UserError(f"data.band={band}: the light curves of {root} do not say their bands, leave it away.")
            return None

        points = {}
        lengths = {}
        for entry in listed:
            points[entry["name"]] = int(entry["points"])
            if entry.get("wavelength"):
                lengths[entry["name"]] = entry["wavelength"]

        if band is None:
            band = best_sampled(points)
        if band not in points:
            raise UserError(f"data.band={band}: the light curves of {root} have the bands {', '.join(points)}.")
        return cls(tuple(points), band, lengths)

    def of_one(self, array: pa.StructArray, children: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Lengths (n,), three columns and bad (n,) of the light curves in the chosen band alone."""
        lengths, columns, codes, bad = self.read(array, children)
        chosen = codes == self.names.index(self.chosen)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        kept = np.bincount(owner[chosen], minlength=len(lengths))
        return kept, [column[chosen] for column in columns], bad

    def of_all(self, array: pa.StructArray, children: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Lengths (n,), four columns and bad (n,): the fourth is the wavelength [Angstrom] of each point's band."""
        lengths, columns, codes, bad = self.read(array, children)
        known = np.array(need_wavelengths(self.names, self.lengths))
        return lengths, [*columns, known[codes]], bad

    def read(
        self, array: pa.StructArray, children: Sequence[str]
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
        """Lengths (n,), three columns, codes (total,) of bands and bad (n,): lists of unequal length."""
        code_lengths, names = unnest(member(array, CHILD))
        known = pa.array(self.names, pa.string())
        codes = pc.index_in(names, value_set=known).fill_null(0)
        codes = codes.to_numpy(zero_copy_only=False)
        lengths, columns, bad = columns_of_struct(array, children)
        without_codes = (lengths != code_lengths) & ~bad  # objects with more or fewer bands than points
        bad = bad | without_codes
        if bad.any():
            codes = codes[np.repeat(~bad, code_lengths)]
            kept = np.repeat(~without_codes, lengths)
            columns = [column[kept] for column in columns]
            lengths = np.where(without_codes, 0, lengths)
        return lengths, columns, codes, bad
