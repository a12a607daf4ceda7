"""The files of AstroMLCore/AstroM3Dataset, read in place.

    photometry.zip                       vardb_files/<name>.dat: HJD MAG MAG_ERR FLUX FLUX_ERR, two header rows
    spectra/<CLASS>/<spec_filename>      LAMOST FITS, gzipped
    splits/{sub}/{seed}/{train,val,test}.csv, info.json

A photometry.zip that was unpacked (folder vardb_files/ or photometry/vardb_files/) does as well.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from astrom3 import stored
from astrom3.data.readers import (
    LARGEST,
    LARGEST_RATIO,
    UNSUSPICIOUS,
    LightCurve,
    ReadError,
    Spectrum,
    read_bytes,
)
from astrom3.data.readers.lamost import read_lamost
from astrom3.data.readers.table_files import check_names
from astrom3.errors import UserError
from astrom3.modalities.schema import ALL_COLS, SPLITS

SPLIT_FILES = dict(zip(SPLITS, ("train.csv", "val.csv", "test.csv"), strict=True))
DAT_COLUMNS = ("HJD", "MAG", "MAG_ERR", "FLUX", "FLUX_ERR")


@dataclass(frozen=True)
class RawSplit:
    """One CSV: n objects in its order."""

    ids: list[str]  # "EDR3 <source_id>"
    labels: list[str | None]
    values: np.ndarray  # (n, 38) float64 in the order of ALL_COLS, raw, NaN where empty
    names: list[str]  # "ASASSN-VJ...": the light curve
    spec_filenames: list[str]


class RawDataset:
    """The data set at `path`, with the split files of one sub and seed. Picklable; files are opened when needed."""

    def __init__(self, path: Path | str, sub: str, seed: int) -> None:
        self.path = Path(path)
        self.sub = sub
        self.seed = seed
        self.folder = self.path / "splits" / sub / str(seed)
        if not (self.folder / "info.json").is_file():
            found = ", ".join(f"{s}/{n}" for s, n in available_splits(self.path)) or "none"
            raise UserError(f"{self.folder}/info.json does not exist: {self.path} has the splits (sub/seed) {found}.")
        self._zip: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_zip": None}
        state.pop("spectrum_paths", None)
        return state

    @cached_property
    def info(self) -> dict[str, Any]:
        """info.json: classes, columns, transforms, mean and std."""
        path = self.folder / "info.json"
        found = stored.read(path, stored.RawInfo, "download the splits again")
        stored.unique(found["classes"], path, "classes")
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """Alphabetical, as label ids are."""
        return tuple(sorted(self.info["classes"]))

    def split(self, split: str) -> RawSplit:
        """One of train, validation, test."""
        path = self.folder / SPLIT_FILES[split]
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no regular file; download the splits again.")

        try:
            types = {
                "id": pa.string(),
                "target": pa.string(),
                "name": pa.string(),
                "spec_filename": pa.string(),
            }
            options = pacsv.ConvertOptions(column_types=types | dict.fromkeys(ALL_COLS, pa.float64()))
            table = pacsv.read_csv(path, convert_options=options)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist; download the splits again.") from None
        except pa.ArrowException as error:
            raise UserError(f"{path} is not the CSV it should be: {' '.join(str(error).split())[:160]}.") from None

        check_names(path, table.column_names)
        missing = [name for name in (*ALL_COLS, *types) if name not in table.column_names]
        if missing:
            raise UserError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}.")

        values = np.stack([table[name].to_numpy().astype(np.float64) for name in ALL_COLS], axis=1)
        ids = table["id"].to_pylist()
        nameless = sum(not name for name in ids)
        if nameless:
            raise UserError(f"{path}: {nameless} rows have no id; download the splits again.")

        names = table["name"].fill_null("").to_pylist()
        spectra = table["spec_filename"].fill_null("").to_pylist()
        return RawSplit(ids, table["target"].to_pylist(), values, names, spectra)

    def catalogue(self, split: str) -> tuple[list[str], list[str | None], np.ndarray]:
        """Ids, class names and raw values (n, 38) of a split, in the order of its CSV."""
        rows = self.split(split)
        return rows.ids, rows.labels, rows.values

    def light_curve(self, name: str) -> LightCurve:
        """Time [HJD], flux and error [mJy], (N,) float64 each, of `name` as in the CSVs."""
        member = f"vardb_files/{name}.dat"
        path, data = self._open(member)
        return parse_dat(path, data)

    def spectrum(self, filename: str, label: str | None = None) -> Spectrum:
        """Wavelength [Angstrom], flux, inverse variance, (M,) float64 each; `label` names the folder to try first."""
        direct = self.path / "spectra" / (label or "") / filename
        if label and direct.is_file():
            return read_lamost(direct)
        if filename not in self.spectrum_paths:
            raise ReadError(f"{self.path}/spectra: no file {filename or '(empty name)'} in any folder")
        return read_lamost(self.spectrum_paths[filename])

    @cached_property
    def spectrum_paths(self) -> dict[str, Path]:
        """File name -> path of all spectra."""
        return {p.name: p for p in sorted((self.path / "spectra").glob("**/*.fits*"))}

    def _open(self, member: str) -> tuple[Path, bytes]:
        for folder in (self.path, self.path / "photometry"):
            path = folder / member
            if path.exists():
                return path, read_bytes(path)

        archive = next((p for p in self._archives if p.is_file()), None)
        if archive is None:
            if (self.path / "vardb_files").is_dir() or (self.path / "photometry" / "vardb_files").is_dir():
                raise ReadError(f"{self.path / member}: no such file")
            raise UserError(f"{self.path} has neither photometry.zip nor vardb_files/; download the light curves.")

        try:
            if self._zip is None or self._zip[0] != os.getpid():  # a handle must not be shared by forked processes
                self._zip = (os.getpid(), zipfile.ZipFile(archive))
            info = self._zip[1].getinfo(member)
            if info.file_size > max(LARGEST_RATIO * info.compress_size, UNSUSPICIOUS) or info.file_size > LARGEST:
                raise ReadError(
                    f"{archive}/{member}: claims {info.file_size:,} bytes, more than a light curve can have"
                )
            return archive / member, self._zip[1].read(member)
        except ReadError:
            raise
        except KeyError:
            raise ReadError(f"{archive}/{member}: no such file in the archive") from None
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            EOFError,
            ValueError,
            RuntimeError,
            NotImplementedError,
        ) as error:
            raise ReadError(f"{archive}/{member}: corrupt or truncated ({error})") from None

    @property
    def _archives(self) -> list[Path]:
        return [self.path / "photometry.zip", self.path / "photometry" / "photometry.zip"]


def available_splits(path: Path | str) -> list[tuple[str, int]]:
    """(sub, seed) of every splits/{sub}/{seed}/info.json under `path`."""
    found = sorted(Path(path).glob("splits/*/*/info.json"))
    result = []
    for p in found:
        if p.parent.name.isdigit():
            result.append((p.parent.parent.name, int(p.parent.name)))
    return result


def parse_dat(path: Path, data: bytes) -> LightCurve:
    """One vardb_files/<name>.dat; columns are taken by the name in its header where it names them, else by order."""
    lines = data.decode("utf-8", errors="replace").splitlines()
    first = next((i for i, line in enumerate(lines) if _is_number(line.split()[:1])), len(lines))
    if first == len(lines):
        raise ReadError(f"{path}: no observations in it")

    header = list(DAT_COLUMNS)
    for line in reversed(lines[:first]):
        names = line.replace("#", " ").upper().split()
        if "FLUX" in names and "HJD" in names:
            header = names

    if not {"HJD", "FLUX", "FLUX_ERR"} <= set(header):
        raise ReadError(f"{path}: the header has {' '.join(header)}, expected {' '.join(DAT_COLUMNS)}")

    time = header.index("HJD")
    flux = header.index("FLUX")
    error = header.index("FLUX_ERR")
    try:
        rows = [line.split() for line in lines[first:] if line.strip()]
        values = np.array([(row[time], row[flux], row[error]) for row in rows], dtype=np.float64)
    except (IndexError, ValueError):
        raise ReadError(f"{path}: corrupt or truncated: a row is not {' '.join(header)}") from None

    return LightCurve(*np.ascontiguousarray(values.T))


def _is_number(words: list[str]) -> bool:
    try:
        float(words[0])
    except (IndexError, ValueError):
        return False
    return True
