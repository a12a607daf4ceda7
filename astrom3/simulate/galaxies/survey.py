"""The simulated galaxy survey: one galaxy, a table of them, or a folder in our parquet layout.

    write(Path("data/galaxies"), objects=10_000, seed=0)

Every galaxy has generators of its own, keyed by (seed, index), so the same seed gives the same bytes for any number
of workers, and the first galaxies of a large survey are those of a small one.
It is for installing, testing, benchmarks and teaching: dataset.json says "simulated": true.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from astrom3.errors import UserError
from astrom3.simulate import layout
from astrom3.simulate.galaxies import images, populations, spectra
from astrom3.simulate.galaxies.populations import MORPHOLOGIES, Properties
from astrom3.simulate.layout import generator

GENERATOR_VERSION = 2  # raise it when any simulated number changes
LIMIT = 19.4  # r magnitude of the faintest galaxy
BRIGHTEST = 14.0
CHUNK = 64  # galaxies of a row group, 22 MB at full size
ROWS_PER_FILE = 1024
LEAST = 3  # galaxies of a survey
TARGETS = ("redshift", "log_mass", "log_ssfr", "metallicity", "age")
PHYSICS = 0  # streams of random numbers of a galaxy
STRUCTURE = 1
CAMERA = 2
SPECTROGRAPH = 3
ABSENCE = 4
TOTAL_ERROR = 0.05  # error of a catalogue's total magnitude that the bands share, of models that do not fit [mag] ...
COLOUR_ERROR = 0.02  # ... and that each band has for itself


@dataclass(frozen=True)
class Galaxy:
    """One galaxy as observed, with the truth about it."""

    properties: Properties
    image: np.ndarray  # float32 (3, size, size): g, r, z [nanomaggies], survey orientation
    spectrum: np.ndarray  # float32 (7781,) [1e-17 erg/s/cm2/Angstrom]
    ivar: np.ndarray  # float32 (7781,), inverse variance of the spectrum, 0 where a pixel is lost
    magnitudes: np.ndarray  # float64 (3,): total g, r, z as a catalogue measures them
    ra: float  # [degree]
    dec: float  # [degree]
    air: images.Atmosphere
    fluxes: np.ndarray  # float64 (3 components, 3 bands), true total flux [nanomaggies]
    true_spectrum: np.ndarray  # float64 (7781,), without noise


def _select(rng: np.random.Generator) -> tuple[Properties, spectra.Light]:
    """The first galaxy drawn that is bright enough to be in the survey."""
    while True:
        properties = populations.draw(rng, LIMIT)
        source = spectra.light(properties)
        magnitude = images.ZERO_POINT - 2.5 * np.log10(source.fluxes[:, 1].sum())
        if BRIGHTEST < magnitude < LIMIT:
            return properties, source


def truth(seed: int, index: int) -> Properties:
    """True properties of galaxy number `index` of the survey with this seed, without observing it."""
    properties, _ = _select(generator(seed, index, PHYSICS))
    return properties


def galaxy(seed: int, index: int, image_size: int = images.SIZE) -> Galaxy:
    """Galaxy number `index` of the survey with this seed.

    A smaller image, meant for tests, shows a smaller field. The truth is the same, but the disc is normalised within
    the field, and clumps, neighbours and noise fall elsewhere.
    """
    rng = generator(seed, index, PHYSICS)
    properties, source = _select(rng)
    ra = rng.uniform(0, 360)
    sin_dec = rng.uniform(np.sin(np.radians(-18)), np.sin(np.radians(84)))
    air = images.atmosphere(rng)
    form = images.shape(generator(seed, index, STRUCTURE), properties, image_size)
    image = images.observe(generator(seed, index, CAMERA), form, source.fluxes, air)
    true_spectrum = spectra.observed_flux(properties, source, form.in_fibre)
    spectrum, ivar = spectra.observe(generator(seed, index, SPECTROGRAPH), true_spectrum)
    return Galaxy(
        properties=properties,
        image=image,
        spectrum=spectrum,
        ivar=ivar,
        magnitudes=_measured_magnitudes(rng, source.fluxes.sum(0), form, air),
        ra=float(ra),
        dec=float(np.degrees(np.arcsin(sin_dec))),
        air=air,
        fluxes=source.fluxes,
        true_spectrum=true_spectrum,
    )


def _measured_magnitudes(
    rng: np.random.Generator, total: np.ndarray, form: images.Shape, air: images.Atmosphere
) -> np.ndarray:
    """Total g, r, z (3,) as a catalogue measures them, of total fluxes (3,) [nanomaggies]."""
    pixels = 4 * np.pi * air.seeing**2 + 2 * np.pi * form.bulge[:, 1:].max()  # that the sky's noise comes from
    misfit = TOTAL_ERROR * rng.standard_normal() + COLOUR_ERROR * rng.standard_normal(3)
    sky = air.noise * np.sqrt(pixels) * rng.standard_normal(3)
    measured = np.maximum(total * 10 ** (-0.4 * misfit) + sky, 0.3 * total)
    return images.ZERO_POINT - 2.5 * np.log10(measured)


def draw(seed: int, start: int, stop: int, image_size: int = images.SIZE) -> dict[str, np.ndarray]:
    """Columns of galaxies start ... stop - 1 as arrays of (n, ...); see `schema` for names, shapes and units.

    `image` is float32 (n, image_size, image_size, 3) with the axes x, y, band, as in the published data set.
    """
    members = [galaxy(seed, index, image_size) for index in range(start, stop)]
    columns = {
        "object_id": np.array([f"GAL-{seed}-{index:06d}" for index in range(start, stop)]),
        "label": np.array([member.properties.morphology for member in members]),
        "image": np.stack([member.image.T for member in members]),
        "spectrum": np.stack([member.spectrum for member in members]),
        "ivar": np.stack([member.ivar for member in members]),
    }
    for name in TARGETS:
        columns[name] = np.array([getattr(member.properties, name) for member in members])
    for band, name in enumerate(spectra.BANDS):
        columns[f"mag_{name}"] = np.array([member.magnitudes[band] for member in members])
    columns["ra"] = np.array([member.ra for member in members])
    columns["dec"] = np.array([member.dec for member in members])
    return columns


@dataclass(frozen=True)
class Absent:
    """Shares of the galaxies without an image, and without a spectrum."""

    images: float = 0.0
    spectra: float = 0.0

    def of(self, seed: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Column -> (n,) bool: which of the galaxies start ... stop - 1 lack it."""
        drawn = np.array([generator(seed, index, ABSENCE).random(2) for index in range(start, stop)])
        without_spectrum = drawn[:, 1] < self.spectra
        return {"image": drawn[:, 0] < self.images, "spectrum": without_spectrum, "ivar": without_spectrum}


NOTHING_ABSENT = Absent()


def schema(image_size: int = images.SIZE, absent: Absent = NOTHING_ABSENT) -> pa.Schema:
    """Columns of objects/*.parquet. Arrays are fixed-size lists of float32; metadata give shape, axes and unit."""
    shape = [image_size, image_size, len(spectra.BANDS)]
    about_image = {
        "shape": json.dumps(shape),
        "axes": "x,y,band",
        "bands": ",".join(spectra.BANDS),
        "unit": "nanomaggy",
        "arcsec_per_pixel": str(images.SCALE),
    }
    about_spectrum = {
        "shape": json.dumps([spectra.PIXELS]),
        "wavelength": "3600 + 0.8 i Angstrom, vacuum, observed",
        "unit": "1e-17 erg/s/cm2/Angstrom",
    }
    units = {
        "redshift": "",
        "log_mass": "log10 M_sun",
        "log_ssfr": "log10 1/yr",
        "metallicity": "log10 Z/Z_sun",
        "age": "Gyr",
        "mag_g": "mag",
        "mag_r": "mag",
        "mag_z": "mag",
        "ra": "degree",
        "dec": "degree",
    }
    about_ivar = about_spectrum | {"unit": "1/flux^2"}
    image = pa.list_(pa.float32(), int(np.prod(shape)))
    spectrum = pa.list_(pa.float32(), spectra.PIXELS)
    fields = [
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("image", image, nullable=absent.images > 0, metadata=about_image),
        pa.field("spectrum", spectrum, nullable=absent.spectra > 0, metadata=about_spectrum),
        pa.field("ivar", spectrum, nullable=absent.spectra > 0, metadata=about_ivar),
    ]
    fields += [pa.field(name, pa.float64(), metadata={"unit": unit}) for name, unit in units.items()]
    return pa.schema(fields)


def make_rows(seed: int, start: int, stop: int, image_size: int, absent: Absent = NOTHING_ABSENT) -> pa.RecordBatch:
    """Galaxies start ... stop - 1 as rows of `schema`."""
    columns = draw(seed, start, stop, image_size)
    kinds = schema(image_size, absent)
    lacking = absent.of(seed, start, stop)
    arrays = []
    for field in kinds:
        values = columns[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).ravel())
            mask = pa.array(lacking[field.name]) if field.nullable else None
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type, mask=mask))
        else:
            arrays.append(pa.array(values.tolist(), field.type))
    return pa.record_batch(arrays, schema=kinds)


def write(
    folder: Path | str,
    objects: int = 10_000,
    seed: int = 0,
    workers: int | None = None,
    image_size: int = images.SIZE,
    overwrite: bool = False,
    missing_images: float = 0.0,
    missing_spectra: float = 0.0,
) -> Path:
    """Write a survey to `folder` and return it; 280 kB and about 30 ms of one core a galaxy at full size.

    missing_images, missing_spectra: shares of the galaxies without them; nothing else depends on it. A UserError is
    raised for fewer than 3 objects, for an image of an odd or tiny size, for a share that is none, and for a folder in
    use.
    """
    absent = Absent(
        images=layout.share("missing_images", missing_images),
        spectra=layout.share("missing_spectra", missing_spectra),
    )
    if objects < LEAST:
        raise UserError(f"objects={objects} of the simulated galaxy survey is too few; give {LEAST} or more.")
    if image_size < 16 or image_size % 2:
        raise UserError(f"image_size={image_size} of the simulated galaxy survey must be even and at least 16 pixels.")
    description = {
        "name": f"simulated galaxy survey, seed {seed}",
        "kind": "galaxies",
        "provenance": layout.provenance(
            "astrom3.simulate.galaxies", GENERATOR_VERSION, seed, objects, "galaxy", image_size=image_size
        ),
        "targets": list(TARGETS),
        "bands": list(spectra.BANDS),
    }
    tasks = []
    for start, stop in layout.chunks(objects, CHUNK):
        tasks.append((seed, start, stop, image_size, absent))
    batches = layout.in_order(make_rows, tasks, layout.worker_count(workers, objects))
    return layout.write_survey(
        folder,
        batches,
        schema(image_size, absent),
        description,
        classes=MORPHOLOGIES,
        row_group=CHUNK,
        rows_per_file=ROWS_PER_FILE,
        overwrite=overwrite,
    )
