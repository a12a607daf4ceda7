"""A page to look at: python -m astrom3.explore model=runs/all-full-clip-42 data=... out=explore.html

One HTML file that needs no network: the map of the mean embeddings, and of each object light curve or image, spectrum,
catalogue values, probabilities and nearest neighbours, of galaxies across modalities too. embeddings=<folder of
astrom3.embed> in place of model=. More than one_file objects become a folder that serve=true shows (large_map.py).
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from astrom3.errors import UserError
from astrom3.files import OutputFolder, check_file

if TYPE_CHECKING:
    from astrom3.explore.content import Content

log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
MAPS = ("umap", "pca")
FINE = 5000  # up to so many objects a spectrum has 16 bits per pixel, beyond 8


def explore(cfg: DictConfig) -> dict[str, Any]:
    """Objects shown, size of the file in bytes, seconds."""
    start = time.monotonic()
    out = Path(cfg.out)
    check(cfg, out)
    from astrom3.explore import large_map
    from astrom3.explore.content import gather
    from astrom3.hardware import keep_memory, quieten
    from astrom3.inference.results import shown_name

    quieten()
    keep_memory()
    if not out.is_dir():  # a large map is a folder
        check_page(out, cfg.overwrite)
    if cfg.embeddings is not None:
        count = large_map.stored_count(cfg.embeddings)
        if large_map.is_large(cfg, count):
            check_neighbours(cfg.neighbours, count)
            source, normaliser = source_of(cfg)
            return large_map.make(cfg, large_map.stored_parts(cfg), count, source, normaliser)

    embeddings, source, normaliser, decisions = embedded(cfg)
    check_neighbours(cfg.neighbours, min(len(embeddings), cfg.limit or len(embeddings)))
    if large_map.is_large(cfg, len(embeddings)):
        return large_map.make(cfg, lambda: iter([embeddings]), len(embeddings), source, normaliser)
    if cfg.serve:
        raise UserError(
            f"serve=true shows maps of more than one_file={cfg.one_file} objects: this one fits into a file"
        )

    check_page(out, cfg.overwrite)
    content = gather(
        embeddings,
        source,
        kind=cfg.map,
        fit=cfg.fit,
        limit=cfg.limit,
        top=cfg.neighbours,
        normaliser=normaliser,
        decisions=decisions,
    )
    title = cfg.title or f"{shown_name(embeddings.model)} · {source.root.name}"
    return write_page(cfg, content, out, title, start)


def write_page(cfg: DictConfig, content: Content, out: Path, title: str, start: float) -> dict[str, Any]:
    """Write the page and log what is in it; gives what `explore` gives. start: of the clock."""
    from astrom3.explore.writing import write
    from astrom3.progress import progress

    n = len(content)
    bits = cfg.bits or (16 if n <= FINE else 8)
    with progress("Writing the page", n) as advance:
        tally = write(content, out, title, bits, cfg.points, advance)
    size = out.stat().st_size
    seconds = time.monotonic() - start
    thinned = f" ({tally.thinned} thinned to {cfg.points} points)" if cfg.points else ""
    first = f"{tally.images} images" if content.of_galaxies else f"{tally.light_curves} light curves{thinned}"
    log.info(
        "%s: %d of %d objects, %s, %d spectra of %d bits per pixel; %.1f MB, %.0f s",
        out,
        n,
        content.total,
        first,
        tally.spectra,
        bits,
        size / 1e6,
        seconds,
    )
    return {"objects": n, "bytes": size, "seconds": seconds}


def check(cfg: DictConfig, out: Path) -> None:
    """What can be said before anything is loaded."""
    if cfg.model is None and cfg.embeddings is None:
        raise UserError("give model=<run folder, model folder or hub id>, or embeddings=<folder of astrom3.embed>")
    if unknown := [s for s in cfg.splits if s not in SPLITS]:
        raise UserError(f"splits=[{unknown[0]}] does not exist: there are {', '.join(SPLITS)}")
    if cfg.map not in MAPS:
        raise UserError(f"map={cfg.map} does not exist: it is one of {', '.join(MAPS)}")
    if cfg.map == "umap":
        from astrom3 import umap_maps

        umap_maps.package("explore", "map=umap (map=pca does without)")
    if cfg.bits not in (None, 8, 16):
        raise UserError(f"bits={cfg.bits} must be 8 or 16 (per pixel of a spectrum)")

    for key, least in (("points", 10), ("neighbours", 1), ("limit", 1)):
        if cfg[key] is not None and cfg[key] < least:
            raise UserError(f"{key}={cfg[key]} must be at least {least}")

    if cfg.serve:
        from astrom3.extras import need

        need("uvicorn", "serve", "serve=true")
    if cfg.embeddings is None and not OutputFolder(out, "explore").is_own:
        check_page(out, cfg.overwrite)


def check_neighbours(neighbours: int, objects: int) -> None:
    """UserError where there are not so many others."""
    if objects > 1 and neighbours >= objects:
        raise UserError(f"neighbours={neighbours}: of {objects} objects each has {objects - 1} others, give no more")


def check_page(out: Path, overwrite: bool) -> None:
    """UserError where a page cannot be written to this name."""
    from astrom3.explore.writing import is_page

    if out.is_dir():
        raise UserError(f"out={out} is a folder: give the name of the page, out={out / 'explore.html'}")
    check_file(out, is_page, overwrite)


def source_of(cfg: DictConfig) -> tuple[Any, Any]:
    """The data set that the embeddings are of, and statistics if known."""
    from astrom3 import registry
    from astrom3.inference.preprocessing import read_info

    normaliser = read_info(Path(cfg.statistics)) if cfg.statistics is not None else None
    return registry.instantiate(cfg.data.origin, cfg.allow).open(cfg.sub, int(cfg.seed)), normaliser


def embedded(cfg: DictConfig) -> tuple[Any, Any, Any, list[Any]]:
    """Embeddings, the source of the observations, statistics if known, decisions: made here, or read."""
    from astrom3.inference.embeddings import Embeddings
    from astrom3.inference.trained import TrainedModel, data_of

    if cfg.embeddings is not None:
        found = Embeddings.read(cfg.embeddings)
        known = found.of_split(*cfg.splits, "")  # "": embedded without a split
        if not len(known):
            raise UserError(f"{cfg.embeddings} has no objects of splits={list(cfg.splits)}")
        if (left := len(found) - len(known)) > 0:
            log.info("%d embedded objects of other splits are left out", left)
        source, normaliser = source_of(cfg)
        return known, source, normaliser, []

    model = TrainedModel.load(cfg.model, device=cfg.device, statistics=cfg.statistics, allow=cfg.allow)
    data = data_of(model, cfg.data, cfg.sub, int(cfg.seed), cfg.allow)
    wanted = []
    for s in cfg.splits:
        if s in data.source.rows:
            wanted.append(s)

    if not wanted:
        raise UserError(f"splits={list(cfg.splits)}: the data set has {', '.join(data.source.rows)}")

    parts = [Embeddings.of_split_of(model, data, split) for split in wanted]
    return Embeddings.concatenate(parts), data.source, model.normaliser, data.rejected


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("explore", explore)


if __name__ == "__main__":
    main()
