"""What a model has learnt: python -m astrom3.analyse model=runs/clip-full-scratch-42 data=... out=analysis

Few labels on frozen embeddings, cross-modal retrieval, numbers told by neighbours, modality ablation, outliers and
suspicious labels, map, all modalities side by side, calibration, a second model compared (other=<run>), kinds of
attention, sensitivity to catalogue features: what=[...] chooses, without it all that the model allows. Data without
labels get what needs none: retrieval, numbers, objects far from all others, map. what=[early], only where asked, says
how soon curves are classified. Embeddings are kept in the folder (or read: embeddings=<folder of
astrom3.embed>); numbers in analysis.json, tables in report.md, pictures and lists beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError
from astrom3.files import LOCKS, OutputFolder, read_json
from astrom3.modalities.kinds import known
from astrom3.strict_json import without_nan

log = logging.getLogger(__name__)
NAMES = (
    "fewshot",
    "retrieval",
    "properties",
    "ablation",
    "outliers",
    "map",
    "panels",
    "calibration",
    "compare",
    "attention",
    "sensitivity",
    "early",
)
NEED_LABELS = (
    "fewshot",
    "ablation",
    "calibration",
    "compare",
    "attention",
    "sensitivity",
    "early",
)


def analyse(cfg: DictConfig) -> dict[str, Any]:
    """The numbers of every analysis; those that are not possible are left out with the reason."""
    chosen = check(cfg)
    from astrom3.hardware import keep_memory, quieten

    quieten()
    keep_memory()
    out = Path(cfg.out)
    folder = OutputFolder(out, "analyse", legacy=written_before)
    with folder.staged(names_of(chosen), cfg.overwrite) as stage:
        return make(cfg, chosen, stage)


def make(cfg: DictConfig, chosen: Sequence[str], stage: Path) -> dict[str, Any]:
    """The analyses, written to the folder `stage`. Embeddings are kept in `out` at once, since they take long."""
    from astrom3.analyse.embedded import gather, other_seed

    sources = [] if cfg.embeddings is not None else [cfg.model]
    warnings = []
    for source in (*sources, cfg.other):
        warning = None if source is None else other_seed(source, cfg.seed)
        if warning:
            log.warning("%s", warning)
            warnings.append(warning)

    context = gather(cfg, stage)
    numbers: dict[str, Any] = {"model": context.splits["test"].model, "warnings": warnings, "left_out": {}}
    sections = {}
    for name in chosen:
        section = one(name, context, numbers, all_asked=cfg.what is None)
        if section is not None:
            sections[name] = section

    if not sections:
        raise UserError("nothing of what was asked is possible: " + listed(numbers["left_out"]))

    text = write(stage, numbers, sections, {s: len(e) for s, e in context.splits.items()})
    log.info("%s\nWritten to %s: report.md, analysis.json, pictures and lists", text, cfg.out)
    return numbers


def check(cfg: DictConfig) -> list[str]:
    """The analyses to make, in the order of the report; refuses before anything heavy is imported."""
    chosen = list(NAMES[:-1] if cfg.what is None else cfg.what)  # early classifies every curve a dozen times
    if unknown := [w for w in chosen if w not in NAMES]:
        raise UserError(f"what=[{unknown[0]}] does not exist: there are {', '.join(NAMES)}")
    if cfg.model is None and cfg.embeddings is None:
        raise UserError("give model=<run folder, model folder or hub id>, or embeddings=<folder of astrom3.embed>")
    if "map" in chosen and cfg.what is not None:  # now, not after the embedding
        from astrom3 import umap_maps

        umap_maps.package("analyse", "what=[map]")
    return [name for name in NAMES if name in chosen]


def one(name: str, context: Any, numbers: dict[str, Any], all_asked: bool) -> Any:
    """A section, or None with the reason in numbers["left_out"]; where all that is possible was asked, that includes a
    missing package."""
    from astrom3.analyse.section import NotPossible
    from astrom3.analyse.sections import SECTIONS

    log.info("%s", name)
    try:
        if name in NEED_LABELS and not context.has_labels:
            raise NotPossible(f"needs labelled objects in the train and test splits ({context.count_labels()})")
        if name in NEED_LABELS and len(context.labelled_classes()) < 2:
            only = context.labelled_classes()[0]
            raise NotPossible(f"all labelled objects are of the class {only}, so there is nothing to tell apart")
        if name == "map" and all_asked:
            from astrom3 import umap_maps

            try:
                umap_maps.package("analyse", "the map")
            except UserError as missing:
                raise NotPossible(str(missing)) from None
        section = SECTIONS[name](context)
    except NotPossible as reason:
        numbers["left_out"][name] = str(reason)
        log.info("  left out: %s", reason)
        return None

    numbers[name] = section.numbers
    return section


def write(out: Path, numbers: dict[str, Any], sections: dict[str, Any], objects: dict[str, int]) -> str:
    """report.md and analysis.json; the text of the first."""
    from astrom3.files import write_json, write_text

    count = ", ".join(f"{split} {n}" for split, n in objects.items())
    lines = [f"# Analysis of {numbers['model']}", "", f"Objects: {count}.", ""]
    for warning in numbers["warnings"]:
        lines += [f"**Careful:** {warning}.", ""]
    for name, section in sections.items():
        lines += [f"## {section.title}", "", *section.lines, "", f"![{section.title}]({name}.png)", ""]
    if numbers["left_out"]:
        left_out = [f"- {name}: {reason}" for name, reason in numbers["left_out"].items()]
        lines += ["## Left out", "", *left_out, ""]
    text = "\n".join(lines)
    write_text(out / "report.md", text)
    write_json(out / "analysis.json", without_nan(numbers | {"objects": objects}))
    return text


def names_of(chosen: Sequence[str]) -> list[str]:
    """Files and folders that these analyses write."""
    lists = {
        "early": ["early.csv"],
        "map": ["map.parquet"],
        "outliers": [
            "mislabelled.csv",
            *(f"{kind}-{name}.csv" for kind in ("outliers", "isolated") for name in (*known(), "mean")),
        ],
    }
    more = [name for what in chosen for name in lists.get(what, [])]
    return ["report.md", "analysis.json", "embeddings", "embeddings-other", *(f"{what}.png" for what in chosen), *more]


def written_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has written to the folder of an analysis, None where it is none."""
    there = []
    for name in names_of(NAMES):
        if (folder / name).exists():
            there.append(name)
    if (folder / "analysis.json").is_file():
        return there if {"model", "left_out"} <= set(read_json(folder / "analysis.json")) else None
    others = {path.name for path in folder.iterdir()} - {"embeddings", "embeddings-other", *LOCKS}
    return there if there and not others else None  # killed before its end


def listed(reasons: dict[str, str]) -> str:
    return "; ".join(f"{name} {reason}" for name, reason in reasons.items())


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("analyse", analyse)


if __name__ == "__main__":
    main()
