"""HDF5 files from elsewhere: an entry may be a link to any file of this machine, and an array may be kept in one."""

from __future__ import annotations

import h5py


def lies_in_file(group: h5py.Group, name: str) -> bool:
    """Whether the file itself has an entry of this name. Links, which may lead anywhere, are not followed."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def read_from_elsewhere(dataset: h5py.Dataset) -> bool:
    """Whether the numbers of an array are kept in other files."""
    return bool(dataset.external or dataset.is_virtual)
