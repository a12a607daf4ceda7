"""Passbands: their names as surveys write them, and their effective wavelengths.

Wavelengths are those of the Filter Profile Service of the Spanish Virtual Observatory, rounded to 10 Angstrom. A
network needs the order and the rough distance of bands, not more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from astrom3.errors import UserError

# Angstrom. SDSS, Pan-STARRS, ZTF and Rubin share letters; their bands differ by less than 200 Angstrom (y of Rubin).
WAVELENGTHS = {
    "u": 3550.0,
    "g": 4720.0,
    "r": 6200.0,
    "i": 7520.0,
    "z": 8900.0,
    "y": 9710.0,
    "U": 3600.0,
    "B": 4400.0,
    "V": 5500.0,
    "R": 6470.0,
    "I": 7860.0,
    "G": 6220.0,
    "BP": 5110.0,
    "RP": 7770.0,
    "J": 12350.0,
    "H": 16620.0,
    "K": 21590.0,
    "W1": 33530.0,
    "W2": 46030.0,
    "kepler": 6300.0,
    "tess": 7700.0,
    "clear": 6000.0,
    "o": 6790.0,
    "c": 5350.0,
}
# Other names of the same bands.
ALIASES = {
    "zg": "g",
    "zr": "r",
    "zi": "i",
    "sdssu": "u",
    "sdssg": "g",
    "sdssr": "r",
    "sdssi": "i",
    "sdssz": "z",
    "up": "u",
    "gp": "g",
    "rp": "r",
    "ip": "i",
    "zp": "z",
    "u'": "u",
    "g'": "g",
    "r'": "r",
    "i'": "i",
    "z'": "z",
    "Ks": "K",
    "KS": "K",
    "Ic": "I",
    "Rc": "R",
    "G_BP": "BP",
    "G_RP": "RP",
    "bp": "BP",
    "CV": "clear",
    "lsstu": "u",
    "lsstg": "g",
    "lsstr": "r",
    "lssti": "i",
    "lsstz": "z",
    "lssty": "y",
    "Y": "y",
    "ZTF_g": "g",
    "ZTF_r": "r",
    "ZTF_i": "i",
    "ztfg": "g",
    "ztfr": "r",
    "ztfi": "i",
}


def wavelength(band: str, given: Mapping[str, float] | None = None) -> float | None:
    """Effective wavelength [Angstrom] of a band, of `given` first; None where it is not known."""
    if given and band in given:
        return float(given[band])
    return WAVELENGTHS.get(ALIASES.get(band, band))


def need_wavelengths(bands: Sequence[str], given: Mapping[str, float] | None = None) -> list[float]:
    """Wavelengths [Angstrom] of bands; UserError that names the first unknown one."""
    found = []
    for band in bands:
        length = wavelength(band, given)
        if length is None:
            name = band or "without a name"
            raise UserError(
                f"the wavelength of the band {name} is not known, and a network of several bands reads it: convert the "
                f"data with light_curves.wavelengths={{{band or 'name'}: <Angstrom>}}, or choose one band with band="
            )
        found.append(length)
    return found


def best_sampled(points: Mapping[str, int]) -> str:
    """The band with the most points; of equals the first by name."""
    return min(points, key=lambda band: (-points[band], band))


class BandCounts:
    """Points and objects of every band of a data set that is being written."""

    def __init__(self, wavelengths: Mapping[str, float]) -> None:
        self.wavelengths = dict(wavelengths)
        self.points: Counter[str] = Counter()
        self.objects: Counter[str] = Counter()

    def add(self, light_curves: pa.ChunkedArray) -> None:
        """Count those of some light curves, structs with the list `band`."""
        lists = pc.struct_field(light_curves.combine_chunks(), "band")
        pairs = pa.table({"object": pc.list_parent_indices(lists), "band": pc.list_flatten(lists)})
        points = pairs.group_by("band").aggregate([("band", "count")])
        self.points.update(dict(zip(points["band"].to_pylist(), points["band_count"].to_pylist(), strict=True)))
        distinct = pairs.group_by(["object", "band"]).aggregate([])
        self.objects.update(distinct["band"].to_pylist())

    def listing(self) -> list[dict[str, Any]]:
        """What dataset.json says of the bands, from blue to red."""
        found = []
        for name, points in self.points.items():
            length = wavelength(name, self.wavelengths)
            found.append(
                {
                    "name": name,
                    "wavelength": length,
                    "points": points,
                    "objects": self.objects[name],
                }
            )
        return sorted(found, key=lambda band: (band["wavelength"] or 0.0, band["name"]))
