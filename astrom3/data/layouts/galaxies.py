"""The layout of galaxy surveys ("astrom3" of kind "galaxies"): images, spectra and targets, read by row group.

`simulate/layout.py` writes it: objects/*.parquet with the columns object_id, label (morphology), image, spectrum, ivar
and the targets; splits/{sub}_{seed}.parquet; dataset.json. A null image or spectrum is a missing modality. Galaxies
have none of the catalogue columns of stars.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from astrom3.data.layouts.galaxy_rows import ParquetGalaxies, plain_catalogue
from astrom3.data.layouts.ours import assigned_rows, label_ids, read_about, read_json, unique_ids
from astrom3.data.layouts.parquet import text_column
from astrom3.data.layouts.table import Catalogue, Source
from astrom3.errors import UserError
from astrom3.modalities.galaxy_views import SIZE

KIND = "galaxies"
VERSION = 1
NEEDED = ("object_id", "label", "image", "spectrum")


class GalaxyTable(ParquetGalaxies):
    """Galaxies of one survey. `targets(names)` gives their properties."""

    def __init__(self, root: Path, classes: tuple[str, ...]) -> None:
        super().__init__(sorted((root / "objects").glob("*.parquet")))
        self.classes = classes
        self.name = str(root)
        if not self.files:
            raise UserError(f"{root} has no objects/*.parquet; write the data set again.")
        missing = [name for name in NEEDED if name not in self.schema.names]
        if missing:
            raise UserError(f"{self.files[0]} lacks the columns {', '.join(missing)}; write the data set again.")
        self.shape = image_shape(self.schema.field("image"), self.files[0])

    @cached_property
    def _catalogue(self) -> Catalogue:
        table = self.small_columns(["object_id", "label"])
        root = Path(str(self.files[0])).parent.parent
        labels, _, names = label_ids(text_column(table, "label", root, nulls=True), self.classes)
        return plain_catalogue(unique_ids(table, root), labels, names)

    def catalogue(self) -> Catalogue:
        return self._catalogue


def image_shape(field: pa.Field, path: object) -> tuple[int, int, int]:
    """(x, y, band) of the images, from the metadata of their column; else those of 152 pixels."""
    told = (field.metadata or {}).get(b"shape")
    try:
        shape = tuple(int(length) for length in json.loads(told)) if told else (SIZE, SIZE, 3)
    except (ValueError, TypeError):
        shape = ()
    if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise UserError(f"{path}: the images are of shape {told!r}, not [x, y, 3]; write the data set again.")
    return shape[0], shape[1], shape[2]


def is_galaxies(root: Path) -> bool:
    """Whether dataset.json says that the objects are galaxies."""
    return read_json(root / "dataset.json").get("kind") == KIND


def open_galaxies(root: Path, sub: str, seed: int) -> Source:
    """Source of a folder with dataset.json of kind "galaxies"."""
    about = read_about(root, (VERSION,))
    classes = tuple(about.get("classes") or ())
    table = GalaxyTable(root, classes)
    by_split = assigned_rows(root, sub, seed, table)
    note = "simulated data" if (about.get("provenance") or {}).get("simulated") else ""
    return Source(KIND, root, sub, seed, classes, dict.fromkeys(by_split, table), by_split, None, note)
