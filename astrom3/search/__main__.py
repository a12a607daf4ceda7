"""Similar objects: python -m astrom3.search index=similar embeddings=embeddings id=<object>

Queries by a stored object or by files (light_curve= spectrum= metadata=), across modalities (by=photometry
find=spectra), filtered (where="label IN ('RRAB', 'RRC') AND period < 1"). The first call, with embeddings=, builds the
index; recall=true measures its approximate part against the exact search.
"""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError
from astrom3.files import check_file, read_json, read_text, replacing, write_text
from astrom3.typed import check as check_content

log = logging.getLogger(__name__)
CATALOGUE = "metadata"  # key of the command line
FILES = ("light_curve", "spectrum", CATALOGUE, "image")
OF_OBSERVATIONS = ("model", "statistics", "system", "zero_point", "air")
SHOWN = ("object_id", "label", "split", "predicted", "similarity")
OUT = (".json", ".csv")
LONGEST_ROW = 2**16  # bytes of a file that are looked at to know whether it is ours


def search(cfg: DictConfig) -> list[dict[str, Any]]:
    """The objects found, the most similar first."""
    check(cfg)
    from astrom3.search.index import Index

    if cfg.embeddings is not None:
        index = Index.build(
            cfg.index, cfg.embeddings, cfg.catalogue, overwrite=cfg.overwrite, approximate=cfg.approximate
        )
    else:
        index = Index.open(cfg.index)

    kind = "exact and approximate" if index.about["approximate"] else "exact"
    log.info(
        "%s: %s objects, embeddings %s, search %s; to filter by: %s",
        cfg.index,
        f"{index.about['objects']:,}",
        ", ".join(index.about["vectors"]),
        kind,
        ", ".join(index.about["columns"]),
    )
    find = cfg.find or cfg.by
    if cfg.recall:
        measured = index.recall(cfg.by, find, cfg.top, cfg.sample)
        log.info(
            "recall@%d of the approximate search, %d stored objects, %s in, %s out: %.4f (%.2g s a query, exact %.2g)",
            cfg.top,
            measured["queries"],
            cfg.by,
            find,
            measured["recall"],
            measured["approximate_s"],
            measured["exact_s"],
        )
    if not asked(cfg):
        return []
    if cfg.id is not None:
        vector = index.vector_of(str(cfg.id), cfg.by)
        own = [str(cfg.id)]
    else:
        vector = embedded(cfg, index)
        own = []

    found = index.query(vector, find, cfg.top, cfg.where, cfg.exact, own).to_pylist()
    show(found, [c for c in index.about["columns"] if c in (cfg.where or "")])
    if cfg.out is not None:
        write(found, Path(cfg.out), [*index.about["columns"], "similarity"])
        log.info("Written to %s", cfg.out)
    return found


def asked(cfg: DictConfig) -> bool:
    return cfg.id is not None or any(cfg[f] is not None for f in FILES)


def check(cfg: DictConfig) -> None:
    """What can be said before anything is read."""
    if not asked(cfg) and cfg.embeddings is None and not cfg.recall:
        raise UserError("nothing to do: give id=<object> or light_curve=<file> ..., or embeddings=<folder> to build")
    if cfg.id is not None and (also := [f for f in FILES if cfg[f] is not None]):
        raise UserError(f"id={cfg.id} and {also[0]}= are two queries: give one of them")

    for f in FILES:
        if cfg[f] is not None and not isinstance(cfg[f], str):
            raise UserError(f"{f}={cfg[f]} is no name of a file: give one, a name of digits in quotes")

    if all(cfg[f] is None for f in FILES):
        for key in OF_OBSERVATIONS:
            if cfg[key]:
                raise UserError(f"{key}={cfg[key]} is for a query by observations: give light_curve=<file> ... with it")

    if cfg.catalogue is not None and cfg.embeddings is None:
        raise UserError("catalogue= goes into an index when it is built: give embeddings=<folder> too")
    if cfg.top < 1:
        raise UserError(f"top={cfg.top} must be at least 1")
    if cfg.out is not None and Path(cfg.out).suffix not in OUT:
        raise UserError(f"out={cfg.out}: the name must end in {' or '.join(OUT)}")
    if cfg.out is not None:
        check_file(Path(cfg.out), is_answer, cfg.overwrite)


def embedded(cfg: DictConfig, index: Any) -> Any:
    """The embedding (D,) of the files that were given, by the model of the index."""
    from astrom3.embed.job import weights_digest
    from astrom3.inference.trained import TrainedModel
    from astrom3.modalities.galaxy_views import reads_galaxies

    known = index.about["model"]
    name = cfg.model or known["name"]
    try:
        digest = weights_digest(name)
    except UserError as error:
        hint = "" if cfg.model else f"; the index was made with {name}: give model=<where it is now>"
        raise UserError(f"{error}{hint}") from None

    index.check_model(digest, name)
    model = TrainedModel.load(name, evaluation=known["evaluation"], statistics=cfg.statistics, allow=cfg.allow)
    given: dict[str, Any] = {}
    for f in FILES:
        if cfg[f] is not None:
            given[f] = cfg[f]

    if CATALOGUE in given:
        given[CATALOGUE] = catalogue_row(Path(given[CATALOGUE]))
    if "image" in given:
        given["images"] = given.pop("image")
    options = {"air": cfg.air}
    if not reads_galaxies(model.views):
        options |= {"system": cfg.system, "zero_point": cfg.zero_point}
    found = model.embed(**given, **options)
    for decision in found.decisions:
        log.info("%s %s: %s", decision.modality, decision.decision, decision.reason)
    if cfg.by == "mean":
        return found.mean[0]
    if not found.present.get(cfg.by, [False])[0]:
        raise UserError(f"by={cfg.by}: that modality is not among what was given ({', '.join(given)})")
    return found.embeddings[cfg.by][0]


def catalogue_row(path: Path) -> dict[str, Any]:
    """Catalogue columns of one object: a json object, or a csv file with a header and one row."""
    if not path.exists():
        raise UserError(f"metadata={path} does not exist: give a json or csv file of catalogue columns")
    if path.suffix == ".json":
        row = read_json(path)
        check_content(row, dict[str, float | None], path, "it holds catalogue column: value")
        return row

    try:
        rows = list(csv.DictReader(read_text(path).splitlines()))
        if len(rows) != 1:
            raise UserError(f"metadata={path} has {len(rows)} rows: one object is one row")
        found = {}
        for k, v in rows[0].items():
            if v not in ("", None):
                found[k] = float(v)
        return found
    except (csv.Error, ValueError, TypeError) as error:
        raise UserError(f"metadata={path} is no json or csv file of catalogue columns ({error})") from None


def show(found: list[dict[str, Any]], columns: list[str]) -> None:
    """A table with the columns that everyone wants and those of the condition."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not found:
        log.info("nothing found: no object fulfils the condition and has that embedding")
        return

    names = []
    for c in dict.fromkeys((*SHOWN[:-1], *columns, SHOWN[-1])):
        if c in found[0]:
            names.append(c)

    table = Table(*(escape(name) for name in names))
    for row in found:
        cells = []
        for n in names:
            cells.append(f"{row[n]:.4f}" if isinstance(row[n], float) else str(row[n] or ""))
        table.add_row(*(escape(cell) for cell in cells))

    Console(width=None if Console().is_terminal else 160).print(table)


def write(found: list[dict[str, Any]], path: Path, columns: list[str]) -> None:
    """All columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        plain = []
        for row in found:
            plain.append({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
        write_text(path, json.dumps(plain, indent=2, default=str) + "\n")
        return
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(found)


def is_answer(path: Path) -> bool:
    """Whether a file holds what an earlier search has found: every row has an id and a similarity."""
    with open(path, "rb") as file:
        start = file.read(LONGEST_ROW).decode("utf-8", errors="replace")
    if path.suffix == ".csv":
        header = start.partition("\n")[0].rstrip("\r").split(",")
        return header[0] == "object_id" and header[-1] == "similarity"
    first = start.partition("}")[0]
    return start.strip() == "[]" or ('"object_id": ' in first and '"similarity": ' in first)


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("search", search)


if __name__ == "__main__":
    main()
