"""From a configuration to a large map: made once, and served where that is asked for."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from astrom3.data.layouts.columns import readable
from astrom3.data.layouts.table import Source
from astrom3.errors import UserError, shown
from astrom3.explore.large import ABOUT, Parts, write_map
from astrom3.files import OutputFolder
from astrom3.inference.embedding_files import check_alike, check_objects, files_of, read_part
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.results import shown_name
from astrom3.modalities.catalogue import Normaliser
from astrom3.parquet_files import read_metadata

log = logging.getLogger(__name__)


def is_large(cfg: DictConfig, count: int) -> bool:
    """Whether so many objects are too many for one file."""
    if cfg.limit is not None and cfg.limit <= cfg.one_file:
        return False
    if count <= cfg.one_file:
        return False
    if cfg.limit is not None:
        raise UserError(
            f"limit={cfg.limit} is more than fits into one file (one_file={cfg.one_file}): leave it away, and a large "
            "map shows all objects"
        )
    return True


def stored_count(path: Path | str) -> int:
    """Objects in a folder of embeddings."""
    count = 0
    for file in files_of(path):
        with readable(file):
            count += read_metadata(file).num_rows
    return count


def stored_parts(cfg: DictConfig) -> Parts:
    """The embeddings of a folder that are to be shown, one file at a time."""
    files = files_of(cfg.embeddings)

    def parts() -> Iterator[Embeddings]:
        first: Embeddings | None = None
        for file in files:
            part = Embeddings.from_table(read_part(file), shown(file))
            first = part.take(np.arange(0)) if first is None else first
            check_alike(part, file, first, files[0])
            if not len(part):
                continue
            check_objects(part, shown(file))
            part = part.of_split(*cfg.splits, "")  # "": embedded without a split
            if len(part):
                yield part

    return parts


def make(cfg: DictConfig, parts: Parts, count: int, source: Source, normaliser: Normaliser | None) -> dict[str, Any]:
    """Write the folder unless it is there, and serve it with serve=true. Objects and seconds."""
    start = time.monotonic()
    out = folder_of(Path(cfg.out))
    made_of = origin(cfg, source, count)
    folder = OutputFolder(out, "explore")
    if folder.is_own and folder.made_of == made_of and (out / ABOUT).is_file():
        log.info("%s holds this map already", shown(out))
    else:
        folder.check([ABOUT], cfg.overwrite)
        model = "" if cfg.model is None else str(cfg.model)
        title = cfg.title or f"{shown_name(model or str(cfg.embeddings))} · {source.root.name}"
        write_map(parts, count, source, out, title=title, kind=cfg.map, fit=cfg.fit, made_of=made_of)
        log.info("%s: %d objects, %.0f s", shown(out), count, time.monotonic() - start)

    seconds = time.monotonic() - start
    if cfg.serve:
        show(cfg, out, source, normaliser)
    else:
        log.info("The same command with serve=true shows it in a browser")

    return {"objects": count, "seconds": seconds}


def folder_of(out: Path) -> Path:
    """The folder of a large map; explore.map where the name of a page was given."""
    return out.with_suffix(".map") if out.suffix == ".html" else out


def origin(cfg: DictConfig, source: Source, count: int) -> str:
    """What a map was made of, as its manifest keeps it."""
    made = [str(cfg.model or cfg.embeddings), str(source.root), source.sub, source.seed, count, cfg.map, cfg.fit]
    if cfg.embeddings is not None:
        made.append(max(int(file.stat().st_mtime) for file in files_of(cfg.embeddings)))
    return " ".join(map(str, [*made, *cfg.splits, cfg.title]))


def show(cfg: DictConfig, out: Path, source: Source, normaliser: Normaliser | None) -> None:
    """Until Ctrl-C or SIGTERM."""
    from astrom3.explore.one import Objects
    from astrom3.explore.server import application
    from astrom3.explore.stored_map import StoredMap
    from astrom3.serve import host

    stored = StoredMap(out)
    found = host.bind(cfg.host, cfg.port)
    objects = Objects(stored, source, normaliser, cfg.neighbours)
    log.info("The map of %d objects answers at %s until Ctrl-C", len(stored), host.listen(found))
    host.serve(application(stored, objects, cfg.host), found, 5)
