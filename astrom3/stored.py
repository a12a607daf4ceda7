"""What the small files hold that astrom3 writes and reads again, and how each is read: checked key by key.

    read(folder / "preprocessing.json", Preprocessing)

Keys that are not named here may stand beside them; files of version 0.1 have all that is required.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from astrom3.errors import UserError, shown
from astrom3.files import read_json
from astrom3.typed import check


class Statistics(TypedDict):
    """Mean and deviation of catalogue columns, as in info.json of the raw data set."""

    all_cols: list[str]
    metadata_func: dict[str, list[str]]
    mean: list[float]
    std: list[float]
    photo_cols: NotRequired[list[str]]
    meta_cols: NotRequired[list[str]]


class TargetScale(TypedDict):
    """What turns an output of a regression into a number."""

    name: str
    unit: NotRequired[str | None]
    mean: float
    std: float


class Preprocessing(TypedDict):
    """model/preprocessing.json, beside the weights."""

    classes: list[str]
    normaliser: Statistics | None
    pad_constants: NotRequired[bool]
    views: NotRequired[dict[str, str]]
    targets: NotRequired[list[TargetScale] | None]


class Native(TypedDict):
    """model/native.json: the network as classes and arguments."""

    format: int
    network: dict[str, Any]


class RunInfo(TypedDict):
    """run.json of a run folder."""

    seed: int
    mode: NotRequired[str]
    sub: NotRequired[str]
    protocol: NotRequired[str]
    init: NotRequired[str]
    data: NotRequired[dict[str, Any]]
    versions: NotRequired[dict[str, str]]
    git_commit: NotRequired[str | None]
    command: NotRequired[str]


class RunConfig(TypedDict):
    """config.yaml of a run folder, as far as every run has it."""

    mode: str
    sub: str
    seed: int
    init: dict[str, Any]
    datamodule: dict[str, Any]
    module: dict[str, Any]
    model: dict[str, Any]
    modalities: list[str]
    optim: dict[str, Any]
    schedule: dict[str, Any]
    trainer: dict[str, Any]


class Start(TypedDict):
    """What the weights of a run began with."""

    name: str


class RunNames(TypedDict):
    """In config.yaml of a run folder, what says where a run stands in a table."""

    mode: str
    sub: str
    seed: int
    init: Start
    task_name: NotRequired[str]
    protocol: NotRequired[str]


class Scores(TypedDict):
    """metrics.json of a finished run. What else it holds depends on the task."""

    accuracy: NotRequired[float]
    macro_f1: NotRequired[float]
    loss: NotRequired[float]
    clip_accuracy: NotRequired[float]
    centroid_accuracy: NotRequired[dict[str, float]]
    n: NotRequired[int]


class Failure(TypedDict):
    """failure.json of a run that ended in an error."""

    reason: str


class Target(TypedDict):
    """A number to predict, in dataset.json."""

    name: str
    unit: NotRequired[str | None]


class Band(TypedDict):
    """A band of the light curves, in dataset.json."""

    name: str
    points: int
    wavelength: NotRequired[float | None]
    objects: NotRequired[int]


class Converted(TypedDict):
    """What `convert` says of itself, as far as it is read again."""

    split_fractions: NotRequired[tuple[float, float, float] | None]


class Provenance(TypedDict):
    """Where a data set comes from."""

    simulated: NotRequired[bool]
    converted: NotRequired[Converted | None]


class DataSet(TypedDict):
    """dataset.json of our own layouts."""

    layout: str
    version: int
    kind: NotRequired[str | None]
    name: NotRequired[str | None]
    classes: NotRequired[list[str] | None]
    targets: NotRequired[list[Target | str] | None]
    bands: NotRequired[list[Band] | list[str] | None]  # of light curves, or of images by their letters
    split_fractions: NotRequired[tuple[float, float, float] | None]
    provenance: NotRequired[Provenance | None]


class RawInfo(Statistics):
    """info.json of a split of AstroM3Dataset."""

    classes: list[str]


class IndexModel(TypedDict):
    """The model of an index, in its about.json."""

    name: str
    weights: str
    evaluation: Literal["fixed", "sampled", "full"]


class IndexAbout(TypedDict):
    """about.json of a search index."""

    version: int
    data: str
    made_of: str
    model: IndexModel
    objects: int
    width: int
    vectors: list[str]
    columns: list[str]
    approximate: bool


class EmbeddingsAbout(TypedDict):
    """In the metadata of a part of embeddings."""

    model: NotRequired[str]
    classes: list[str]
    targets: NotRequired[list[str]]


class EmbeddingsManifest(TypedDict):
    """_manifest.json of a folder of embeddings."""

    model: NotRequired[str]
    evaluation: NotRequired[Literal["fixed", "sampled", "full"]]


def read(path: Path, wanted: Any, advice: str = "copy or fetch it again") -> dict[str, Any]:
    """The object of JSON in a file, of the type `wanted`; UserError where it is missing, damaged or another thing."""
    if not path.exists():
        raise UserError(f"{shown(path)} is missing: {advice}")
    found = read_json(path)
    check(found, wanted, path, advice)
    return found


def unique(names: list[str], path: Path, key: str) -> tuple[str, ...]:
    """Names of which none is empty or there twice."""
    for name, count in Counter(names).most_common(1):
        if count > 1:
            raise UserError(f"{shown(path)}: {key} has {name!r} twice; each name stands once")
    if "" in names:
        raise UserError(f"{shown(path)}: {key} has an empty name")
    return tuple(names)
