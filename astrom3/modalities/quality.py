"""Decisions on bad input: what is repaired, what is rejected, and the list that says so for every object.

Light curves and spectra are checked many at a time: flat columns plus `offsets`, object i being
`column[offsets[i]:offsets[i + 1]]`. The converter, the store and the streaming reader all come through here.

Repaired: points with non-finite numbers or a negative error are dropped, unsorted times or wavelengths sorted, exact
duplicate rows and repeated wavelengths dropped, negative inverse variances set to 0. Rejected (the modality is then
missing for that object): see LIGHT_CURVE_REJECTIONS and SPECTRUM_REJECTIONS. Points at the same time with different
values are kept, as published.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from astrom3.errors import UserError, shown
from astrom3.files import read_text, replacing
from astrom3.kernel import kernel
from astrom3.modalities.schema import (
    WAVELENGTH_COUNT,
    WAVELENGTH_START,
    WAVELENGTH_STEP,
)

MIN_POINTS = 10  # of a light curve, after the repairs
MAX_SPAN = 50_000.0  # days; photographic plates go back 140 years, and the period search takes time with the span
LARGEST_FLUX = 1e30  # float32 ends at 3e38, and squares of it are taken
MIN_PIXELS = 100  # of a spectrum, after the repairs
WAVELENGTH_END = WAVELENGTH_START + WAVELENGTH_STEP * (WAVELENGTH_COUNT - 1)  # 8998 Angstrom
MIN_COVERAGE = 0.5  # part of 3850-8998 Angstrom that a spectrum must span


# Position = code. Code 0 is "accepted".
LIGHT_CURVE_REJECTIONS = (
    "",
    f"fewer than {MIN_POINTS} usable points",
    "zero time span",
    "constant flux (median absolute deviation 0)",
    "columns of unequal length",
    "prepared values not finite",
    "times span more than 50,000 days: JD and MJD mixed?",
    "flux or error beyond 1e30: scale them",
)
SPECTRUM_REJECTIONS = (
    "",
    f"fewer than {MIN_PIXELS} usable pixels",
    f"covers less than half of {WAVELENGTH_START:g}-{WAVELENGTH_END:g} Angstrom",
    "all-zero flux",
    "constant flux (median absolute deviation 0)",
    "columns of unequal length",
    "prepared values not finite",
    "all inverse variances 0: no pixel was observed",
)
UNEQUAL = {"photometry": 4, "spectra": 5}
NOT_FINITE = {"photometry": 5, "spectra": 6}
# Column = kind of repair, value = number of points or pixels (for "sorted": 1).
LIGHT_CURVE_REPAIRS = (
    "{} points with non-finite time, flux or error dropped",
    "{} points with negative error dropped",
    "times were unsorted: sorted",
    "{} exact duplicate rows dropped",
)
SPECTRUM_REPAIRS = (
    "{} pixels with non-finite wavelength, flux or inverse variance dropped",
    "{} negative inverse variances set to 0",
    "wavelengths out of order: sorted",
    "{} repeated wavelengths dropped, the first kept",
)


Ids = Sequence[str] | np.ndarray  # (n,) names of objects


class Decision(NamedTuple):
    """One row of rejected.csv."""

    object_id: str
    modality: str  # photometry, spectra, metadata, or "object" for all of them
    decision: str  # "repaired", "rejected" or "left out"
    reason: str


@dataclass(frozen=True)
class Checked:
    """Ragged columns after the repairs; a rejected or missing object has no rows left.

    columns: three float64 arrays (total,): time [day], flux, flux_err or wavelength [Angstrom], flux, inverse variance.
    verdict: (n,) int8, position in LIGHT_CURVE_REJECTIONS or SPECTRUM_REJECTIONS; repairs: (n, 4) int64 counts.
    """

    modality: str
    offsets: np.ndarray
    columns: tuple[np.ndarray, ...]
    verdict: np.ndarray
    repairs: np.ndarray

    @property
    def accepted(self) -> np.ndarray:
        """(n,) bool: the object has this modality and it is usable."""
        return np.diff(self.offsets) > 0

    def decisions(self, object_ids: Ids) -> list[Decision]:
        """Everything repaired or rejected, in the order of the objects (n ids)."""
        return list_decisions(self.modality, object_ids, self.verdict, self.repairs)


def check_light_curves(
    offsets: np.ndarray, time: np.ndarray, flux: np.ndarray, flux_err: np.ndarray, *, min_points: int = MIN_POINTS
) -> Checked:
    """Repair or reject light curves given as flat columns (total,) and offsets (n + 1,).

    A curve of fewer than `min_points` usable points is rejected.
    """
    return _check("photometry", _clean_light_curves, offsets, time, flux, flux_err, limit=min_points)


def check_spectra(offsets: np.ndarray, wavelength: np.ndarray, flux: np.ndarray, third: np.ndarray) -> Checked:
    """Repair or reject spectra given as flat columns (total,) and offsets (n + 1,)."""
    return _check("spectra", _clean_spectra, offsets, wavelength, flux, third, limit=MIN_PIXELS)


def _check(modality: str, clean: Callable[..., None], offsets: np.ndarray, *columns: np.ndarray, limit: int) -> Checked:
    offsets = np.asarray(offsets, dtype=np.int64)
    n = len(offsets) - 1
    inputs = [frozen(column) for column in columns]
    outputs = tuple(np.empty(int(offsets[-1] - offsets[0])) for _ in inputs)
    new_offsets = np.zeros(n + 1, dtype=np.int64)
    verdict = np.zeros(n, dtype=np.int8)
    repairs = np.zeros((n, 4), dtype=np.int64)
    clean(frozen(offsets, np.int64), *inputs, *outputs, new_offsets, verdict, repairs, limit)
    kept = int(new_offsets[-1])
    return Checked(modality, new_offsets, tuple(column[:kept] for column in outputs), verdict, repairs)


def frozen(array: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """A contiguous read-only view or copy: Arrow's buffers are read-only, and one type means one compilation."""
    view: np.ndarray = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


@kernel
def constant(values: np.ndarray) -> bool:
    """True where the median absolute deviation is 0: more than half of the values equal the median."""
    return np.sum(values == np.median(values)) > len(values) // 2


@kernel
def _clean_light_curves(
    offsets: np.ndarray,
    time: np.ndarray,
    flux: np.ndarray,
    err: np.ndarray,
    t: np.ndarray,
    f: np.ndarray,
    e: np.ndarray,
    new_offsets: np.ndarray,
    verdict: np.ndarray,
    repairs: np.ndarray,
    min_points: int,
) -> None:
    position = 0
    for i in range(len(offsets) - 1):
        start = position
        end = position
        for j in range(offsets[i], offsets[i + 1]):
            if not (np.isfinite(time[j]) and np.isfinite(flux[j]) and np.isfinite(err[j])):
                repairs[i, 0] += 1
            elif err[j] < 0:
                repairs[i, 1] += 1
            else:
                t[end], f[end], e[end] = time[j], flux[j], err[j]
                end += 1
        repairs[i, 2] = _put_in_order(t, f, e, start, end)
        ties = False
        for j in range(start + 1, end):
            ties |= t[j] == t[j - 1]
        if ties:
            end = _order_ties(t, f, e, start, end, repairs[i])
        if offsets[i + 1] == offsets[i]:
            end = start  # missing, not rejected
        elif end - start < min_points:
            verdict[i] = 1
        elif t[end - 1] == t[start]:
            verdict[i] = 2
        elif constant(f[start:end]):
            verdict[i] = 3
        elif t[end - 1] - t[start] > MAX_SPAN:
            verdict[i] = 6
        elif max(np.abs(f[start:end]).max(), e[start:end].max()) > LARGEST_FLUX:
            verdict[i] = 7
        position = start if verdict[i] else end
        new_offsets[i + 1] = position


@kernel
def _put_in_order(first: np.ndarray, second: np.ndarray, third: np.ndarray, start: int, end: int) -> int:
    """Order the points `start` to `end` of three columns by the first one, equal ones as they are; 1 where they were
    out of order, else 0."""
    for j in range(start + 1, end):
        if first[j] < first[j - 1]:
            order = np.argsort(first[start:end], kind="mergesort") + start
            first[start:end] = first[order]
            second[start:end] = second[order]
            third[start:end] = third[order]
            return 1
    return 0


@kernel
def _order_ties(t: np.ndarray, f: np.ndarray, e: np.ndarray, start: int, end: int, repairs: np.ndarray) -> int:
    """Order points of equal time by flux, then error, and drop exact duplicates (the published np.unique of rows)."""
    first = start
    while first < end:
        last = first + 1
        while last < end and t[last] == t[first]:
            last += 1
        if last - first > 1:
            order = np.argsort(e[first:last], kind="mergesort") + first
            f[first:last], e[first:last] = f[order], e[order]
            order = np.argsort(f[first:last], kind="mergesort") + first
            f[first:last], e[first:last] = f[order], e[order]
        first = last
    kept = start
    for j in range(start, end):
        if kept > start and t[kept - 1] == t[j] and f[kept - 1] == f[j] and e[kept - 1] == e[j]:
            repairs[3] += 1
            continue
        t[kept], f[kept], e[kept] = t[j], f[j], e[j]
        kept += 1
    return kept


@kernel
def _clean_spectra(
    offsets: np.ndarray,
    wavelength: np.ndarray,
    flux: np.ndarray,
    third: np.ndarray,
    w: np.ndarray,
    f: np.ndarray,
    v: np.ndarray,
    new_offsets: np.ndarray,
    verdict: np.ndarray,
    repairs: np.ndarray,
    min_pixels: int,
) -> None:
    position = 0
    for i in range(len(offsets) - 1):
        start = position
        end = position
        for j in range(offsets[i], offsets[i + 1]):
            if not (np.isfinite(wavelength[j]) and np.isfinite(flux[j]) and np.isfinite(third[j])):
                repairs[i, 0] += 1
                continue
            w[end], f[end], v[end] = wavelength[j], flux[j], third[j]
            if third[j] < 0:
                v[end] = 0.0
                repairs[i, 1] += 1
            end += 1
        repairs[i, 2] = _put_in_order(w, f, v, start, end)
        kept = start
        for j in range(start, end):
            if kept > start and w[j] == w[kept - 1]:
                repairs[i, 3] += 1
            else:
                w[kept], f[kept], v[kept] = w[j], f[j], v[j]
                kept += 1
        end = kept
        if offsets[i + 1] > offsets[i]:
            verdict[i] = _judge_spectrum(w[start:end], f[start:end], v[start:end], min_pixels)
        position = start if verdict[i] else end
        new_offsets[i + 1] = position


@kernel
def _judge_spectrum(w: np.ndarray, f: np.ndarray, v: np.ndarray, min_pixels: int) -> int:
    if len(w) < min_pixels:
        return 1
    if min(w[-1], WAVELENGTH_END) - max(w[0], WAVELENGTH_START) < MIN_COVERAGE * (WAVELENGTH_END - WAVELENGTH_START):
        return 2
    if not np.any(v):
        return 7
    light = f[f != 0]
    if len(light) == 0:
        return 3
    return 4 if constant(light) else 0


def list_decisions(
    modality: str,
    object_ids: Ids,
    verdict: np.ndarray,
    repairs: np.ndarray | None = None,
    words: tuple[Sequence[str], Sequence[str]] | None = None,
) -> list[Decision]:
    """Verdict codes (n,) and repair counts (n, 4) of one modality as rows of rejected.csv.

    words: rejections by code and repairs by column, of a view that has its own.
    """
    curves = (LIGHT_CURVE_REJECTIONS, LIGHT_CURVE_REPAIRS)
    spectra = (SPECTRUM_REJECTIONS, SPECTRUM_REPAIRS)
    rejections, wording = words or (curves if modality == "photometry" else spectra)
    touched = verdict > 0 if repairs is None else (verdict > 0) | repairs.any(axis=1)
    rows = []
    for i in np.flatnonzero(touched).tolist():
        done = [] if repairs is None else [w.format(int(k)) for w, k in zip(wording, repairs[i], strict=True) if k]
        if verdict[i]:
            reason = rejections[verdict[i]] + (f" (after: {'; '.join(done)})" if done else "")
            rows.append(Decision(str(object_ids[i]), modality, "rejected", reason))
        else:
            rows.append(Decision(str(object_ids[i]), modality, "repaired", "; ".join(done)))
    return rows


def kind_of(reason: str) -> str:
    """What is counted of a reason: the words before a colon, without a number that begins them or is in brackets."""
    before = reason.split(" (after")[0].split(":")[0]
    return re.sub(r"^\d[\d.,]*\s+|\s*\(\d+\)", "", before).strip()


def read_decisions(path: Path) -> list[Decision]:
    """What `write_decisions` wrote; UserError where the file is damaged."""
    try:
        rows = list(csv.reader(io.StringIO(read_text(path), newline="")))[1:]
        return [Decision(*row) for row in rows]
    except (csv.Error, TypeError) as error:
        raise UserError(f"{shown(path)} is damaged ({error}): remove it and run the same command again") from None


def write_decisions(path: Path, rows: Iterable[Decision]) -> None:
    """Write rejected.csv (header also when there is nothing to list)."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Decision._fields)
        writer.writerows(rows)
