"""Which values of a catalogue row and which targets can be true; what cannot is taken as unknown, and listed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from astrom3.modalities.quality import LARGEST_FLUX, Decision, Ids
from astrom3.modalities.schema import ALL_COLS, META_COLS, PHOTO_COLS

LARGEST_VALUE = 1e7  # of a catalogue column, in whatever unit it has
FAINTEST = 50.0  # of a magnitude, a colour or their errors; 99.99 and the like stand for unknown
UNKNOWN = "missing: set to the train mean"
TOO_FEW = f"more than half of the {len(META_COLS)} catalogue columns are missing"
FILLERS = (-999.0, -9999.0, -99999.0, -999999.0, 9999.0, 99999.0, 999999.0)  # what catalogues write for unknown
MAGNITUDES = ("mag", "vmag", "bp_rp", "j_k", "w1_w2", "w3_w4", "amplitude")  # ends of the names of columns in mag
IN_MAGNITUDES = np.array([name.endswith(MAGNITUDES) for name in ALL_COLS])


def possible(values: np.ndarray) -> np.ndarray:
    """Raw catalogue values (n, 38) with NaN for what cannot be one: beyond 1e7, a magnitude beyond 50, or a number that
    stands for unknown."""
    with np.errstate(invalid="ignore"):
        size = np.abs(values)
        impossible = size > LARGEST_VALUE
        impossible |= np.isin(values, FILLERS)
        if values.shape[1] == len(ALL_COLS):
            impossible |= (size > FAINTEST) & IN_MAGNITUDES
        return np.where(impossible, np.nan, values)


def possible_targets(values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Numbers to predict (n, T) with NaN for what cannot be one: not finite, beyond 1e30, a magnitude beyond 50, or a
    negative number that stands for unknown. Their ranges are those of any survey, so no more can be said."""
    of_magnitudes = np.array([name.startswith("mag_") or name.endswith("_mag") for name in names], dtype=bool)
    negative_fillers = [filler for filler in FILLERS if filler < 0]
    with np.errstate(invalid="ignore"):
        size = np.abs(values)
        impossible = ~(size < LARGEST_FLUX)
        impossible |= np.isin(values, negative_fillers)
        impossible |= (size > FAINTEST) & of_magnitudes
    return np.where(impossible, np.nan, values)


def check_catalogue(values: np.ndarray, object_ids: Ids) -> tuple[np.ndarray, list[Decision]]:
    """Raw catalogue values (n, 38) -> (metadata present (n,) bool, decisions).

    A missing (non-finite) value becomes the train mean; metadata counts as missing when more than half of its 34
    columns are; a parallax <= 0 counts as 1 mas in the absolute magnitudes, as published.
    """
    period = PHOTO_COLS.index("period")
    missing = ~np.isfinite(values)
    missing[:, period] |= values[:, period] <= 0
    photometry = missing[:, : len(PHOTO_COLS)]
    metadata = missing[:, len(PHOTO_COLS) :]
    present = 2 * metadata.sum(axis=1) <= len(META_COLS)
    no_parallax = values[:, ALL_COLS.index("parallax")] <= 0
    noteworthy = missing.any(axis=1) | no_parallax
    decisions: list[Decision] = []
    for i in np.flatnonzero(noteworthy).tolist():
        name = str(object_ids[i])
        if photometry[i].any():
            decisions.append(_repaired(name, "photometry", PHOTO_COLS, photometry[i]))
        if not present[i]:
            reason = f"{TOO_FEW}: {metadata[i].sum()}"
            decisions.append(Decision(name, "metadata", "rejected", reason))
            continue
        if metadata[i].any():
            decisions.append(_repaired(name, "metadata", META_COLS, metadata[i]))
        if no_parallax[i]:
            reason = "parallax <= 0 counts as 1 mas in the absolute magnitudes"
            decisions.append(Decision(name, "metadata", "repaired", reason))
    return present, decisions


def _repaired(name: str, modality: str, columns: Sequence[str], missing: np.ndarray) -> Decision:
    """The decision on an object of whose columns (C,) some are missing."""
    unknown = ", ".join(column for column, gone in zip(columns, missing, strict=True) if gone)
    return Decision(name, modality, "repaired", f"{unknown} {UNKNOWN}")
