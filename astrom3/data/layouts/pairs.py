"""The paired data set of AstroCLIP: images and spectra of the same galaxies, in parquet or as `datasets` saves it.

Columns image float32 (x, y, band) [nanomaggies], spectrum float32 (7781, 1) [1e-17 erg/s/cm2/Angstrom] on DESI's grid,
redshift, targetid (hub script of Parker et al. 2024, version 1.1.5, configuration joint). The columns are read as they
are, by row group, in every epoch: nothing of the 60 GB is copied. The published set has no validation split, so the
last tenth of its training rows is one; the rows are in a random order already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from astrom3.data.fingerprint import quick_fingerprint
from astrom3.data.layouts.columns import ColumnFile, ParquetFile
from astrom3.data.layouts.galaxy_rows import FILES, ParquetGalaxies, plain_catalogue
from astrom3.data.layouts.hub_files import SPLIT_NAMES, check_parts
from astrom3.data.layouts.table import Catalogue, Source, Table
from astrom3.errors import UserError
from astrom3.modalities.schema import SPLITS, SUB_FRACTION

IDS = ("targetid", "object_id", "TARGETID")  # the first that is there
VALIDATION_SHARE = 10  # one training row in so many validates, where the data have no validation split
PREFERRED = "joint"  # configuration, where there are several
Files = Mapping[str, Sequence[ColumnFile]]  # by published split; "": a data set without splits


class PairTable(ParquetGalaxies):
    """One published split, in files of columns here or on the hub."""

    direct = True

    @property
    def names_objects(self) -> bool:  # type: ignore[override]
        return not set(IDS).isdisjoint(self.schema.names)

    @property
    def target_names(self) -> tuple[str, ...]:
        return tuple(name for name in super().target_names if name not in IDS)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return plain_catalogue(ids_of(self))

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def fingerprint(self, cache: Path) -> str:
        if self.remote:
            return quick_fingerprint([], " ".join(f"{file.path} {file.path.stamp}" for file in self.files))
        return quick_fingerprint([Path(file.path) for file in self.files], type(self).__name__)


def ids_of(table: ParquetGalaxies) -> np.ndarray:
    """Ids (n,) of text: the target ids, or the places of the rows where there are none."""
    known = [name for name in IDS if name in table.schema.names]
    if not known:
        return np.array([f"row-{row:07d}" for row in range(len(table))], dtype=object)
    name = known[0]
    column = table.small_columns([name])[name]
    if column.null_count:
        raise UserError(f"{table.name}: {column.null_count} galaxies have no {name}; write the data set again.")
    return np.array([str(value) for value in column.to_pylist()], dtype=object)


# --- splits -----------------------------------------------------------------------------------------------------------


def split_rows(rows: Mapping[str, np.ndarray], sub: str) -> dict[str, tuple[str, np.ndarray]]:
    """Our split -> (published split, its rows), from the rows of the published splits.

    Without a validation split it is the last tenth of the training rows. A set with training rows alone is cut into
    eight, one and one tenths. sub50, sub25 and sub10 are the first rows of every split.
    """
    out = {split: (split, rows[split]) for split in SPLITS if split in rows and len(rows[split])}
    train = rows.get("train", np.empty(0, np.int64))
    tenth = max(len(train) // VALIDATION_SHARE, 1)
    if len(train) > 2 * tenth and "test" not in out:
        out["test"] = ("train", train[-tenth:])
        train = train[:-tenth]
    if len(train) > tenth and "validation" not in out:
        out["validation"] = ("train", train[-tenth:])
        train = train[:-tenth]
    if len(train):
        out["train"] = ("train", train)
    if sub not in SUB_FRACTION:
        raise UserError(f"sub={sub} is none of the paired galaxies: choose one of {', '.join(SUB_FRACTION)}")

    chosen = {}
    for split in SPLITS:
        if split in out:
            name, members = out[split]
            share = math.ceil(len(members) / SUB_FRACTION[sub])
            chosen[split] = (name, members[:share])

    return chosen


# --- parquet ----------------------------------------------------------------------------------------------------------


def split_files(names: Iterable[str]) -> dict[str, list[str]]:
    """Published split -> names of its parquet files, of all names in a repository or below a folder.

    Known are <folder>/train-00000-of-00138.parquet and <folder>/train/0000.parquet. Of several folders (configurations)
    the one named joint is taken.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        path = PurePosixPath(name)
        if path.suffix != ".parquet":
            continue
        prefix = re.split(r"[-_.]", path.name)[0]
        folder = path.parent
        split = SPLIT_NAMES.get(prefix)
        if split is None and folder.name in SPLIT_NAMES:
            split = SPLIT_NAMES[folder.name]
            folder = folder.parent
        if split is not None:
            found.setdefault(str(folder), {}).setdefault(split, []).append(name)

    for place, files in found.items():
        if PurePosixPath(place).name == PREFERRED:
            return files
    return next(iter(found.values()), {})


def is_pairs(files: Files) -> bool:
    """Whether the files hold images or spectra of galaxies."""
    names = next(iter(files.values()))[0].schema.names
    has_galaxies = not set(FILES.values()).isdisjoint(names)
    return has_galaxies and {"light_curve", "photometry"}.isdisjoint(names)


def paired_files(root: Path) -> dict[str, list[ParquetFile]]:
    """Published split -> parquet files below `root`, where they hold images or spectra of galaxies; else none."""
    names = []
    for depth in ("", "*/", "*/*/"):
        names += [str(path.relative_to(root)) for path in root.glob(f"{depth}*.parquet")]
    files: dict[str, list[ParquetFile]] = {}
    chosen: list[str] = []
    for split, some in split_files(names).items():
        files[split] = [ParquetFile(root / name) for name in some]
        chosen += some
    if not files or not is_pairs(files):
        return {}
    check_beside(names, chosen, root)
    return files


def check_beside(names: Sequence[str], chosen: Sequence[str], root: Path) -> None:
    """UserError where a parquet file lies beside those of the splits and is of none: its name is misspelt, and its
    galaxies would be lost."""
    places = {PurePosixPath(name).parent for name in chosen}
    nested = set()
    for place in places:
        if place.name in SPLIT_NAMES:
            nested.add(place.parent)
    for name in sorted(set(names) - set(chosen)):
        folder = PurePosixPath(name).parent
        if folder in places or folder.parent in nested:
            raise UserError(
                f"{root} has {name}, which is of none of the splits {', '.join(SPLITS)}: rename it or move it away."
            )


def open_pairs(root: Path, files: Files, sub: str, seed: int) -> Source:
    """Source of files by published split."""
    tables: dict[str, Table] = {}
    rows: dict[str, np.ndarray] = {}
    for name, parts in files.items():
        check_parts([Path(str(part)).name for part in parts], str(root))
        split = name or "train"
        tables[split] = PairTable(parts)
        rows[split] = np.arange(len(tables[split]), dtype=np.int64)

    by_split = {}
    members = {}
    for split, (name, part) in split_rows(rows, sub).items():
        by_split[split] = tables[name]
        members[split] = part

    remote = any(table.remote for table in tables.values())
    note = "read from its files on the hub" if remote else "read from its files"
    return Source("pairs", root, sub, seed, (), by_split, members, None, note)
