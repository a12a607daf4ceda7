"""A model that others can run: python -m astrom3.export model=runs/clip-full-scratch-42 out=my_model push=me/my-model

Weights in the published form (safetensors), statistics and classes, a card, and ONNX files of each encoder, each with
its projection, and the whole, compared with torch. push= uploads the folder to the hub.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError, shown

log = logging.getLogger(__name__)
FORMS = ("config.json", "native.json")  # what a folder of ours holds
ONNX = "onnx"


def export(cfg: DictConfig) -> dict[str, Any]:
    """File -> largest difference from torch, of the ONNX files."""
    from astrom3.export.hub import check_name

    out = Path(cfg.out)
    if cfg.push is not None:
        check_name(cfg.push)
    if out.is_file():
        raise UserError(f"out={out} is a file: give a folder")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in FORMS):
        raise UserError(f"out={out} holds other files: give a new folder")
    if cfg.onnx:
        from astrom3.extras import need

        need("onnxruntime", "export", "onnx=true (onnx=false does without)")

    from astrom3.export import card, onnx
    from astrom3.inference.trained import TrainedModel
    from astrom3.published import astrom3 as published
    from astrom3.training.hardware import quieten
    from astrom3.training.run import write_atomically

    quieten()
    source = published.find(cfg.model)
    model = TrainedModel.load(cfg.model, device="cpu", evaluation=cfg.evaluation, statistics=cfg.statistics)
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() != source.resolve():
        save_weights(model.network, out)
    write_statistics(model, source, out)
    shutil.rmtree(out / ONNX, ignore_errors=True)
    files = onnx.export(model, out / ONNX, lambda text: log.info("%s", text)) if cfg.onnx else []
    name = cfg.name or cfg.push or Path(cfg.model).name
    base = None if Path(cfg.model).exists() else str(cfg.model)
    text = card.card(model, name, card.read_run(Path(cfg.model)), cfg.licence, base, files)
    write_atomically(out / card.CARD, text)
    log.info("Written to %s: weights, their configuration, README.md%s", shown(out),
             f" and {len(files)} ONNX files" if files else "")  # fmt: skip
    if cfg.push is not None:
        from astrom3.export.hub import push

        log.info("%s", push(out, cfg.push, private=cfg.private))
    return {f"{f.name}.onnx": f.difference for f in files}


def save_weights(network: Any, out: Path) -> None:
    """The published form or, where a network has none, the native one."""
    from astrom3.published import astrom3 as published
    from astrom3.published import native

    if published.has_form(network):
        published.save(network, out)
    else:
        native.save(network, out)


def write_statistics(model: Any, source: Path, out: Path) -> None:
    """preprocessing.json: classes, and statistics from beside the weights, statistics= or the published data set."""
    from astrom3.inference.trained import PREPROCESSING, hub_statistics
    from astrom3.training.run import write_json

    normaliser = model.normaliser
    if normaliser is None:
        try:
            normaliser = hub_statistics(model.name)
        except UserError as error:
            log.info("%s", error)
    if normaliser is None and not (source / PREPROCESSING).is_file():
        log.info("No statistics beside %s: whoever embeds light curves or catalogue values gives statistics=<file>, as "
                 "you can here to have them in the folder", model.name)  # fmt: skip
        return
    statistics = None if normaliser is None else normaliser.to_dict()
    about = {"classes": list(model.classes), "normaliser": statistics, "pad_constants": model.pad_constants}
    write_json(out / PREPROCESSING, about)


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("export", export)


if __name__ == "__main__":
    main()
