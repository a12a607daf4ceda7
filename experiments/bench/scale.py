"""Rows that show how whole commands grow with the number of objects: embed, search, explore, and what analyse compares.

"embed curves" is a survey of light curves of 60 to 400 points, every window of which goes through a small Astromer.

The other survey has catalogue values only, so that 200,000 objects fit on a laptop. The embeddings that search,
explore and analyse read are made up around ten centres on a surface of eight dimensions. Time that grows linearly shows
as the same objects/s in every row, and flat memory as the same peak.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from astrom3.modalities.schema import CLASSES, META_COLS, OBJECT_SCHEMA, PHOTO_COLS
from astrom3.places import cache_root
from experiments.bench.alone import run_alone

SIZES = (25_000, 50_000, 100_000, 200_000)
PART = 4096  # objects
WIDTH = 128  # numbers of an embedding
DIMENSIONS = 8  # of the surface that they lie on
CURVE_SIZES = (10_000, 20_000, 100_000)
POINTS = (60, 400)  # fewest and most of a light curve
LOCAL = ("data=local", "data.path={survey}", "device=cpu")
COMMANDS = {
    "embed": ("astrom3.embed", "model={model}", *LOCAL, "out={out}/embeddings"),
    "embed curves": (
        "astrom3.embed",
        "model={astromer}",
        "data=local",
        "data.path={curves}",
        "device=cpu",
        "pooling=mean",
        "out={out}/embeddings",
    ),
    "search": ("astrom3.search", "index={out}/index", "embeddings={embeddings}", "id=star 7"),
    "explore, one file": (
        "astrom3.explore",
        "embeddings={embeddings}",
        *LOCAL,
        "map=pca",
        "one_file=1000000",
        "out={out}/page.html",
    ),
    "explore, large map": (
        "astrom3.explore",
        "embeddings={embeddings}",
        *LOCAL,
        "map=pca",
        "one_file=1000",
        "out={out}/map",
    ),
    "few-shot": ("astrom3.analyse", "embeddings={embeddings}", "what=[fewshot]", "out={out}/analysis"),
    "retrieval": ("astrom3.analyse", "embeddings={embeddings}", "what=[retrieval]", "out={out}/analysis"),
    "outliers": ("astrom3.analyse", "embeddings={embeddings}", "what=[outliers]", "out={out}/analysis"),
}


def rows(full: bool, only: str) -> Iterator[dict[str, Any]]:
    for name, command in COMMANDS.items():
        sizes = CURVE_SIZES if name == "embed curves" else SIZES
        for size in sizes if full else sizes[:1]:
            title = f"{name}, {size:,} objects"
            if only in title:
                yield {"name": title} | measured(command, size)


def measured(command: tuple[str, ...], size: int) -> dict[str, Any]:
    """Objects/s of a whole command, seconds of wall clock and of processors, and its peak memory."""
    folder = cache_root() / "bench" / f"catalogue-{size}"
    makers = {
        "survey": lambda: survey(folder / "survey", size, catalogue),
        "curves": lambda: survey(folder / "curves", size, light_curves),
        "embeddings": lambda: embeddings(folder / "embeddings", size),
        "model": lambda: model(folder.parent / "model"),
        "astromer": lambda: astromer(folder.parent / "astromer"),
    }
    places = {name: make() for name, make in makers.items() if any(f"{{{name}}}" in part for part in command)}
    with tempfile.TemporaryDirectory(prefix="astrom3-bench-") as out:
        filled = [part.format(out=out, **places) for part in command]
        used = run_alone([sys.executable, "-m", *filled], {"ASTROM3_CACHE": f"{out}/cache"})
    return {
        "seconds": used.wall,
        "cpu_seconds": used.processor,
        "peak_gb": round(used.memory / 1e9, 2),
        "text": f"{size / used.wall:,.0f} in {used.wall:.0f} s, {used.processor:.0f} s of processors, "
        f"{used.own / 1e9:.2f} GB without files",
    }


def survey(root: Path, size: int, rows: Callable[[int, int], pa.RecordBatch]) -> Path:
    """A data set in our layout, made once."""
    if (root / "dataset.json").is_file():
        return root
    from astrom3.data.writer import DatasetWriter

    with DatasetWriter(root, classes=CLASSES, name="benchmark", provenance={"simulated": True}) as writer:
        for start in range(0, size, PART):
            writer.write(rows(start, min(start + PART, size)))
        return writer.finish([42])


def catalogue(start: int, stop: int) -> pa.RecordBatch:
    draws = np.random.default_rng(start)
    count = stop - start
    nobody = pa.array(np.ones(count, bool))
    columns = [pa.array(names(start, stop)), pa.array([CLASSES[i % len(CLASSES)] for i in range(start, stop)])]
    for name in ("light_curve", "spectrum"):
        fields = list(OBJECT_SCHEMA.field(name).type)
        empty = [pa.array([[]] * count, field.type) for field in fields]
        columns.append(pa.StructArray.from_arrays(empty, fields=fields, mask=nobody))
    for name, members in (("photo_cols", PHOTO_COLS), ("meta_cols", META_COLS)):
        fields = list(OBJECT_SCHEMA.field(name).type)
        values = [pa.array(draws.uniform(1, 20, count), field.type) for field in fields]
        assert len(fields) == len(members)
        columns.append(pa.StructArray.from_arrays(values, fields=fields))
    return pa.record_batch(columns, schema=OBJECT_SCHEMA)


def light_curves(start: int, stop: int) -> pa.RecordBatch:
    """Sine waves with noise: time [day], flux and error [mJy], and no catalogue values but those made up."""
    draws = np.random.default_rng(start)
    lengths = draws.integers(*POINTS, stop - start)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    time = np.concatenate([np.sort(draws.uniform(50000, 53000, n)) for n in lengths])
    period = np.repeat(np.exp(draws.uniform(-1, 4, stop - start)), lengths)
    flux = 20 + 2 * np.sin(2 * np.pi * time / period) + draws.normal(0, 0.3, len(time))
    columns = (time, flux, np.full(len(time), 0.3))
    lists = [pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values)) for values in columns]
    batch = catalogue(start, stop)
    place = OBJECT_SCHEMA.get_field_index("light_curve")
    curves = pa.StructArray.from_arrays(lists, fields=list(OBJECT_SCHEMA.field(place).type))
    return pa.record_batch([*batch.columns[:place], curves, *batch.columns[place + 1 :]], schema=OBJECT_SCHEMA)


def names(start: int, stop: int) -> list[str]:
    return [f"star {i}" for i in range(start, stop)]


def embeddings(folder: Path, size: int) -> Path:
    """Parts of made-up embeddings of two modalities and their mean, written once."""
    done = folder / ".done"
    if done.is_file():
        return folder
    from astrom3.inference.embeddings import Embeddings

    draws = np.random.default_rng(1)
    centres = 4 * draws.normal(size=(len(CLASSES), DIMENSIONS))
    surface = draws.normal(size=(DIMENSIONS, WIDTH)) / 3
    for start in range(0, size, PART):
        stop = min(start + PART, size)
        labels = np.arange(start, stop) % len(CLASSES)
        there = np.ones(stop - start, bool)
        place = centres[labels] + np.random.default_rng(start).normal(size=(stop - start, DIMENSIONS))
        vectors = np.tanh(place @ surface).astype(np.float32)
        splits = np.where(np.arange(start, stop) % 10 == 0, "test", "train")
        Embeddings(
            np.array(names(start, stop)),
            labels,
            splits,
            {"photometry": there, "metadata": there},
            {"photometry": vectors, "metadata": vectors[:, ::-1].copy(), "mean": vectors},
            None,
            CLASSES,
            "made up",
        ).write(folder / f"train-{start // PART:05d}.parquet")
    done.touch()
    return folder


def model(folder: Path) -> Path:
    """An untrained network for catalogue values, with the statistics of nothing."""
    if (folder / "preprocessing.json").is_file():
        return folder
    import torch

    from astrom3.encoders.mlp import MetadataMLP
    from astrom3.encoders.towers import Classifier
    from astrom3.files import write_json
    from astrom3.modalities.catalogue import Normaliser
    from astrom3.training.evaluation import save_model

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(Classifier(MetadataMLP(), len(CLASSES)), folder)
    values = np.random.default_rng(0).uniform(1, 20, (1000, len(PHOTO_COLS) + len(META_COLS)))
    about = {"classes": list(CLASSES), "normaliser": Normaliser.fit(values).to_dict()}
    write_json(folder / "preprocessing.json", about)
    return folder


def astromer(folder: Path) -> Path:
    """An untrained small Astromer 2, as it is in the native form."""
    if (folder / "native.json").is_file():
        return folder
    import torch

    from astrom3.encoders.astromer import Astromer
    from astrom3.published import native

    torch.manual_seed(0)
    native.save(Astromer(version=2, layers=2, d_model=64, n_heads=4, d_ff=128), folder)
    return folder
