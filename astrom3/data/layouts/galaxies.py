"""The layout of galaxy surveys ("astrom3" of kind "galaxies"): images, spectra and targets, read by row group.

`simulate/layout.py` writes it: objects/*.parquet with the columns object_id, label (morphology), image, spectrum, ivar
and the targets; splits/{sub}_{seed}.parquet; dataset.json. A null image or spectrum is a missing modality. Galaxies
have none of the catalogue columns of stars. `convert` writes it too, with the column image_file in place of image where
cutouts are read where they lie: then dataset.json says below which folder, and which bands the files hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.data.galaxy_writer import IMAGE, IMAGE_FILE, KIND, VERSION
from astrom3.data.layouts.galaxy_rows import FILES, Observations, ParquetGalaxies, cut_to_size, plain_catalogue
from astrom3.data.layouts.ours import assigned_rows, label_ids, read_about, read_json, unique_ids
from astrom3.data.layouts.parquet import text_column
from astrom3.data.layouts.table import Catalogue, Source
from astrom3.data.readers import ReadError
from astrom3.data.readers.cutouts import CutoutReader
from astrom3.errors import UserError, shown
from astrom3.modalities.galaxy_views import BANDS, SIZE
from astrom3.modalities.quality import Decision
from astrom3.modalities.view import View

NEEDED = ("object_id", "label")
OBSERVED = (IMAGE, IMAGE_FILE, "spectrum")  # one of them at least


@dataclass(frozen=True)
class ImagePlaces:
    """Cutouts that are read where they lie: paths below `root`, or absolute ones."""

    root: Path
    read: CutoutReader

    @classmethod
    def of(cls, about: Mapping[str, Any], root: Path) -> ImagePlaces:
        """As the entry `images` of dataset.json says; UserError where it is missing."""
        entry = about.get("images")
        if not isinstance(entry, dict) or not isinstance(entry.get("root"), str):
            raise UserError(f"{root / 'dataset.json'} does not say where the images are (images.root): convert again.")
        return cls(Path(entry["root"]), CutoutReader(str(entry.get("bands", "grz"))))

    def observations(self, rows: np.ndarray, paths: Sequence[str | None], ids: Sequence[str]) -> Observations:
        """The images of the rows (n,) of a table; a file that cannot be read is a decision about its galaxy."""
        values = np.zeros((len(rows), BANDS, SIZE, SIZE), np.float32)
        there = np.zeros(len(rows), dtype=bool)
        lost: list[Decision] = []
        for place, path in enumerate(paths):
            if path is None:
                continue
            try:
                values[place] = cut_to_size(self.read(self.root / path)[None])[0]
            except ReadError as error:
                lost.append(Decision(str(ids[place]), "images", "rejected", str(error)))
                continue
            there[place] = True
        return Observations(rows, values, there, unreadable=tuple(lost))


class GalaxyTable(ParquetGalaxies):
    """Galaxies of one survey. `targets(names)` gives their properties. about: its dataset.json."""

    def __init__(self, root: Path, classes: tuple[str, ...], about: Mapping[str, Any] | None = None) -> None:
        super().__init__(sorted((root / "objects").glob("*.parquet")))
        self.classes = classes
        self.name = str(root)
        if not self.files:
            raise UserError(f"{root} has no objects/*.parquet; write the data set again.")

        missing = [name for name in NEEDED if name not in self.schema.names]
        if missing:
            raise UserError(f"{self.files[0]} lacks the columns {', '.join(missing)}; write the data set again.")
        if not any(name in self.schema.names for name in OBSERVED):
            raise UserError(f"{self.files[0]} has neither images nor spectra; write the data set again.")

        self.places: ImagePlaces | None = None
        if IMAGE_FILE in self.schema.names:
            self.places = ImagePlaces.of(about or {}, root)
            self.column = {**FILES, "images": IMAGE_FILE}  # type: ignore[misc]
        elif IMAGE in self.schema.names:
            self.shape = image_shape(self.schema.field(IMAGE), self.files[0])

    @cached_property
    def _catalogue(self) -> Catalogue:
        table = self.small_columns(["object_id", "label"])
        root = Path(str(self.files[0])).parent.parent
        labels, _, names = label_ids(text_column(table, "label", root, nulls=True), self.classes)
        return plain_catalogue(unique_ids(table, root), labels, names)

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def reads_in_place(self, views: Iterable[View]) -> bool:
        """Images that lie in files of their own are never copied into a store."""
        return self.places is not None and any(view.modality == "images" for view in views)

    def decoded(self, modality: str, rows: np.ndarray, columns: Sequence[pa.Array]) -> Observations:
        if modality != "images" or self.places is None:
            return super().decoded(modality, rows, columns)
        return self.places.observations(rows, columns[0].to_pylist(), self._catalogue.ids[rows].tolist())


def image_shape(field: pa.Field, path: object) -> tuple[int, int, int]:
    """(x, y, band) of the images, from the metadata of their column; else those of 152 pixels."""
    told = (field.metadata or {}).get(b"shape")
    try:
        shape = tuple(int(length) for length in json.loads(told)) if told else (SIZE, SIZE, 3)
    except (ValueError, TypeError, RecursionError, OverflowError):
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
    table = GalaxyTable(root, classes, about)
    by_split = assigned_rows(root, sub, seed, table)
    note = "simulated data" if (about.get("provenance") or {}).get("simulated") else ""
    if table.places is not None:
        note = f"images read from their files below {shown(table.places.root)}"
    named = [target for target in about.get("targets") or [] if isinstance(target, dict)]
    units = {target["name"]: str(target["unit"]) for target in named if target.get("unit")}
    return Source(KIND, root, sub, seed, classes, dict.fromkeys(by_split, table), by_split, None, note, units)
