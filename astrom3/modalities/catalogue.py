"""Catalogue columns to network inputs: the published transforms, then the z-score of a train split.

Rizhko & Bloom 2024 (arXiv:2411.08842): magnitudes become absolute, l -> cos l, b -> sin b, period -> log10 period,
then every column is z-scored with mean and standard deviation (ddof 0) of the train split of that subset and seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from astrom3.errors import UserError
from astrom3.modalities.schema import ABS_COLS, ALL_COLS, COS_COLS, LOG_COLS, META_COLS, PHOTO_COLS, SIN_COLS
from astrom3.stored import Statistics
from astrom3.typed import check

METADATA_FUNC = {
    "abs": list(ABS_COLS),
    "cos": list(COS_COLS),
    "sin": list(SIN_COLS),
    "log": list(LOG_COLS),
}
COLUMN = {name: i for i, name in enumerate(ALL_COLS)}
PERIOD = COLUMN["period"]
# Columns that follow from others where a table does not give them: name -> (of which, how).
LARGEST = 1e10  # of a mean or deviation of the statistics
DERIVED = {
    "bp_rp": (("phot_bp_mean_mag", "phot_rp_mean_mag"), np.subtract),
    "j_k": (("j_mag", "k_mag"), np.subtract),
    "w1_w2": (("w1_mag", "w2_mag"), np.subtract),
    "w3_w4": (("w3_mag", "w4_mag"), np.subtract),
    "parallax_over_error": (("parallax", "parallax_error"), np.divide),
    "pm": (("pmra", "pmdec"), np.hypot),
}


def transform(values: np.ndarray) -> np.ndarray:
    """Apply the published transforms to raw catalogue values (n, 38) in the order of ALL_COLS; NaN stays NaN.

    A parallax <= 0 mas counts as 1 in the absolute magnitudes (as published; the column itself is left alone).
    A missing parallax makes the absolute magnitudes missing; a period <= 0 and any infinite value are missing too.
    """
    out = np.array(values, dtype=np.float64, ndmin=2)
    out[~np.isfinite(out)] = np.nan
    parallax = out[:, COLUMN["parallax"]]
    modulus = 5 * np.log10(np.where(parallax <= 0, 1.0, parallax)) - 10
    for name in ABS_COLS:
        out[:, COLUMN[name]] += modulus
    for name in COS_COLS:
        out[:, COLUMN[name]] = np.cos(np.radians(out[:, COLUMN[name]]))
    for name in SIN_COLS:
        out[:, COLUMN[name]] = np.sin(np.radians(out[:, COLUMN[name]]))
    for name in LOG_COLS:
        column = out[:, COLUMN[name]]
        out[:, COLUMN[name]] = np.log10(np.where(column > 0, column, np.nan))
    return out


@dataclass(frozen=True)
class Normaliser:
    """Mean and standard deviation of the transformed columns: `apply` takes raw values to float32 inputs."""

    columns: tuple[str, ...]
    mean: np.ndarray  # (38,) float64, after the transforms
    std: np.ndarray  # (38,) float64, ddof 0

    @classmethod
    def fit(cls, values: np.ndarray) -> Normaliser:
        """From raw values (n, 38) of a train split. A column without any value gets mean 0 and deviation 1."""
        transformed = transform(values)
        known = np.isfinite(transformed)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, transformed, 0.0).sum(axis=0) / count
        variance = np.where(known, (transformed - mean) ** 2, 0.0).sum(axis=0) / count
        std = np.sqrt(variance)
        # A constant column carries nothing: it becomes 0 instead of 0/0 (or noise blown up to order 1).
        std = np.where(std > 1e-12 * np.maximum(np.abs(mean), 1.0), std, 1.0)
        return cls(ALL_COLS, mean, std)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Raw values (n, 38) -> float32 (n, 38), z-scored; a missing value becomes exactly 0, the train mean."""
        scaled = (transform(values) - self.mean) / self.std
        return np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """The published form (`info.json` of the raw data set)."""
        return {
            "photo_cols": list(PHOTO_COLS),
            "meta_cols": list(META_COLS),
            "all_cols": list(self.columns),
            "metadata_func": METADATA_FUNC,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }

    @classmethod
    def from_dict(cls, info: Mapping[str, Any], source: str = "info.json") -> Normaliser:
        """From `to_dict` or a published `info.json`; the columns may stand in another order, but must be ours."""
        missing = []
        for key in ("all_cols", "metadata_func", "mean", "std"):
            if key not in info:
                missing.append(key)
        if missing:
            raise UserError(f"{source}: the statistics lack {', '.join(missing)}; write the splits again.")
        check(info, Statistics, source, "write the splits again")
        names = list(info["all_cols"])
        mean = np.asarray(info["mean"], float)
        std = np.asarray(info["std"], float)
        if sorted(names) != sorted(ALL_COLS) or mean.shape != (len(names),) or std.shape != (len(names),):
            raise UserError(f"{source}: mean, std and all_cols must list the {len(ALL_COLS)} columns of the schema.")
        if {k: sorted(v) for k, v in info["metadata_func"].items()} != {k: sorted(v) for k, v in METADATA_FUNC.items()}:
            raise UserError(f"{source}: metadata_func differs from the published transforms {METADATA_FUNC}.")
        if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
            raise UserError(f"{source}: mean and std must be finite and std positive; write the splits again.")
        if np.abs(mean).max() > LARGEST or std.max() > LARGEST or std.min() < 1 / LARGEST:
            raise UserError(f"{source}: a mean or std is beyond {LARGEST:.0e}; write the splits again.")
        order = [names.index(name) for name in ALL_COLS]
        return cls(ALL_COLS, mean[order], std[order])
