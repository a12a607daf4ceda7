"""From a user's files to our parquet layout: read, check, compute missing features, write; in parallel.

Every file that cannot be read, and every repair, ends up in rejected.csv and is counted in summary.json. Memory is
bounded: a chunk of objects for each worker and one waiting.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from astrom3.data.checked import CurveSet, coverage_of, grid_coverage, partly_covered
from astrom3.data.readers import ColumnError, LightCurve, ReadError, Spectrum
from astrom3.data.readers.objects import Objects
from astrom3.data.rows import objects_table
from astrom3.data.splits import FRACTIONS
from astrom3.data.writer import DatasetWriter, PublishedSplit
from astrom3.errors import UserError
from astrom3.locks import sole_maker
from astrom3.modalities.catalogue_quality import check_catalogue, possible
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, check_spectra
from astrom3.modalities.ragged import ragged
from astrom3.modalities.schema import ALL_COLS, META_COLS, PHOTO_COLS, SEEDS
from astrom3.progress import progress
from astrom3.workers import pool as worker_pool
from astrom3.workers import terminable

log = logging.getLogger(__name__)
LIGHT = of_argument("light_curve")
SPECTRA = of_argument("spectrum")
CHUNK = 32  # objects
PROBES = 5  # files that must all lack a column before the configuration is blamed
FEATURES = ("missing", "all", "none")


class Chunk(NamedTuple):
    """What a worker made of some objects."""

    table: pa.Table
    decisions: list[Decision]
    n_computed: int  # objects whose features were computed
    coverage: list[float]  # of each spectrum, the observed part of the grid of its view


class Method(Protocol):
    """How objects of one kind (stars, galaxies) are read, checked and written. Sent to the workers once."""

    def writer(self, root: Path | str, objects: Objects, **about: Any) -> DatasetWriter:
        """The writer of the data set."""

    def probe(self, objects: Objects) -> None:
        """UserError where the first files say that the configuration is wrong."""

    def chunk(self, objects: Objects) -> Chunk:
        """Read and check some objects."""

    def summary(self, coverage: Sequence[float]) -> dict[str, Any]:
        """Further entries of summary.json."""


@dataclass(frozen=True)
class Recipe:
    """How to read one light curve and one spectrum of a star, and which features to compute.

    bands: light curves keep the bands of their points.
    """

    read_light_curve: Callable[[Any], LightCurve]
    read_spectrum: Callable[[Any], Spectrum]
    features: str = "missing"
    bands: bool = False
    wavelengths: Mapping[str, float] | None = None  # [Angstrom] of bands that are not known by name

    def __post_init__(self) -> None:
        if self.features not in FEATURES:
            raise UserError(f"features={self.features} is none of {', '.join(FEATURES)}.")

    def writer(self, root: Path | str, objects: Objects, **about: Any) -> DatasetWriter:
        return DatasetWriter(
            root,
            classes=objects.classes,
            targets=objects.targets,
            further_columns=objects.further_columns,
            bands=self.bands,
            wavelengths=self.wavelengths,
            **about,
        )

    def probe(self, objects: Objects) -> None:
        probe(self.read_light_curve, objects.light_curves)
        probe(self.read_spectrum, objects.spectra)

    def chunk(self, objects: Objects) -> Chunk:
        return convert_chunk(self, objects)

    def summary(self, coverage: Sequence[float]) -> dict[str, Any]:
        return {"spectrum_coverage": coverage_of(coverage)} if coverage else {}


def convert_objects(
    objects: Objects,
    recipe: Method,
    root: Path | str,
    *,
    name: str,
    provenance: Mapping[str, Any],
    seeds: Sequence[int] = SEEDS,
    fractions: Sequence[float] = FRACTIONS,
    published: Mapping[tuple[str, int], PublishedSplit] | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Convert all objects into a data set at `root`; nothing is left there if it fails or is interrupted."""
    writer = recipe.writer(root, objects, name=name, provenance=provenance, overwrite=overwrite)
    with terminable(), writer, sole_maker(writer.root, "conversion"):
        recipe.probe(objects)
        for decision in objects.decisions:
            writer.reject(*decision)
        computed = 0
        coverage: list[float] = []
        for chunk in convert_chunks(objects, recipe, workers):
            writer.write(chunk.table)
            for decision in chunk.decisions:
                writer.reject(*decision)
            computed += chunk.n_computed
            coverage += chunk.coverage
        summary: dict[str, Any] = {"input_objects": len(objects) + objects.n_left_out, "features_computed": computed}
        summary |= recipe.summary(coverage)
        return writer.finish(seeds, fractions=fractions, published=published, summary=summary)


def probe(read: Callable[[Any], Any], references: Sequence[Any]) -> None:
    """Raise the ColumnError of the first readable files at once if they all have it: the configuration is wrong."""
    errors = []
    for reference in [r for r in references if r is not None][:PROBES]:
        try:
            read(reference)
            return
        except ColumnError as error:
            errors.append(error)
        except ReadError:
            continue
    if errors:
        raise UserError(f"{errors[0]}.")


def convert_chunks(objects: Objects, recipe: Method, workers: int | None = None) -> Iterator[Chunk]:
    """Chunks in the order of the objects, made by `workers` processes (default: one for each core), or in this one."""
    starts = range(0, len(objects), CHUNK)
    workers = min(workers or available_cores(), len(starts))
    parts = (objects.slice(start, start + CHUNK) for start in starts)
    with progress("converting", len(objects)) as advance:
        for chunk in _in_processes(parts, recipe, workers) if workers > 1 else (recipe.chunk(part) for part in parts):
            yield chunk
            advance(min(CHUNK, len(objects)))


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(parts: Iterator[Objects], recipe: Method, workers: int) -> Iterator[Chunk]:
    pool = worker_pool(workers, _start_worker, (recipe,))
    waiting: deque[Future[Chunk]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(_work, part))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError("a worker process died, most likely out of memory; try again with workers=1.") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_recipe: Method | None = None  # of this worker process


def _start_worker(recipe: Method) -> None:
    global _recipe
    _recipe = recipe
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _work(part: Objects) -> Chunk:
    assert _recipe is not None
    return _recipe.chunk(part)


def convert_chunk(recipe: Recipe, objects: Objects) -> Chunk:
    """Read, check and complete some objects; those without any usable modality are rejected."""
    decisions: list[Decision] = []
    curves = _read_all(LIGHT, recipe.read_light_curve, objects.ids, objects.light_curves, decisions)
    spectra = _read_all(SPECTRA, recipe.read_spectrum, objects.ids, objects.spectra, decisions)
    light = CurveSet.checked(curves, recipe.bands)
    spectrum = check_spectra(*ragged(spectra))
    decisions += light.checked_curves.decisions(objects.ids) + spectrum.decisions(objects.ids)

    values = possible(objects.values)
    features = values[:, : len(PHOTO_COLS)]  # a view: what is computed stands in `values` too
    n_computed = 0
    coverage: list[float] = []
    rows = []
    for number, object_id in enumerate(objects.ids):
        row: dict[str, Any] = {"object_id": object_id, "label": objects.labels[number]}
        if light.accepted[number]:
            row["light_curve"] = light.row(number)
            is_missing = np.isnan(features[number]).any()
            if recipe.features == "all" or (recipe.features == "missing" and is_missing):
                features[number] = light.features(number, features[number], recipe.features)
                n_computed += 1
        if spectrum.accepted[number]:
            pixels = slice(spectrum.offsets[number], spectrum.offsets[number + 1])
            wavelength, flux, ivar = (column[pixels] for column in spectrum.columns)
            if np.abs(flux).max() < 1e38 and ivar.max() < 1e38:  # float32, as LAMOST's
                row["spectrum"] = {"wavelength": wavelength, "flux": flux, "ivar": ivar}
                share = grid_coverage(wavelength)
                coverage.append(share)
                decisions += partly_covered(object_id, share)
            else:
                reason = "flux or inverse variance beyond 1e38: scale the flux"
                decisions.append(Decision(object_id, SPECTRA, "rejected", reason))
        rows.append(row)

    has_metadata, catalogue = check_catalogue(values, objects.ids)
    for row, numbers in zip(rows, values.tolist(), strict=True):
        known = {column: number for column, number in zip(ALL_COLS, numbers, strict=True) if number == number}
        row["photo_cols"] = {column: known[column] for column in PHOTO_COLS if column in known} or None
        row["meta_cols"] = {column: known[column] for column in META_COLS if column in known} or None

    objects.add_targets(rows)
    decisions += _relevant(catalogue, objects.ids, rows)

    kept = []
    for row, with_metadata in zip(rows, has_metadata, strict=True):
        if row.get("light_curve") or row.get("spectrum") or with_metadata:
            kept.append(row)
        else:
            reason = "no usable light curve, spectrum or metadata"
            decisions.append(Decision(row["object_id"], "object", "rejected", reason))

    return Chunk(objects_table(kept, objects.targets, recipe.bands), decisions, n_computed, coverage)


def _read_all(
    modality: str, read: Callable[[Any], Any], ids: Sequence[str], references: Sequence[Any], decisions: list[Decision]
) -> list[Any]:
    """LightCurve or Spectrum of every object, empty where there is no file or it cannot be read."""
    empty = LightCurve(np.empty(0), np.empty(0), np.empty(0))
    columns = []
    for object_id, found in zip(ids, readings(modality, read, ids, references, decisions), strict=True):
        if found is not None:
            decisions += [Decision(object_id, modality, "repaired", note) for note in found.notes]
            if not len(found[0]):
                decisions.append(Decision(object_id, modality, "rejected", "no observations are left"))
        columns.append(empty if found is None else found)
    return columns


def readings(
    modality: str, read: Callable[[Any], Any], ids: Sequence[str], references: Sequence[Any], decisions: list[Decision]
) -> list[Any]:
    """What `read` makes of the file of every object, None where there is none or it cannot be read."""
    found: list[Any] = []
    for object_id, reference in zip(ids, references, strict=True):
        try:
            found.append(None if reference is None else read(reference))
        except ReadError as error:
            # The reason comes first, the path after a colon: the summary counts by what stands before it.
            path, _, reason = str(error).partition(": ")
            decisions.append(Decision(object_id, modality, "rejected", f"{reason or 'unreadable'}: {path}"))
            found.append(None)
    return found


def _relevant(
    catalogue: Sequence[Decision], ids: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Decision]:
    """Catalogue decisions about modalities that an object has at all."""
    row_of = dict(zip(ids, rows, strict=True))
    for decision in catalogue:
        needed = "light_curve" if decision.modality == LIGHT else "meta_cols"
        if row_of[decision.object_id].get(needed):
            yield decision
