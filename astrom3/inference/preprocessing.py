"""Classes and statistics beside a model's weights, as preprocessing.json, or with published data on the hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from astrom3 import hub, stored
from astrom3.errors import UserError, shown
from astrom3.files import read_json
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.galaxy_views import GalaxyView
from astrom3.modalities.schema import CLASSES
from astrom3.modalities.view import get_view
from astrom3.typed import check

DATASET = "AstroMLCore/AstroM3Dataset"
PREPROCESSING = "preprocessing.json"  # classes and statistics, beside config.json


def read_preprocessing(folder: Path, network: nn.Module) -> tuple[tuple[str, ...], Normaliser | None, bool]:
    """Classes, statistics and pad_constants beside the weights; published models have none, their classes are those of
    the paper."""
    path = folder / PREPROCESSING
    heads = getattr(network, "num_classes", None)
    if not path.exists():
        if heads not in (None, len(CLASSES)):
            raise UserError(f"{folder} has a head of {heads} classes, but no {PREPROCESSING} that names them")
        of_galaxies = heads is None and view_of_galaxies(network)
        return () if of_galaxies else CLASSES, None, True

    found = stored.read(path, stored.Preprocessing)
    classes = stored.unique(found["classes"], path, "classes")
    statistics = found["normaliser"]
    if heads not in (None, len(classes)):
        raise UserError(f"{path} names {len(classes)} classes, the head has {heads}: it belongs to another model")

    normaliser = None if statistics is None else Normaliser.from_dict(statistics, str(path))
    return classes, normaliser, bool(found.get("pad_constants", True))


def view_of_galaxies(network: nn.Module) -> bool:
    """Whether the first encoder of a network reads galaxies."""
    encoders: Any = getattr(network, "encoders", None)
    first: Any = next(iter(encoders.values())) if encoders else getattr(network, "encoder", network)
    return isinstance(get_view(first.view), GalaxyView) if hasattr(first, "view") else False


def hub_statistics(source: str) -> Normaliser | None:
    """Statistics of a published model: the info.json of the raw data set on the hub, of the split with the seed that
    the model's name ends in (42 without one). None where `source` is no published model."""
    found = re.fullmatch(r"AstroMLCore/AstroM3-CLIP(?:-(\d+|photo|spectra|meta|all))?", source)
    if found is None:
        return None

    seed = found[1] if found[1] and found[1].isdigit() else "42"
    name = f"splits/full/{seed}/info.json"
    try:
        path = hub.download(DATASET, name, kind="dataset")
    except Exception as error:  # whatever fails between here and the file
        raise UserError(
            f"the statistics of {source} are in {name} of {DATASET}, which the hub did not give "
            f"({type(error).__name__}): fetch it on a machine that can, and load the model with statistics=<that file>"
        ) from None

    return read_info(path)


def read_info(path: Path) -> Normaliser:
    """Statistics from a file in the form of the raw data set's info.json, or from a preprocessing.json."""
    if not path.exists():
        raise UserError(f"statistics={shown(path)} does not exist: give the info.json of a train split")
    found = read_json(path)
    statistics = found.get("normaliser") or found
    check(statistics, stored.Statistics, path, "give the info.json of a train split")
    return Normaliser.from_dict(statistics, str(path))


def check_source(source: Any, statistics: Any = None) -> None:
    """UserError where the source of a model, or of its statistics, is neither text nor a path."""
    if not isinstance(source, str | Path):
        raise UserError(f"a model is named by its folder, archive or hub id, not by {source!r}")
    if statistics is not None and not isinstance(statistics, str | Path):
        raise UserError(f"statistics is a {type(statistics).__name__}: give the name of a file")
