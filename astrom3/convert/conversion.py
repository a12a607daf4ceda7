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
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from astrom3.data.checked import CurveSet, coverage_of, grid_coverage, partly_covered, ragged
from astrom3.data.readers import ColumnError, LightCurve, ReadError, Spectrum
from astrom3.data.readers.objects import Objects
from astrom3.data.readers.raw import RawDataset, RawSplit, available_splits
from astrom3.data.rows import objects_table
from astrom3.data.splits import FRACTIONS
from astrom3.data.writer import DatasetWriter, PublishedSplit
from astrom3.errors import UserError
from astrom3.locks import sole_maker
from astrom3.modalities.catalogue_quality import check_catalogue, possible
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, check_spectra
from astrom3.modalities.schema import ALL_COLS, META_COLS, PHOTO_COLS, SEEDS, SPLITS
from astrom3.progress import progress
from astrom3.workers import pool as worker_pool
from astrom3.workers import terminable

log = logging.getLogger(__name__)
LIGHT = of_argument("light_curve")
SPECTRA = of_argument("spectrum")
CHUNK = 32  # objects
PROBES = 5  # files that must all lack a column before the configuration is blamed
FEATURES = ("missing", "all", "none")


@dataclass(frozen=True)
class Recipe:
    """How to read one light curve and one spectrum, and which features to compute. Sent to the workers once.

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


class Chunk(NamedTuple):
    """What a worker made of some objects."""

    table: pa.Table
    decisions: list[Decision]
    n_computed: int  # objects whose features were computed
    coverage: list[float]  # of each spectrum, the observed part of the grid of the view `spectra`


def convert_objects(
    objects: Objects,
    recipe: Recipe,
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
    writer = DatasetWriter(
        root,
        classes=objects.classes,
        name=name,
        provenance=provenance,
        overwrite=overwrite,
        targets=objects.targets,
        further_columns=objects.further_columns,
        bands=recipe.bands,
        wavelengths=recipe.wavelengths,
    )
    with terminable(), writer, sole_maker(writer.root, "conversion"):
        probe(recipe.read_light_curve, objects.light_curves)
        probe(recipe.read_spectrum, objects.spectra)
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
        if coverage:
            summary["spectrum_coverage"] = coverage_of(coverage)
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


def convert_chunks(objects: Objects, recipe: Recipe, workers: int | None = None) -> Iterator[Chunk]:
    """Chunks in the order of the objects, made by `workers` processes (default: one for each core), or in this one."""
    starts = range(0, len(objects), CHUNK)
    workers = min(workers or available_cores(), len(starts))
    parts = (objects.slice(start, start + CHUNK) for start in starts)
    with progress("converting", len(objects)) as advance:
        for chunk in (
            _in_processes(parts, recipe, workers) if workers > 1 else (convert_chunk(recipe, p) for p in parts)
        ):
            yield chunk
            advance(min(CHUNK, len(objects)))


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(parts: Iterator[Objects], recipe: Recipe, workers: int) -> Iterator[Chunk]:
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


_recipe: Recipe | None = None  # of this worker process


def _start_worker(recipe: Recipe) -> None:
    global _recipe
    _recipe = recipe
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _work(part: Objects) -> Chunk:
    assert _recipe is not None
    return convert_chunk(_recipe, part)


def convert_chunk(recipe: Recipe, objects: Objects) -> Chunk:
    """Read, check and complete some objects; those without any usable modality are rejected."""
    decisions: list[Decision] = []
    curves = _read_all(LIGHT, recipe.read_light_curve, objects.ids, objects.light_curves, decisions)
    spectra = _read_all(SPECTRA, recipe.read_spectrum, objects.ids, objects.spectra, decisions)
    light = CurveSet.checked(curves, recipe.bands)
    spectrum = check_spectra(*ragged(spectra))
    decisions += light.checked_curves.decisions(objects.ids) + spectrum.decisions(objects.ids)

    values = possible(objects.values)
    n_computed = 0
    coverage: list[float] = []
    photo = slice(0, len(PHOTO_COLS))
    rows = []
    for i, object_id in enumerate(objects.ids):
        row: dict[str, Any] = {"object_id": object_id, "label": objects.labels[i]}
        if light.accepted[i]:
            row["light_curve"] = light.row(i)
            if recipe.features == "all" or (recipe.features == "missing" and np.isnan(values[i, photo]).any()):
                values[i, photo] = light.features(i, values[i, photo], recipe.features)
                n_computed += 1
        if spectrum.accepted[i]:
            wavelength, flux, ivar = (c[spectrum.offsets[i] : spectrum.offsets[i + 1]] for c in spectrum.columns)
            if np.abs(flux).max() < 1e38 and ivar.max() < 1e38:  # float32, as LAMOST's
                row["spectrum"] = {"wavelength": wavelength, "flux": flux, "ivar": ivar}
                coverage.append(grid_coverage(wavelength))
                decisions += partly_covered(object_id, coverage[-1])
            else:
                reason = "flux or inverse variance beyond 1e38: scale the flux"
                decisions.append(Decision(object_id, SPECTRA, "rejected", reason))
        rows.append(row)

    has_metadata, catalogue = check_catalogue(values, objects.ids)
    for row, numbers in zip(rows, values, strict=True):
        for group, names in (("photo_cols", PHOTO_COLS), ("meta_cols", META_COLS)):
            known = {c: numbers[ALL_COLS.index(c)] for c in names if not np.isnan(numbers[ALL_COLS.index(c)])}
            row[group] = known or None
    objects.add_targets(rows)
    decisions += _relevant(catalogue, objects.ids, rows)
    usable = [bool(r.get("light_curve") or r.get("spectrum") or m) for r, m in zip(rows, has_metadata, strict=True)]
    for object_id, good in zip(objects.ids, usable, strict=True):
        if not good:
            reason = "no usable light curve, spectrum or metadata"
            decisions.append(Decision(object_id, "object", "rejected", reason))
    kept = [row for row, good in zip(rows, usable, strict=True) if good]
    return Chunk(objects_table(kept, objects.targets, recipe.bands), decisions, n_computed, coverage)


def _read_all(
    modality: str, read: Callable[[Any], Any], ids: Sequence[str], references: Sequence[Any], decisions: list[Decision]
) -> list[Any]:
    """LightCurve or Spectrum of every object, empty where there is no file or it cannot be read."""
    columns: list[Any] = []
    empty = LightCurve(np.empty(0), np.empty(0), np.empty(0))
    for object_id, reference in zip(ids, references, strict=True):
        if reference is None:
            columns.append(empty)
            continue
        try:
            found = read(reference)
        except ReadError as error:
            # The reason comes first, the path after a colon: the summary counts by what stands before it.
            path, _, reason = str(error).partition(": ")
            decisions.append(Decision(object_id, modality, "rejected", f"{reason or 'unreadable'}: {path}"))
            columns.append(empty)
            continue
        decisions += [Decision(object_id, modality, "repaired", note) for note in found.notes]
        if not len(found[0]):
            decisions.append(Decision(object_id, modality, "rejected", "no observations are left"))
        columns.append(found)
    return columns


def _relevant(
    catalogue: Sequence[Decision], ids: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Decision]:
    """Catalogue decisions about modalities that an object has at all."""
    row_of = dict(zip(ids, rows, strict=True))
    for decision in catalogue:
        needed = "light_curve" if decision.modality == LIGHT else "meta_cols"
        if row_of[decision.object_id].get(needed):
            yield decision


# --- the raw data set -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawReader:
    """Light curves by name, spectra by (file name, class), of the raw AstroM3Dataset."""

    dataset: RawDataset

    def light_curve(self, name: str) -> LightCurve:
        return self.dataset.light_curve(name)

    def spectrum(self, reference: tuple[str, str | None]) -> Spectrum:
        return self.dataset.spectrum(*reference)


def read_raw(
    path: Path | str, features: str = "missing"
) -> tuple[Objects, Recipe, dict[tuple[str, int], PublishedSplit]]:
    """All objects of a raw AstroM3Dataset folder, how to read them, and its published splits as they are.

    An object in several CSVs is taken from the first; Gaia ids that name two objects get the spectrum's name added.
    """
    available = available_splits(path)
    if not available:
        raise UserError(f"{path} has no splits/<sub>/<seed>/info.json: it is not the raw AstroM3Dataset.")
    found: dict[tuple[str, str, str], tuple[str | None, np.ndarray]] = {}  # (id, name, spectrum) -> label, values
    keys: dict[tuple[str, int], dict[str, list[tuple[str, str, str]]]] = {}
    infos = {}
    classes = set()
    for sub, seed in available:
        dataset = RawDataset(path, sub, seed)
        infos[sub, seed], members = dataset.info, {}
        classes |= set(dataset.classes)
        for split in SPLITS:
            rows: RawSplit = dataset.split(split)
            members[split] = list(zip(rows.ids, rows.names, rows.spec_filenames, strict=True))
            for key, label, values in zip(members[split], rows.labels, rows.values, strict=True):
                found.setdefault(key, (label, values))
        keys[sub, seed] = members
    uses: dict[str, int] = {}
    for object_id, _, _ in found:
        uses[object_id] = uses.get(object_id, 0) + 1
    unique = {key: key[0] if uses[key[0]] == 1 else f"{key[0]} {key[2]}" for key in found}
    published = {
        where: PublishedSplit({s: [unique[k] for k in m] for s, m in members.items()}, infos[where])
        for where, members in keys.items()
    }
    labels = [label for label, _ in found.values()]
    objects = Objects(
        list(unique.values()),
        labels,
        np.array([values for _, values in found.values()]).reshape(-1, len(ALL_COLS)),
        [name or None for _, name, _ in found],
        [(spectrum, label) if spectrum else None for (_, _, spectrum), label in zip(found, labels, strict=True)],
        tuple(sorted(classes)),
    )
    reader = RawReader(dataset)
    return objects, Recipe(reader.light_curve, reader.spectrum, features), published
