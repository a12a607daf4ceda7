"""AstroCLIP from pre-training to downstream tasks: python -m experiments.astroclip [size=tiny] [objects=1000]

Masked spectra, self-distilled images and their alignment are trained. Then redshift and four properties are told from
the embeddings (zero-shot, few-shot) and by supervised baselines, posteriors are estimated by spline flows, and the
questions of Galaxy Zoo are answered, with the published protocols (Parker et al. 2024, section 6). A finished stage or
task is not repeated; one that was interrupted goes on.

tasks    of properties,baselines,posterior,morphology; all of them by default (posterior needs the extra `flows`)
size     tiny (minutes on two cores), small, published (GPUs)
out      folder of results.json, results.md and the pictures
others   go to every training: trainer=gpu trainer.devices=4 data=local data.path=.. hydra/launcher=slurm ..

    python -m experiments.astroclip size=published data=local data.path=<pairs> trainer=ddp trainer.devices=4 \
        hydra/launcher=slurm hydra.launcher.partition=gpu

The default survey is simulated: the published numbers beside ours are no comparison of models.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.files import write_json
from experiments.astroclip.settings import SIZES, SPLITS, TASKS, Settings
from experiments.options import answered, one_of, read_pairs, several_of, writable

log = logging.getLogger(__name__)
DEFAULTS = {"objects": "", "size": "tiny", "root": "runs/astroclip", "seed": "42", "tasks": "", "out": ""}


def main(*arguments: str) -> dict[str, Any]:
    """arguments: key=value of DEFAULTS, and further overrides of every training."""
    given = read_pairs(list(arguments))
    # tasks=[..] in brackets belongs to the alignment (tasks=[contrastive,masked]).
    of_clip = given.pop("tasks") if given.get("tasks", "").startswith("[") else None
    chosen = {key: given.pop(key, value) for key, value in DEFAULTS.items()}
    tasks = several_of("tasks", chosen["tasks"], TASKS) if chosen["tasks"] else list(TASKS)
    settings = SIZES[one_of("size", chosen["size"], tuple(SIZES))]
    out = writable("out", chosen["out"] or Path(__file__).parent)
    common = [f"size={chosen['size']}", f"root={chosen['root']}", f"seed={chosen['seed']}", "model=astroclip"]
    if given.get("data", "simulated") == "simulated":
        common += ["data=simulated", f"data.objects={chosen['objects'] or settings.objects}"]
        given.pop("data", None)
    if "trainer" not in given:
        common.append("trainer=auto" if chosen["size"] == "published" else "trainer=cpu")
    common += [f"{key}={value}" for key, value in given.items()]
    if of_clip:
        common.append(f"tasks={of_clip}")
    return run(common, settings, chosen["size"], tasks, Path(chosen["root"]), out)


def run(common: list[str], settings: Settings, size: str, tasks: list[str], root: Path, out: Path) -> dict[str, Any]:
    """Train, embed, tell and write."""
    from experiments.astroclip.stages import train_stages
    from experiments.astroclip.vectors import all_vectors, open_data

    train_stages(common, settings)
    data = open_data(common)
    vectors = all_vectors(common, data, root / "vectors")
    found: dict[str, Any] = {
        "objects": sum(len(vectors[split].targets) for split in SPLITS),
        "counts": {split: len(vectors[split].targets) for split in SPLITS},
        "size": size,
        "simulated": data.source.note == "simulated data",
    }
    predictions: dict[str, np.ndarray] = {}
    for task in tasks:
        began = time.monotonic()
        own: dict[str, np.ndarray] = {}
        kept = root / "told" / f"{task}.json"
        key = key_of(vectors, settings)
        found[task] = recall(kept, key, own)
        if found[task] is None:
            found[task] = DONE[task](data, vectors, settings, own)
            remember(kept, key, found[task], own)
        predictions |= own
        log.info("%s in %.0f s", task, time.monotonic() - began)
        write(found, predictions, vectors["test"].targets[:, 0], out)
    return found


def key_of(vectors: dict[str, Any], settings: Settings) -> str:
    """Key of everything that a task reads."""
    key = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for part in vectors.values():
        for array in (*part.vectors.values(), part.targets):
            key.update(np.ascontiguousarray(array).data)
    return key.hexdigest()


def recall(path: Path, key: str, predictions: dict[str, np.ndarray]) -> Any:
    """What a task found before, None where it has not run on these vectors. Fills its predictions."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if kept["key"] != key:
        return None
    predictions |= {name: np.array(values) for name, values in kept["predictions"].items()}
    return kept["found"]


def remember(path: Path, key: str, found: Any, predictions: dict[str, np.ndarray]) -> None:
    """Keep what a task found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {name: values.tolist() for name, values in predictions.items()}
    write_json(path, {"key": key, "found": found, "predictions": told})


def do_properties(data: Any, vectors: Any, settings: Settings, predictions: dict[str, np.ndarray]) -> dict[str, Any]:
    from experiments.astroclip.properties import scores, told

    truth = vectors["test"].targets
    found = {}
    for name, protocols in told(vectors, settings).items():
        found[name] = {protocol: scores(truth, values) for protocol, values in protocols.items()}
        predictions[name] = protocols["zero-shot"][:, 0]
        log.info("%s: R2 of the redshift %.3f, zero-shot", name, found[name]["zero-shot"]["r2"]["redshift"])
    return found


def do_baselines(data: Any, vectors: Any, settings: Settings, predictions: dict[str, np.ndarray]) -> dict[str, Any]:
    from experiments.astroclip.properties import scores, supervised

    found = {}
    for name, values in supervised(data, vectors, settings).items():
        found[name] = scores(vectors["test"].targets, values)
        predictions[name] = values[:, 0]
        log.info("%s: R2 of the redshift %.3f", name, found[name]["r2"]["redshift"])
    return found


def do_posterior(data: Any, vectors: Any, settings: Settings, predictions: dict[str, np.ndarray]) -> dict[str, Any]:
    from experiments.astroclip.posterior import posteriors

    return posteriors(vectors, settings)


def do_morphology(data: Any, vectors: Any, settings: Settings, predictions: dict[str, np.ndarray]) -> dict[str, Any]:
    from experiments.astroclip.morphology import morphology

    return morphology(data, vectors, settings)


DONE = {
    "properties": do_properties,
    "baselines": do_baselines,
    "posterior": do_posterior,
    "morphology": do_morphology,
}


def write(found: dict[str, Any], predictions: dict[str, np.ndarray], truth: np.ndarray, out: Path) -> None:
    """results.json, results.md and the pictures of what is there."""
    from experiments.astroclip.pictures import bars, calibration, redshifts
    from experiments.astroclip.tables import markdown

    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "results.md").write_text(markdown(found))
    if predictions:
        bars(found, out / "results.png")
        redshifts(predictions, truth, out / "redshifts.png")
    if found.get("posterior"):
        calibration(found["posterior"], out / "coverage.png")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    answered("astroclip", lambda: main(*sys.argv[1:]))
