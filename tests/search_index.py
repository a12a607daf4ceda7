"""A made-up index to search in."""

import csv
import os
import sys

import numpy as np
import processes

from astrom3.inference.embeddings import Embeddings
from astrom3.search.index import Index

N, WIDTH = 400, 16


def made_up(n=N, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    centres = rng.normal(size=(3, WIDTH))
    vectors = {m: (centres[labels] + 0.5 * rng.normal(size=(n, WIDTH))).astype(np.float32)
               for m in ("photometry", "spectra")}  # fmt: skip
    present = {"photometry": np.ones(n, bool), "spectra": np.arange(n) % 4 != 0}
    vectors["spectra"][~present["spectra"]] = 0
    vectors["mean"] = vectors["photometry"] + vectors["spectra"]
    ids = np.array([f"star '{i}'" if i == 7 else f"star {i}" for i in range(n)])
    return Embeddings(ids, labels, np.full(n, "train"), present, vectors, None, ("a", "b", "c"), "somewhere")


def make_place(root):
    """Made-up embeddings in four files, a catalogue of their periods, and the index of both."""
    objects = made_up()
    for k in range(4):
        objects.take(np.arange(k * 100, k * 100 + 100)).write(root / "embeddings" / f"train-{k:05d}-of-00004.parquet")
    with open(root / "catalogue.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["object_id", "period"])
        writer.writerows([name, i / 100] for i, name in enumerate(objects.ids) if i != 5)
    Index.build(root / "index", root / "embeddings", root / "catalogue.csv")
    return root


def nearest(objects, vector, name, top, among):
    unit = objects.vectors[name] / np.maximum(np.linalg.norm(objects.vectors[name], axis=1, keepdims=True), 1e-12)
    cosine = np.where(among, unit @ (vector / np.linalg.norm(vector)), -2)
    order = np.argsort(-cosine)[:top]
    return objects.ids[order].tolist(), cosine[order]


def search(place, *options, index="index"):
    return processes.run([sys.executable, "-m", "astrom3.search", f"index={place}/{index}", *options], cwd=place,
                          capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
