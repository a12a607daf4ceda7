"""A model that others can run: python -m astrom3.export model=runs/clip-full-scratch-42 out=my_model push=me/my-model

Weights in the published form (safetensors), statistics and classes, a card, and ONNX files of each encoder, each with
its projection, and the whole, compared with torch. push= uploads the folder to the hub.

It also converts the released files of ASTROMER and AstroCLIP to the native form:
python -m astrom3.export model=macho_a0.zip out=macho
python -m astrom3.export model=polymathic-ai/astroclip out=astroclip (or a file, or the folder that holds one).
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError, shown
from astrom3.files import OutputFolder, read_text
from astrom3.inference.confidence import CONFIDENCE

log = logging.getLogger(__name__)
ONNX = "onnx"
GRAPH = re.compile(r"(light_curve|spectrum|metadata)(_embedding|_classifier)?|trimodal")


def export(cfg: DictConfig) -> dict[str, Any]:
    """File -> largest difference from torch, of the ONNX files."""
    from astrom3.export.hub import check_name

    out = Path(cfg.out)
    if cfg.push is not None:
        check_name(cfg.push)
    if out.is_file():
        raise UserError(f"out={out} is a file: give a folder")
    if cfg.onnx:
        from astrom3.extras import need

        need("onnxruntime", "export", "onnx=true (onnx=false does without)")

    from astrom3.export import card, onnx
    from astrom3.files import write_text
    from astrom3.hardware import quieten
    from astrom3.inference.trained import TrainedModel
    from astrom3.published import astroclip_model, astromer

    quieten()
    source, weights = where(cfg.model)
    model = TrainedModel.load(
        cfg.model,
        device="cpu",
        evaluation=cfg.evaluation,
        statistics=cfg.statistics,
        allow=cfg.allow,
        num_heads=cfg.num_heads,
    )
    with_onnx = cfg.onnx and not astroclip_model.recognises(cfg.model)
    if cfg.onnx and not with_onnx:
        log.info("The released file is converted without ONNX files: export %s for them", shown(out))
    graphs = [f"{ONNX}/{graph.name}.onnx" for graph in onnx.graphs(model)] if with_onnx else []
    folder, names, made_of = folder_of(cfg, source, out, weights)
    files = []
    with folder.staged([*names, *graphs], cfg.overwrite, made_of=made_of) as stage:
        if weights is not None or out.resolve() != source.resolve():
            save_weights(model.whole, stage)
        write_statistics(model, source, stage, is_released=weights is not None)
        if CONFIDENCE in names:
            shutil.copyfile(source / CONFIDENCE, stage / CONFIDENCE)
        if with_onnx:
            files = onnx.export(model, stage / ONNX, lambda text: log.info("%s", text))
        name = cfg.name or cfg.push or Path(cfg.model).name
        base = None if Path(cfg.model).exists() or astromer.recognises(cfg.model) else str(cfg.model)
        text = card.card(model, name, card.read_run(Path(cfg.model)), cfg.licence, base, files)
        write_text(stage / card.CARD, text)
        folder.remove([known for known in folder.files or () if known.startswith(f"{ONNX}/")])

    log.info(
        "Written to %s: weights, their configuration, README.md%s",
        shown(out),
        f" and {len(files)} ONNX files" if files else "",
    )
    if cfg.push is not None:
        from astrom3.export.hub import push

        log.info("%s", push(out, cfg.push, private=cfg.private))

    return {f"{f.name}.onnx": f.difference for f in files}


def where(name: str) -> tuple[Path, Path | None]:
    """The folder of a model, and its file where it is a released one of ASTROMER or AstroCLIP."""
    from astrom3.published import astroclip, astroclip_model, astromer
    from astrom3.published import astrom3 as published

    if astromer.recognises(name):
        file = astromer.file_of(name)
        return file.parent, file
    if astroclip_model.recognises(name):
        file = astroclip.find(name)
        return file.parent, file
    return published.find(name), None


def folder_of(
    cfg: DictConfig, source: Path, out: Path, weights: Path | None = None
) -> tuple[OutputFolder, list[str], str]:
    """The folder, names of its files without the graphs, and the digest of the weights that they are made of.

    The folder is new or of an earlier export of the same weights. source is the model's own folder. `out` may be the
    same, and card and ONNX files then join the weights. weights: the file, where it is not one of the folder's.
    """
    from astrom3.export.card import CARD
    from astrom3.inference.trained import PREPROCESSING
    from astrom3.published import astrom3 as published
    from astrom3.published import native

    has_form = weights is None and (source / published.CONFIG).is_file()
    described = (published.CONFIG, published.WEIGHTS) if has_form else (native.DESCRIPTION, native.WEIGHTS)
    own = (*described, PREPROCESSING)
    in_place = weights is None and out.resolve() == source.resolve()
    folder = OutputFolder(out, "export", legacy=exported_before, ignored=own if in_place else ())
    made_of = sha256(weights or source / described[1])
    before = folder.made_of or sha256(out / described[1])
    if folder.is_own and not in_place and before not in ("", made_of) and not cfg.overwrite:
        raise UserError(
            f"{shown(out)} is the export of another model: give another out=<folder>, or overwrite=true to replace it"
        )

    names = [CARD] if in_place else [*own, CARD]
    if weights is None and not in_place and (source / CONFIDENCE).is_file():
        names.append(CONFIDENCE)
    if in_place and not (out / PREPROCESSING).exists():
        names.append(PREPROCESSING)
    return folder, names, made_of


def exported_before(folder: Path) -> list[str] | None:
    """Names of what astrom3 0.1.0 has exported to a folder, None where it is no export (see OutputFolder)."""
    card = folder / "README.md"
    if not card.is_file() or "library_name: astrom3" not in read_text(card).partition("\n# ")[0]:
        return None
    onnx = []
    for path in (folder / ONNX).glob("*.onnx"):
        if GRAPH.fullmatch(path.stem):
            onnx.append(f"{ONNX}/{path.name}")
    return ["config.json", "model.safetensors", "preprocessing.json", "README.md", *onnx]


def sha256(path: Path) -> str:
    """Of a file, "" where there is none."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_weights(network: Any, out: Path) -> None:
    """The published form or, where a network has none, the native one."""
    from astrom3.published import astrom3 as published
    from astrom3.published import native

    if published.has_form(network):
        published.save(network, out)
    else:
        native.save(network, out)


def write_statistics(model: Any, source: Path, out: Path, is_released: bool = False) -> None:
    """preprocessing.json: classes, and statistics from beside the weights, statistics= or the published data set. The
    released files of ASTROMER and AstroCLIP have none and need none."""
    from astrom3.files import write_json
    from astrom3.inference.preprocessing import PREPROCESSING, hub_statistics
    from astrom3.modalities.galaxy_views import reads_galaxies

    normaliser = model.normaliser
    needs_none = is_released or reads_galaxies(model.views)
    if normaliser is None and not needs_none:
        try:
            normaliser = hub_statistics(model.name)
        except UserError as error:
            log.info("%s", error)
    if normaliser is None and not needs_none and not (source / PREPROCESSING).is_file():
        log.info(
            "No statistics beside %s: whoever embeds light curves or catalogue values gives statistics=<file>, as "
            "you can here to have them in the folder",
            model.name,
        )
        return

    statistics = None if normaliser is None else normaliser.to_dict()
    about: dict[str, Any] = {
        "classes": list(model.classes),
        "normaliser": statistics,
        "pad_constants": model.pad_constants,
    }
    if model.regression is not None:
        about["targets"] = model.regression.scales
    write_json(out / PREPROCESSING, about)


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("export", export)


if __name__ == "__main__":
    main()
