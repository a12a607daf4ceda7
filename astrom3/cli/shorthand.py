"""Numbers on the command line that a group has no file for: seed=7, shots=50, fold=1, and target=... for a regression.

Hydra takes the name of a file for a group such as `seed`, so any other number is handed to the group's file `number`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3.errors import UserError

LARGEST_SEED = 2**32  # of numpy's and Lightning's generators
# What a group takes beside its options. The value goes into `number`, which the group's option `number` defines.
NUMBERED = {
    "seed": r"-?\d+",
    "fold": r"-?\d+",
    "shots": r"shot\d+",
    "sub": r"shot\d+|[a-z]+\d*-fold\d+of\d+|full|sub50|sub25|sub10",
}


def numbered(key: str, values: list[str], groups: dict[str, list[str]]) -> list[str]:
    """An option of a group that has a file for some numbers only: `seed=7` is `seed=number number.seed=7`.

    `shots=50` and `sub=shot50-fold1of3` choose the subset, `fold=1` the fold, `target=feh` the regression.
    """
    if key == "target":
        return aimed(",".join(values))
    group = "sub" if key == "shots" else key
    if key == "shots":
        if not all(v.isdigit() for v in values):
            raise UserError(f"shots={','.join(values)} is not a number of labels per class, such as shots=50")
        values = [f"shot{v}" for v in values]
    known = groups.get(group, [])
    if all(v.strip("\"'") in known for v in values):
        return [f"{group}=" + ",".join(f'"{v}"' if v.isdigit() else v for v in values)]
    if not all(re.fullmatch(NUMBERED[key], v) for v in values):
        return [f"{key}={','.join(values)}"]
    return [f"{group}=number", f"number.{group}={','.join(values)}"]


def check_protocol(cfg: DictConfig) -> None:
    """The seed, labels per class and folds."""
    for key in ("seed", "sub"):
        if key in cfg and cfg[key] is None:
            raise UserError(f"{key}=number needs its number: say {key}=7" if key == "seed" else "say shots=<number>")
    seed = cfg.get("seed")
    if isinstance(seed, int) and not 0 <= seed < LARGEST_SEED:
        raise UserError(f"seed={seed} must be at least 0 and less than {LARGEST_SEED}")
    protocol = str(cfg.get("protocol", cfg.get("sub", "full")))
    if "fold" in protocol or "shot" in protocol:
        from astrom3.data.splits import Protocol

        Protocol.parse(protocol)


def aimed(target: str) -> list[str]:
    """Overrides of a regression on one target, several ([a,b]) or a sweep over some (a,b); null is none."""
    if target == "null":
        return ["target=null"]
    several = re.fullmatch(r"\[(.+)\]", target)
    if several is None:
        return [f"target={target}", "task=regression"]
    names = "+".join(re.findall(r"[\w.]+", several[1]))
    return [f"target={target}", "task=regression", f"task_name='-{names}'"]


def check_task(cfg: DictConfig) -> None:
    """Modalities need encoders, a regression a mode that predicts; only a classification balances classes."""
    strange = [name for name in cfg.get("modalities", ()) if cfg.get("encoders") and name not in cfg.encoders]
    if strange:
        has = ", ".join(map(str, cfg.encoders))
        raise UserError(f"modalities=[{strange[0]}]: mode={cfg.mode} has encoders of {has}, choose from them")
    target = cfg.get("target")
    predicts = bool(OmegaConf.select(cfg, "model._partial_"))
    if target is not None and not predicts:
        raise UserError(f"target={target} is a number to predict, and mode={cfg.mode} predicts none: choose mode=photo")
    if target is not None and not target:
        raise UserError("target=[] names no number to predict: say target=<name>")
    if target is None and str(OmegaConf.select(cfg, "module._target_")).endswith(".RegressionModule"):
        raise UserError("task=regression needs the number to predict: target=<name>")
    if cfg.get("balance", "none") != "none" and (target is not None or not predicts):
        raise UserError(f"balance={cfg.balance} is for a classification, and this run is none: leave it away")


def check_head(cfg: DictConfig, nodes: Iterable[Any]) -> None:
    """A head that reads tokens was given: some node of the configuration must take it from there."""
    read = any(node is not None and "${head}" in str(node._value()) for node in nodes)
    if cfg.head != "linear" and not read:
        raise UserError(f"head={cfg.head} is for mode=photo, and mode={cfg.mode} has no such head: leave it away")
