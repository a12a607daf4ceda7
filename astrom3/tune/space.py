"""The search space of a study: which keys are drawn and between which bounds (conf/space/published.yaml)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from astrom3.cli.config import compose
from astrom3.cli.keys import shortened
from astrom3.errors import UserError

KINDS = ("uniform", "log", "int")
EACH = "encoders.each."  # stands for every encoder of the mode
ADDED = f"+tune.space.{EACH}"
OF_THE_SEARCH = ("tune", "study")  # not part of a trial's configuration


@dataclass(frozen=True)
class Range:
    kind: str
    low: float
    high: float


Space = dict[str, Range]


def read_space(cfg: DictConfig) -> Space:
    """Key -> range, in alphabetical order, so that neither YAML nor the command line decides what is drawn first."""
    given = {}
    of_each = {}
    for key, value in _ranges(OmegaConf.to_container(cfg.tune.space), ""):
        if key.startswith(EACH):
            of_each[key.removeprefix(EACH)] = value
        else:
            given[key] = value

    space = {}
    for slot, encoder in cfg.encoders.items():
        for key, value in of_each.items():
            if key in encoder:
                space[f"encoders.{slot}.{key}"] = value

    space |= given
    if not space:
        raise UserError("tune.space is empty: nothing to search")
    return dict(sorted(space.items()))


def _ranges(node: Any, prefix: str) -> Iterator[tuple[str, Range]]:
    """(key, range) of everything below a node of tune.space, whose own key is `prefix`."""
    for name, value in node.items():
        key = prefix + str(name)
        if not isinstance(value, Mapping):
            raise UserError(
                f"tune.space.{key}={shortened(value)} is not of the form {{kind: uniform, low: 0, high: 1}}"
            )
        if value and not set(value) & {"kind", "low", "high"}:
            yield from _ranges(value, key + ".")
        elif value:
            yield key, _range(key, value)


def _range(key: str, value: Mapping[str, Any]) -> Range:
    """The range as it is written; UserError where it is none."""
    if set(value) != {"kind", "low", "high"}:
        raise UserError(f"tune.space.{key} needs kind, low and high, it has {', '.join(map(str, value))}")

    kind = value["kind"]
    low = value["low"]
    high = value["high"]
    if kind not in KINDS:
        raise UserError(f"tune.space.{key}.kind={shortened(kind)} does not exist: it is one of {', '.join(KINDS)}")

    number = int if kind == "int" else (int, float)
    for name, bound in (("low", low), ("high", high)):
        if not isinstance(bound, number) or isinstance(bound, bool):
            raise UserError(
                f"tune.space.{key}.{name}={shortened(bound)} is not a {'whole ' if kind == 'int' else ''}number"
            )

    if not low < high:
        raise UserError(f"tune.space.{key}: low={low} must be less than high={high}")
    if kind == "log" and low <= 0:
        raise UserError(f"tune.space.{key}.low={low} must be greater than 0, as kind=log")
    return Range(kind, low, high)


def check_search(cfg: DictConfig, overrides: Sequence[str], space: Space) -> None:
    """What can be refused before anything is written or imported."""
    if cfg.tune.trials < 1:
        raise UserError(f"tune.trials={cfg.tune.trials} must be at least 1")
    if cfg.tune.failures is not None and cfg.tune.failures < 1:
        raise UserError(f"tune.failures={cfg.tune.failures} must be at least 1, or null")
    if cfg.tune.keep not in ("best", "all"):
        raise UserError(f"tune.keep={cfg.tune.keep} does not exist: it is one of best, all")

    check_one_device(cfg)
    given = {override.lstrip("+").partition("=")[0] for override in overrides}
    twice = [key for key in space if key in given]
    if twice:
        raise UserError(f"{twice[0]} is both given and searched: leave it out, or fix it by adding ~tune.space.<key>")

    check_space(cfg, overrides, space)
    lowest = {key: bounds.low for key, bounds in space.items()}
    highest = {key: bounds.high for key, bounds in space.items()}
    for params in (lowest, highest):
        check_one_device(trial_config(overrides, params, Path(cfg.run)))


def check_one_device(cfg: DictConfig) -> None:
    """UserError where a trial would run on several devices, whose processes would each start the search."""
    devices = cfg.trainer.devices
    nodes = cfg.trainer.get("num_nodes", 1)
    is_one = devices in (1, "1") or (OmegaConf.is_list(devices) and len(devices) == 1)
    if not is_one or nodes != 1:
        several = f"trainer.num_nodes={nodes}" if is_one else f"trainer.devices={devices}"
        raise UserError(
            f"{several}: a trial runs on one device; for several devices start the same command "
            "several times, with CUDA_VISIBLE_DEVICES=0, =1 and so on: the processes share the trials"
        )


def check_space(cfg: DictConfig, overrides: Sequence[str], space: Space) -> None:
    """UserError where a searched key holds no number, or where one that is added is of no encoder."""
    for key in space:
        value = OmegaConf.select(cfg, key, default=None)
        if OmegaConf.is_config(value) or isinstance(value, str | bool) or key.startswith("hydra."):
            raise UserError(f"tune.space.{key}: {key}={shortened(value)} is no number, so it cannot be searched")
    for override in overrides:
        added = override.partition("=")[0].removeprefix(ADDED)
        name = added.partition(".")[0]
        if override.startswith(ADDED) and not any(name in encoder for encoder in cfg.encoders.values()):
            raise UserError(f"tune.space.{EACH}{name}: no encoder of mode={cfg.mode} has {name}, so give another key")


def trial_config(overrides: Sequence[str], params: Mapping[str, float], run: Path) -> DictConfig:
    """What `train` would compose from these overrides, these parameters and this run folder."""
    folder = str(run).replace("\\", "\\\\").replace("'", "\\'")
    with beside_hydra():
        cfg = compose([*overrides, "overwrite=false", *as_overrides(params), f"run='{folder}'"], "tune")
    trial = OmegaConf.create({key: value for key, value in cfg.items() if key not in OF_THE_SEARCH})
    OmegaConf.set_struct(trial, True)
    return trial


@contextmanager
def beside_hydra() -> Iterator[None]:
    """Compose while Hydra's main is running, which claims to be the only one in the process."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = running


def as_overrides(params: Mapping[str, float]) -> list[str]:
    """Parameters as they are written on a command line."""
    return [f"{key}={value!r}" for key, value in params.items()]
