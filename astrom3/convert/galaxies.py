"""What convert makes of galaxies: cutouts checked (and copied where asked), spectra on DESI's grid, numbers to predict.

Cutouts stay where they are, unless images.copy=true: the data set then holds their paths alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.convert.conversion import Chunk, probe, readings
from astrom3.data.checked import WELL_COVERED, coverage_of
from astrom3.data.galaxy_writer import IMAGE, IMAGE_FILE, GalaxyWriter, galaxy_schema
from astrom3.data.layouts.galaxy_rows import cut_to_size
from astrom3.data.readers.cutouts import GRID, CutoutReader
from astrom3.data.readers.objects import Objects
from astrom3.modalities.galaxy_views import (
    BANDS,
    SIZE,
    CutoutView,
    SpecFormerView,
    prepare_flux,
    prepare_images,
    stacked_spectra,
)
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, list_decisions

SPECTRA = of_argument("spectrum")
NEITHER = "no usable image or spectrum"


@dataclass(frozen=True)
class GalaxyRecipe:
    """How to read the cutout and the spectrum of a galaxy; read_spectrum gives flux and inverse variance on the grid,
    and notes. copy: images go into the data set. folder: paths of images are kept relative to it where they are below.
    """

    read_image: CutoutReader
    read_spectrum: Callable[[Any], tuple[np.ndarray, np.ndarray, tuple[str, ...]]]
    images: bool
    spectra: bool
    copy: bool
    folder: Path

    @property
    def column(self) -> str | None:
        """Name of the column of images."""
        if not self.images:
            return None
        return IMAGE if self.copy else IMAGE_FILE

    def writer(self, root: Path | str, objects: Objects, **about: Any) -> GalaxyWriter:
        return GalaxyWriter(
            root,
            classes=objects.classes,
            targets=objects.targets,
            further_columns=objects.further_columns,
            images=self.column,
            spectra=self.spectra,
            root_of_images=self.folder,
            bands=self.read_image.bands,
            **about,
        )

    def probe(self, objects: Objects) -> None:
        probe(self.read_image, objects.images or [])
        probe(self.read_spectrum, objects.spectra)

    def summary(self, coverage: Sequence[float]) -> dict[str, Any]:
        grid = f"{GRID[0]:g}-{GRID[-1]:g}"
        return {"spectrum_coverage": {**coverage_of(coverage), "grid": grid}} if coverage else {}

    def chunk(self, objects: Objects) -> Chunk:
        """Read and check some galaxies; one without a usable image and a usable spectrum is rejected."""
        decisions: list[Decision] = []
        columns: dict[str, list[Any]] = {"object_id": objects.ids, "label": objects.labels}
        usable = np.zeros(len(objects), dtype=bool)
        coverage: list[float] = []
        if self.images:
            columns[self.column or ""], seen = self.image_column(objects, decisions)
            usable |= seen
        if self.spectra:
            columns["spectrum"], columns["ivar"], seen = self.spectrum_columns(objects, decisions, coverage)
            usable |= seen
        for row in np.flatnonzero(~usable):
            decisions.append(Decision(objects.ids[row], "object", "rejected", NEITHER))
        if objects.target_values is not None:
            for name, values in zip(objects.targets, objects.target_values.T.tolist(), strict=True):
                columns[name] = values
        table = self.table(columns, objects.targets, usable)
        return Chunk(table, decisions, 0, coverage)

    def table(
        self, columns: Mapping[str, list[Any]], targets: Mapping[str, str | None], usable: np.ndarray
    ) -> pa.Table:
        """Columns as the data set has them, of the usable galaxies. NaN becomes null."""
        schema = galaxy_schema(targets, self.column, self.spectra)
        arrays = []
        for field in schema:
            values = list(compress(columns[field.name], usable))
            if pa.types.is_floating(field.type):
                values = [None if value != value else value for value in values]
            arrays.append(pa.array(values, field.type))
        return pa.table(arrays, schema=schema)

    def image_column(self, objects: Objects, decisions: list[Decision]) -> tuple[list[Any], np.ndarray]:
        """Images (or paths) of the galaxies, None where they cannot be used, and which can (n,)."""
        paths = objects.images or []
        images = readings("images", self.read_image, objects.ids, paths, decisions)
        flux = np.zeros((len(images), BANDS, SIZE, SIZE), np.float32)
        there = np.zeros(len(images), dtype=bool)
        for row, image in enumerate(images):
            if image is None:
                continue
            there[row] = True
            height, width = image.shape[1:]
            if (height, width) != (SIZE, SIZE):
                note = f"{height} x {width} pixels, cut or filled to {SIZE} x {SIZE}"
                decisions.append(Decision(objects.ids[row], "images", "repaired", note))
            flux[row] = cut_to_size(image[None])[0]

        checked = prepare_images(flux, there)
        decisions += list_decisions("images", objects.ids, checked.verdict, checked.repairs, CutoutView.words)

        values: list[Any] = [None] * len(images)
        for row in np.flatnonzero(checked.present).tolist():
            values[row] = flux[row].T.ravel() if self.copy else relative_path(paths[row], self.folder)
        return values, checked.present

    def spectrum_columns(
        self, objects: Objects, decisions: list[Decision], coverage: list[float]
    ) -> tuple[list[Any], list[Any], np.ndarray]:
        """Flux and inverse variance of the galaxies, None where they cannot be used, and which can (n,)."""
        spectra = readings(SPECTRA, self.read_spectrum, objects.ids, objects.spectra, decisions)
        flux, ivar, there = stacked_spectra(spectra, objects.ids, decisions)
        checked = prepare_flux(flux, ivar, there)
        decisions += list_decisions(SPECTRA, objects.ids, checked.verdict, checked.repairs, SpecFormerView.words)

        fluxes: list[Any] = [None] * len(flux)
        weights: list[Any] = [None] * len(flux)
        for row in np.flatnonzero(checked.present).tolist():
            fluxes[row] = flux[row]
            weights[row] = ivar[row]
            share = observed_share(ivar[row])
            coverage.append(share)
            if share < WELL_COVERED:
                reason = f"covers a part of {GRID[0]:g}-{GRID[-1]:g} Angstrom, held constant beyond: {share:.0%}"
                decisions.append(Decision(objects.ids[row], SPECTRA, "repaired", reason))

        return fluxes, weights, checked.present


def observed_share(ivar: np.ndarray) -> float:
    """Share of the grid between the first and the last pixel with information."""
    seen = np.flatnonzero(ivar > 0)
    if not len(seen):
        return 0.0
    first, last = seen[[0, -1]]
    return float(last - first + 1) / len(ivar)


def relative_path(path: Path, folder: Path) -> str:
    """A path from a folder where it is below it, else an absolute one."""
    whole = Path(os.path.abspath(path))
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)
