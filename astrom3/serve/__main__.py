"""A trained model over HTTP: python -m astrom3.serve model=runs/all-full-clip-42 port=8000

    curl -s http://127.0.0.1:8000/classify -d '{"light_curve": {"time": [...], "flux": [...], "flux_err": [...]}}'

Raw observations as JSON in, classes, probabilities, prediction sets, novelty and embeddings out. / says what the model
reads and shows an example, /health and /metrics are for those who run it.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from astrom3.errors import UserError

log = logging.getLogger(__name__)


def serve(cfg: DictConfig) -> dict[str, Any]:
    """Until a signal. Returns the number of batches that went through the network."""
    check(cfg)
    from astrom3.inference.results import shown_name
    from astrom3.inference.trained import TrainedModel
    from astrom3.serve import host
    from astrom3.serve.app import application
    from astrom3.serve.batcher import Batcher, warm
    from astrom3.serve.request import Limits

    found = host.bind(cfg.host, cfg.port)
    model = TrainedModel.load(cfg.model, device=cfg.device, statistics=cfg.statistics, allow=cfg.allow)
    model = replace(model, name=shown_name(model.name))  # clients need not know the folders of this machine
    limits = Limits(int(cfg.body_mb * 2**20), cfg.objects, cfg.points, cfg.pixels, cfg.seconds)
    leave_room()
    batcher = Batcher(model, cfg.batch, cfg.wait_ms / 1000, cfg.waiting)
    try:
        warm(batcher)
        log.info("%s answers at %s until Ctrl-C", model.name, host.listen(found))
        host.serve(application(model, batcher, limits), found, cfg.seconds)
    finally:
        batcher.close()
    log.info("stopped after %d batches", batcher.batches)
    return {"batches": batcher.batches}


def leave_room() -> None:
    """Half of torch's threads, unless OMP_NUM_THREADS says how many. They wait for each other by spinning, and small
    batches make them wait more than compute: the thread that reads requests would be left without a core."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // 2))


def check(cfg: DictConfig) -> None:
    """What can be said before anything is loaded."""
    from astrom3.extras import need

    if cfg.model is None:
        raise UserError("give model=<run folder, model folder or hub id>")
    need("starlette", "serve", "serving")
    need("uvicorn", "serve", "serving")


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("serve", serve)


if __name__ == "__main__":
    main()
