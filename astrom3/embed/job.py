"""Embeddings of a whole catalogue, part by part: whatever process makes a part, the file is the same.

A part is a run of batches of one split, written to <split>-<number>-of-<count>.parquet and renamed when it is whole.
So a killed run loses at most its parts in progress, the same command goes on with those that are not there, and parts
can be shared out over processes, jobs of a cluster, or workers of Ray. _manifest.json says what the parts were made of
(readers of a folder of parquet leave names with an underscore alone).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from omegaconf import DictConfig

from astrom3 import files
from astrom3.embed.pooled import check_pooling, pooled_alone, pooled_objects, rows_table
from astrom3.embed.predictions import PREDICTIONS, write_predictions
from astrom3.errors import UserError
from astrom3.files import OutputFolder, replacing, write_json
from astrom3.inference.confidence import CONFIDENCE
from astrom3.inference.embeddings import Embeddings, from_batch
from astrom3.inference.trained import TrainedModel, data_of
from astrom3.inference.windows import Windowed, embed_windows, window_slot
from astrom3.locks import LOCK
from astrom3.modalities.quality import Decision, read_decisions, write_decisions
from astrom3.parquet_files import read_metadata
from astrom3.progress import Advance, ignored, progress
from astrom3.published import astroclip, astroclip_model, astromer, native
from astrom3.published import astrom3 as published

log = logging.getLogger(__name__)
MANIFEST = "_manifest.json"
SUMMARY = "_summary.json"
REJECTED = "_rejected.csv"
WRITTEN = re.compile(
    r"_manifest\.json|_summary\.json|_rejected\.csv|_?(train|validation|test)-\d{5,}-of-\d{5,}\."
    r"(parquet|rejected\.csv|\d+\.tmp)"
)
STAGES = {"train": "fit", "validation": "validate", "test": "test"}


def written_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has written to a folder of embeddings, None where it is none (see OutputFolder)."""
    if not (folder / MANIFEST).is_file():
        return None
    about = files.read_json(folder / MANIFEST)
    if not {"model", "evaluation", "part", "batch", "splits"} <= set(about):
        return None
    return [path.name for path in folder.iterdir() if WRITTEN.fullmatch(path.name)]


@dataclass(frozen=True)
class Part:
    """Batches [first, last) of a split; count: of parts of that split."""

    split: str
    number: int
    count: int
    first: int
    last: int

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:05d}-of-{self.count:05d}.parquet"


@dataclass
class Job:
    """The model and the data of a configuration (conf/embed.yaml), opened, and the folder that is filled."""

    cfg: DictConfig
    out: Path = field(init=False)
    model: TrainedModel = field(init=False)
    data: Any = field(init=False)
    parts: list[Any] = field(init=False)  # of Part, or of another kind of job its own
    folder: OutputFolder = field(init=False)
    coverage: float | None = field(init=False)  # of prediction sets
    pooling: str | None = field(init=False)  # of light curves; None: their central window as in training
    per: str = field(init=False)
    slot: str | None = field(init=False)  # of the light curves, where they are pooled

    def __post_init__(self) -> None:
        cfg = self.cfg
        self.out = Path(cfg.out)
        if cfg.part % cfg.batch:
            raise UserError(f"part={cfg.part} must be a multiple of batch={cfg.batch}")
        self.model = TrainedModel.load(
            cfg.model,
            device=cfg.device,
            evaluation=cfg.evaluation,
            statistics=cfg.statistics,
            allow=cfg.get("allow"),
        )
        if not cfg.get("calibrated", True):
            self.model = replace(self.model, confidence=None)
        self.coverage = cfg.get("coverage")
        self.pooling = cfg.get("pooling")
        self.per = cfg.get("per", "object")
        check_pooling(self.pooling, self.per, bool(cfg.data.get("streaming")))
        self.slot = None if self.pooling is None else window_slot(self.model, self.pooling)
        self.open_data()

    def open_data(self) -> None:
        """The data of the configuration, and the parts that they are embedded in."""
        cfg = self.cfg
        options = {"eval_batch_size": cfg.batch, "on_device": False}
        self.data = data_of(self.model, cfg.data, cfg.sub, cfg.seed, cfg.get("allow"), **options)
        wanted = [split for split in cfg.splits if split in self.data.source.rows]
        if not wanted or not set(cfg.splits) <= set(STAGES):
            raise UserError(f"splits={list(cfg.splits)}: there are {', '.join(self.data.source.rows)}")
        self.parts: list[Part] = []
        for split in wanted:
            self.parts += self._parts_of(split)

    def _parts_of(self, split: str) -> list[Part]:
        if split not in self.data.splits:
            self.data.setup(STAGES[split])
        batches = len(self.data.split_dataloader(split))
        step = self.cfg.part // self.cfg.batch
        starts = range(0, batches, step)
        parts = []
        for number, start in enumerate(starts):
            parts.append(Part(split, number, len(starts), start, min(start + step, batches)))
        return parts

    def describe(self) -> dict[str, Any]:
        """What decides what is in the parts."""
        from astrom3.places import cache_root

        source = self.data.source
        cache = cache_root(self.cfg.data.cache)
        pooled = {} if self.pooling is None else {"pooling": self.pooling, "per": self.per}
        prints = {}
        for part in self.parts:
            if part.split not in prints:
                prints[part.split] = source.fingerprint(part.split, cache)
        return pooled | {
            "model": weights_digest(self.cfg.model),
            "evaluation": self.cfg.evaluation,
            "sub": self.cfg.sub,
            "seed": self.cfg.seed,
            "part": self.cfg.part,
            "batch": self.cfg.batch,
            "splits": list(self.cfg.splits),
            "streaming": self.data.streaming,
            "coverage": self.coverage,
            "confidence": None if self.model.confidence is None else confidence_digest(self.cfg.model),
            "data": prints,
        }

    @cached_property
    def described(self) -> dict[str, Any]:
        """The same as JSON gives it back, computed once."""
        return json.loads(json.dumps(self.describe()))

    def open_folder(self) -> None:
        """Check that what is in the folder was made of the same; remove it where overwrite=true."""
        self.folder = OutputFolder(self.out, "embed", legacy=written_before)
        self.folder.check(self.files(), self.cfg.overwrite)
        self.out.mkdir(parents=True, exist_ok=True)
        with FileLock(self.out / LOCK):  # jobs of an array start together
            self._open()

    def files(self) -> list[str]:
        """Names of all that is written to the folder."""
        lists = [f"_{Path(part.name).stem}.rejected.csv" for part in self.parts]
        return [MANIFEST, SUMMARY, REJECTED, PREDICTIONS, *(part.name for part in self.parts), *lists]

    def _open(self) -> None:
        path = self.out / MANIFEST
        now = self.described
        if path.is_file() and self.folder.is_own and not self.cfg.overwrite:
            before = files.read_json(path)
            changed = []
            for key in now:
                if before.get(key) != now[key]:
                    changed.append(key)
            if changed:
                raise UserError(
                    f"{self.out} holds embeddings made with other settings ({', '.join(changed)}): give another "
                    "out=<folder>, or overwrite=true to make them again"
                )
            return
        self.folder.remove()
        self.folder.open(self.files(), self.cfg.overwrite)
        write_json(path, now)

    def missing(self) -> list[Any]:
        found = []
        for part in self.parts:
            if not (self.out / part.name).is_file():
                found.append(part)
        return found

    def make(self, part: Any, advance: Advance = ignored) -> int:
        """Write one part; returns its number of objects."""
        table = self.table(part, advance)
        path = self.out / part.name
        with replacing(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
            with FileLock(self.out / LOCK):  # nobody starts the folder afresh while this part takes its name
                self.check_unchanged()
                if self.data.streaming:  # who is rejected shows only while reading
                    rejected = path.with_name(f"_{path.stem}.rejected.csv")
                    write_decisions(rejected, self.data.splits[part.split].decisions)
                os.replace(temporary, path)
        return len(table)

    def check_unchanged(self) -> None:
        """UserError where another process has started the folder afresh with something else."""
        path = self.out / MANIFEST
        before = files.read_json(path) if path.is_file() else {}
        if before != self.described:
            raise UserError(
                f"another process has started {self.out} afresh with other embeddings: give another out=<folder>"
            )

    @property
    def of_objects(self) -> bool:
        """Whether the rows are objects with one vector each, which analyse, search and explore read."""
        return self.per == "object" and self.pooling != "sequence"

    def table(self, part: Any, advance: Advance = ignored) -> pa.Table:
        """The rows of a part."""
        if self.pooling is None:
            return self.embed(part, advance).to_table()
        slot = str(self.slot)
        classes = self.data.classes
        found, split = self.windows(part)
        ids = self.data.object_ids(part.split)[split.positions]
        if not self.of_objects:
            about = {"model": self.model.name, "classes": list(classes), "pooling": self.pooling, "per": self.per}
            return rows_table(found, ids, split.labels, part.split, slot, about)
        if self.model.backbone is None and not self.model.predicts:
            alone = pooled_alone(found, ids, split, part.split, slot, self.model, classes)
            return alone.to_table()
        embedded = self.embed(part, advance)
        return pooled_objects(embedded, found, slot).to_table()

    def windows(self, part: Part) -> tuple[Windowed, Any]:
        """The pooled light curves of a part, whose objects are numbers in its split, and the split."""
        assert self.pooling is not None and self.slot is not None
        loader = self.data.split_dataloader(part.split)
        split = self.data.splits[part.split]
        order = loader.batches.order()
        members = np.concatenate([loader.batches.batch(order, number) for number in range(part.first, part.last)])
        there = split.present[self.slot][members]
        reader = split.readers[self.slot]
        found = embed_windows(self.model, self.slot, reader, members, there, self.pooling, self.per)
        return replace(found, objects=members[found.objects]), split

    def embed(self, part: Part, advance: Advance = ignored) -> Embeddings:
        loader = self.data.split_dataloader(part.split)
        loader.load_state_dict(loader.state_dict() | {"epoch": 0, "done": part.first})
        ids = self.data.object_ids(part.split)
        pieces = []
        for batch in islice(loader, part.last - part.first):
            encoded = self.model.encode(batch)
            pieces.append(from_batch(batch, encoded, ids, part.split, self.model, self.data.classes, self.coverage))
            advance(len(pieces[-1]))
        return Embeddings.concatenate(pieces)

    def run(self, parts: Sequence[Any], title: str = "") -> int:
        """Make some parts, saying how long it takes."""
        done = 0
        with progress(f"{title}embedding", sum(self.size_of(part) for part in parts)) as advance:
            for number, part in enumerate(parts, 1):
                done += self.make(part, advance)
                log.info("%s%s: %d of %d parts", title, part.name, number, len(parts))
        return done

    def size_of(self, part: Any) -> int:
        """Objects of a part, at most."""
        return int((part.last - part.first) * self.cfg.batch)

    def finish(self) -> dict[str, Any]:
        """Where all parts are there: _rejected.csv and _summary.json with the counts."""
        if missing := self.missing():
            log.info("%d of %d parts are still to come (other jobs)", len(missing), len(self.parts))
            return {"complete": False, "parts": len(self.parts), "missing": len(missing)}
        counts = Counter[str]()
        for part in self.parts:
            counts[part.split] += read_metadata(self.out / part.name).num_rows
        decisions = list(self.rejected())
        write_decisions(self.out / REJECTED, decisions)
        kinds = Counter(f"{d.decision} {d.modality}" for d in decisions)
        rows = "windows" if self.per == "window" else "objects"
        summary = {"complete": True, "parts": len(self.parts), rows: dict(counts), "decisions": dict(kinds)}
        if self.model.predicts and self.of_objects:
            parts = sorted(self.out / part.name for part in self.parts)
            write_predictions(self.out / PREDICTIONS, parts, self.model.classes)
        write_json(self.out / SUMMARY, summary)
        log.info(
            "%s: %s %s, listed in %s: %s",
            self.out,
            f"{sum(counts.values()):,}",
            rows,
            REJECTED,
            ", ".join(f"{k} {n}" for k, n in kinds.items()) or "none",
        )
        return summary

    def rejected(self) -> Iterator[Decision]:
        """Every decision once."""
        seen: dict[Decision, None] = dict.fromkeys(self.data.rejected)
        if self.data.streaming:
            for path in sorted(self.out.glob("_*.rejected.csv")):
                seen |= dict.fromkeys(read_decisions(path))
        return iter(seen)


def weights_digest(model: str) -> str:
    """SHA-256 of the weights of a model, of its published form where there is one."""
    if astromer.recognises(model):
        files = [path for path in [Path(model)] if path.is_file()]
        files = files or sorted(path for path in Path(model).rglob("*") if path.is_file())
    elif astroclip_model.recognises(model):
        files = [astroclip.find(model)]
    else:
        folder = published.find(model)
        own = [folder / published.WEIGHTS, folder / native.WEIGHTS]
        files = [path for path in own if path.is_file()][:1]
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def confidence_digest(model: str) -> str:
    """SHA-256 of the confidence.json of a model folder."""
    return hashlib.sha256((published.find(model) / CONFIDENCE).read_bytes()).hexdigest()
