"""HATS catalogues: objects in files of parquet, one for each pixel of the sky, read partition by partition.

A catalogue in HATS (Hierarchical Adaptive Tiling Scheme, https://www.ivoa.net/documents/Notes/HATS/) says in its
properties which columns hold the position; `hats` and `lsdb` write and read them. Light curves stand in a column of
structs of lists, as nested-pandas has them, in the units and under the names of the survey, see readers/surveys.py.
Nothing is copied into a store, because such catalogues are larger than a disk has room for twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from astrom3.data.bands import need_wavelengths
from astrom3.data.layouts.columns import ParquetFile
from astrom3.data.layouts.ours import label_ids
from astrom3.data.layouts.parquet import ParquetTable, numbers, prepare, unnest
from astrom3.data.layouts.table import Catalogue
from astrom3.data.readers import ReadError
from astrom3.data.readers.measured import Measured
from astrom3.data.readers.systems import RELATIVE_MEANS
from astrom3.data.readers.table_files import check_names
from astrom3.data.readers.tables import Columns, LightCurveColumns
from astrom3.data.rows import is_numeric
from astrom3.errors import UserError, shown
from astrom3.extras import need
from astrom3.files import check_regular
from astrom3.modalities.catalogue_quality import possible
from astrom3.modalities.schema import ALL_COLS, META_COLS
from astrom3.modalities.view import StoredView
from astrom3.places import expanded

log = logging.getLogger(__name__)
LAYOUT = "hats"
IDS = ("object_id", "objectid", "source_id", "diaobjectid", "id", "oid", "ps1_objid")  # usual names, any case


@dataclass(frozen=True)
class Partition:
    """One pixel of the sky: its order and number in HEALPix, and its file."""

    order: int
    pixel: int
    path: Path

    @property
    def name(self) -> str:
        """The path of its file inside any catalogue with the same pixels."""
        return f"dataset/Norder={self.order}/Dir={self.pixel // 10_000 * 10_000}/Npix={self.pixel}.parquet"


@dataclass(frozen=True)
class HatsCatalogue:
    """A catalogue that was opened: its properties and its partitions, without any of their rows."""

    root: Path
    properties: Any  # hats.catalog.dataset.table_properties.TableProperties
    partitions: tuple[Partition, ...]

    @classmethod
    def open(cls, path: str | Path) -> HatsCatalogue:
        """The catalogue, or the main one of a collection, in a folder on this machine."""
        hats = need("hats", "hats", "data=hats")
        root = expanded(path)
        if not root.is_dir():
            raise UserError(f"{root} is not a folder: give the folder of a HATS catalogue as data.path")

        check_files(root)
        try:
            found = hats.read_hats(root, read_moc=False)
            found = getattr(found, "main_catalog", found)
            pixels = found.get_healpix_pixels()
            properties = found.catalog_info
        except Exception as error:  # whatever a damaged file makes hats or pydantic raise
            first = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise UserError(f"{shown(root)} cannot be read as a HATS catalogue ({first[0][:200]})") from error

        base = Path(str(found.catalog_base_dir))
        suffix = properties.npix_suffix or ".parquet"
        if suffix == "/":
            raise UserError(
                f"{shown(root)} has folders as partitions, which are not read: write it with one file for each, as "
                "lsdb's write_catalog does by default"
            )

        members = []
        for pixel in pixels:
            path = hats.io.paths.pixel_catalog_file(base, pixel, npix_suffix=suffix)
            members.append(Partition(int(pixel.order), int(pixel.pixel), Path(str(path))))

        if not members:
            raise UserError(f"{shown(root)} has no partitions: it is an empty HATS catalogue")
        return cls(base, properties, tuple(members))


def check_files(root: Path) -> None:
    """A pipe or a device in place of a small file would keep `hats` reading for ever."""
    for pattern in ("*", "dataset/*", "*/*.csv", "*/*.properties"):
        for path in root.glob(pattern):
            if not path.is_dir():
                check_regular(path)


@dataclass(frozen=True)
class HatsColumns:
    """How the rows of a catalogue are read: names of its columns, None where the usual ones are looked for.

    light_curve: the column of structs of lists; measure: names and units inside it; band: the one that networks of one
    band read, "" where points have no band; wavelengths [Angstrom]: of bands that are not known by name.
    """

    id: str
    light_curve: str
    label: str | None = None
    measure: LightCurveColumns = field(default_factory=LightCurveColumns)
    band: str = ""
    wavelengths: Mapping[str, float] | None = None

    @classmethod
    def of(
        cls, partition: Partition, id: str | None, light_curve: str | None, label: str | None, **options: Any
    ) -> HatsColumns:
        """Chosen by the columns of one partition; UserError that lists them where a name is not there."""
        schema = ParquetFile(partition.path).schema
        check_names(partition.path, schema.names)
        for name in (id, light_curve, label):
            if name is not None and name not in schema.names:
                raise UserError(f"{shown(partition.path)} has no column {name}; it has {', '.join(schema.names)}")

        lower = {name.lower(): name for name in schema.names}
        known = [lower[name] for name in IDS if name in lower]
        if id is None and not known:
            raise UserError(f"name the column of ids with data.id=: {partition.path} has {', '.join(schema.names)}")

        chosen = id or known[0]
        nested = [field.name for field in schema if is_nested(field.type)]
        if light_curve:
            nested = [light_curve]
        if len(nested) != 1 or not is_nested(schema.field(nested[0]).type):
            listed = ", ".join(nested) or "none"
            raise UserError(
                f"{shown(partition.path)}: one column of light curves as structs of lists is read, and there are "
                f"{listed}: name it with data.light_curve="
            )

        return cls(chosen, nested[0], label, **options)


def is_nested(kind: pa.DataType) -> bool:
    """Whether a column holds structs of lists."""
    if not pa.types.is_struct(kind) or not len(kind):
        return False
    return all(pa.types.is_list(child.type) or pa.types.is_large_list(child.type) for child in kind)


@cache
def warn_of_relative(folder: Path) -> None:
    """Say once for the partitions of a folder that their magnitudes have no zero point."""
    log.warning("%s", RELATIVE_MEANS.format(section="data.columns"))


class HatsTable(ParquetTable):
    """The rows of some partitions of a catalogue, in their order."""

    direct = True

    def __init__(self, partitions: Sequence[Partition], columns: HatsColumns, classes: tuple[str, ...] = ()) -> None:
        super().__init__([partition.path for partition in partitions])
        self.names = columns
        self.classes = classes
        self.column = {"photometry": columns.light_curve}  # type: ignore[misc]  # of this catalogue

    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        return prepare(view, *self.observations(view.modality, column, view.several_bands))

    def observations(
        self, modality: str, column: pa.Array, several_bands: bool = False
    ) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """Lengths (n,), flat columns and bad (n,) of light curves. several_bands: a fourth column is the wavelength
        [Angstrom] of each point's band; otherwise the points are those of the chosen band."""
        lengths, measured, bad = self.measured(column)
        kept = measured.seen.copy()
        if not several_bands and measured.band is not None and self.names.band:
            kept &= measured.band == self.names.band
        owner = np.repeat(np.arange(len(lengths)), lengths)
        columns = []
        for values in (measured.time, measured.flux, measured.flux_err):
            columns.append(values[kept])
        if several_bands:
            columns.append(self._wavelengths(measured)[kept])
        return np.bincount(owner[kept], minlength=len(lengths)), columns, bad

    def measured(self, column: pa.StructArray) -> tuple[np.ndarray, Measured, np.ndarray]:
        """Lengths (n,) of all points, those points in our units, and bad (n,): lists of unequal length (length 0)."""
        names = [child.name for child in column.type]
        lists = [unnest(pc.struct_field(column, name)) for name in names]
        lengths = lists[0][0]
        bad = np.zeros(len(column), dtype=bool)
        for other, _ in lists[1:]:
            bad |= other != lengths
        values = []
        for own, flat in lists:
            values.append(flat.to_numpy(zero_copy_only=False)[np.repeat(~bad, own)])
        lengths = np.where(bad, 0, lengths)
        try:
            return lengths, self.names.measure.measure(Columns(Path(str(self.files[0])), names, values)), bad
        except ReadError as error:
            raise UserError(f"{error}: name the lists with data.columns.time= and so on") from None

    def _wavelengths(self, measured: Measured) -> np.ndarray:
        """Of all points (N,) [Angstrom], 0 where they have no band."""
        if measured.band is None:
            return np.zeros(len(measured.time))
        names, codes = np.unique(measured.band, return_inverse=True)
        return np.array(need_wavelengths(names.tolist(), self.names.wavelengths), dtype=np.float64)[codes]

    def choose_band(self, asked: str | None) -> str:
        """The band that was asked for, else that with the most points in the first rows, "" where points have none.

        UserError where the first rows have no such band; it is said where fluxes are relative.
        """
        first = next(self.batches(self.groups[0], [self.names.light_curve]), None) if len(self.groups) else None
        if first is None:
            raise UserError(f"{self.files[0]} has no rows: leave empty partitions away")

        column = first[1].column(0)
        _, measured, _ = self.measured(column)
        lists = [child.name for child in column.type]
        empty = Columns(Path(str(self.files[0])), lists, [np.empty(0) for _ in lists])
        if self.names.measure.relative(empty):
            warn_of_relative(Path(self.files[0].path).parent)
        if measured.band is None:
            if asked is not None:
                raise UserError(f"data.band={asked}: the light curves of {self.files[0]} do not say their bands")
            return ""

        names, counts = np.unique(measured.band[measured.seen], return_counts=True)
        if asked is not None and asked not in names:
            raise UserError(f"data.band={asked}: the first partition has the bands {', '.join(names.tolist())}")
        return asked or (str(names[counts.argmax()]) if len(names) else "")

    @cached_property
    def _catalogue(self) -> Catalogue:
        id_name = self.names.id
        label_name = self.names.label
        known = [name for name in ALL_COLS if name in self.schema.names]
        wanted = [id_name, *known] if label_name is None else [id_name, label_name, *known]
        table = self.small_columns(list(dict.fromkeys(wanted)))
        if table[id_name].null_count:
            raise UserError(f"{self.files[0]}: rows without {id_name}: name another column with data.id=")

        ids = pc.cast(table[id_name], pa.string()).to_pylist()
        names: list[str | None] = [None] * len(ids)
        if label_name is not None:
            texts = pc.cast(table[label_name], pa.string())
            names = [text or None for text in texts.to_pylist()]
        labels, unknown, strange = label_ids(names, self.classes)
        has_metadata = np.full(len(ids), not set(META_COLS).isdisjoint(known))
        values = self._values(table, known)
        return Catalogue(np.array(ids, dtype=object), labels, values, unknown, strange, False, has_metadata)

    def _values(self, table: pa.Table, known: Sequence[str]) -> np.ndarray:
        """Catalogue values (n, 38), NaN where the catalogue has no such column."""
        if not known:
            return np.broadcast_to(np.full(len(ALL_COLS), np.nan), (len(table), len(ALL_COLS)))
        values = np.full((len(table), len(ALL_COLS)), np.nan)
        for name in known:
            values[:, ALL_COLS.index(name)] = numbers(table[name].combine_chunks())
        return possible(values)

    def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def target_names(self) -> tuple[str, ...]:
        """Its plain columns of numbers."""
        return tuple(field.name for field in self.schema if is_numeric(field.type))

    def targets(self, names: Sequence[str]) -> np.ndarray:
        table = self.small_columns(list(names))
        return np.stack([numbers(table[name].combine_chunks()) for name in names], axis=1).astype(np.float64)

    def fingerprint(self, cache: Path) -> str:
        """Of how rows are read, and of names, sizes and times of the files: reading all of them would take as long as
        embedding them."""
        digest = hashlib.sha256(repr(self.names).encode())
        for file in self.files:
            about = Path(file.path).stat()
            digest.update(f"{Path(file.path).name} {about.st_size} {about.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def class_names(partitions: Sequence[Partition], label: str) -> tuple[str, ...]:
    """Every class that a column of labels names, sorted. UserError where it holds numbers, which are no names."""
    if is_numeric(ParquetFile(partitions[0].path).schema.field(label).type):
        raise UserError(
            f"{shown(partitions[0].path)}: column {label} holds numbers, which are no class names: predict them with "
            f"target={label}, or name the classes with data.classes=[...]"
        )
    found: set[Any] = set()
    for partition in partitions:
        column = ParquetFile(partition.path).columns([label])[label]
        found.update(pc.unique(pc.cast(column, pa.string())).to_pylist())
    return tuple(sorted(found - {None, ""}))
