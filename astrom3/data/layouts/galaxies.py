"""The layout of galaxy surveys ("astrom3" of kind "galaxies"): images, spectra and targets, read by row group.

`simulate/layout.py` writes it: objects/*.parquet with the columns object_id, label (morphology), image, spectrum, ivar
and the targets; splits/{sub}_{seed}.parquet; dataset.json. A null image or spectrum is a missing modality. Galaxies
have none of the catalogue columns of stars.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from astrom3.data.layouts.ours import assigned_rows, label_ids, read_about, read_json, unique_ids
from astrom3.data.layouts.parquet import ParquetTable, numbers, text_column
from astrom3.data.layouts.table import Catalogue, Group, Piece, Source
from astrom3.data.schema import ALL_COLS
from astrom3.errors import UserError
from astrom3.modalities.galaxy_views import PIXELS, SIZE, GalaxyView, Rows, prepare_flux, prepare_images
from astrom3.modalities.view import StoredView, stored_view

KIND = "galaxies"
VERSION = 1
NEEDED = ("object_id", "label", "image", "spectrum")
INVERSE_VARIANCE = "ivar"


class GalaxyTable(ParquetTable):
    """Galaxies of one survey. `targets(names)` gives their properties."""

    column: ClassVar = {"spectra": "spectrum", "images": "image"}

    def __init__(self, root: Path, classes: tuple[str, ...]) -> None:
        super().__init__(sorted((root / "objects").glob("*.parquet")))
        self.classes = classes
        if not self.files:
            raise UserError(f"{root} has no objects/*.parquet; write the data set again.")
        missing = [name for name in NEEDED if name not in self.schema.names]
        if missing:
            raise UserError(f"{self.files[0]} lacks the columns {', '.join(missing)}; write the data set again.")
        self.shape = image_shape(self.schema.field("image"), self.files[0])

    @cached_property
    def _catalogue(self) -> Catalogue:
        table = self.small_columns(["object_id", "label"])
        root = self.files[0].parent.parent
        labels, unknown, names = label_ids(text_column(table, "label", root, nulls=True), self.classes)
        ids = unique_ids(table, root)
        values = np.full((len(ids), len(ALL_COLS)), np.nan)
        return Catalogue(ids, labels, values, unknown, names, True, np.zeros(len(ids), dtype=bool))

    def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def target_names(self) -> tuple[str, ...]:
        """Columns of plain numbers: redshift, mass, magnitudes and the like."""
        kinds = (pa.types.is_floating, pa.types.is_integer)
        return tuple(field.name for field in self.schema if any(kind(field.type) for kind in kinds))

    def targets(self, names: Sequence[str]) -> np.ndarray:
        """Properties (n, len(names)) float64 of all rows, NaN where unknown; UserError for a column there is not."""
        absent = [name for name in names if name not in self.target_names]
        if absent:
            raise UserError(f"{self.files[0]} has no numbers {absent[0]}; it has {', '.join(self.target_names)}.")
        table = self.small_columns(list(names))
        return np.stack([numbers(table[name].combine_chunks()) for name in names], axis=1).astype(np.float64)

    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        """Rows of one column alone, without inverse variances."""
        rows = self.prepare(view, column, None)
        return rows, rows.repairs

    def pieces(self, group: Group, view: str | StoredView, rows: np.ndarray | None = None) -> Iterator[Piece]:
        stored = stored_view(view)
        if not isinstance(stored, GalaxyView):
            raise UserError(f"galaxies have no {stored.name}: choose model=astroclip, or data of stars")
        columns = [self.column[stored.modality]]
        if stored.modality == "spectra" and INVERSE_VARIANCE in self.schema.names:
            columns.append(INVERSE_VARIANCE)
        chosen = np.arange(group.first, group.first + group.rows)
        if rows is not None:
            chosen = np.sort(rows[(rows >= group.first) & (rows < group.first + group.rows)])
        for first, batch in self.batches(group, columns):
            here = chosen[(chosen >= first) & (chosen < first + len(batch))]
            if not len(here):
                continue
            picked = batch.take(pa.array(here - first)) if len(here) < len(batch) else batch
            ivar = picked.column(1) if len(columns) > 1 else None
            data = self.prepare(stored, picked.column(0), ivar)
            yield Piece(stored, here, data, data.repairs)

    def prepare(self, view: StoredView, column: pa.Array, ivar: pa.Array | None) -> Rows:
        """Rows of a store from columns of a record batch."""
        if view.modality == "images":
            image, there = fixed_rows(column, self.shape)
            return prepare_images(cut_to_size(np.ascontiguousarray(image.transpose(0, 3, 2, 1))), there)
        flux, there = fixed_rows(column, (PIXELS,))
        variance = None if ivar is None else fixed_rows(ivar, (PIXELS,))[0]
        return prepare_flux(flux, variance, there)


def image_shape(field: pa.Field, path: Path) -> tuple[int, int, int]:
    """(x, y, band) of the images, from the metadata of their column; else those of 152 pixels."""
    told = (field.metadata or {}).get(b"shape")
    try:
        shape = tuple(int(length) for length in json.loads(told)) if told else (SIZE, SIZE, 3)
    except (ValueError, TypeError):
        shape = ()
    if len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise UserError(f"{path}: the images are of shape {told!r}, not [x, y, 3]; write the data set again.")
    return shape[0], shape[1], shape[2]


def fixed_rows(array: pa.Array, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A list column as float32 (n, *shape), zero for null, and which rows are there (n,) bool."""
    width = int(np.prod(shape))
    there = array.is_valid().to_numpy(zero_copy_only=False)
    present = array.drop_null()
    lengths = np.unique(present.value_lengths().to_numpy(zero_copy_only=False)) if len(present) else [width]
    if list(lengths) != [width]:
        raise UserError(f"an observation has {lengths[0]} numbers where {width} are expected (shape {list(shape)})")
    flat = numbers(present.flatten()).astype(np.float32, copy=False).reshape(-1, *shape)
    if there.all():
        return flat, there
    out = np.zeros((len(array), *shape), dtype=np.float32)
    out[there] = flat
    return out, there


def cut_to_size(images: np.ndarray) -> np.ndarray:
    """Images (n, 3, H, W) as (n, 3, 152, 152): larger ones are cut around their centre, smaller ones stand in zeros."""
    height, width = images.shape[2:]
    if (height, width) == (SIZE, SIZE):
        return images
    top = max(height - SIZE, 0) // 2
    left = max(width - SIZE, 0) // 2
    inner = images[:, :, top : top + SIZE, left : left + SIZE]
    out = np.zeros((*images.shape[:2], SIZE, SIZE), dtype=images.dtype)
    down = (SIZE - inner.shape[2]) // 2
    right = (SIZE - inner.shape[3]) // 2
    out[:, :, down : down + inner.shape[2], right : right + inner.shape[3]] = inner
    return out


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
