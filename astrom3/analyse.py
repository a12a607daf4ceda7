"""What a model has learnt: python -m astrom3.analyse model=runs/clip-full-scratch-42 data=... out=analysis

Few labels on frozen embeddings, cross-modal retrieval, modality ablation, outliers, map, calibration, a second model
compared (other=<run>), kinds of attention: what=[...] chooses. Numbers in analysis.json, tables in report.md, pictures.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError

log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")


def analyse(cfg: DictConfig) -> dict[str, Any]:
    """The numbers of every analysis; those that are not possible are left out with the reason."""
    from astrom3.analysis.sections import SECTIONS, NotPossible
    from astrom3.training.hardware import keep_memory, quieten
    from astrom3.training.run import write_json

    if unknown := [w for w in cfg.what if w not in SECTIONS]:
        raise UserError(f"what=[{unknown[0]}] does not exist: there are {', '.join(SECTIONS)}")
    quieten()
    keep_memory()
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    context = gather(cfg, out)
    lines = [f"# Analysis of {context.splits['test'].model}", ""]
    numbers: dict[str, Any] = {"model": context.splits["test"].model, "left_out": {}}
    for name in cfg.what:
        log.info("%s", name)
        try:
            section = SECTIONS[name](context)
        except NotPossible as reason:
            numbers["left_out"][name] = str(reason)
            log.info("  left out: %s", reason)
            continue
        numbers[name] = section.numbers
        picture = [f"![{section.title}]({name}.png)", ""] if (out / f"{name}.png").is_file() else []
        lines += [f"## {section.title}", "", *section.lines, "", *picture]
    lines += (
        ["## Left out", "", *(f"- {k}: {v}" for k, v in numbers["left_out"].items())] if numbers["left_out"] else []
    )
    (out / "report.md").write_text("\n".join(lines).rstrip() + "\n")
    write_json(out / "analysis.json", numbers)
    log.info("%s", "\n".join(lines))
    log.info("Written to %s: report.md, analysis.json and pictures", out)
    return numbers


def gather(cfg: DictConfig, out: Path) -> Any:
    """The embeddings of all splits, made here or read, and what else the sections need."""
    from astrom3.analysis.sections import Context
    from astrom3.inference.embeddings import Embeddings
    from astrom3.inference.trained import TrainedModel, data_of

    model = TrainedModel.load(cfg.model, device=cfg.device, statistics=cfg.statistics)
    if cfg.embeddings is not None:
        found = Embeddings.read(cfg.embeddings)
        splits = {s: found.of_split(s) for s in SPLITS}
        if empty := [s for s in ("train", "test") if not len(splits[s])]:
            raise UserError(f"{cfg.embeddings} has no objects of the {empty[0]} split: embed all splits")
        return Context(model, splits, out)
    data = data_of(model, cfg.data, cfg.sub, cfg.seed)
    splits = {s: Embeddings.of_split_of(model, data, s) for s in SPLITS}
    other = None
    if cfg.other is not None:
        second = TrainedModel.load(cfg.other, device=cfg.device, statistics=cfg.statistics)
        other = Embeddings.of_split_of(second, data_of(second, cfg.data, cfg.sub, cfg.seed), "test")
    return Context(
        model, splits, out, lambda m: Embeddings.of_split_of(m, data, "test"), other, swapped_ids(data.source.root)
    )


def swapped_ids(root: Path) -> frozenset[str]:
    """Objects of a simulated survey whose label was swapped on purpose."""
    import csv

    path = Path(root) / "swapped.csv"
    if not path.is_file():
        return frozenset()
    with open(path, newline="") as file:
        return frozenset(row["object_id"] for row in csv.DictReader(file))


def main() -> None:
    from astrom3.cli import run_verb

    run_verb("analyse", analyse)


if __name__ == "__main__":
    main()
