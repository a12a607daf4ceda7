"""Puts the simulated survey together and writes it in our own layout.

    root = simulate(Path("data/simulated"), n_objects=2000, seed=0)

The same seed, number of objects and versions of the libraries give the same bytes, whatever the number of workers: the
catalogue is drawn at once, every light curve and spectrum from its own generator, keyed by (seed, row).
It is for installing, testing, benchmarks and teaching: dataset.json says "simulated": true.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from astrom3.errors import UserError
from astrom3.locks import sole_maker
from astrom3.modalities.ragged import joined, offsets_of
from astrom3.modalities.schema import CLASSES, META_COLS, OBJECT_SCHEMA, PHOTO_COLS
from astrom3.simulate import catalogue, layout, lightcurves, populations, spectra
from astrom3.workers import terminable

VERSION = 1  # raise it when any simulated number changes
LightCurve = tuple[np.ndarray, np.ndarray, np.ndarray]  # time [HJD], flux and error [mJy], each (n,)
CHUNK = 256  # objects a worker makes at a time
LARGEST_IN_PROCESS = 600  # smaller surveys are made without worker processes


@dataclass
class Survey:
    """What is drawn before any light curve: true properties, catalogue columns, labels as they will be written."""

    seed: int
    stars: populations.Stars
    columns: dict[str, np.ndarray]
    shared: dict[str, np.ndarray]
    written_label: np.ndarray  # differs from stars.label where swapped
    has_light_curve: np.ndarray
    has_spectrum: np.ndarray
    ids: list[str]

    def rows(self, start: int, stop: int) -> Survey:
        """The same for a slice of the objects, small enough to send to a worker."""

        def cut(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {k: v[start:stop] for k, v in columns.items()}

        return Survey(
            self.seed,
            populations.Stars(**cut(self.stars.__dict__)),
            cut(self.columns),
            cut(self.shared),
            self.written_label[start:stop],
            self.has_light_curve[start:stop],
            self.has_spectrum[start:stop],
            self.ids[start:stop],
        )


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"{name}={value} of the simulated survey must lie between 0 and 1.")
    return value


def plan(
    n_objects: int = populations.TOTAL,
    seed: int = 0,
    *,
    missing_spectra: float = 0.0,
    missing_light_curves: float = 0.0,
    swapped_labels: float = 0.0,
) -> Survey:
    """Draw the stars and their catalogue; n_objects >= 30, shares in [0, 1]."""
    if n_objects < populations.LEAST * len(CLASSES):
        raise UserError(
            f"n_objects={n_objects} of the simulated survey is too few for {len(CLASSES)} classes; give 30 or more."
        )
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, n_objects])))
    labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), populations.class_counts(n_objects)))
    stars = populations.draw_stars(rng, labels)
    columns, shared = catalogue.draw_columns(rng, stars)
    # What may be missing or wrong is drawn last, so that it changes nothing else.
    has_spectrum = rng.random(n_objects) >= _share("missing_spectra", missing_spectra)
    has_light_curve = rng.random(n_objects) >= _share("missing_light_curves", missing_light_curves)
    swapped = rng.random(n_objects) < _share("swapped_labels", swapped_labels)
    other = (labels + rng.integers(1, len(CLASSES), n_objects)) % len(CLASSES)
    ids = [f"SIM-{seed}-{i:06d}" for i in range(n_objects)]
    return Survey(seed, stars, columns, shared, np.where(swapped, other, labels), has_light_curve, has_spectrum, ids)


def _generator(seed: int, row: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, row, stream])))


def light_curves(survey: Survey, first: int) -> tuple[list[LightCurve], dict[str, np.ndarray]]:
    """Light curves of a slice that begins at row `first`, and the columns of them: mean_vmag and PHOTO_COLS."""
    stars = survey.stars
    curves = []
    rows = []
    for i in range(len(stars.label)):
        rng = _generator(survey.seed, first + i, 0)
        label = int(stars.label[i])
        period = float(stars.period[i])
        time, flux, error = lightcurves.light_curve(
            rng, label, period, float(stars.amplitude[i]), float(stars.v_mag[i])
        )
        period = lightcurves.catalogue_period(rng, label, period)
        curves.append((time, flux, error))
        rows.append(lightcurves.features(time, flux, error, period))
    return curves, dict(zip(("mean_vmag", *PHOTO_COLS), np.array(rows).T, strict=True))


def catalogue_columns(n_objects: int = populations.TOTAL, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Label ids (n,) and the 38 columns, each (n,), of the survey that `simulate` would write; no spectra."""
    survey = plan(n_objects, seed)
    _, measured = light_curves(survey, 0)
    return survey.stars.label, {**survey.columns, **measured}


def _ragged(arrays: list[np.ndarray | None], kind: pa.DataType) -> pa.ListArray:
    present = [array if array is not None else np.empty(0) for array in arrays]
    offsets = offsets_of(list(map(len, present)))
    flat = joined(present).astype(kind.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, kind))


def _struct(field: str, children: list[pa.Array], present: np.ndarray) -> pa.StructArray:
    return pa.StructArray.from_arrays(children, fields=list(OBJECT_SCHEMA.field(field).type), mask=pa.array(~present))


def make_rows(survey: Survey, first: int) -> pa.RecordBatch:
    """Objects of a slice that begins at row `first`, as rows of OBJECT_SCHEMA."""
    stars = survey.stars
    shared = survey.shared
    curves, measured = light_curves(survey, first)
    fluxes: list[tuple] = []
    for i in range(len(stars.label)):
        if not survey.has_spectrum[i]:
            fluxes.append((None, None))
            continue
        fluxes.append(
            spectra.spectrum(
                _generator(survey.seed, first + i, 1),
                int(stars.label[i]),
                float(stars.teff[i]),
                float(stars.giant[i]),
                float(stars.feh[i]),
                float(shared["a_v"][i]),
                float(shared["rv"][i]),
                float(stars.v_mag[i]),
            )
        )
    columns = {**survey.columns, **measured}
    every = np.ones(len(stars.label), bool)
    known_curves = [curve if has else (None,) * 3 for curve, has in zip(curves, survey.has_light_curve, strict=True)]
    curve_columns = []
    for values in zip(*known_curves, strict=True):
        curve_columns.append(_ragged(list(values), pa.float64()))
    wavelengths = [spectra.WAVELENGTH if has else None for has in survey.has_spectrum]
    spectrum_columns = [_ragged(wavelengths, pa.float64())]
    for values in zip(*fluxes, strict=True):
        spectrum_columns.append(_ragged(list(values), pa.float32()))
    return pa.record_batch(
        [
            pa.array(survey.ids),
            pa.array([CLASSES[number] for number in survey.written_label]),
            _struct("light_curve", curve_columns, survey.has_light_curve),
            _struct("spectrum", spectrum_columns, survey.has_spectrum),
            _struct("photo_cols", [pa.array(columns[name]) for name in PHOTO_COLS], survey.has_light_curve),
            _struct("meta_cols", [pa.array(columns[name]) for name in META_COLS], every),
        ],
        schema=OBJECT_SCHEMA,
    )


def _batches(survey: Survey, workers: int) -> Iterator[pa.RecordBatch]:
    """Rows in order, CHUNK at a time; a few chunks are in flight at once, so memory stays bounded."""
    tasks = ((survey.rows(start, stop), start) for start, stop in layout.chunks(len(survey.ids), CHUNK))
    yield from layout.in_order(make_rows, tasks, workers)


def simulate(
    root: Path,
    n_objects: int = populations.TOTAL,
    seed: int = 0,
    workers: int | None = None,
    missing_spectra: float = 0.0,
    missing_light_curves: float = 0.0,
    swapped_labels: float = 0.0,
    overwrite: bool = False,
) -> Path:
    """Write a simulated survey to `root` and return it.

    missing_*, swapped_labels: shares of the objects. Objects with a swapped label are listed in `swapped.csv` with the
    true one. An existing `root` that is not empty is refused (UserError) unless `overwrite`.
    """
    from astrom3.data.writer import DatasetWriter

    survey = plan(
        n_objects,
        seed,
        missing_spectra=missing_spectra,
        missing_light_curves=missing_light_curves,
        swapped_labels=swapped_labels,
    )
    provenance = {
        "simulated": True,
        "generator": "astrom3.simulate",
        "generator_version": VERSION,
        "seed": seed,
        "n_objects": n_objects,
        "missing_spectra": missing_spectra,
        "missing_light_curves": missing_light_curves,
        "swapped_labels": swapped_labels,
        "note": "for installing, testing, benchmarks and teaching; no real star is in here",
    }
    writer = DatasetWriter(
        Path(root), classes=CLASSES, name=f"simulated survey, seed {seed}", provenance=provenance, overwrite=overwrite
    )
    with terminable(), writer, sole_maker(writer.root, "simulation"):
        for batch in _batches(survey, layout.worker_count(workers, n_objects, LARGEST_IN_PROCESS)):
            writer.write(batch)
        if swapped_labels:
            with writer.file("swapped.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["object_id", "label", "true_label"])
                for i in np.flatnonzero(survey.written_label != survey.stars.label):
                    table.writerow([survey.ids[i], CLASSES[survey.written_label[i]], CLASSES[survey.stars.label[i]]])
        return writer.finish()
