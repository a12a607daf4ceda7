"""Writes galaxies in our own layout: an image or the place of its file, a spectrum on DESI's grid, and numbers.

The columns are those of the simulated survey (simulate/galaxies/survey.py). `image_file` stands in place of `image`
where cutouts are read where they lie: dataset.json says below which folder, and which bands the files hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from astrom3.data.writer import DatasetWriter
from astrom3.errors import UserError
from astrom3.modalities.galaxy_views import PIXELS, SIZE

KIND = "galaxies"
VERSION = 1  # of dataset.json of this kind
IMAGE = "image"
IMAGE_FILE = "image_file"
RESERVED = ("object_id", "label", IMAGE, IMAGE_FILE, "spectrum", "ivar")
SHAPE = (SIZE, SIZE, 3)  # x, y, band
ROW_GROUP = 64  # galaxies; 22 MB with images


def galaxy_schema(targets: Mapping[str, str | None], images: str | None, spectra: bool) -> pa.Schema:
    """Columns of objects/*.parquet. images: IMAGE, IMAGE_FILE, or None without images. A null is a missing modality."""
    fields = [pa.field("object_id", pa.string(), nullable=False), pa.field("label", pa.string())]
    if images == IMAGE:
        about = {
            "shape": json.dumps(SHAPE),
            "axes": "x,y,band",
            "bands": "g,r,z",
            "unit": "nanomaggy",
        }
        fields.append(pa.field(IMAGE, pa.list_(pa.float32(), int(np.prod(SHAPE))), metadata=about))
    elif images == IMAGE_FILE:
        fields.append(pa.field(IMAGE_FILE, pa.string()))
    if spectra:
        about = {"wavelength": "3600 + 0.8 i Angstrom, vacuum, observed", "unit": "1e-17 erg/s/cm2/Angstrom"}
        kind = pa.list_(pa.float32(), PIXELS)
        fields.append(pa.field("spectrum", kind, metadata=about))
        fields.append(pa.field("ivar", kind, metadata=about | {"unit": "1/flux^2"}))

    for name, unit in targets.items():
        fields.append(pa.field(name, pa.float64(), metadata={"unit": unit} if unit else None))
    return pa.schema(fields)


class GalaxyWriter(DatasetWriter):
    """A `DatasetWriter` of galaxies. images: IMAGE, IMAGE_FILE or None. root_of_images and bands: where the files lie
    that IMAGE_FILE names, and the letters of the bands in them."""

    version = VERSION
    row_group = ROW_GROUP
    presence: ClassVar[Mapping[str, str]] = {}
    counted: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        root: Path | str,
        *,
        targets: Mapping[str, str | None],
        images: str | None,
        spectra: bool,
        root_of_images: Path | None = None,
        bands: str = "grz",
        **about: Any,
    ) -> None:
        taken = []
        for name in targets:
            if name in RESERVED:
                taken.append(name)
        if taken:
            raise UserError(f"{taken[0]} is a name that the data set of galaxies needs itself: rename that column.")
        self.images_are = {"root": str(root_of_images), "bands": bands} if images == IMAGE_FILE else None
        columns = {"images": images, "spectra": "spectrum" if spectra else None}
        self.presence = {modality: column for modality, column in columns.items() if column}  # type: ignore[misc]
        self.counted = tuple(self.presence.values())  # type: ignore[misc]
        super().__init__(root, targets=targets, rows_per_file=1024, **about)
        self.schema = galaxy_schema(targets, images, spectra)

    def catalogue_of(self, table: pa.Table) -> np.ndarray:
        """Galaxies have none of the catalogue columns of stars."""
        return np.empty((len(table), 0))

    def statistics(self, values: np.ndarray) -> dict[str, Any]:
        return {}

    def encoding(self) -> dict[str, Any]:
        """Splitting the bytes of floats makes noisy arrays smaller and twice as fast to read."""
        large = []
        for field in self.schema:
            if pa.types.is_fixed_size_list(field.type):
                large.append(field.name)
        return {"use_dictionary": ["label"], "use_byte_stream_split": [f"{name}.list.element" for name in large]}

    def further_entries(self) -> dict[str, Any]:
        return {"kind": KIND} | ({"images": self.images_are} if self.images_are else {})
