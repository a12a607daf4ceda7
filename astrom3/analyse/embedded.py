"""What an analysis works on: embeddings made here and kept in the folder of the report, or read."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3.analyse.section import Context
from astrom3.embed.job import Job
from astrom3.errors import UserError
from astrom3.files import read_text
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.trained import TrainedModel
from astrom3.registry import read_stored
from astrom3.training.run import CONFIG

log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
FOLDER = "embeddings"  # in the folder of the report
FOLDER_OTHER = "embeddings-other"
SWAPPED = "swapped.csv"  # of a simulated survey


def gather(cfg: DictConfig, stage: Path) -> Context:
    """The embeddings of all splits and whatever else the sections take, of a configuration (conf/analyse.yaml).

    stage is the folder that the sections write to. Embeddings go to the folder that the configuration names.
    """
    out = Path(cfg.out)
    model = None
    embed = None
    data = None
    true: Mapping[str, str] = {}
    if cfg.embeddings is not None:
        splits = splits_of(cfg.embeddings)
        if cfg.model is not None:
            model = TrainedModel.load(cfg.model, device=cfg.device, statistics=cfg.statistics, allow=cfg.allow)
    else:
        job = embedded(cfg, cfg.model, out / FOLDER)
        data = job.data
        model = job.model
        splits = splits_of(job.out)
        true = swapped_labels(Path(job.data.source.root) / SWAPPED, False)

        def embed() -> Embeddings:
            return Embeddings.of_split_of(job.model, job.data, "test")

    if cfg.swapped is not None:
        true = swapped_labels(Path(cfg.swapped), True)
    unseen = list(cfg.unseen)
    if missing := [c for c in unseen if c not in splits["train"].classes]:
        raise UserError(f"unseen=[{missing[0]}]: the classes here are {', '.join(splits['train'].classes)}")
    if model is not None:  # classes of the data that the model does not know
        unseen += [c for c in splits["train"].classes if c not in model.classes and c not in unseen]
    other = None if cfg.other is None else second_model(cfg, out)
    project = None if cfg.project is None else Embeddings.read(cfg.project)
    early: Any = OmegaConf.to_container(cfg.early)
    return Context(splits, stage, model, embed, data, other, true, unseen, project, cfg.coverage, early)


def embedded(cfg: DictConfig, model: str, folder: Path) -> Job:
    """All parts of `folder` made, going on where an interrupted analysis was."""
    settings = {
        "model": model,
        "out": str(folder),
        "evaluation": "fixed",
        "splits": list(SPLITS),
        "part": 4096,
        "batch": 256,
        "calibrated": False,
    }
    plain = {k: cfg[k] for k in ("statistics", "device", "overwrite", "data", "sub", "seed", "allow")}
    job = Job(OmegaConf.create(plain | settings))
    if "test" not in job.data.source.rows:
        raise UserError(f"{job.data.source.root} has no test split: an analysis needs one")

    job.open_folder()
    if todo := job.missing():
        job.run(todo, f"{model}: ")
        job.finish()
    else:
        log.info("%s: the embeddings are there", folder)

    return job


def splits_of(source: str | Path) -> dict[str, Embeddings]:
    """Split -> embeddings, of those that the file or folder has; it must have train and test."""
    found = Embeddings.read(source)
    splits = {s: found.of_split(s) for s in SPLITS}
    empty = []
    for split in ("train", "test"):
        if not len(splits[split]):
            empty.append(split)
    if empty:
        raise UserError(f"{source} has no objects of the {empty[0]} split: embed all splits")
    return {s: e for s, e in splits.items() if len(e)}


def second_model(cfg: DictConfig, out: Path) -> dict[str, Embeddings]:
    """other=: embeddings (a parquet file or a folder of them), or a model that embeds the same data."""
    path = Path(cfg.other)
    if path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet"))):
        return splits_of(path)
    return splits_of(embedded(cfg, cfg.other, out / FOLDER_OTHER).out)


def swapped_labels(path: Path, wanted: bool) -> Mapping[str, str]:
    """Object -> true label, of those whose label was swapped on purpose. wanted: without the file, a UserError."""
    if not path.is_file():
        if wanted:
            raise UserError(f"swapped={path} is no file: it is the swapped.csv of a simulated survey")
        return {}
    try:
        reader = csv.DictReader(read_text(path).splitlines())
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path} is no csv file ({error}): it is the swapped.csv of a simulated survey") from None
    if not {"object_id", "true_label"} <= set(reader.fieldnames or []):
        raise UserError(f"{path} needs the columns object_id and true_label")
    return {row["object_id"]: row["true_label"] for row in rows}


def other_seed(source: Any, seed: int) -> str | None:
    """A warning where `source` is a run of another seed: its training objects are among the test objects here."""
    path = Path(str(source)) / CONFIG
    if not path.is_file():
        return None
    trained = OmegaConf.select(read_stored(path, checked=False), "seed")
    if trained is None or int(trained) == int(seed):
        return None
    return (
        f"{source} was trained with the split of seed {trained}, these are the splits of seed {seed}: it has seen "
        f"most of the test objects; seed={trained} gives its own"
    )
