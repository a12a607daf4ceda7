"""HDF5 files of galaxies: the paired data set in one file, and the 76 million images of the Legacy Survey.

Paired (Parker et al. 2024): groups "0" to "9", each with images (n, 152, 152, 3), spectra (n, 7781, 1), redshifts and
targetids; in every group the first int(0.8 n) rows train. Images (Stein et al. 2022, ApJL 932, 33):
{north,south}/images_npix152_0AA000000_0BB000000.h5 with images (n, 3, 152, 152) and inds, ra, dec, release, brickid,
objid; the pre-training of AstroCLIP uses north 00-13 and south 00-60. Rows are read where they lie, in every epoch.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from astrom3.data.fingerprint import quick_fingerprint
from astrom3.data.layouts.galaxy_rows import GalaxyRows, Observations, channels_first, plain_catalogue
from astrom3.data.layouts.pairs import split_rows
from astrom3.data.layouts.table import Catalogue, Group, Source
from astrom3.errors import UserError, first_line
from astrom3.hdf5_files import lies_in_file, read_from_elsewhere
from astrom3.modalities.galaxy_views import PIXELS

RUN = 256  # rows of a group: what is shuffled as one
TRAIN_SHARE = 0.8
SUFFIXES = (".h5", ".hdf5", ".hdf")
DATASETS = {"images": "images", "spectra": "spectra"}  # modality -> name in a file
IN_A_GROUP = ("images", "spectra", "redshifts", "targetids")
NAMES = ("targetids",)  # datasets that may hold text
LARGEST_ROW = 1 << 29  # bytes of a row, or of what the file keeps in one piece
LARGEST_RATIO = 2000  # of what a dataset has to what is stored of it: gzip makes zeros a thousand times smaller
IMAGE_FILE = re.compile(r"images_npix152_0(\d\d)000000_0(\d\d)000000\.h5")
FIELDS = ("ra", "dec", "release", "brickid", "objid")  # numbers of an image that `targets` gives
ORDER_SEED = 42  # of the published order of the images
PUBLISHED = {75_000_000: (100_000, 400_000), 14_000_000: (100_000, 400_000)}  # images -> validation, test
SHARES = (750, 188)  # one image in so many validates, tests, where there is another number of them


class Part(NamedTuple):
    """A run of rows in one file: `key` of its HDF5 group ("" the file itself), first row in the table, rows."""

    path: Path
    key: str
    first: int
    rows: int


@contextmanager
def readable(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, opened for reading; a damaged one gives one sentence that names it."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path} is missing; download it again.") from None
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = first_line(error)[:200]
        raise UserError(f"{path} cannot be read as HDF5 ({what}); download it again.") from error


def group_of(file: h5py.File, key: str) -> h5py.Group:
    """A group that lies in the file itself, or the file where the key is "". ValueError for anything else."""
    if not key:
        return file
    if not lies_in_file(file, key) or not isinstance(file[key], h5py.Group):
        raise ValueError(f"{key} is a link to another place, or no group")
    return file[key]


def dataset_of(group: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset of rows that lies in the file itself. ValueError where it is read from another file, holds no numbers,
    or claims far more than the file has."""
    if not lies_in_file(group, name):
        raise ValueError(f"{name} is missing, or a link to another place, which is not followed")
    found = group[name]
    if not isinstance(found, h5py.Dataset) or not found.shape:
        raise ValueError(f"{name} is no dataset with a row for each galaxy")
    if read_from_elsewhere(found):
        raise ValueError(f"{name} reads its numbers from other files, which are not opened")
    if found.dtype.kind not in ("iuSO" if name in NAMES else "iuf"):
        raise ValueError(f"{name} is of type {found.dtype}, not numbers")
    row = found.nbytes // max(len(found), 1)
    chunk = found.dtype.itemsize * int(np.prod(found.chunks or (0,), dtype=object))
    if max(row, chunk) > LARGEST_ROW:
        raise ValueError(f"{name} is read {max(row, chunk):,} bytes at a time")
    if found.nbytes > LARGEST_RATIO * found.id.get_storage_size():
        raise ValueError(f"{name} claims {found.nbytes:,} bytes, of which the file has {found.id.get_storage_size():,}")
    return found


class GalaxyFiles(GalaxyRows):
    """Galaxies in HDF5 files. parts: in the order of the table."""

    direct = True

    def __init__(self, parts: Sequence[Part], modalities: tuple[str, ...], name: str) -> None:
        self.parts = list(parts)
        self.name = name
        self._modalities = modalities
        self._groups: list[Group] = []
        self._owner: list[int] = []
        for number, part in enumerate(self.parts):
            for start in range(0, part.rows, RUN):
                rows = min(RUN, part.rows - start)
                self._groups.append(Group(len(self._groups), part.first + start, rows))
                self._owner.append(number)

    @property
    def modalities(self) -> tuple[str, ...]:
        return self._modalities

    @property
    def groups(self) -> Sequence[Group]:
        return self._groups

    @property
    @abstractmethod
    def ids(self) -> np.ndarray:
        """(n,) names of the galaxies."""

    @cached_property
    def _catalogue(self) -> Catalogue:
        return plain_catalogue(self.ids)

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def observations(self, group: Group, modality: str, rows: np.ndarray) -> Iterator[Observations]:
        part = self.parts[self._owner[group.number]]
        with readable(part.path) as file:
            dataset = dataset_of(group_of(file, part.key), DATASETS[modality])
            for start in range(0, len(rows), self.rows_at_once):
                here = rows[start : start + self.rows_at_once]
                values = read_rows(dataset, here - part.first)
                if modality == "images":
                    values = channels_first(values, str(part.path))
                else:
                    values = values.reshape(len(here), -1)
                yield Observations(here, values, np.ones(len(here), dtype=bool))

    def column(self, name: str) -> np.ndarray:
        """One number or name for each row (n,), of the dataset `name` of every part."""
        columns = []
        for part in self.parts:
            with readable(part.path) as file:
                columns.append(np.asarray(dataset_of(group_of(file, part.key), name)).reshape(part.rows))
        return np.concatenate(columns)

    def fingerprint(self, cache: Path) -> str:
        return quick_fingerprint(list(dict.fromkeys(part.path for part in self.parts)), type(self).__name__)


def read_rows(dataset: Any, rows: np.ndarray) -> np.ndarray:
    """Ascending rows of a dataset as float32: one read where most rows of the stretch are wanted, else one for each."""
    span = int(rows[-1]) - int(rows[0]) + 1
    if 2 * len(rows) >= span:
        block = dataset[int(rows[0]) : int(rows[-1]) + 1]
        found = block if len(rows) == span else block[rows - rows[0]]
    else:
        found = np.stack([dataset[row] for row in rows.tolist()])
    return np.ascontiguousarray(found, dtype=np.float32)


# --- the paired file --------------------------------------------------------------------------------------------------


class PairedFile(GalaxyFiles):
    """The paired data set in one file."""

    @cached_property
    def ids(self) -> np.ndarray:
        return np.array([str(value) for value in self.column("targetids").tolist()], dtype=object)

    @property
    def target_names(self) -> tuple[str, ...]:
        return ("redshift",)

    def targets(self, names: Sequence[str]) -> np.ndarray:
        return np.stack([self.column("redshifts").astype(np.float64) for _ in names], axis=1)


def paired_file(root: Path) -> Path | None:
    """The paired HDF5 file: `root` itself, or the only one in it that has the group "0"; else none."""
    files = [root] if root.is_file() else sorted(path for path in root.iterdir() if path.suffix in SUFFIXES)
    found = []
    for path in files:
        if path.suffix in SUFFIXES and path.is_file() and h5py.is_hdf5(path):
            with readable(path) as file:
                if any(map(str.isdecimal, file)):
                    found.append(path)
    if len(found) > 1:
        raise UserError(f"{root} holds {len(found)} paired HDF5 files: give one of them, data.path={found[0]}")
    return found[0] if found else None


def open_paired_file(path: Path, sub: str, seed: int) -> Source:
    """Source of the paired HDF5 file, with the published training and test rows of every group."""
    parts: list[Part] = []
    first = 0
    with readable(path) as file:
        for key in sorted(filter(str.isdecimal, file), key=int):
            group = group_of(file, key)
            missing = [name for name in IN_A_GROUP if name not in group]
            if missing:
                raise UserError(f"{path}: group {key} lacks {', '.join(missing)}; download it again.")
            lengths = {len(dataset_of(group, name)) for name in IN_A_GROUP}
            pixels = int(np.prod(group["spectra"].shape[1:]))
            if len(lengths) > 1 or pixels != PIXELS:
                raise UserError(
                    f"{path}: group {key} has datasets of other sizes than (n, {PIXELS}); download it again."
                )
            rows = lengths.pop()
            parts.append(Part(path, key, first, rows))
            first += rows

    table = PairedFile(parts, ("images", "spectra"), str(path))

    chosen: dict[str, list[np.ndarray]] = {}
    for part in parts:
        members = np.arange(part.first, part.first + part.rows)
        cut = int(TRAIN_SHARE * part.rows)
        published = {"train": members[:cut], "test": members[cut:]}
        for split, (_, ours) in split_rows(published, sub).items():
            chosen.setdefault(split, []).append(ours)

    by_split = {split: np.concatenate(members) for split, members in chosen.items()}
    tables = dict.fromkeys(by_split, table)
    return Source("paired file", path.parent, sub, seed, (), dict(tables), by_split, None, "read from its file")


# --- images of the Legacy Survey --------------------------------------------------------------------------------------


class ImageFiles(GalaxyFiles):
    """Images alone. The id of a galaxy is its number in all files, north first, as the published splits count."""

    names_objects = False

    @cached_property
    def ids(self) -> np.ndarray:
        return np.arange(sum(part.rows for part in self.parts))

    @property
    def target_names(self) -> tuple[str, ...]:
        with readable(self.parts[0].path) as file:
            return tuple(name for name in FIELDS if name in file)

    def targets(self, names: Sequence[str]) -> np.ndarray:
        return np.stack([self.column(name).astype(np.float64) for name in names], axis=1)


def image_files(root: Path) -> list[Path]:
    """The files of images below `root`, north before south, each by number."""
    if not root.is_dir():
        return []
    folders = [folder for folder in (root / "north", root / "south", root) if folder.is_dir()]
    return [path for folder in folders for path in sorted(folder.iterdir()) if IMAGE_FILE.fullmatch(path.name)]


def open_images(root: Path, sub: str, seed: int) -> Source:
    """Source of the image files below a folder: the published 75,000,000 or 14,000,000 images, or any part of them."""
    parts: list[Part] = []
    first = 0
    for path in image_files(root):
        with readable(path) as file:
            if "images" not in file or dataset_of(file, "images").ndim != 4:
                raise UserError(f"{path} has no dataset images (n, 3, 152, 152); download it again.")
            parts.append(Part(path, "", first, len(file["images"])))
            first += parts[-1].rows

    order = np.random.default_rng(ORDER_SEED).permutation(first)
    validation, test = PUBLISHED.get(first, tuple(max(first // share, 1) for share in SHARES))
    last = first - test
    published = {
        "train": order[: last - validation],
        "validation": order[last - validation : last],
        "test": order[last:],
    }
    rows = {}
    for split, (_, members) in split_rows(published, sub).items():
        rows[split] = members
    table = ImageFiles(parts, ("images",), str(root))
    tables = dict.fromkeys(rows, table)
    return Source("images", root, sub, seed, (), dict(tables), rows, None, "images alone, read from their files")
