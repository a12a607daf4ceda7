"""AstroCLIP from pre-training to properties of galaxies: python -m experiments.astroclip [objects=1000] [size=tiny]

Masked spectra, self-distilled images and their alignment are trained on the simulated galaxy survey. Redshift and
four properties are then told from the embeddings of each stage, by nearest neighbours (zero-shot) and by a small
network (few-shot), with the published protocol (Parker et al. 2024, section 6). Writes results.json, results.md and
results.png here. The survey is simulated: the published numbers beside ours are no comparison of models.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.astroclip.fewshot import few_shot
from experiments.astroclip.tables import markdown, picture

OUT = Path(__file__).parent
NEIGHBOURS = 64
PROPERTIES = ("log_mass", "log_ssfr", "metallicity", "age")
TARGETS = ("redshift", *PROPERTIES)
STAGES = {"masked": "init=scratch", "distil": "init=scratch", "clip": "init=stages"}
DEFAULTS = {"objects": "1000", "size": "tiny", "root": "runs/astroclip", "seed": "42"}
# Larger rates than those published for many GPUs, which in minutes teach nothing.
RATES = {"masked": "optim.lr=0.001", "distil": "optim.lr=0.001", "clip": "optim.lr=0.001"}
EPOCHS = {"masked": "epochs=10", "distil": "epochs=4", "clip": "epochs=10"}


def main(*arguments: str) -> dict[str, Any]:
    """arguments: key=value of DEFAULTS, and further overrides of every training."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    chosen = {key: given.pop(key, value) for key, value in DEFAULTS.items()}
    common = [
        "model=astroclip",
        "data=simulated",
        "trainer=cpu",
        f"size={chosen['size']}",
        f"data.objects={chosen['objects']}",
        f"root={chosen['root']}",
        f"seed={chosen['seed']}",
        *(f"{key}={value}" for key, value in given.items()),
    ]
    for mode, start in STAGES.items():
        train_stage([*common, f"mode={mode}", start, RATES[mode], EPOCHS[mode]])
    found = {"objects": int(chosen["objects"]), "size": chosen["size"], "r2": scores(common)}
    (OUT / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (OUT / "results.md").write_text(markdown(found))
    picture(found, OUT / "results.png")
    return found


def train_stage(overrides: list[str]) -> None:
    """Train one stage, where it is not finished already."""
    from astrom3.cli.config import compose
    from astrom3.train import train

    train(compose(overrides))


def scores(common: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Embedding -> "zero-shot" and "few-shot" -> target -> R2 of the test split."""
    train = embeddings(common, "train")
    test = embeddings(common, "test")
    found = {}
    for name in train["vectors"]:
        found[name] = one_embedding(train["vectors"][name], train["targets"], test["vectors"][name], test["targets"])
        logging.getLogger(__name__).info("%s: %s", name, found[name])
    return found


def one_embedding(
    train: np.ndarray, known: np.ndarray, test: np.ndarray, truth: np.ndarray
) -> dict[str, dict[str, float]]:
    """R2 of each target: redshift by itself and the properties together, as published."""
    from astrom3.tasks.neighbours import neighbour_regression, r2

    columns = ([0], list(range(1, len(TARGETS))))
    found: dict[str, dict[str, float]] = {"zero-shot": {}, "few-shot": {}}
    for place in columns:
        near = neighbour_regression(train, known[:, place], test, min(NEIGHBOURS, len(train) // 4)).reshape(
            len(test), -1
        )
        learned = few_shot(train, known[:, place], test)
        for protocol, predicted in (("zero-shot", near), ("few-shot", learned)):
            values = r2(truth[:, place], predicted)
            found[protocol] |= {TARGETS[column]: float(value) for column, value in zip(place, values, strict=True)}
    return found


@torch.inference_mode()
def embeddings(common: list[str], split: str) -> dict[str, Any]:
    """vectors: name -> (n, D) of all galaxies of a split; targets (n, 5)."""
    from astrom3.cli.config import compose
    from astrom3.encoders.cpu import accelerate
    from astrom3.published import native
    from astrom3.training.build import build

    cfg = compose([*common, "mode=clip", "init=stages"])
    data, _ = build(cfg)
    data.setup("test")
    root = Path(cfg.root)
    seed = cfg.seed
    spectra = accelerate(native.load(root / f"astroclip-masked-full-scratch-{seed}" / "model"))
    images = accelerate(native.load(root / f"astroclip-distil-full-scratch-{seed}" / "model"))
    both = accelerate(native.load(Path(cfg.run) / "model"))
    parts: dict[str, list[np.ndarray]] = {}
    index = []
    for batch in data.split_dataloader(split):
        aligned = both(batch)
        found = {
            "image, AstroCLIP": aligned["images"],
            "image, image encoder": images(batch["cutout/flux"]),
            "spectrum, AstroCLIP": aligned["spectra"],
            "spectrum, spectrum encoder": spectra(batch["specformer/flux"]),
        }
        for name, vectors in found.items():
            parts.setdefault(name, []).append(vectors.numpy())
        index.append(batch["index"].numpy())
    source = data.source
    rows = source.rows[split][np.concatenate(index)]
    table = source.table(split)
    vectors = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    magnitudes = table.targets(["mag_g", "mag_r", "mag_z"])[rows]
    return {"vectors": vectors | {"photometry": magnitudes}, "targets": table.targets(list(TARGETS))[rows]}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    main(*sys.argv[1:])
