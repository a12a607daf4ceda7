"""Galaxies written as AstroCLIP's data are published: parquet, HDF5, `save_to_disk`, and the files of images."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIDE = 152
PIXELS = 7781


def galaxies(n, seed=0):
    """Columns as published: image (n, 152, 152, 3) with the axes x, y, band, spectrum (n, 7781, 1)."""
    random = np.random.default_rng(seed)
    return {
        "image": random.normal(0.5, 1, (n, SIDE, SIDE, 3)).astype(np.float32),
        "spectrum": random.normal(3, 1, (n, PIXELS, 1)).astype(np.float32),
        "redshift": random.uniform(0, 0.6, n).astype(np.float32),
        "targetid": np.arange(n, dtype=np.int64) + 39_627_000_000_000_000 + 1000 * seed,
    }


def nested(array):
    """An array (n, ...) as a column of nested lists."""
    column = pa.array(array.ravel())
    for length in array.shape[:0:-1]:
        offsets = np.arange(0, len(column) + 1, length, dtype=np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), column)
    return column


def table_of(columns):
    return pa.table({name: nested(array) if array.ndim > 1 else pa.array(array) for name, array in columns.items()})


def write_pairs(folder, train, test, shards=2, group=4):
    """data/train-00000-of-00002.parquet and so on, in small row groups."""
    (folder / "data").mkdir(parents=True)
    for split, columns in (("train", train), ("test", test)):
        table = table_of(columns)
        edges = np.linspace(0, len(table), shards + 1).astype(int)
        for number in range(shards):
            part = table.slice(edges[number], edges[number + 1] - edges[number])
            path = folder / "data" / f"{split}-{number:05d}-of-{shards:05d}.parquet"
            pq.write_table(part, path, row_group_size=group)
    return folder


def write_paired_file(path, groups):
    """One HDF5 file; groups: columns of each."""
    names = {"image": "images", "spectrum": "spectra", "redshift": "redshifts", "targetid": "targetids"}
    with h5py.File(path, "w") as file:
        for number, columns in enumerate(groups):
            for name, array in columns.items():
                file.create_dataset(f"{number}/{names[name]}", data=array)
    return path


def write_images(folder, counts, seed=5):
    """The files of images: part of the sky -> rows of its files. Returns all images (n, 3, 152, 152), north first."""
    random = np.random.default_rng(seed)
    every = []
    for sky, rows in counts.items():
        (folder / sky).mkdir(parents=True)
        for number, n in enumerate(rows):
            images = random.normal(1, 1, (n, 3, SIDE, SIDE)).astype(np.float32)
            with h5py.File(
                folder / sky / f"images_npix152_0{number:02d}000000_0{number + 1:02d}000000.h5", "w"
            ) as file:
                file["images"] = images
                file["ra"] = random.uniform(0, 360, n)
                file["dec"] = random.uniform(-20, 80, n)
                for name in ("inds", "release", "brickid", "objid"):
                    file[name] = np.arange(n)
            every.append(images)
    return np.concatenate(every)
