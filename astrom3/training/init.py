"""Where a run's weights start from; the group `init` chooses one of these.

Fine-tuning one modality from CLIP takes that encoder's tensors only (no projection, fresh head); fine-tuning all of
them takes everything but the head; a pre-training goes on with everything. `check()` is called before data are read
and needs no torch; `apply(model)` puts the weights in.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from astrom3.errors import UserError
from astrom3.registry import constructible
from astrom3.training.run import INFO

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)


@constructible
class Scratch:
    """Weights as drawn."""

    def check(self) -> None:
        return None

    def apply(self, model: nn.Module) -> None:
        return None


@constructible
@dataclass
class FromWeights:
    """A published model or run folder: `source` is a folder or a hub id."""

    source: str
    head: bool = False  # the class head too: for data sets that share their classes

    def check(self) -> None:
        return None

    def apply(self, model: nn.Module) -> None:
        from astrom3.models import published

        folder = published.find(self.source)
        taken = adopt(model, published.read_tensors(folder), str(self.source), self.head)
        log.info("%d tensors taken from %s", taken, self.source)


@constructible
@dataclass
class FromRun:
    """Our own CLIP run of the same seed: its training objects must not be another split's test objects."""

    path: str
    seed: int

    def check(self) -> None:
        if not (Path(self.path) / "model").is_dir():
            raise UserError(
                f"{self.path} holds no finished CLIP run to start from: run `python -m astrom3.train mode=clip "
                f"seed={self.seed}` first (with the same root and data), or give init.path=<run folder>"
            )
        check_seed(Path(self.path), self.seed)

    def apply(self, model: nn.Module) -> None:
        FromWeights(self.path).apply(model)


def check_seed(run: Path, seed: int) -> None:
    """Pre-training and fine-tuning must share the split, else test objects leak."""
    try:
        found = json.loads((run / INFO).read_text())["seed"]
    except FileNotFoundError:
        raise UserError(f"{run} holds no {INFO}, so its seed is not known: give it with init=file instead") from None
    if found != seed:
        raise UserError(
            f"{run} was trained with seed={found}, this run has seed={seed}: its training objects would be among the "
            f"test objects; use the CLIP run of seed {seed}, or init=file init.path={run} if you know they are not"
        )


def adopt(model: nn.Module, state: dict[str, Tensor], source: str, head: bool = False) -> int:
    """Put published tensors into `model`, its class head only if `head`; returns how many.

    A single encoder finds its part in a trimodal model; every tensor that the model needs must be there.
    """
    from astrom3.models import published

    renamed = published.names(model)
    wanted = {ours: theirs for ours, theirs in renamed.items() if head or not theirs.startswith("fc.")}
    encoder = getattr(model, "encoder", None)
    if encoder is not None and (part := published.encoder_state(state, encoder)):
        state = part
    missing = [theirs for theirs in wanted.values() if theirs not in state]
    if missing:
        raise UserError(
            f"{source} lacks {len(missing)} of the {len(wanted)} tensors this model starts from "
            f"({', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}): it is a model of another kind or size"
        )
    own = model.state_dict()
    for ours, theirs in wanted.items():
        tensor = state[theirs].squeeze(-1) if published.is_pointwise(theirs) else state[theirs]
        if tensor.shape != own[ours].shape:
            raise UserError(
                f"{source}: {theirs} has shape {tuple(state[theirs].shape)}, this model's {tuple(own[ours].shape)}: "
                "make the encoders the same size"
            )
        own[ours] = tensor
    model.load_state_dict(own)
    return len(wanted)
