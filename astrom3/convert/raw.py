"""The files of AstroM3Dataset as input of a conversion; their published splits are kept."""

from __future__ import annotations

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
    found: dict[tuple[str, str, str], tuple[str | None, np.ndarray]] = {}  # (id, name, spectrum) -> label, values
    keys: dict[tuple[str, int], dict[str, list[tuple[str, str, str]]]] = {}
    infos = {}
    classes = set()
    for sub, seed in available:
        dataset = RawDataset(path, sub, seed)
        infos[sub, seed], members = dataset.info, {}
        classes |= set(dataset.classes)
        for split in SPLITS:
            rows: RawSplit = dataset.split(split)
            members[split] = list(zip(rows.ids, rows.names, rows.spec_filenames, strict=True))
            for key, label, values in zip(members[split], rows.labels, rows.values, strict=True):
                found.setdefault(key, (label, values))
        keys[sub, seed] = members
    uses: dict[str, int] = {}
    for object_id, _, _ in found:
        uses[object_id] = uses.get(object_id, 0) + 1
    unique = {key: key[0] if uses[key[0]] == 1 else f"{key[0]} {key[2]}" for key in found}
    published = {
        where: PublishedSplit({s: [unique[k] for k in m] for s, m in members.items()}, infos[where])
        for where, members in keys.items()
    }
    labels = [label for label, _ in found.values()]
    objects = Objects(
        list(unique.values()),
        labels,
        np.array([values for _, values in found.values()]).reshape(-1, len(ALL_COLS)),
        [name or None for _, name, _ in found],
        [(spectrum, label) if spectrum else None for (_, _, spectrum), label in zip(found, labels, strict=True)],
        tuple(sorted(classes)),
    )
    reader = RawReader(dataset)
    return objects, Recipe(reader.light_curve, reader.spectrum, features), published
