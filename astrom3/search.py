"""Similar objects: python -m astrom3.search index=similar embeddings=embeddings id=<object>

Queries by a stored object or by files (light_curve= spectrum= metadata=), across modalities (by=photometry
find=spectra), filtered (where="label = 'RRAB'"). The first call, with embeddings=, builds the index.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError

log = logging.getLogger(__name__)
FILES = ("light_curve", "spectrum", "metadata")


def search(cfg: DictConfig) -> list[dict[str, Any]]:
    """The objects found, the most similar first."""
    asked = cfg.id is not None or any(cfg[f] is not None for f in FILES)
    if not asked and cfg.embeddings is None and not cfg.recall:
        raise UserError("nothing to do: give id=<object> or light_curve=<file> ..., or embeddings=<folder> to build")
    from astrom3.similarity.index import Index

    if cfg.embeddings is not None:
        index = Index.build(cfg.index, cfg.embeddings, cfg.catalogue)
        log.info("%s: %s objects, embeddings %s; to filter by: %s", cfg.index, f"{index.about['objects']:,}",
                 ", ".join(index.about["vectors"]), ", ".join(index.about["columns"]))  # fmt: skip
    else:
        index = Index.open(cfg.index)
    if cfg.recall:
        log.info("recall at %d of the approximate index: %.3f", cfg.top, index.recall(cfg.find or cfg.by, cfg.top))
    if not asked:
        return []
    vector = index.vector_of(str(cfg.id), cfg.by) if cfg.id is not None else embedded(cfg, index.about["model"])
    own = [str(cfg.id)] if cfg.id is not None else []
    found = index.query(vector, cfg.find or cfg.by, cfg.top, cfg.where, cfg.exact, own).to_pylist()
    show(found)
    if cfg.out is not None:
        write(found, Path(cfg.out))
    return found


def embedded(cfg: DictConfig, model_name: str) -> Any:
    """The embedding of the files that were given."""
    from astrom3.inference.trained import TrainedModel

    model = TrainedModel.load(cfg.model or model_name)
    given: dict[str, Any] = {f: cfg[f] for f in FILES if cfg[f] is not None}
    if "metadata" in given:
        try:
            given["metadata"] = json.loads(Path(given["metadata"]).read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"metadata={cfg.metadata} is no json file of catalogue columns ({error})") from None
    found = model.embed(**given)
    for decision in found.decisions:
        log.info("%s %s: %s", decision.modality, decision.decision, decision.reason)
    if cfg.by == "mean":
        return found.mean[0]
    if not found.present.get(cfg.by, [False])[0]:
        raise UserError(f"by={cfg.by}: that modality is not among what was given ({', '.join(given)})")
    return found.embeddings[cfg.by][0]


def show(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        log.info("nothing found: the condition leaves no object")
        return
    table = Table(*found[0])
    for row in found:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v) for v in row.values()))
    Console(width=None if Console().is_terminal else 160).print(table)


def write(found: list[dict[str, Any]], path: Path) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(found, indent=2) + "\n")
        return
    import csv

    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, found[0] if found else ["object_id"])
        writer.writeheader()
        writer.writerows(found)


def main() -> None:
    from astrom3.cli import run_verb

    run_verb("search", search)


if __name__ == "__main__":
    main()
