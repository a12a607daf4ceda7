"""The layout of surveys of light curves in magnitudes ("astrom3" of kind "light curves"), as the MACHO-like one is.

`simulate/layout.py` writes it: objects/*.parquet with object_id, label (null: unlabelled), light_curve (time [day],
magnitude, error) and period [day]; splits/{sub}_{seed}.parquet; dataset.json. There is no zero point. Magnitudes become
fluxes relative to magnitude 15, which a view in magnitudes takes back without loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from astrom3.data.layouts.columns import ColumnFile
from astrom3.data.layouts.ours import (
    LAYOUT,
    VERSIONS,
    assigned_rows,
    label_column,
    label_ids,
    read_about,
    read_json,
    unique_ids,
)
from astrom3.data.layouts.parquet import ParquetTable, columns_of_struct, numbers, prepare
from astrom3.data.layouts.table import Catalogue, Source, Table
from astrom3.errors import UserError
from astrom3.modalities.catalogue import COLUMN, Normaliser
from astrom3.modalities.catalogue_quality import FAINTEST
from astrom3.modalities.schema import ALL_COLS
from astrom3.modalities.view import StoredView

KIND = "light curves"
CHILDREN = ("time", "mag", "mag_err")
NEEDED = ("object_id", "label", "light_curve", "period")
REFERENCE = 15.0  # magnitude of relative flux 1
E_FOLD = np.log(10) / 2.5  # relative error of the flux by error of the magnitude


class MagnitudeTable(ParquetTable):
    """Light curves of one band in magnitudes."""

    column: ClassVar = {"photometry": "light_curve"}

    def __init__(self, root: Path, classes: tuple[str, ...], files: Sequence[ColumnFile] | None = None) -> None:
        """The files are those of the folder, unless others are given."""
        super().__init__(sorted((root / "objects").glob("*.parquet")) if files is None else files)
        self.classes = classes
        if not self.files:
            raise UserError(f"{root} has no objects/*.parquet; write the data set again.")
        missing = []
        for name in NEEDED:
            if name not in self.schema.names:
                missing.append(name)
        if missing:
            raise UserError(f"{root}/objects lacks the columns {', '.join(missing)}; write the data set again.")

    def decode(self, view: StoredView, column: pa.Array) -> tuple[Any, np.ndarray | None]:
        return prepare(view, *self.observations("photometry", column))

    def observations(self, modality: str, column: pa.Array) -> tuple[Any, list[np.ndarray], Any]:
        """Lengths of the curves, time [day] with relative flux and its error, and which curves are misshapen."""
        lengths, columns, bad = columns_of_struct(column, CHILDREN)
        time, magnitude, error = columns
        magnitude = np.asarray(magnitude, np.float64)
        with np.errstate(invalid="ignore"):
            magnitude = np.where(np.abs(magnitude) > FAINTEST, np.nan, magnitude)
        flux = 10 ** (-0.4 * (magnitude - REFERENCE))
        return lengths, [time, flux, flux * E_FOLD * np.asarray(error, np.float64)], bad

    @cached_property
    def _catalogue(self) -> Catalogue:
        table = self.small_columns(["object_id", "label", "period"])
        root = Path(str(self.files[0])).parent.parent
        labels, unknown, names = label_ids(label_column(table, self.classes, root), self.classes)
        ids = unique_ids(table, root)
        values = np.full((len(ids), len(ALL_COLS)), np.nan)
        values[:, COLUMN["period"]] = numbers(table["period"].combine_chunks())
        return Catalogue(ids, labels, values, unknown, names, False, np.zeros(len(ids), dtype=bool))

    def catalogue(self) -> Catalogue:
        return self._catalogue


def is_magnitudes(root: Path) -> bool:
    """Whether dataset.json says that the objects are light curves alone."""
    return read_json(root / "dataset.json").get("kind") == KIND


def open_magnitudes(root: Path, sub: str, seed: int) -> Source:
    """Source of a folder with dataset.json of kind "light curves"."""
    about = read_about(root, VERSIONS)
    classes = tuple(about.get("classes") or ())
    table = MagnitudeTable(root, classes)
    by_split = assigned_rows(root, sub, seed, table)
    normaliser = Normaliser.fit(table.catalogue().values[by_split["train"]])
    note = "simulated data" if (about.get("provenance") or {}).get("simulated") else ""
    tables: dict[str, Table] = dict.fromkeys(by_split, table)
    return Source(LAYOUT, root, sub, seed, classes, tables, by_split, normaliser, note)
