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
from astrom3.stored import unique

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

        if isinstance(listed[0], str):
            raise UserError(
                f"{root / 'dataset.json'} lists bands of images, not of light curves; convert the data again."
            )
        unique([entry["name"] for entry in listed], root / "dataset.json", "bands")
        points = {}
        lengths = {}
        for entry in listed:
            points[entry["name"]] = entry["points"]
            if entry.get("wavelength"):
                lengths[entry["name"]] = entry["wavelength"]
        if any(length < 0 for length in lengths.values()):
            raise UserError(f"{root / 'dataset.json'} has a negative wavelength of a band; convert the data again.")

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

    def codes(self, names: pa.Array) -> np.ndarray:
        """Places among the names of all bands (total,). UserError for a band that is not listed."""
        plain = names.dictionary_decode() if pa.types.is_dictionary(names.type) else names
        if not pa.types.is_string(plain.type) and not pa.types.is_large_string(plain.type):
            raise UserError(f"the bands are of type {plain.type}, not text; convert the data again.")
        codes = pc.index_in(plain.cast(pa.string()), value_set=pa.array(self.names, pa.string()))
        if codes.null_count:
            strange = plain.filter(codes.is_null())[0].as_py()
            raise UserError(f"the band {strange!r} is none of {', '.join(self.names)}, which dataset.json lists.")
        return codes.to_numpy(zero_copy_only=False)

    def read(
        self, array: pa.StructArray, children: Sequence[str]
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
        """Lengths (n,), three columns, codes (total,) of bands and bad (n,): lists of unequal length."""
        code_lengths, names = unnest(member(array, CHILD))
        codes = self.codes(names)
        lengths, columns, bad = columns_of_struct(array, children)
        without_codes = (lengths != code_lengths) & ~bad  # objects with more or fewer bands than points
        bad = bad | without_codes
        if bad.any():
            codes = codes[np.repeat(~bad, code_lengths)]
            kept = np.repeat(~without_codes, lengths)
            columns = [column[kept] for column in columns]
            lengths = np.where(without_codes, 0, lengths)
        return lengths, columns, codes, bad
