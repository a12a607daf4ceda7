"""The files of AstroM3Dataset as input of a conversion; their published splits are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from astrom3.convert.conversion import Recipe
from astrom3.data.readers import LightCurve, Spectrum
from astrom3.data.readers.objects import Objects
from astrom3.data.readers.raw import RawDataset, RawSplit, available_splits
from astrom3.data.writer import PublishedSplit
from astrom3.errors import UserError
from astrom3.modalities.schema import ALL_COLS, SPLITS

Key = tuple[str, str, str]  # of an object: id, name of the light curve, file of the spectrum


@dataclass(frozen=True)
class RawReader:
    """Light curves by name, spectra by (file name, class), of the raw AstroM3Dataset."""

    dataset: RawDataset

    def light_curve(self, name: str) -> LightCurve:
        return self.dataset.light_curve(name)

    def spectrum(self, reference: tuple[str, str | None]) -> Spectrum:
        return self.dataset.spectrum(*reference)


def read_raw(
    path: Path | str, features: str = "missing"
) -> tuple[Objects, Recipe, dict[tuple[str, int], PublishedSplit]]:
    """All objects of a raw AstroM3Dataset folder, how to read them, and its published splits as they are.

    An object in several CSVs is taken from the first; Gaia ids that name two objects get the spectrum's name added.
    """
    available = available_splits(path)
    if not available:
        raise UserError(f"{path} has no splits/<sub>/<seed>/info.json: it is not the raw AstroM3Dataset.")

    found: dict[Key, tuple[str | None, np.ndarray]] = {}  # label and values
    keys: dict[tuple[str, int], dict[str, list[Key]]] = {}
    infos = {}
    classes = set()
    for sub, seed in available:
        dataset = RawDataset(path, sub, seed)
        infos[sub, seed] = dataset.info
        classes |= set(dataset.classes)
        by_split = {}
        for split in SPLITS:
            rows: RawSplit = dataset.split(split)
            by_split[split] = list(zip(rows.ids, rows.names, rows.spec_filenames, strict=True))
            for key, label, values in zip(by_split[split], rows.labels, rows.values, strict=True):
                found.setdefault(key, (label, values))
        keys[sub, seed] = by_split

    unique = unique_ids(found)
    published = {}
    for where, by_split in keys.items():
        names = {}
        for split, members in by_split.items():
            names[split] = [unique[key] for key in members]
        published[where] = PublishedSplit(names, infos[where])

    reader = RawReader(dataset)
    recipe = Recipe(reader.light_curve, reader.spectrum, features)
    objects = objects_of(found, list(unique.values()), tuple(sorted(classes)))
    return objects, recipe, published


def unique_ids(found: Iterable[Key]) -> dict[Key, str]:
    """Ids, with the name of the spectrum behind one that two objects have."""
    listed = list(found)
    uses = Counter(object_id for object_id, _, _ in listed)
    unique = {}
    for key in listed:
        object_id, _, spectrum = key
        unique[key] = object_id if uses[object_id] == 1 else f"{object_id} {spectrum}"
    return unique


def objects_of(found: Mapping[Key, tuple[str | None, np.ndarray]], ids: list[str], classes: tuple[str, ...]) -> Objects:
    """The objects with what their readers need of them: the name of a light curve, and the label beside a spectrum."""
    labels: list[str | None] = []
    rows: list[np.ndarray] = []
    curves: list[str | None] = []
    spectra: list[tuple[str, str | None] | None] = []
    for (_, name, spectrum), (label, row) in found.items():
        labels.append(label)
        rows.append(row)
        curves.append(name or None)
        spectra.append((spectrum, label) if spectrum else None)
    values = np.array(rows).reshape(-1, len(ALL_COLS))
    return Objects(ids, labels, values, curves, spectra, classes)
