"""Where a run's weights start from; the group `init` chooses one of these.

Fine-tuning one modality from CLIP takes that encoder's tensors only (no projection, fresh head); fine-tuning all of
them takes everything but the head; a pre-training goes on with everything. `check()` is called before data are read
and needs no torch; `apply(model)` puts the weights in.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from astrom3 import stored
from astrom3.errors import UserError
from astrom3.registry import constructible
from astrom3.training.run import INFO

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)
OPTIONAL = {"mask_token"}  # of an Astromer: only variants without the leak have one


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
    allow: Sequence[str] | str | None = None  # classes of other packages that the folder may construct

    def check(self) -> None:
        return None

    def apply(self, model: nn.Module) -> None:
        from astrom3.published import astrom3 as published
        from astrom3.published import astromer, native
        from astrom3.training import init_astroclip

        source = str(self.source)
        if astromer.recognises(source):
            taken = adopt_released(model, source)
        elif init_astroclip.recognises(source):
            taken = init_astroclip.adopt(model, source)
        else:
            folder = published.find(source)
            if (folder / published.CONFIG).is_file() and published.has_form(model):
                taken = adopt(model, published.read_tensors(folder), source, self.head)
            else:
                taken = adopt_parts(model, native.load(folder, self.allow), source, self.head)

        log.info("%d tensors taken from %s", taken, source)


@constructible
@dataclass
class FromRun:
    """Our own CLIP run of the same seed: its training objects must not be another split's test objects."""

    path: str
    seed: int
    mode: str = "clip"
    protocol: str = "full"  # of the run to start from, as far as its fold goes

    def check(self) -> None:
        if not (Path(self.path) / "model").is_dir():
            raise UserError(
                f"{self.path} holds no finished {self.mode.upper()} run to start from: run `python -m astrom3.train "
                f"mode={self.mode} "
                f"seed={self.seed}` first (with the same root and data), or give init.path=<run folder>"
            )
        check_seed(Path(self.path), self.seed)
        check_fold(Path(self.path), self.protocol)

    def apply(self, model: nn.Module) -> None:
        FromWeights(self.path).apply(model)


@dataclass
class FromRuns:
    """Several of our own runs of the same seed, each for the encoders that it has."""

    paths: Sequence[str]
    seed: int
    modes: Sequence[str]

    @property
    def runs(self) -> list[FromRun]:
        """One start for each."""
        starts = []
        for path, mode in zip(self.paths, self.modes, strict=True):
            starts.append(FromRun(path, self.seed, mode))
        return starts

    def check(self) -> None:
        for run in self.runs:
            run.check()

    def apply(self, model: nn.Module) -> None:
        for run in self.runs:
            run.apply(model)


def check_seed(run: Path, seed: int) -> None:
    """Pre-training and fine-tuning must share the split, else test objects leak."""
    if not (run / INFO).exists():
        raise UserError(f"{run} holds no {INFO}, so its seed is not known: give it with init=file instead")
    found = stored.read(run / INFO, stored.RunInfo)["seed"]
    if found != seed:
        raise UserError(
            f"{run} was trained with seed={found}, this run has seed={seed}: its training objects would be among the "
            f"test objects; use the CLIP run of seed {seed}, or init=file init.path={run} if you know they are not"
        )


def check_fold(run: Path, protocol: str) -> None:
    """Pre-training and fine-tuning must share the fold too."""
    from astrom3.data.splits import Protocol

    own = Protocol.parse(protocol).fold_name
    found = Protocol.parse(stored.read(run / INFO, stored.RunInfo).get("protocol", "full")).fold_name
    if found != own:
        raise UserError(
            f"{run} was trained with {found or 'no fold'}, this run has {own or 'no fold'}: its training objects would "
            f"be among the test objects; pre-train with the same fold, or say init=file init.path={run} if you know "
            "they are not"
        )


def adopt(model: nn.Module, state: dict[str, Tensor], source: str, head: bool = False) -> int:
    """Put published tensors into `model`, its class head only if `head`; returns how many.

    A single encoder finds its part in a trimodal model; every tensor that the model needs must be there.
    """
    from astrom3.published import astrom3 as published

    renamed = published.names(model)
    wanted = {}
    for ours, theirs in renamed.items():
        if head or not theirs.startswith("fc."):
            wanted[ours] = theirs

    encoder = getattr(model, "encoder", None)
    if encoder is not None:
        state = published.encoder_state(state, encoder) or state
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


def adopt_released(model: nn.Module, source: str) -> int:
    """Put released ASTROMER weights into the light-curve encoder of `model`, and the reconstruction head if it has one.

    Weights that were trained with the leak go into an encoder without it, unless its `compat` asks for it.
    """
    from astrom3.encoders.astromer import Astromer, MaskedAstromer
    from astrom3.published import astromer

    own = []
    for module in model.modules():
        if isinstance(module, Astromer):
            own.append(module)

    if not own:
        raise UserError(
            f"{source} holds weights of Astromer: add model=astromer1 (or 2), or encoder/photometry=astromer1"
        )

    encoder, head, _ = astromer.load(source, as_published=own[0].compat is not None)
    taken = fill(own[0], encoder, source)
    if isinstance(model, MaskedAstromer):
        taken += fill(model.head, head, source)
    return taken


def adopt_parts(model: nn.Module, source: nn.Module, name: str, head: bool = False) -> int:
    """Put the encoders of a model in the native form into those of `model`; returns how many tensors.

    Encoders are matched by modality. Where all encoders match, projections and logit scales come along, and between
    masked models the reconstruction head; the class head only if `head`.
    """
    from astrom3.encoders.towers import encoders_of

    own = encoders_of(model)
    given = encoders_of(source)
    shared = [modality for modality in own if modality in given]
    if not shared:
        raise UserError(
            f"{name} has encoders of {', '.join(given)}, this model of {', '.join(own)}: nothing to start from"
        )

    taken = 0
    for modality in shared:
        taken += fill(own[modality], given[modality], name)
    if len(shared) == len(own):
        towers = (getattr(model, "backbone", model), getattr(source, "backbone", source))
        taken += fill_part("projections", *towers, name)
        taken += fill_part("logit_scales", *towers, name)
    if head or is_masked(model, source):
        taken += fill_part("head", model, source, name)
    return taken


def fill_part(part: str, own: nn.Module, given: nn.Module, source: str) -> int:
    """`fill` of a part that both models have; 0 where one has none."""
    mine = getattr(own, part, None)
    theirs = getattr(given, part, None)
    return 0 if mine is None or theirs is None else fill(mine, theirs, source)


def is_masked(*models: nn.Module) -> bool:
    """Whether all models reconstruct: their heads belong to the pre-training."""
    from astrom3.encoders.astromer import MaskedAstromer

    return all(isinstance(model, MaskedAstromer) for model in models)


def fill(own: nn.Module, given: nn.Module, source: str) -> int:
    """Copy all tensors of a part; UserError where the parts are not of one kind and size.

    An encoder goes into a tower around one of its kind.
    """
    inner = getattr(own, "backbone", None)
    if isinstance(inner, type(given)):
        own = inner
    mine = own.state_dict()
    theirs = given.state_dict()
    shared = [name for name in mine if name in theirs]
    wrong = [name for name in shared if theirs[name].shape != mine[name].shape]
    wrong += sorted((set(mine) ^ set(theirs)) - OPTIONAL)
    if type(own) is not type(given) or wrong:
        what = f" ({wrong[0]} differs)" if wrong else ""
        raise UserError(
            f"{source} holds a {type(given).__name__} of another kind or size than this {type(own).__name__}{what}: "
            "choose the same encoder and size"
        )

    own.load_state_dict(mine | {name: theirs[name] for name in shared})
    return len(shared)
