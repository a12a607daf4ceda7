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
ABSENT = (None, None, None)  # the columns of a light curve or a spectrum that was not observed
SPECTRUM_TYPES = (pa.float64(), pa.float32(), pa.float32())  # wavelength, flux, inverse variance
CHUNK = 256  # objects a worker makes at a time
LIGHT_CURVE = 0  # streams of random numbers of a star
SPECTRUM = 1
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
            return {name: values[start:stop] for name, values in columns.items()}

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
    rng = layout.generator(seed, n_objects)
    counts = populations.class_counts(n_objects)
    labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), counts))
    stars = populations.draw_stars(rng, labels)
    columns, shared = catalogue.draw_columns(rng, stars)
    # What may be missing or wrong is drawn last, so that it changes nothing else.
    has_spectrum = rng.random(n_objects) >= layout.share("missing_spectra", missing_spectra)
    has_light_curve = rng.random(n_objects) >= layout.share("missing_light_curves", missing_light_curves)
    swapped = rng.random(n_objects) < layout.share("swapped_labels", swapped_labels)
    other = (labels + rng.integers(1, len(CLASSES), n_objects)) % len(CLASSES)
    written_label = np.where(swapped, other, labels)
    ids = [f"SIM-{seed}-{i:06d}" for i in range(n_objects)]
    return Survey(seed, stars, columns, shared, written_label, has_light_curve, has_spectrum, ids)


def light_curves(survey: Survey, first: int) -> tuple[list[LightCurve], dict[str, np.ndarray]]:
    """Light curves of a slice that begins at row `first`, and the columns of them: mean_vmag and PHOTO_COLS."""
    stars = survey.stars
    curves = []
    rows = []
    for i in range(len(stars.label)):
        rng = layout.generator(survey.seed, first + i, LIGHT_CURVE)
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


def _spectrum(survey: Survey, i: int, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Flux and inverse variance of star i of a slice, which is number `row` of the whole survey."""
    stars = survey.stars
    return spectra.spectrum(
        layout.generator(survey.seed, row, SPECTRUM),
        int(stars.label[i]),
        float(stars.teff[i]),
        float(stars.giant[i]),
        float(stars.feh[i]),
        float(survey.shared["a_v"][i]),
        float(survey.shared["rv"][i]),
        float(stars.v_mag[i]),
    )


def make_rows(survey: Survey, first: int) -> pa.RecordBatch:
    """Objects of a slice that begins at row `first`, as rows of OBJECT_SCHEMA."""
    curves, measured = light_curves(survey, first)
    known_curves: list[tuple] = []
    known_spectra: list[tuple] = []  # wavelength, flux, inverse variance
    for i, curve in enumerate(curves):
        known_curves.append(curve if survey.has_light_curve[i] else ABSENT)
        if survey.has_spectrum[i]:
            known_spectra.append((spectra.WAVELENGTH, *_spectrum(survey, i, first + i)))
        else:
            known_spectra.append(ABSENT)
    curve_columns = []
    for values in zip(*known_curves, strict=True):
        curve_columns.append(_ragged(list(values), pa.float64()))
    spectrum_columns = []
    for values, kind in zip(zip(*known_spectra, strict=True), SPECTRUM_TYPES, strict=True):
        spectrum_columns.append(_ragged(list(values), kind))
    columns = {**survey.columns, **measured}
    every = np.ones(len(curves), bool)
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


def _write_swapped(path: Path, survey: Survey) -> None:
    """List the objects whose label was swapped, with the true one."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["object_id", "label", "true_label"])
        for i in np.flatnonzero(survey.written_label != survey.stars.label):
            written = CLASSES[survey.written_label[i]]
            table.writerow([survey.ids[i], written, CLASSES[survey.stars.label[i]]])


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

    shares = {
        "missing_spectra": missing_spectra,
        "missing_light_curves": missing_light_curves,
        "swapped_labels": swapped_labels,
    }
    survey = plan(n_objects, seed, **shares)
    provenance = layout.provenance("astrom3.simulate", VERSION, seed, n_objects, "star", **shares)
    writer = DatasetWriter(
        Path(root), classes=CLASSES, name=f"simulated survey, seed {seed}", provenance=provenance, overwrite=overwrite
    )
    with terminable(), writer, sole_maker(writer.root, "simulation"):
        for batch in _batches(survey, layout.worker_count(workers, n_objects, LARGEST_IN_PROCESS)):
            writer.write(batch)
        if swapped_labels:
            _write_swapped(writer.file("swapped.csv"), survey)
        return writer.finish()
