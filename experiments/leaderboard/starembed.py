"""A reader of the StarEmbed schema: the 40,000 ZTF curves of the benchmark (StarEmbed/ZTF_40k on the hub), from disk.

    huggingface-cli download StarEmbed/ZTF_40k --repo-type dataset --local-dir ztf      # where the hub is reachable
    python -m experiments.leaderboard real=../shared/real starembed=ztf

A row of its parquet files has sourceid, class_str, period, and `bands_data`: a struct of bands (g, r, i; `C` for curves
without a filter), each with mjd [day], target [mag], past_feat_dynamic_real (the error [mag]), feat_dynamic_real (the
time since the point before) and length. Names of the columns are those of the data card and of the authors' converter
(github.com/skai-institute/StarEmbed); their files themselves were not at hand, so two things are assumed: that the
magnitudes are not standardised, and that the name of a file begins with its split. Where no file is of a split `test`,
the test fold is drawn as it is for the other surveys. The catalogue's period is not read: ours is computed everywhere.

Our encoders of folded curves read one curve, so all bands are moved to the median of the band with the most points.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from astrom3.errors import UserError
from experiments.leaderboard.surveys import RawSurvey, sorted_curve

NAME = "starembed"
COLUMNS = ("sourceid", "class_str", "bands_data")
TIME = "mjd"
MAGNITUDE = "target"
ERROR = "past_feat_dynamic_real"
FEWEST = 5  # points of a band that is moved; fewer are left out


def read_starembed(folder: Path) -> RawSurvey:
    """All curves of the parquet files under a folder. UserError where there are none, or columns are missing."""
    paths = sorted(folder.rglob("*.parquet"))
    if not paths:
        raise UserError(f"there is no parquet file under {folder}: give the downloaded StarEmbed data as starembed=.")
    ids: list[str] = []
    labels: list[str] = []
    curves = []
    held_out: list[bool] = []
    for path in paths:
        table = read_rows(path)
        for name, label, bands in zip(*(table[column].to_pylist() for column in COLUMNS), strict=True):
            ids.append(str(name))
            labels.append(str(label))
            curves.append(joined_bands(bands, f"{path}, {name}"))
            held_out.append(path.name.startswith("test"))
    return RawSurvey(NAME, np.array(ids), np.array(labels), curves, np.array(held_out))


def read_rows(path: Path) -> Any:
    """The columns that are read of one file."""
    import pyarrow.parquet as pq

    known = pq.read_schema(path).names
    missing = [column for column in COLUMNS if column not in known]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]}, which the StarEmbed schema has: it has {', '.join(known)}."
        )
    return pq.read_table(path, columns=list(COLUMNS))


def joined_bands(bands: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One curve (time, magnitude, error) of all bands, each moved to the median of the one with the most points."""
    parts = []
    for name in sorted(bands):
        band = bands[name]
        if band is None or not band[TIME]:
            continue
        lengths = {len(band[column]) for column in (TIME, MAGNITUDE, ERROR)}
        if len(lengths) > 1:
            raise UserError(f"{where}: band {name} has columns of unequal lengths: download the file again.")
        parts.append(sorted_curve(*(np.array(band[column]) for column in (TIME, MAGNITUDE, ERROR))))
    if not parts:
        nothing = np.zeros(0)
        return nothing, nothing, nothing
    parts.sort(key=lambda part: -len(part[0]))
    reference = np.median(parts[0][1]) if len(parts[0][1]) else 0.0
    moved = [parts[0]]
    for time, magnitude, error in parts[1:]:
        if len(time) >= FEWEST:
            moved.append((time, magnitude - np.median(magnitude) + reference, error))
    columns = [np.concatenate([part[k] for part in moved]) for k in range(3)]
    return sorted_curve(*columns)
