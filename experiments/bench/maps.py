"""Rows of a large map: how long a million objects take to become one, and until the browser has painted them.

The embeddings are made up (32 numbers, ten clouds). The first 25,000 objects have catalogue values in a data set. The
browser is headless Chromium, which must be installed (apt-get install chromium).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.modalities.schema import CLASSES
from astrom3.places import cache_root
from experiments.bench import scale
from experiments.bench.alone import run_alone

SIZES = (100_000, 1_000_000)
KNOWN = 25_000  # objects of the data set
PART = 50_000
WIDTH = 32
AIM = 2.0  # seconds until the first paint
TESTS = Path(__file__).parents[2] / "tests"


def rows(full: bool, only: str) -> Iterator[dict[str, Any]]:
    for size in SIZES if full else SIZES[:1]:
        titles = [f"large map, making {size:,} objects", f"large map, first paint of {size:,} objects"]
        if not any(only in title for title in titles):
            continue
        with tempfile.TemporaryDirectory() as folder:
            known = scale.survey(cache_root() / "bench" / f"catalogue-{KNOWN}" / "survey", KNOWN, scale.catalogue)
            command = [
                *(sys.executable, "-m", "astrom3.explore"),
                f"embeddings={embeddings(size)}",
                *("data=local", f"data.path={known}"),
                *("map=pca", f"out={folder}/map", "port=0"),
            ]
            yield {"name": titles[0]} | making(command, size)
            yield {"name": titles[1]} | painting(command, size)


def making(command: list[str], size: int) -> dict[str, Any]:
    used = run_alone(command)
    peak = round(used.memory / 1e9, 2)
    return {"seconds": used.wall, "peak_gb": peak, "text": f"{size / used.wall:,.0f} in {used.wall:.0f} s"}


def painting(command: list[str], size: int) -> dict[str, Any]:
    """Seconds from the start of the navigation, the median of five, and until an object is shown."""
    sys.path.insert(0, str(TESTS))
    from browser import Browser

    with subprocess.Popen([*command, "serve=true"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if "answers at" in line)
            address = line.split(" at ")[1].split()[0]
            paints = []
            with Browser() as browser:
                for _ in range(5):
                    browser.open(f"{address}/")
                    browser.wait("astrom3.map.firstPaint > 0")
                    paints.append(browser.js("astrom3.map.firstPaint") / 1000)
                begin = time.monotonic()
                browser.js("astrom3.choose(12345, true)")
                chosen = time.monotonic() - begin
        finally:
            server.terminate()
            server.communicate()
    paint = float(np.median(paints))
    return {
        "seconds": paint,
        "text": f"{paint:.2f} s ({min(paints):.2f} to {max(paints):.2f}); an object {chosen:.2f} s",
        "target": {"seconds": AIM},
        "reached": paint < AIM,
    }


def embeddings(size: int) -> Path:
    """Parts of made-up embeddings of one modality and their mean, written once."""
    from astrom3.inference.embeddings import Embeddings

    folder = cache_root() / "bench" / f"large-map-{size}"
    if (folder / ".done").is_file():
        return folder
    centres = 3 * np.random.default_rng(0).normal(size=(len(CLASSES), WIDTH))
    for start in range(0, size, PART):
        numbers = np.arange(start, min(start + PART, size))
        labels = numbers % len(CLASSES)
        vectors = centres[labels] + np.random.default_rng(start).normal(size=(len(numbers), WIDTH))
        vectors = vectors.astype(np.float32)
        Embeddings(
            np.array(scale.names(start, start + len(numbers))),
            labels,
            np.where(numbers % 10 == 0, "test", "train"),
            {"metadata": np.ones(len(numbers), bool)},
            {"metadata": vectors, "mean": vectors},
            None,
            CLASSES,
            "made up",
        ).write(folder / f"train-{start // PART:05d}.parquet")
    (folder / ".done").touch()
    return folder
