"""What all layouts of galaxies share: observations as rows of one size, prepared for the views of galaxies.

A layout says which modalities it has and hands out raw rows (`observations`), in the survey's orientation. What is done
with them (lost pixels, other sizes, missing observations) is decided here and in modalities/galaxy_views.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.data.layouts.parquet import ParquetTable, numbers
from astrom3.data.layouts.table import Catalogue, Group, Piece, Table
from astrom3.data.rows import is_list, is_numeric
from astrom3.errors import UserError
from astrom3.modalities.galaxy_views import (
    MISSHAPEN,
    PIXELS,
    SIZE,
    GalaxyView,
    Rows,
    prepare_flux,
    prepare_images,
)
from astrom3.modalities.quality import Decision
from astrom3.modalities.schema import ALL_COLS, UNLABELLED
from astrom3.modalities.view import StoredView, stored_view

AT_ONCE = 64  # objects decoded at a time: 18 MB of images
FILES = {"images": "image", "spectra": "spectrum"}  # modality -> usual name of its column


@dataclass(frozen=True)
class Observations:
    """Raw rows of one modality. rows (n,): in their table. values float32 (n, 3, H, W) [nanomaggies], survey
    orientation, or (n, 7781) [1e-17 erg/s/cm2/Angstrom], zero where absent; there (n,) bool; ivar float32 (n, 7781)
    where the data have it; misshapen (n,) bool: of another size than the others, so they cannot be used. unreadable:
    files of these galaxies that could not be read."""

    rows: np.ndarray
    values: np.ndarray
    there: np.ndarray
    ivar: np.ndarray | None = None
    misshapen: np.ndarray | None = None
    unreadable: tuple[Decision, ...] = ()


class GalaxyRows(Table):
    """Galaxies in a fixed order. name: of the data in messages."""

    rows_at_once = AT_ONCE
    name: str = "the data set"

    @property
    @abstractmethod
    def modalities(self) -> tuple[str, ...]:
        """Of images and spectra, those that the data have."""

    @abstractmethod
    def observations(self, group: Group, modality: str, rows: np.ndarray) -> Iterator[Observations]:
        """Raw rows of one group, in order. rows (m,): ascending rows of the table, all in the group. The pieces of both
        modalities have the same rows."""

    def pieces(self, group: Group, view: str | StoredView, rows: np.ndarray | None = None) -> Iterator[Piece]:
        stored = stored_view(view)
        if not isinstance(stored, GalaxyView):
            raise UserError(f"galaxies have no {stored.name}: choose model=astroclip, or data of stars")
        if stored.modality not in self.modalities:
            raise UserError(
                f"{self.name} has no {stored.modality}, only {', '.join(self.modalities)}: choose a mode that needs "
                "no others (mode=distil: images, mode=masked: spectra)"
            )

        wanted = np.arange(group.first, group.first + group.rows)
        if rows is not None:
            wanted = np.sort(rows[(rows >= group.first) & (rows < group.first + group.rows)])
        if not len(wanted):
            return

        for found in self.observations(group, stored.modality, wanted):
            data = prepared(stored, found)
            yield Piece(stored, found.rows, data, data.repairs, found.unreadable)


def prepared(view: StoredView, found: Observations) -> Rows:
    """Rows of a store or a batch from raw ones."""
    if view.modality == "images":
        rows = prepare_images(cut_to_size(found.values), found.there)
    else:
        rows = prepare_flux(found.values, found.ivar, found.there)
    if found.misshapen is not None:
        rows.verdict[found.misshapen] = MISSHAPEN
    return rows


def plain_catalogue(
    ids: np.ndarray, labels: np.ndarray | None = None, unknown: dict[int, str] | None = None
) -> Catalogue:
    """A catalogue without the columns of stars, which takes memory for ids (n,) and labels (n,) alone."""
    n = len(ids)
    absent = np.broadcast_to(np.nan, (n, len(ALL_COLS)))
    no = np.broadcast_to(np.bool_(False), (n,))
    strange = no
    if unknown:
        strange = np.zeros(n, dtype=bool)
        strange[list(unknown)] = True
    known = np.broadcast_to(np.int64(UNLABELLED), (n,)) if labels is None else labels
    return Catalogue(ids, known, absent, strange, unknown or {}, True, no)


class ColumnGalaxies(GalaxyRows):
    """Galaxies whose observations are Arrow columns of lists: how these become rows.

    axes: of an image in its column, "xyb" as in the published paired data, or "byx" as the survey has them.
    """

    column: ClassVar[dict[str, str]] = FILES
    schema: pa.Schema
    shape: tuple[int, ...] = (SIZE, SIZE, 3)  # of images that are flat lists
    inverse_variance = "ivar"

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(modality for modality, name in self.column.items() if name in self.schema.names)

    @property
    def target_names(self) -> tuple[str, ...]:
        """Columns of plain numbers: redshift, mass, magnitudes and the like."""
        return tuple(field.name for field in self.schema if is_numeric(field.type))

    def columns_of(self, modality: str) -> list[str]:
        """Names of the columns to read for one modality."""
        names = [self.column[modality]]
        if modality == "spectra" and self.inverse_variance in self.schema.names:
            names.append(self.inverse_variance)
        return names

    def decoded(self, modality: str, rows: np.ndarray, columns: Sequence[pa.Array]) -> Observations:
        """Rows of the columns `columns_of`. UserError, with the name of the data, where they hold something else."""
        try:
            return self._decoded(modality, rows, columns)
        except UserError as error:
            prefix = "" if self.name in str(error) else f"{self.name}, column {self.column[modality]}: "
            raise UserError(f"{prefix}{error}") from None

    def _decoded(self, modality: str, rows: np.ndarray, columns: Sequence[pa.Array]) -> Observations:
        if modality == "images":
            values, there, misshapen = nested_rows(columns[0], self.shape)
            return Observations(rows, channels_first(values, self.name), there, None, misshapen)
        flux, there, misshapen = nested_rows(columns[0], (PIXELS,))
        if flux[0].size != PIXELS and there.any():
            raise UserError(
                f"{self.name}: a spectrum has {flux[0].size} pixels where the grid of SpecFormer has {PIXELS}: write "
                "the data again on that grid (astrom3.modalities.resampling does it)"
            )
        ivar = None
        if len(columns) > 1:
            ivar = nested_rows(columns[1], (PIXELS,))[0].reshape(len(rows), -1)
        return Observations(rows, flux.reshape(len(rows), -1), there, ivar, misshapen)


class ParquetGalaxies(ColumnGalaxies, ParquetTable):
    """Galaxies in parquet files, read by row group."""

    def __init__(self, files: Sequence[Any]) -> None:
        ParquetTable.__init__(self, files)
        self.name = str(self.files[0]) if self.files else ""

    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        """Rows of one column alone, without inverse variances."""
        rows = prepared(view, self.decoded(view.modality, np.arange(len(column)), [column]))
        return rows, rows.repairs

    def observations(self, group: Group, modality: str, rows: np.ndarray) -> Iterator[Observations]:
        for first, batch in self.batches(group, self.columns_of(modality)):
            if first > rows[-1]:
                return
            here = rows[(rows >= first) & (rows < first + len(batch))]
            if not len(here):
                continue
            chosen = batch if len(here) == len(batch) else batch.take(pa.array(here - first))
            yield self.decoded(modality, here, [chosen.column(name) for name in self.columns_of(modality)])

    def targets(self, names: Sequence[str]) -> np.ndarray:
        """Properties (n, len(names)) float64 of all rows, NaN where unknown; UserError for a column there is not."""
        absent = [name for name in names if name not in self.target_names]
        if absent:
            known = ", ".join(self.target_names) or "no numbers"
            raise UserError(f"{self.files[0]} has no numbers {absent[0]}; it has {known}.")
        table = self.small_columns(list(names))
        return np.stack([numbers(table[name].combine_chunks()) for name in names], axis=1).astype(np.float64)


# --- lists to arrays --------------------------------------------------------------------------------------------------


def nested_rows(column: pa.Array, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A column of lists, nested or flat -> float32 (n, *shape), zero where there is none; which rows are there (n,)
    bool; and which rows have another size than most (n,) bool, None where all agree.

    Flat lists are of `shape`; nested ones say their shape themselves.
    """
    if isinstance(column, pa.ExtensionArray):  # the Array3D of `datasets`
        column = column.storage
    there = column.is_valid().to_numpy(zero_copy_only=False)
    present = column if there.all() else column.drop_null()
    depth, levels = levels_of(present)
    if not depth:
        raise UserError(f"Expected a list column, found {present.type}; write the data set again.")

    misshapen = None
    if any(len(found) > 1 for found in levels):
        sizes = row_sizes(present)
        usual = int(np.bincount(sizes).argmax())
        misshapen = np.zeros(len(column), dtype=bool)
        misshapen[np.flatnonzero(there)[sizes != usual]] = True
        present = present.filter(pa.array(sizes == usual))
        there = there & ~misshapen
        depth, levels = levels_of(present)
        if any(len(found) > 1 for found in levels):
            raise UserError(
                "observations of the same number of pixels have different shapes; write the data set again."
            )

    lengths = tuple(int(found[0]) for found in levels if len(found))
    own = shape if len(lengths) < 2 else lengths
    if lengths and int(np.prod(lengths)) != int(np.prod(own)):
        raise UserError(
            f"an observation has {lengths[0]} numbers where {np.prod(own)} are expected (shape {list(own)})"
        )

    flat = present
    for _ in range(depth):
        flat = flat.flatten()
    values = numbers(flat).astype(np.float32, copy=False).reshape(-1, *own)
    if there.all():
        return values, there, misshapen

    out = np.zeros((len(column), *own), dtype=np.float32)
    out[there] = values
    return out, there, misshapen


def levels_of(column: pa.Array) -> tuple[int, list[np.ndarray]]:
    """How deep lists are nested, and the different lengths that they have at each level."""
    found = []
    while is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0)
        found.append(np.unique(lengths.to_numpy(zero_copy_only=False)))
        column = column.flatten()
    return len(found), found


def row_sizes(column: pa.Array) -> np.ndarray:
    """Numbers (n,) in each row of nested lists without null rows."""
    sizes = np.ones(len(column), dtype=np.int64)
    while is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        before = np.concatenate([[0], np.cumsum(lengths)])
        ends = np.cumsum(sizes)
        sizes = before[ends] - before[ends - sizes]
        column = column.flatten()
    return sizes


def channels_first(images: np.ndarray, name: str) -> np.ndarray:
    """Images (n, x, y, 3) of the paired data, or (n, 3, y, x) as the survey has them -> (n, 3, y, x)."""
    if images.ndim == 4 and images.shape[3] == 3:
        return np.ascontiguousarray(images.transpose(0, 3, 2, 1))
    if images.ndim == 4 and images.shape[1] == 3:
        return images
    raise UserError(f"{name}: the images are of shape {list(images.shape[1:])}; three bands g, r, z are needed")


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
