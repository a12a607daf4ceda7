"""A simulated survey with the cadence of MACHO: one band, magnitudes with errors, many stars, labelled or not.

    write(Path("data/macho"), objects=20_000, seed=0)

The stars are variables of the Large Magellanic Cloud in the six classes that Astromer's Alcock set has. Light-curve
shapes, periods and amplitudes are those of the star survey. Sources: cadence and class counts as in Donoso-Oliva et
al. 2023 (mean step 2.9 days with a deviation of 17.3), eight years of MACHO (Alcock et al. 1999), distance modulus
18.5 and the period-luminosity relation of Cepheids (Udalski et al. 1999), RR Lyrae at V = 19.4 (Alcock et al. 2000).
Every star has a generator of its own, so the same seed gives the same bytes for any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from astrom3.errors import UserError
from astrom3.modalities.ragged import offsets_of
from astrom3.simulate import layout, lightcurves, populations
from astrom3.simulate.lightcurves import YEAR

GENERATOR_VERSION = 1  # raise it when any simulated number changes
COUNTS = {
    "Cep_0": 1182,
    "Cep_1": 683,
    "EC": 6824,
    "LPV": 3046,
    "RRab": 7397,
    "RRc": 1762,
}  # Alcock, by label id
CLASSES = tuple(COUNTS)
FIRST_MJD = 48823.0  # July 1992
YEARS = 8
GAP = (175.0, 205.0)  # days of a year without observations
POINTS = (150, 1400)  # fewest and most points of a curve
FAINTEST = 21.0  # V of a detection
CHUNK = 512
ROWS_PER_FILE = 4096
LEAST = 3  # stars of a survey
STREAM = 12  # of the random numbers, unlike those of the other surveys

LIGHT_CURVE_TYPE = pa.struct(
    [("time", pa.list_(pa.float64())), ("mag", pa.list_(pa.float64())), ("mag_err", pa.list_(pa.float64()))]
)
SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("light_curve", LIGHT_CURVE_TYPE, metadata={"time": "MJD, day", "unit": "mag", "band": "V"}),
        pa.field("period", pa.float64(), metadata={"unit": "day"}),
        pa.field("ra", pa.float64(), metadata={"unit": "degree"}),
        pa.field("dec", pa.float64(), metadata={"unit": "degree"}),
    ]
)


@dataclass(frozen=True)
class Star:
    """One star as observed."""

    label: str
    period: float  # true [day]
    time: np.ndarray  # MJD, ascending [day], float64 (n,)
    mag: np.ndarray  # V [mag], float64 (n,)
    mag_err: np.ndarray  # [mag], float64 (n,)
    ra: float  # [degree]
    dec: float  # [degree]


def observing_times(rng: np.random.Generator) -> np.ndarray:
    """MJD (n,) ascending: eight seasons, nights lost to weather and to the moon, one visit a night."""
    nights = np.arange(int(YEARS * YEAR))
    gap = rng.uniform(*GAP)
    day_of_year = (nights + rng.uniform(0, YEAR)) % YEAR
    up = day_of_year > gap
    cloudy = np.zeros(len(nights), dtype=bool)
    for start in rng.integers(0, len(nights), rng.poisson(3 * YEARS)):
        length = int(rng.exponential(5)) + 1
        cloudy[start : start + length] = True
    usable = np.flatnonzero(up & ~cloudy)
    typical = np.log(980)
    wanted = int(np.clip(rng.lognormal(typical, 0.25), *POINTS))
    chosen = np.sort(rng.choice(usable, min(wanted, len(usable)), replace=False))
    season = 0.1 * np.sin(2 * np.pi * chosen / YEAR)
    hour = 0.55 + season + rng.uniform(-0.12, 0.12, len(chosen))  # in days
    return np.round(FIRST_MJD + chosen + hour, 5)


def magnitude_error(mag: np.ndarray) -> np.ndarray:
    """Typical error [mag] at V [mag]: 0.015 for bright stars, 0.09 at 19.4 and 0.15 at 20."""
    return np.hypot(0.015, 0.088 * 10 ** (0.36 * (mag - 19.4)))


def _drawn(rng: np.random.Generator, name: str) -> tuple[float, float]:
    """Period [day] and amplitude [mag] of one star of a class of the star survey."""
    log_period, amplitude, *_ = populations.DRAW[name](rng, 1, name)
    return float(10 ** log_period[0]), float(amplitude[0])


def _cepheid(rng: np.random.Generator, overtone: bool) -> tuple[float, float, float]:
    """Period [day], amplitude [mag] and mean V of a Cepheid in its fundamental mode or in the first overtone."""
    if overtone:
        log_period = np.clip(rng.normal(0.32, 0.17), -0.2, 0.8)
        mag = 16.85 - 3.2 * log_period
        amplitude = np.clip(rng.normal(0.32, 0.08), 0.1, 0.6)
    else:
        log_period = rng.normal(0.55, 0.18) + 0.3 * rng.exponential(0.3)
        log_period = np.clip(log_period, 0.1, 1.6)
        mag = 17.37 - 2.76 * log_period
        amplitude = np.clip(rng.normal(0.7, 0.17), 0.2, 1.3)
    return 10**log_period, amplitude, mag + rng.normal(0, 0.2)


def _draw(rng: np.random.Generator, label: str) -> tuple[str, float, float, float]:
    """Class whose shape the star has in the star survey, period, amplitude and mean V."""
    if label in ("Cep_0", "Cep_1"):
        overtone = label == "Cep_1"
        period, amplitude, mag = _cepheid(rng, overtone)
        shape = "RRC" if overtone else "HADS"
        return shape, float(period), float(amplitude), float(mag)
    if label in ("RRab", "RRc"):
        shape = label.upper()
        mag = rng.normal(19.4, 0.22)
    elif label == "LPV":
        shape = "M" if rng.random() < 0.25 else "SR"
        mag = rng.normal(16.4, 0.8)
    else:
        shape = str(rng.choice(["EA", "EB", "EW"], p=[0.45, 0.4, 0.15]))
        mag = 19.6 - rng.exponential(1.1)
    period, amplitude = _drawn(rng, shape)
    return shape, period, amplitude, float(np.clip(mag, 13.5, 20.0))


def star(seed: int, index: int) -> Star:
    """Star number `index` of the survey with this seed; its class is drawn with the shares of the Alcock set."""
    rng = layout.generator(seed, index, STREAM)
    share = np.cumsum(list(COUNTS.values())) / sum(COUNTS.values())
    number = int(np.searchsorted(share, rng.random(), side="right"))
    label = CLASSES[number]
    shape, period, amplitude, mean = _draw(rng, label)
    time = observing_times(rng)
    hjd = time - FIRST_MJD + lightcurves.FIRST_HJD  # as if the star survey had begun then
    true = mean + lightcurves.shape(rng, shape, hjd, period, amplitude)
    true = np.minimum(true, FAINTEST)
    error = magnitude_error(true) * rng.lognormal(0, 0.2, len(true)) * rng.lognormal(0, 0.1)
    # A few points in a hundred are worse than their error says.
    scatter = np.where(rng.random(len(true)) < 0.015, 3.0, 1.0)
    noise = np.clip(rng.standard_normal(len(true)) * scatter, -5, 5)
    mag = true + noise * error
    return Star(
        label=label,
        period=period,
        time=time,
        mag=np.round(mag, 4),
        mag_err=np.round(np.clip(error, 0.002, 0.9), 4),
        ra=float(rng.normal(80.0, 3.0)),
        dec=float(rng.normal(-69.3, 1.2)),
    )


def make_rows(seed: int, start: int, stop: int, labelled: bool) -> pa.RecordBatch:
    """Stars start ... stop - 1 as rows of SCHEMA."""
    stars = [star(seed, index) for index in range(start, stop)]
    lengths = [len(member.time) for member in stars]
    offsets = pa.array(offsets_of(lengths), pa.int32())
    children = []
    for name in ("time", "mag", "mag_err"):
        flat = np.concatenate([getattr(member, name) for member in stars])
        children.append(pa.ListArray.from_arrays(offsets, pa.array(flat)))
    columns = [
        pa.array([f"LMC-{seed}-{index:06d}" for index in range(start, stop)]),
        pa.array([member.label if labelled else None for member in stars], pa.string()),
        pa.StructArray.from_arrays(children, fields=list(LIGHT_CURVE_TYPE)),
    ]
    for name in ("period", "ra", "dec"):
        columns.append(pa.array([getattr(member, name) for member in stars], pa.float64()))
    return pa.record_batch(columns, schema=SCHEMA)


def write(
    folder: Path | str,
    objects: int = 20_000,
    seed: int = 0,
    workers: int | None = None,
    labelled: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write a survey to `folder` and return it; about 1000 points a star.

    labelled: without it every label is null, as in the set that Astromer was pre-trained on. A UserError is raised for
    fewer than 3 objects and for a folder in use.
    """
    if objects < LEAST:
        raise UserError(f"objects={objects} of the simulated MACHO survey is too few; give {LEAST} or more.")
    description = {
        "name": f"simulated MACHO-like survey, seed {seed}",
        "kind": "light curves",
        "provenance": layout.provenance(
            "astrom3.simulate.macho", GENERATOR_VERSION, seed, objects, "star", labelled=labelled
        ),
        "survey": {"unit": "mag", "band": "V", "time": "MJD"},
    }
    tasks = []
    for start, stop in layout.chunks(objects, CHUNK):
        tasks.append((seed, start, stop, labelled))
    batches = layout.in_order(make_rows, tasks, layout.worker_count(workers, objects))
    return layout.write_survey(
        folder,
        batches,
        SCHEMA,
        description,
        classes=CLASSES,
        row_group=CHUNK,
        rows_per_file=ROWS_PER_FILE,
        overwrite=overwrite,
    )
